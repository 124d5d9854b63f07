//! How the server answers about an absent object. Our watches and confirmations need to distinguish a deleted
//! object from a CRD that is not served.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use rstest::rstest;
use serde_json::json;

use crate::servers::{Server, answer, code, config_map, create, refused, resource};

#[rstest]
#[tokio::test]
async fn an_object_that_is_absent_is_named(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let not_found = |words: &str| (404, "NotFound".to_owned(), words.to_owned());
    let pod = cluster.pods().get("a").await;
    assert_eq!(refused(pod), not_found("pods \"a\" not found"));
    let service = cluster.api::<Service>().get("a").await;
    assert_eq!(refused(service), not_found("services \"a\" not found"));
    let deleted = cluster.pods().delete("a", &DeleteParams::default()).await;
    assert_eq!(refused(deleted), not_found("pods \"a\" not found"));
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "a": "b" } } }));
    let patched = cluster
        .pods()
        .patch("a", &PatchParams::default(), &patch)
        .await;
    assert_eq!(refused(patched), not_found("pods \"a\" not found"));
}

#[rstest]
#[tokio::test]
async fn a_namespace_that_is_absent_lists_nothing_and_takes_nothing(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let absent = format!("no-{}", cluster.namespace);
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &absent);
    assert!(
        pods.list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(code(pods.get("a").await), answer(404, "NotFound"));
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &absent);
    let made = create(&maps, config_map("a")).await;
    let words = format!("namespaces \"{absent}\" not found");
    assert_eq!(refused(made), (404, "NotFound".to_owned(), words));
}

/// Only the 404 about an absent object has the object's name in its details.
#[rstest]
#[case::group("elbv2.example.org", "v1beta1", "TargetGroupBinding")]
#[case::version("", "v9", "Pod")]
#[case::plural("", "v1", "Spaceship")]
#[tokio::test]
async fn a_kind_that_is_not_served_is_another_404_than_an_absent_object(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
    #[case] group: &str,
    #[case] version: &str,
    #[case] kind: &str,
) {
    let cluster = server.cluster().await;
    let of_no_kind = cluster.dynamic(&resource(group, version, kind));
    let listed = of_no_kind.list(&ListParams::default()).await;
    let got = of_no_kind.get("a").await.map(|_| ());
    for answered in [listed.map(|_| ()), got] {
        assert_eq!(named(answered), (404, String::new()));
    }
    let absent = cluster.pods().get("a").await.map(|_| ());
    assert_eq!(named(absent), (404, "a".to_owned()));
}

/// The code of an error, and the name in its details.
fn named(answered: kube::Result<()>) -> (u16, String) {
    match answered {
        Err(kube::Error::Api(status)) => {
            let details = status.details.as_ref();
            (
                status.code,
                details.map(|d| d.name.clone()).unwrap_or_default(),
            )
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[tokio::test]
async fn a_method_that_a_collection_does_not_support_is_405(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let path = format!("/api/v1/namespaces/{}/pods", cluster.namespace);
    let request = http::Request::put(path).body(b"{}".to_vec()).unwrap();
    let answered = cluster.client.request::<serde_json::Value>(request).await;
    assert_eq!(code(answered), answer(405, "MethodNotAllowed"));
}
