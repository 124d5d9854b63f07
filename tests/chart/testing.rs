//! What `helm test` leaves behind.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use targetgate_sandbox::harness::waiting::until;

use crate::helm::NAMESPACE;
use crate::reader::{INSTALL, Reader};

const NAME: &str = "targetgate-test";

#[tokio::test]
async fn a_test_that_fails_leaves_its_pod_for_the_log_and_no_right() {
    let reader = Arc::new(Reader::new().await);
    reader.types(&format!(
        "{INSTALL} --set imagePullSecrets[0].name=registry"
    ));
    let testing = tokio::task::spawn_blocking({
        let reader = reader.clone();
        move || {
            let command = format!("helm test targetgate --namespace {NAMESPACE}");
            reader
                .helm
                .typed(&reader.server, reader.checkout.path(), &command)
        }
    });
    let client = || reader.client.clone();
    let pods: Api<Pod> = Api::namespaced(client(), NAMESPACE);
    let pod = until("the test's pod", async || pods.get_opt(NAME).await.unwrap()).await;
    let secrets = pod.spec.unwrap().image_pull_secrets.unwrap();
    assert_eq!(secrets[0].name, "registry");
    let failed = Patch::Merge(json!({ "status": { "phase": "Failed" } }));
    let params = PatchParams::default();
    pods.patch_status(NAME, &params, &failed).await.unwrap();
    let said = testing.await.unwrap().unwrap_err();
    assert!(said.contains(NAME), "{said}");

    let accounts: Api<ServiceAccount> = Api::namespaced(client(), NAMESPACE);
    let roles: Api<Role> = Api::namespaced(client(), "default");
    let bindings: Api<RoleBinding> = Api::namespaced(client(), "default");
    assert!(accounts.get_opt(NAME).await.unwrap().is_none());
    assert!(roles.get_opt(NAME).await.unwrap().is_none());
    assert!(bindings.get_opt(NAME).await.unwrap().is_none());
    assert!(pods.get_opt(NAME).await.unwrap().is_some());
}
