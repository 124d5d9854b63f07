//! A reader who types the commands of the documents at a cluster of their own.

use kube::Client;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};
use targetgate_sandbox::controlplane::ControlPlane;

use crate::documented::Checkout;
use crate::helm::Helm;
use crate::server::{api, own_control_plane};
use crate::steady::NAMESPACE;

/// The name of the CRD of bindings.
pub(crate) const CRD: &str = "targetgroupbindings.elbv2.k8s.aws";

/// Installs the chart with its defaults.
pub(crate) const INSTALL: &str =
    "helm install targetgate deploy/chart --namespace targetgate-system --create-namespace";

/// A reader, whose cluster no other test uses.
pub(crate) struct Reader {
    pub(crate) server: ControlPlane,
    pub(crate) client: Client,
    pub(crate) helm: Helm,
    pub(crate) checkout: Checkout,
}

impl Reader {
    /// A reader with a checkout from which the base can be installed.
    pub(crate) async fn new() -> Self {
        let server = own_control_plane().await;
        let client = server.client().await.unwrap();
        let checkout = Checkout::new();
        checkout.kustomize("deploy/base");
        Self {
            server,
            client,
            helm: Helm::new(),
            checkout,
        }
    }

    /// Runs a command, which must succeed. Returns its output.
    pub(crate) fn types(&self, command: &str) -> String {
        let ran = self.helm.typed(&self.server, self.checkout.path(), command);
        ran.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    pub(crate) fn crds(&self) -> Api<DynamicObject> {
        api(&self.client, &crd())
    }

    /// The bindings in the namespace of README.md.
    pub(crate) fn bindings(&self) -> Api<DynamicObject> {
        let binding = json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1",
            "kind": "TargetGroupBinding",
            "metadata": { "namespace": NAMESPACE },
        });
        api(&self.client, &binding)
    }
}

/// The shipped CRD.
pub(crate) fn crd() -> Value {
    serde_saphyr::from_str(&targetgate_core::binding::spec::yaml()).unwrap()
}
