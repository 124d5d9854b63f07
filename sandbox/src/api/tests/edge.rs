//! The HTTP interface, where `kube::Client` does not reach.

use http::{Method, Request};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;

async fn ask(api: &Api, method: Method, path: &str, accept: &str, body: &str) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("accept", accept)
        .header("content-type", "application/json")
        .body(kube::client::Body::from(body.as_bytes().to_vec()))
        .unwrap();
    let response = api.service().oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_is_not_served_is_a_plain_page_and_what_is_not_allowed_a_status() {
    let api = simulated();
    let nothing = (404, "404 page not found\n".to_owned());
    for path in [
        "/",
        "/api/v2/pods",
        "/apis/example.com/v1/things",
        "/apis/example.com/v1",
        "/api/v1/namespaces/default/pods/p/log",
        "/api/v1/pods/p",
        "/openapi/v3",
    ] {
        assert_eq!(
            ask(&api, Method::GET, path, "", "").await,
            nothing,
            "{path}"
        );
    }
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(ask(&api, Method::PUT, pods, "", "{}").await.0, 405);
    assert_eq!(
        ask(&api, Method::POST, "/api/v1/pods", "", "{}").await.0,
        405
    );
    for (body, code) in [
        ("", 400),
        ("[]", 400),
        (r#"{"metadata": 3}"#, 400),
        ("{}", 422),
    ] {
        assert_eq!(
            ask(&api, Method::POST, pods, "", body).await.0,
            code,
            "{body}"
        );
    }
    let large = format!("\"{}\"", "x".repeat(3 << 20));
    assert_eq!(ask(&api, Method::POST, pods, "", &large).await.0, 413);
}

#[tokio::test(start_paused = true)]
async fn discovery_tells_of_every_resource_while_it_is_served() {
    let api = simulated();
    let client = api.client();
    let core = client.list_core_api_resources("v1").await.unwrap();
    let pods = core.resources.iter().find(|r| r.name == "pods").unwrap();
    assert!(pods.namespaced && pods.verbs.contains(&"watch".to_owned()));
    assert!(core.resources.iter().any(|r| r.name == "pods/status"));
    let groups = |groups: k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroupList| {
        let names = groups.groups.into_iter().map(|group| group.name);
        names.collect::<Vec<_>>()
    };
    let before = groups(client.list_api_groups().await.unwrap());
    assert!(before.contains(&"apps".to_owned()) && !before.contains(&"example.com".to_owned()));
    custom::define_things(&client).await;
    let after = groups(client.list_api_groups().await.unwrap());
    assert!(after.contains(&"example.com".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_table_and_bare_metadata_are_given_on_request() {
    let api = simulated();
    create(&api.client(), "p").await;
    let path = "/api/v1/namespaces/default/pods";
    let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let (_, table) = ask(&api, Method::GET, path, kubectl, "").await;
    let table: Value = serde_json::from_str(&table).unwrap();
    assert_eq!(table["kind"], "Table");
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..3], [json!("p"), json!("0/1"), json!("Pending")]);
    assert_eq!(
        cells.len(),
        table["columnDefinitions"].as_array().unwrap().len()
    );
    let bare = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let (_, bare) = ask(&api, Method::GET, path, bare, "").await;
    let bare: Value = serde_json::from_str(&bare).unwrap();
    assert_eq!(bare["items"][0]["metadata"]["name"], "p");
    assert_eq!(bare["items"][0]["spec"], Value::Null);
}

#[tokio::test]
async fn it_serves_on_a_socket_until_it_is_told_to_stop() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let api = real();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(api.clone().serve(listener, async {
        let _ = stopped.await;
    }));
    let config = kube::Config::new(url.parse().unwrap());
    let client = Client::try_from(config).unwrap();
    let watch = pods(&client)
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap();
    let mut watch = watch.boxed();
    create(&client, "p").await;
    assert_eq!(watches::next_kind(&mut watch).await, "added p");
    stop.send(()).unwrap();
    server.await.unwrap();
    assert!(pods(&client).get("p").await.is_err());
}

/// An API with the system's clock, for a test whose time is not paused.
fn real() -> Api {
    Api::new(Options::default())
}

#[tokio::test(start_paused = true)]
async fn the_server_gives_itself_out_as_the_version_of_its_types() {
    let version = simulated().client().apiserver_version().await.unwrap();
    let expected = crate::versions::Version::compiled_for();
    let parts = format!("{}.{}", version.major, version.minor);
    assert_eq!(parts, expected.to_string());
    assert_eq!(version.git_version, format!("v{expected}.0+sandbox"));
}
