//! Both binding APIs: that of AWS Load Balancer Controller and that of EKS Auto Mode.

use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::elb::Health;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{Installed, PORT, Site, apply};
use crate::policy::ways::Way;
use crate::servers::{Cluster, Server};

/// The flag by which bindings of both APIs give gates.
const GATE_APIS: &str = "--gate-apis=elbv2.k8s.aws,eks.amazonaws.com";

#[rstest]
#[case::auto_mode_comes_later(BindingApi::Elbv2, BindingApi::Eks)]
#[case::auto_mode_was_there_alone(BindingApi::Eks, BindingApi::Elbv2)]
#[tokio::test]
async fn gates_are_given_and_opened_under_each_binding_api_and_under_both(
    #[case] first: BindingApi,
    #[case] second: BindingApi,
    #[values(Way::Webhook, Way::Policy)] way: Way,
) {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.serve_bindings(first).await;
    let site = Site::on_by(cluster, way, &[GATE_APIS]).await;
    let mut installed = Installed::started(site).await;
    opens(&installed, first, "a", "10.0.0.1").await;
    // The second CRD is installed while the process runs.
    installed.cluster.serve_bindings(second).await;
    opens(&installed, second, "b", "10.0.0.2").await;
    opens_when_both_are_healthy(&installed, first, second).await;

    installed.kill();
    installed.start().await;
    for (pod, app) in [("d", "a"), ("e", "b"), ("f", "c")] {
        installed.cluster.gated_pod(pod, app, &[app]).await;
    }
}

/// A pod is gated by a binding of one API only, and its gate opens.
async fn opens(installed: &Installed, api: BindingApi, name: &str, ip: &str) {
    installed.cluster.service(name).await;
    let arn = installed.group(name);
    installed.bind_whole(api, name, &arn).await;
    installed.cluster.waiting_pod(name, name, ip).await;
    installed.register(&arn, ip);
    installed.cluster.gate_becomes(name, name, "True").await;
}

/// A pod has one gate for two bindings of one name, and it opens once both targets are healthy.
async fn opens_when_both_are_healthy(installed: &Installed, first: BindingApi, second: BindingApi) {
    let ip = "10.0.0.3";
    installed.cluster.service("c").await;
    let (one, other) = (installed.group("c-1"), installed.group("c-2"));
    installed.bind_whole(first, "c", &one).await;
    installed.bind_whole(second, "c", &other).await;
    installed.cluster.waiting_pod("c", "c", ip).await;
    installed.register(&one, ip);
    until("the target is healthy", async || {
        let health = installed.elb.health(&one, ip.parse().unwrap(), PORT);
        (health == Some(Health::healthy())).then_some(())
    })
    .await;
    installed.elb_is_heard(&one).await;
    let waits = installed.cluster.gate("c", "c").await.unwrap();
    assert_eq!(waits.status, "False");
    installed.register(&other, ip);
    installed.cluster.gate_becomes("c", "c", "True").await;
}

impl Cluster {
    /// Installs the CRD of a binding API. The CRD of EKS Auto Mode has the fields of the other one, because its
    /// own schema is not published.
    pub(crate) async fn serve_bindings(&self, api: BindingApi) {
        let mut crd: Value =
            serde_saphyr::from_str(&targetgate_core::binding::spec::yaml()).unwrap();
        let versions = crd["spec"]["versions"].as_array().unwrap();
        let mut stored = versions
            .iter()
            .find(|v| v["storage"] == true)
            .unwrap()
            .clone();
        stored["name"] = json!(api.version());
        crd["metadata"]["name"] = json!(format!("targetgroupbindings.{}", api.group()));
        crd["spec"]["group"] = json!(api.group());
        crd["spec"]["versions"] = json!([stored]);
        apply(&self.client, &crd).await;
    }
}
