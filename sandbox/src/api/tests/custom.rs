use super::*;

fn things_definition() -> Value {
    let schema = |required: Value| {
        json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {
            "type": "object",
            "required": required,
            "properties": {"port": {"x-kubernetes-int-or-string": true}},
        }}}})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": schema(json!(["port"])),
                 "subresources": {"status": {}}},
                {"name": "v1alpha1", "served": true, "storage": false, "schema": schema(json!([]))},
            ],
        },
    })
}

fn things(client: &Client, version: &str) -> Kube<DynamicObject> {
    let resource = resource("example.com", version, "Thing");
    Kube::default_namespaced_with(client.clone(), &resource)
}

pub(super) async fn define_things(client: &Client) {
    let crds = resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds: Kube<DynamicObject> = Kube::all_with(client.clone(), &crds);
    let made = crds
        .create(&PostParams::default(), &from(things_definition()))
        .await;
    made.unwrap();
}

fn thing(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": name},
        "spec": spec,
    })
}

#[tokio::test(start_paused = true)]
async fn a_custom_resource_is_served_while_it_is_defined() {
    let client = simulated().client();
    let before = things(&client, "v1").list(&ListParams::default()).await;
    assert_eq!(code(before).0, 404);
    define_things(&client).await;
    let new = thing("t", json!({"port": 1, "junk": 2}));
    let made = things(&client, "v1")
        .create(&PostParams::default(), &from(new))
        .await;
    assert_eq!(made.unwrap().data["spec"], json!({"port": 1}));
    let old = things(&client, "v1alpha1").get("t").await.unwrap();
    assert_eq!(old.types.unwrap().api_version, "example.com/v1alpha1");
    let bad = thing("u", json!({}));
    let bad = things(&client, "v1")
        .create(&PostParams::default(), &from(bad))
        .await;
    assert!(
        bad.as_ref()
            .unwrap_err()
            .to_string()
            .contains("spec.port: Required value")
    );
    assert_eq!(code(bad), gone(422, "Invalid"));

    let crds = resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds: Kube<DynamicObject> = Kube::all_with(client.clone(), &crds);
    let watch = things(&client, "v1")
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap();
    let mut watch = watch.boxed();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Added(_)))));
    crds.delete("things.example.com", &DeleteParams::default())
        .await
        .unwrap();
    assert!(matches!(
        watch.next().await,
        Some(Ok(WatchEvent::Deleted(_)))
    ));
    assert!(watch.next().await.is_none());
    let after = things(&client, "v1").list(&ListParams::default()).await;
    assert_eq!(code(after).0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_custom_resource_must_be_replaced_at_a_version() {
    let client = simulated().client();
    define_things(&client).await;
    let thing = thing("t", json!({"port": 1}));
    let params = PostParams::default();
    things(&client, "v1")
        .create(&params, &from(thing.clone()))
        .await
        .unwrap();
    let blind = things(&client, "v1")
        .replace("t", &params, &from(thing))
        .await;
    assert_eq!(code(blind), gone(422, "Invalid"));
}
