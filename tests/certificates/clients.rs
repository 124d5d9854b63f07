//! `--client-ca`: which client certificate kube-apiserver shows to a hook, and which of them are accepted.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use parking_lot::Mutex;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use serde_json::json;
use targetgate::pki::make;
use targetgate::pki::make::Made;
use targetgate_core::rotation::{Lifetimes, Validity};
use targetgate_sandbox::controlplane::webhook_users::{
    WebhookUser, admission_configuration, kubeconfig,
};
use targetgate_sandbox::harness::waiting::until;

use crate::creations::{Creations, failures, reviews};
use crate::proxy::Proxy;
use crate::replica::Replica;
use crate::world::{NAME, World, create, pod, shared};

/// Namespaces to whose hooks kube-apiserver shows the certificate that a replica accepts.
const OWN: &str = "clients-own";
const OLD: &str = "clients-old";
const NEW: &str = "clients-new";
/// The namespace to whose hook kube-apiserver shows no certificate.
const NOBODY: &str = "clients-nobody";
/// Namespaces to whose hooks kube-apiserver shows no certificate or a wrong one, each with the cause in our
/// metric.
const OTHERS: [(&str, &str); 5] = [
    (NOBODY, "NoClientCertificate"),
    ("clients-of-another-ca", "ClientRefused"),
    ("clients-expired", "ClientRefused"),
    ("clients-for-servers", "ClientRefused"),
    ("clients-not-named", "ClientNotNamed"),
];

/// The client certificates that kube-apiserver shows to the hooks of these tests. It reads them when it starts,
/// so the addresses of the hooks are taken before.
pub(crate) struct Identities {
    hooks: Mutex<HashMap<&'static str, TcpListener>>,
    old_ca: String,
    new_ca: String,
}

impl Identities {
    /// Makes the certificates, and returns them also as configuration for kube-apiserver.
    pub(crate) fn new() -> (Self, Vec<WebhookUser>) {
        let validity = Lifetimes::default().of_ca(Timestamp::now());
        let over = Validity {
            not_after: Timestamp::now() - Duration::from_secs(60),
            ..validity
        };
        let [old, new, another] =
            ["old", "new", "another"].map(|name| make::ca(name, validity).unwrap());
        let shown = [
            (OWN, client(&old, "kube-apiserver", validity)),
            (OLD, client(&old, "kube-apiserver", validity)),
            (NEW, client(&new, "kube-apiserver", validity)),
            (OTHERS[1].0, client(&another, "kube-apiserver", validity)),
            (OTHERS[2].0, client(&old, "kube-apiserver", over)),
            (OTHERS[3].0, server(&old, validity)),
            (OTHERS[4].0, client(&old, "kubernetes-admin", validity)),
        ];
        let mut hooks = HashMap::from([(NOBODY, listener())]);
        let mut users = vec![];
        for (namespace, made) in shown {
            let listener = listener();
            let port = listener.local_addr().unwrap().port();
            users.push(WebhookUser {
                server: format!("{NAME}.{namespace}.svc:{port}"),
                certificate: made.certificate,
                key: made.key,
            });
            hooks.insert(namespace, listener);
        }
        let identities = Self {
            hooks: Mutex::new(hooks),
            old_ca: old.certificate,
            new_ca: new.certificate,
        };
        (identities, users)
    }
}

fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// A certificate for client authentication.
fn client(ca: &Made, name: &str, validity: Validity) -> Made {
    let since_1970 = |at: Timestamp| Duration::from_secs(at.as_second().unsigned_abs());
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(validity.not_before);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970(validity.not_after);
    let issuer = KeyPair::from_pem(&ca.key).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, issuer).unwrap();
    let key = KeyPair::generate().unwrap();
    Made {
        certificate: params.signed_by(&key, &issuer).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

/// A certificate for server authentication.
fn server(ca: &Made, validity: Validity) -> Made {
    make::leaf(&ca.certificate, &ca.key, "kube-apiserver", &[], validity).unwrap()
}

/// The world of a namespace, with its hooks. A namespace can be used by one test only.
async fn world(namespace: &'static str) -> Arc<World> {
    let world = without_hooks(namespace).await;
    world.register_hooks().await;
    world
}

/// The world of a namespace, before its hooks are registered.
async fn without_hooks(namespace: &'static str) -> Arc<World> {
    let listener = shared().await.identities.hooks.lock().remove(namespace);
    let proxy = Proxy::on(listener.unwrap());
    Arc::new(World::without_hooks(namespace.to_owned(), proxy).await)
}

/// A replica that serves the hooks and keeps the bundles of several namespaces, and the folder with its client
/// CAs.
async fn replica(worlds: &[&World], more: &[&str]) -> (Replica, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, &shared().await.identities.old_ca).unwrap();
    let mut flags = vec![
        "--lease=off".to_owned(),
        format!("--client-ca={}", file.display()),
    ];
    for world in &worlds[1..] {
        let namespace = &world.namespace;
        flags.push(format!("--tls-mutating={namespace}"));
        flags.push(format!("--tls-validating={namespace}"));
        flags.push(format!("--tls-names={NAME}.{namespace}.svc"));
    }
    let flags = flags.iter().map(String::as_str).chain(more.iter().copied());
    let replica = Replica::start(worlds[0], &flags.collect::<Vec<_>>()).await;
    replica.ready().await;
    for world in worlds {
        world.proxy.backends(vec![replica.listen]);
    }
    (replica, folder)
}

/// Replaces the file of client CAs by a rename, as the kubelet does, and waits until the replica uses them.
async fn put(folder: &Path, cas: &str, replica: &mut Replica) {
    let beside = folder.join("ca.new");
    std::fs::write(&beside, cas).unwrap();
    std::fs::rename(beside, folder.join("ca.crt")).unwrap();
    replica
        .logs(|line| line["message"] == "going by new client CAs")
        .await;
}

/// The bindings in the world's namespace.
fn bindings(world: &World) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("elbv2.k8s.aws", "v1beta1", "TargetGroupBinding");
    let resource = ApiResource::from_gvk(&kind);
    Api::namespaced_with(world.client.clone(), &world.namespace, &resource)
}

/// Installs the CRD of bindings, and waits until kube-apiserver serves it.
async fn define_bindings(world: &World) {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds: Api<DynamicObject> =
        Api::all_with(world.client.clone(), &ApiResource::from_gvk(&kind));
    create(
        &crds,
        serde_saphyr::from_str(&targetgate_core::binding::spec::yaml()).unwrap(),
    )
    .await;
    until("bindings are served", async || {
        let listed = bindings(world).list(&ListParams::default()).await;
        listed.ok()
    })
    .await;
}

/// A complete binding.
fn binding() -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": { "name": "web" },
        "spec": {
            "serviceRef": { "name": "web", "port": 80 },
            "targetGroupARN": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef",
            "targetType": "ip",
        },
    }))
    .unwrap()
}

/// How many TLS failures of this cause the replica has counted.
async fn counted(replica: &Replica, cause: &str) -> u32 {
    let metrics = replica.metrics().await;
    let sample = format!("targetgate_tls_failures_total{{cause=\"{cause}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&sample));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn the_api_servers_own_certificate_gets_in_and_any_other_does_not() {
    let own = without_hooks(OWN).await;
    define_bindings(&own).await;
    let service = json!({
        "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
    });
    create::<Service>(&own.api(), service).await;
    let params = PostParams::default();
    // The binding is created before the hooks are registered, because they would ask AWS about it.
    bindings(&own).create(&params, &binding()).await.unwrap();
    own.register_hooks().await;
    let mut others = vec![];
    for (namespace, cause) in OTHERS {
        others.push((world(namespace).await, cause));
    }
    let mut all = vec![&*own];
    all.extend(others.iter().map(|(world, _)| &**world));
    let (replica, _folder) = replica(&all, &["--client-names=kube-apiserver"]).await;

    let mut web: Pod = pod();
    web.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
    let gates = until("a pod gets its gate", async || {
        let created = own.api::<Pod>().create(&params, &web).await.unwrap();
        created.spec?.readiness_gates
    })
    .await;
    assert_eq!(gates.len(), 1);
    assert_eq!(gates[0].condition_type, "target-health.elbv2.k8s.aws/web");

    for (world, cause) in others {
        let before = counted(&replica, cause).await;
        until(
            "the API server is refused, and no pod because of it",
            async || {
                world.api::<Pod>().create(&params, &web).await.unwrap();
                let refused = counted(&replica, cause).await > before;
                (refused && failures(&world).await > 0.0).then_some(())
            },
        )
        .await;
        let refused = bindings(&world).create(&params, &binding()).await;
        let refused = refused.unwrap_err().to_string();
        let namespace = &world.namespace;
        // The proxy may reset the connection before kube-apiserver reads the TLS alert.
        assert!(refused.contains("failed calling webhook"), "{refused}");
        assert_eq!(reviews(&world).await, 0.0, "{namespace}");
    }
}

/// Two API servers, as far as a replica can tell: the first never changes its certificate, and the second has
/// the new one from the beginning.
#[tokio::test]
async fn while_the_cas_are_rotated_no_admission_is_lost() {
    let (old, new) = (world(OLD).await, world(NEW).await);
    let (mut replica, folder) = replica(&[&old, &new], &[]).await;
    let identities = &shared().await.identities;
    let (old_ca, new_ca) = (&identities.old_ca, &identities.new_ca);

    let of_old = Creations::begin(&old).await;
    of_old.more(5).await;
    put(folder.path(), &format!("{old_ca}{new_ca}"), &mut replica).await;
    let of_new = Creations::begin(&new).await;
    of_old.more(5).await;
    of_new.more(5).await;
    of_old.end().await.is_clean(&[&replica]);

    put(folder.path(), new_ca, &mut replica).await;
    of_new.more(5).await;
    of_new.end().await.is_clean(&[&replica]);
    assert_eq!(counted(&replica, "ClientRefused").await, 0);
    old.proxy.cut().await;
    let params = PostParams::default();
    until("the old certificate is worth nothing", async || {
        old.api::<Pod>().create(&params, &pod()).await.unwrap();
        (counted(&replica, "ClientRefused").await > 0).then_some(())
    })
    .await;
}

#[test]
fn the_documentation_shows_the_files_that_the_api_server_was_given() {
    let page = include_str!("../../docs/client-certificates.md");
    let blocks: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    let path = Path::new;
    let users = [(
        "targetgate.targetgate-system.svc",
        path("/etc/kubernetes/pki/targetgate-client.crt"),
        path("/etc/kubernetes/pki/targetgate-client.key"),
    )];
    let expected = [
        admission_configuration(path("/etc/kubernetes/webhooks.kubeconfig")),
        kubeconfig(users),
    ];
    assert_eq!(blocks[..2], expected);
}
