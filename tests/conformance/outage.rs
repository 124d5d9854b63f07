//! Servers that go down, come back, and have compacted their history.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use http::{Request, StatusCode};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::ListParams;
use kube::client::Body;
use kube::{Client, ResourceExt as _};
use rstest::rstest;
use serde_json::json;
use targetgate::kubernetes::watch::{WatchOptions, watches};
use targetgate::metrics::Metrics;
use targetgate::state::cache::Cache;
use targetgate_sandbox::harness::waiting::until;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::servers::{Cluster, Server, create};

#[rstest]
#[tokio::test]
async fn a_server_that_was_stopped_has_what_it_had(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let mut cluster = server.own_cluster().await;
    let before = cluster.config_map("a").await.unwrap();
    cluster.stop();
    cluster.config_maps().get("a").await.unwrap_err();
    cluster.start().await;
    let after = cluster.config_maps().get("a").await.unwrap();
    assert_eq!(before.metadata, after.metadata);
}

#[rstest]
#[tokio::test]
async fn a_list_that_is_compacted_between_its_pages_can_continue_at_the_present_version(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let mut cluster = server.own_cluster().await;
    for name in ["b", "c", "d"] {
        cluster.config_map(name).await.unwrap();
    }
    let maps = cluster.config_maps();
    let params = ListParams::default().limit(1);
    let first = maps.list(&params).await.unwrap();
    let begun = first.metadata.resource_version.unwrap();
    let token = first.metadata.continue_.unwrap();

    cluster.compact().await;
    cluster.config_map("e").await.unwrap();
    let expired = match maps.list(&params.clone().continue_token(&token)).await {
        Err(kube::Error::Api(status)) => status,
        other => panic!("{other:?}"),
    };
    assert_eq!((expired.code, expired.reason.as_str()), (410, "Expired"));
    let now = expired
        .metadata
        .as_ref()
        .unwrap()
        .continue_
        .clone()
        .unwrap();
    let rest = maps
        .list(&params.continue_token(&now).limit(2))
        .await
        .unwrap();
    let names: Vec<String> = rest.items.iter().map(ConfigMap::name_any).collect();
    assert_eq!(names, ["c", "d"]);
    let number = |version: &str| version.parse::<u64>().unwrap();
    assert!(number(&rest.metadata.resource_version.unwrap()) > number(&begun));
}

#[rstest]
#[tokio::test]
async fn our_list_starts_over_when_it_is_compacted_between_its_pages(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.own_cluster().await;
    let services = cluster.api::<Service>();
    let service =
        |name: &str| json!({ "metadata": { "name": name }, "spec": { "ports": [{ "port": 80 }] } });
    for name in ["a", "b", "c", "d", "e"] {
        create(&services, service(name)).await.unwrap();
    }
    let namespace = cluster.namespace.clone();
    let (client, expired) = forgetful(cluster);
    let (cache, metrics) = (Arc::<Cache>::default(), Arc::<Metrics>::default());
    let options = WatchOptions {
        namespaces: vec![namespace.as_str().into()],
        page_size: 2,
        ..WatchOptions::default()
    };
    let watches = watches(&client, &cache, &metrics, &options);
    let _running: JoinSet<()> = watches.into_iter().map(|(_, watch)| watch).collect();

    let known = |names: &[&str]| {
        cache.read(|index| {
            let view = index.namespace(&namespace)?;
            view.routes
                .services()
                .map(|(name, _)| &**name)
                .eq(names.iter().copied())
                .then_some(())
        })
    };
    until("the whole list", async || known(&["a", "b", "c", "d", "e"])).await;
    assert_eq!(expired.load(Ordering::Relaxed), 1);
    create(&services, service("f")).await.unwrap();
    until("the Service created after it", async || {
        known(&["a", "b", "c", "d", "e", "f"])
    })
    .await;
}

/// A client whose cluster compacts its history before it returns a second page of Services for the first time,
/// and the number of those pages that were answered with 410.
fn forgetful(cluster: Cluster) -> (Client, Arc<AtomicU16>) {
    let (client, expired) = (cluster.client.clone(), Arc::<AtomicU16>::default());
    let (counted, cluster) = (expired.clone(), Arc::new(Mutex::new((cluster, true))));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, cluster, counted) = (client.clone(), cluster.clone(), counted.clone());
        async move {
            let uri = request.uri().to_string();
            if !(uri.contains("/services?") && uri.contains("continue=")) {
                return client.send(request).await;
            }
            let (cluster, remembers) = &mut *cluster.lock().await;
            if mem::take(remembers) {
                cluster.compact().await;
            }
            let page = client.send(request).await?;
            let gone = u16::from(page.status() == StatusCode::GONE);
            counted.fetch_add(gone, Ordering::Relaxed);
            Ok(page)
        }
    });
    (Client::new(service, "default"), expired)
}
