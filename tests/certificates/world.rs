//! The control plane of this program, and for each test a namespace, an installation with names of its own, and
//! its hooks.

use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use targetgate_sandbox::controlplane::{ControlPlane, Options};
use tokio::sync::OnceCell;

use crate::clients::Identities;
use crate::proxy::Proxy;

/// The name of all objects of an installation except the webhook configurations.
pub(crate) const NAME: &str = "targetgate";

/// The client that applies the hooks, as `managedFields` names it.
pub(crate) const APPLIER: &str = "argocd-controller";

/// The control plane of all tests of this program, which ends with the process.
static SHARED: OnceCell<Shared> = OnceCell::const_new();
/// A counter from which each test takes names of its own.
static TESTS: AtomicU32 = AtomicU32::new(0);

/// A namespace with a Service that leads to a proxy, and the shipped hooks for this namespace.
pub(crate) struct World {
    pub(crate) client: Client,
    /// The namespace, which is also the name of the webhook configurations and a part of the webhooks' names.
    pub(crate) namespace: String,
    pub(crate) proxy: Proxy,
}

pub(crate) struct Shared {
    control_plane: ControlPlane,
    /// The client certificates that kube-apiserver shows to some hooks. To the hooks of most tests it shows
    /// none.
    pub(crate) identities: Identities,
}

pub(crate) async fn shared() -> &'static Shared {
    let start = async || {
        let (identities, webhook_users) = Identities::new();
        let options = Options {
            webhook_users,
            ..Options::default()
        };
        let control_plane = ControlPlane::start(options).await;
        control_plane.map(|control_plane| Shared {
            control_plane,
            identities,
        })
    };
    match SHARED.get_or_try_init(start).await {
        Ok(shared) => shared,
        Err(error) => panic!("{:#}", anyhow::Error::new(error)),
    }
}

pub(crate) async fn control_plane() -> &'static ControlPlane {
    &shared().await.control_plane
}

impl World {
    pub(crate) async fn new() -> Self {
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        let proxy = Proxy::new().await;
        let world = Self::without_hooks(format!("test-{number}"), proxy).await;
        world.register_hooks().await;
        world
    }

    /// A world with a namespace and a proxy of the caller's choice, and without hooks.
    pub(crate) async fn without_hooks(namespace: String, proxy: Proxy) -> Self {
        // An error means that a provider is installed already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let world = Self {
            client: control_plane().await.client().await.unwrap(),
            namespace,
            proxy,
        };
        let namespace = json!({ "metadata": { "name": world.namespace } });
        create(&Api::<Namespace>::all(world.client.clone()), namespace).await;
        let service = json!({
            "metadata": { "name": NAME },
            "spec": { "type": "ExternalName", "externalName": "localhost" },
        });
        create(&world.api::<Service>(), service).await;
        world
    }

    pub(crate) async fn register_hooks(&self) {
        // `managedFields` has whole seconds, so only a single other writer makes clear which client wrote last.
        let applied = PostParams {
            field_manager: Some(APPLIER.to_owned()),
            ..PostParams::default()
        };
        for object in self.hooks() {
            let kind = object["kind"].as_str().unwrap().to_owned();
            let object = serde_json::from_value(object).unwrap();
            let made = self.configurations(&kind).create(&applied, &object).await;
            made.unwrap();
        }
    }

    /// The shipped webhook configurations, for this namespace and this proxy.
    fn hooks(&self) -> Vec<Value> {
        let shipped = include_str!("../../deploy/base/webhooks.yaml");
        let mut objects: Vec<Value> = serde_saphyr::from_multiple(shipped).unwrap();
        for object in &mut objects {
            object["metadata"]["name"] = json!(self.namespace);
            for webhook in object["webhooks"].as_array_mut().unwrap() {
                let name = webhook["name"].as_str().unwrap().to_owned();
                webhook["name"] = json!(format!("{}.{name}", self.namespace));
                webhook["namespaceSelector"] = json!({
                    "matchLabels": { "kubernetes.io/metadata.name": self.namespace },
                });
                // A slow machine must not look like a failure of a certificate.
                webhook["timeoutSeconds"] = json!(30);
                let service = &mut webhook["clientConfig"]["service"];
                service["namespace"] = json!(self.namespace);
                service["port"] = json!(self.proxy.address.port());
            }
        }
        objects
    }

    /// The name of the pod hook in kube-apiserver's metrics.
    pub(crate) fn pod_hook(&self) -> String {
        format!("{}.mpod.elbv2.k8s.aws", self.namespace)
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn secrets(&self) -> Api<Secret> {
        self.api()
    }

    /// Webhook configurations of this kind.
    pub(crate) fn configurations(&self, kind: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
        Api::all_with(self.client.clone(), &ApiResource::from_gvk(&gvk))
    }

    /// The CAs of each bundle of the hooks.
    pub(crate) async fn bundles(&self) -> Vec<Vec<String>> {
        let mut bundles = vec![];
        for kind in KINDS {
            let object = self
                .configurations(kind)
                .get(&self.namespace)
                .await
                .unwrap();
            for webhook in object.data["webhooks"].as_array().unwrap() {
                let text = webhook["clientConfig"]["caBundle"].as_str().unwrap_or("");
                bundles.push(certificates(&STANDARD.decode(text).unwrap()));
            }
        }
        bundles
    }

    /// Writes this text into each bundle of a configuration, in the name of the client that applies the hooks.
    pub(crate) async fn write_bundles(&self, kind: &str, bundle: &str) {
        let configurations = self.configurations(kind);
        let object = configurations.get(&self.namespace).await.unwrap();
        let webhooks = object.data["webhooks"].as_array().unwrap().iter();
        let webhooks: Vec<Value> = webhooks
            .map(|webhook| {
                let bundle = STANDARD.encode(bundle);
                json!({ "name": webhook["name"], "clientConfig": { "caBundle": bundle } })
            })
            .collect();
        let params = PatchParams {
            field_manager: Some(APPLIER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Strategic(json!({ "webhooks": webhooks }));
        let patched = configurations.patch(&self.namespace, &params, &patch).await;
        patched.unwrap();
    }

    /// Replaces a configuration by one without bundles, in the name of the client that applies the hooks, as
    /// `kubectl replace` does.
    pub(crate) async fn replace_without_bundles(&self, kind: &str) {
        let configurations = self.configurations(kind);
        let params = PostParams {
            field_manager: Some(APPLIER.to_owned()),
            ..PostParams::default()
        };
        loop {
            let mut object = configurations.get(&self.namespace).await.unwrap();
            for webhook in object.data["webhooks"].as_array_mut().unwrap() {
                webhook["clientConfig"]
                    .as_object_mut()
                    .unwrap()
                    .remove("caBundle");
            }
            match configurations
                .replace(&self.namespace, &params, &object)
                .await
            {
                Ok(_) => return,
                // The keeper wrote in between.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The text of a key of the Secret, or an empty one if it does not exist.
    pub(crate) async fn secret(&self, key: &str) -> String {
        let secret = self.secrets().get_opt(SECRET).await.unwrap();
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let bytes = data.get(key).map_or(&[][..], |bytes| &bytes.0);
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// The reasons and notes of Events about our configurations.
    pub(crate) async fn events(&self) -> Vec<(String, String)> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let events = events.list(&ListParams::default()).await.unwrap();
        let ours = events.into_iter().filter(|event| {
            let regarding = event.regarding.as_ref();
            regarding.is_some_and(|r| r.name.as_ref() == Some(&self.namespace))
        });
        ours.map(|event| {
            (
                event.reason.unwrap_or_default(),
                event.note.unwrap_or_default(),
            )
        })
        .collect()
    }

    /// The sum of the samples of kube-apiserver's metric that have these labels.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let request = http::Request::get("/metrics").body(vec![]).unwrap();
        let text = self.client.request_text(request).await.unwrap();
        let samples = text.lines().filter(|line| {
            line.split('{').next() == Some(name) && labels.iter().all(|label| line.contains(label))
        });
        samples
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }
}

/// The kinds of webhook configurations.
pub(crate) const KINDS: [&str; 2] = [
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];
/// The default name of the Secret.
pub(crate) const SECRET: &str = "targetgate-tls";

/// The PEM blocks of a bundle.
fn certificates(bundle: &[u8]) -> Vec<String> {
    let text = String::from_utf8(bundle.to_vec()).unwrap();
    let blocks = text.split_inclusive("-----END CERTIFICATE-----\n");
    let blocks = blocks.map(str::trim).filter(|block| !block.is_empty());
    blocks.map(str::to_owned).collect()
}

/// Creates an object from its JSON.
pub(crate) async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

/// A pod that no kubelet runs.
pub(crate) fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": { "generateName": "pod-" },
        "spec": { "containers": [{ "name": "web", "image": "web" }] },
    }))
    .unwrap()
}

pub(crate) fn name(pod: &Pod) -> String {
    pod.name_any()
}
