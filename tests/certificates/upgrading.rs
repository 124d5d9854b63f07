//! An upgrade from the release with one Lease, and a return to it: for minutes each release has a keeper of
//! certificates, and neither knows of the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;
use targetgate_sandbox::harness::waiting::until;

use crate::creations::Creations;
use crate::replica::{Replica, issuer};
use crate::world::{NAME, World, create};

/// The CAs that must be seen in each phase. Chosen.
const CAS: usize = 3;

/// Two replicas that rotate at one time: the first as the holder of the former release's Lease does, without
/// regard to the Lease of certificates.
struct Keepers {
    former: Option<Replica>,
    present: Option<Replica>,
}

impl Keepers {
    fn all(&self) -> impl Iterator<Item = &Replica> {
        self.former.iter().chain(&self.present)
    }

    fn answer(&self, world: &World) {
        world
            .proxy
            .backends(self.all().map(|replica| replica.listen).collect());
    }

    /// Waits until each has served leaves of some CAs, and judges that each bundle has each CA that is in use.
    async fn rotate(&self, world: &World) {
        for replica in self.all() {
            let mut seen = BTreeSet::new();
            until("CAs take turns", async || {
                let leaf = replica.leaf(world).await?;
                for cas in world.bundles().await {
                    let names: Vec<String> = cas.iter().map(|ca| subject(ca)).collect();
                    assert!(
                        names.contains(&issuer(&leaf)),
                        "{} is not in {names:?}",
                        issuer(&leaf)
                    );
                }
                seen.insert(issuer(&leaf));
                (seen.len() >= CAS).then_some(())
            })
            .await;
        }
    }
}

/// The name of a CA, from its PEM block.
fn subject(ca: &str) -> String {
    let (_, pem) = x509_parser::pem::parse_x509_pem(ca.as_bytes()).unwrap();
    pem.parse_x509().unwrap().subject().to_string()
}

#[tokio::test]
async fn an_upgrade_from_the_release_with_one_lease_and_a_return_to_it_fail_no_admission() {
    let world = Arc::new(World::new().await);
    // Nobody leads the health loop meanwhile: certificates do not need its Lease.
    let held = json!({
        "metadata": { "name": NAME },
        "spec": { "holderIdentity": "nobody", "leaseDurationSeconds": 3600 },
    });
    create(&world.api::<Lease>(), held).await;
    let former = || Replica::rotating(&world, &["--lease=off"]);
    let present = || Replica::rotating(&world, &[]);

    let mut keepers = Keepers {
        former: Some(former().await),
        present: None,
    };
    keepers.former.as_ref().unwrap().ready().await;
    keepers.answer(&world);
    let creations = Creations::begin(&world).await;
    // The upgrade: the present release's pod comes first, then the former one's goes.
    keepers.present = Some(present().await);
    keepers.present.as_ref().unwrap().ready().await;
    keepers.answer(&world);
    keepers.rotate(&world).await;
    let leases = world.api::<Lease>();
    let own = leases.get("targetgate-certificates").await.unwrap();
    let holder = own.spec.unwrap().holder_identity.unwrap_or_default();
    assert!(!holder.is_empty(), "nobody keeps certificates");
    let gone = keepers.former.take();
    keepers.answer(&world);
    creations.more(2).await;
    drop(gone);
    keepers.rotate(&world).await;
    // The return.
    keepers.former = Some(former().await);
    keepers.former.as_ref().unwrap().ready().await;
    keepers.answer(&world);
    keepers.rotate(&world).await;
    let gone = keepers.present.take();
    keepers.answer(&world);
    creations.more(2).await;
    drop(gone);
    keepers.rotate(&world).await;
    let tally = creations.end().await;
    println!("{tally:?}");
    let left: Vec<&Replica> = keepers.all().collect();
    tally.is_clean(&left);
}
