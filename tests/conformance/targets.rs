//! What the registrar reads: its records, which it writes as well, and what it watches.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt as _};
use rstest::rstest;
use serde_json::{Value, json};
use targetgate::kubernetes::targets::incumbent::look;
use targetgate::kubernetes::targets::records::TargetRecords;
use targetgate::kubernetes::watch::{WatchOptions, watches};
use targetgate::metrics::Metrics;
use targetgate::state::cache::{Cache, InitialList, WatchedResource};
use targetgate_core::names::{AssumedRole, GroupKey, ObjectKey};
use targetgate_core::targets::incumbent::Look;
use targetgate_core::targets::machine::action::Written;
use targetgate_core::targets::record::{MOST_TARGETS, Record};
use targetgate_sandbox::harness::waiting::until;
use tokio::time::Instant;

use crate::install::apply;
use crate::servers::{ARN, Cluster, Server, create, resource};

/// The shipped CRD of records.
const CRD: &str = include_str!("../../deploy/targets/targetrecords.yaml");

pub(crate) fn in_time() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

impl Cluster {
    /// The records in the test's namespace, whose kind is served.
    async fn records(&self) -> TargetRecords {
        apply(&self.client, &serde_saphyr::from_str(CRD).unwrap()).await;
        let records = TargetRecords::new(self.client.clone(), self.namespace.as_str().into());
        until("records are served", async || records.list().await.ok()).await;
        records
    }

    fn record_objects(&self) -> Api<DynamicObject> {
        self.dynamic(&resource("targetgate.dev", "v1", "TargetRecord"))
    }
}

fn record() -> Record {
    let role = AssumedRole {
        arn: "arn:aws:iam::111122223333:role/bind".into(),
        external_id: Some("secret-word".into()),
    };
    let group = GroupKey {
        arn: ARN.parse().unwrap(),
        role: Some(role),
    };
    let record = Record {
        released: Some("0c9fb1a2-0000-4000-8000-000000000000".into()),
        abandoned: true,
        ..Record::new("uid-web".into(), ObjectKey::new("shop", "web"), group)
    };
    record.with([
        ([10, 0, 0, 1].into(), 8080),
        ("fd00::1".parse().unwrap(), 8080),
    ])
}

fn version(written: &Written) -> Arc<str> {
    match written {
        Written::Done(Some(version)) => version.clone(),
        other => panic!("not written: {other:?}"),
    }
}

#[rstest]
#[tokio::test]
async fn a_record_is_read_as_it_was_written(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let records = cluster.records().await;
    let first = version(&records.write(&record(), None, in_time()).await);
    let stored = (record(), first.clone());
    assert_eq!(records.get("uid-web").await, Ok(Some(stored.clone())));
    assert_eq!(records.list().await.unwrap().records, [stored]);
    // What is gone from the record is gone from the object.
    let less = Record::new("uid-web".into(), record().binding, record().group);
    let second = version(&records.write(&less, Some(&first), in_time()).await);
    assert_eq!(records.get("uid-web").await, Ok(Some((less, second))));
}

#[rstest]
#[tokio::test]
async fn a_record_that_another_wrote_is_neither_replaced_nor_deleted_before_it_is_read_again(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let records = cluster.records().await;
    let first = version(&records.write(&record(), None, in_time()).await);
    assert_eq!(
        records.write(&record(), None, in_time()).await,
        Written::Conflict,
        "it exists"
    );
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "by": "another" } } }));
    let params = PatchParams::default();
    let objects = cluster.record_objects();
    objects.patch("uid-web", &params, &patch).await.unwrap();
    let less = Record::new("uid-web".into(), record().binding, record().group);
    let stale = records.write(&less, Some(&first), in_time()).await;
    assert_eq!(stale, Written::Conflict);
    let stale = records.delete("uid-web", &first, in_time()).await;
    assert_eq!(stale, Written::Conflict);

    let (found, second) = records.get("uid-web").await.unwrap().unwrap();
    assert_eq!(found, record());
    let third = version(&records.write(&less, Some(&second), in_time()).await);
    let object = objects.get("uid-web").await.unwrap();
    assert_eq!(object.labels()["by"], "another");
    assert_eq!(
        records.delete("uid-web", &third, in_time()).await,
        Written::Done(None)
    );
    assert_eq!(records.get("uid-web").await, Ok(None));
    assert_eq!(
        records.delete("uid-web", &third, in_time()).await,
        Written::Done(None),
        "it is gone already"
    );
    let gone = records.write(&less, Some(&third), in_time()).await;
    assert_eq!(gone, Written::Conflict, "a deleted record is not made anew");
}

#[tokio::test]
async fn a_record_holds_ten_thousand_targets_and_the_crd_no_more() {
    let cluster = Server::Kubernetes.cluster().await;
    let records = cluster.records().await;
    let many = (0..).map(|number: u32| {
        let bits = (0xfd00_u128 << 112) + (u128::MAX >> 16) - u128::from(number);
        (std::net::Ipv6Addr::from_bits(bits).into(), 65_535)
    });
    let full = Record {
        uid: "uid-full".into(),
        ..record().with(many.take(MOST_TARGETS))
    };
    assert_eq!(full.targets.len(), MOST_TARGETS);
    let written = version(&records.write(&full, None, in_time()).await);
    assert_eq!(records.get("uid-full").await, Ok(Some((full, written))));
    let mut over = record().written();
    over.status.targets = vec!["10.0.0.1:80".to_owned(); MOST_TARGETS + 1];
    let over = json!({ "apiVersion": "targetgate.dev/v1", "kind": "TargetRecord",
        "metadata": { "name": "uid-over" }, "spec": over.spec, "status": over.status });
    let refused = create(&cluster.record_objects(), over).await.unwrap_err();
    assert!(refused.to_string().contains("status.targets"), "{refused}");
}

#[tokio::test]
async fn a_record_needs_a_binding_and_a_group() {
    let cluster = Server::Kubernetes.cluster().await;
    cluster.records().await;
    for spec in [
        json!({}),
        json!({ "binding": { "namespace": "shop", "name": "web" } }),
        json!({ "binding": { "namespace": "shop" }, "targetGroupARN": ARN }),
    ] {
        let object = json!({ "apiVersion": "targetgate.dev/v1", "kind": "TargetRecord",
            "metadata": { "name": "uid-bad" }, "spec": spec });
        let refused = create(&cluster.record_objects(), object).await.unwrap_err();
        assert!(refused.to_string().contains("Required value"), "{refused}");
    }
}

#[tokio::test]
async fn slices_and_records_are_seen_as_they_are_written() {
    let cluster = Server::Kubernetes.cluster().await;
    let records = cluster.records().await;
    let (cache, metrics) = (Arc::<Cache>::default(), Metrics::default());
    let namespace: Arc<str> = cluster.namespace.as_str().into();
    let options = WatchOptions {
        namespaces: vec![namespace.clone()],
        records: Some(namespace),
        ..WatchOptions::default()
    };
    let slices = cluster.dynamic(&resource("discovery.k8s.io", "v1", "EndpointSlice"));
    let slice = |name: &str, by: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": "db",
                "endpointslice.kubernetes.io/managed-by": by } },
            "addressType": "IPv4",
            "ports": [{ "name": "sql", "port": 5432 }],
            "endpoints": [{ "addresses": ["10.0.0.9"],
                "targetRef": { "kind": "Pod", "name": "db-0", "namespace": cluster.namespace } }],
        })
    };
    create(&slices, slice("listed", "staff")).await.unwrap();
    create(
        &slices,
        slice("kubernetes", "endpointslice-controller.k8s.io"),
    )
    .await
    .unwrap();
    let watches = watches(&cluster.client, &cache, &metrics, &options);
    let running = tokio::spawn(join_all(watches.into_iter().map(|(_, watch)| watch)));
    until("both are listed", async || {
        let listed = |watched: &WatchedResource| cache.look(*watched) == InitialList::Listed;
        WatchedResource::TARGETS.iter().all(listed).then_some(())
    })
    .await;
    until("both watches work", async || {
        let works = |watched: &WatchedResource| cache.watch_fails_since(*watched).is_none();
        WatchedResource::TARGETS.iter().all(works).then_some(())
    })
    .await;
    create(&slices, slice("created", "staff")).await.unwrap();
    slices
        .delete("listed", &DeleteParams::default())
        .await
        .unwrap();
    let first = version(&records.write(&record(), None, in_time()).await);
    let mut seen = std::collections::BTreeMap::new();
    until("all is seen", async || {
        let taken = cache.take_slices().into_iter();
        seen.extend(taken.map(|(key, slice)| (key.name.to_string(), slice)));
        (seen.contains_key("created") && seen.get("listed") == Some(&None)).then_some(())
    })
    .await;
    assert_eq!(seen.len(), 2, "{seen:?}");
    let created = seen["created"].as_ref().unwrap();
    assert_eq!((&*created.service, created.ports[0].number), ("db", 5432));
    let pod = created.endpoints[0].pod.clone();
    assert_eq!(pod, Some(("db-0".into(), None)));
    let stored = until("the record is seen", async || {
        cache.take_records().remove("uid-web").flatten()
    })
    .await;
    assert_eq!(stored, (record(), first));
    running.abort();
}

#[rstest]
#[tokio::test]
async fn the_incumbents_lease_is_read_with_the_servers_clock(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let lease = ObjectKey::new(cluster.namespace.as_str(), "leader");
    assert_eq!(look(&cluster.client, &lease).await, Look::Absent);
    let renewed = "2026-11-30T07:59:58.123456Z";
    let object: Value = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "leader" },
        "spec": { "holderIdentity": "a", "renewTime": renewed } });
    let leases = cluster.dynamic(&resource("coordination.k8s.io", "v1", "Lease"));
    create(&leases, object).await.unwrap();
    let Look::Found {
        renewed: found,
        now,
    } = look(&cluster.client, &lease).await
    else {
        panic!("it is there");
    };
    assert_eq!(found, Some(renewed.parse().unwrap()));
    let off = now.duration_since(Timestamp::now()).abs();
    assert!(off.as_secs() < 60, "{off:?}");
}

#[tokio::test]
async fn a_lease_that_we_may_not_read_is_told_from_one_that_is_absent() {
    let cluster = Server::Kubernetes.cluster().await;
    let kubeconfig = Kubeconfig::read_from(cluster.control_plane().kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.unwrap();
    config.auth_info.impersonate = Some("without-rights".to_owned());
    let client = Client::try_from(config).unwrap();
    let lease = ObjectKey::new(cluster.namespace.as_str(), "leader");
    assert_eq!(look(&client, &lease).await, Look::Forbidden);
}
