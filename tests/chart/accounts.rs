//! Installing with a ServiceAccount that another tool created.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use rstest::rstest;
use serde_json::json;

use crate::helm::NAMESPACE;
use crate::reader::{INSTALL, Reader};

/// Whether the account may do what only targetgate does, in the cluster and in its own namespace.
async fn may_work(reader: &Reader, account: &str) -> [bool; 2] {
    let reviews: Api<SubjectAccessReview> = Api::all(reader.client.clone());
    let asked = [
        json!({ "verb": "patch", "resource": "pods", "subresource": "status", "namespace": "shop" }),
        json!({
            "verb": "create",
            "group": "coordination.k8s.io",
            "resource": "leases",
            "namespace": NAMESPACE,
        }),
    ];
    let mut allowed = [false; 2];
    for (asked, allowed) in asked.into_iter().zip(&mut allowed) {
        let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
        let review = json!({ "spec": { "user": user, "resourceAttributes": asked } });
        let review = serde_json::from_value(review).unwrap();
        let reviewed = reviews.create(&PostParams::default(), &review).await;
        *allowed = reviewed.unwrap().status.unwrap().allowed;
    }
    allowed
}

#[rstest]
#[case::of_our_name("targetgate", "")]
#[case::of_another_name("gate-sa", "--set serviceAccount.name=gate-sa")]
#[tokio::test]
async fn an_account_that_exists_is_used_and_outlives_us(
    #[case] account: &str,
    #[case] named: &str,
) {
    let reader = Reader::new().await;
    reader.types(&format!("kubectl create namespace {NAMESPACE}"));
    reader.types(&format!(
        "kubectl -n {NAMESPACE} create serviceaccount {account}"
    ));
    let accounts: Api<ServiceAccount> = Api::namespaced(reader.client.clone(), NAMESPACE);
    let made = accounts.get(account).await.unwrap().uid();

    reader.types(&format!(
        "{INSTALL} --set serviceAccount.create=false {named}"
    ));
    let deployments: Api<Deployment> = Api::namespaced(reader.client.clone(), NAMESPACE);
    let deployed = deployments.get("targetgate").await.unwrap();
    let pod = deployed.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.service_account_name.as_deref(), Some(account));
    assert_eq!(may_work(&reader, account).await, [true, true]);
    assert_eq!(may_work(&reader, "another").await, [false, false]);

    reader.types("helm uninstall targetgate --namespace targetgate-system");
    assert_eq!(accounts.get(account).await.unwrap().uid(), made);
}

#[tokio::test]
async fn an_account_of_ours_may_have_another_name() {
    let reader = Reader::new().await;
    reader.types(&format!("{INSTALL} --set serviceAccount.name=gate-sa"));
    let accounts: Api<ServiceAccount> = Api::namespaced(reader.client.clone(), NAMESPACE);
    assert!(accounts.get_opt("gate-sa").await.unwrap().is_some());
    assert_eq!(may_work(&reader, "gate-sa").await, [true, true]);
    assert_eq!(may_work(&reader, "targetgate").await, [false, false]);
    reader.types("helm uninstall targetgate --namespace targetgate-system");
    assert_eq!(accounts.get_opt("gate-sa").await.unwrap(), None);
}
