use super::*;

#[tokio::test(start_paused = true)]
async fn a_new_object_gets_what_the_server_gives() {
    let client = simulated().client();
    let made = create(&client, "p").await;
    assert_eq!(made.namespace().as_deref(), Some("default"));
    assert!(made.uid().is_some_and(|uid| uid.len() == 36));
    assert_eq!(made.metadata.generation, Some(1));
    assert_eq!(
        made.metadata.creation_timestamp.unwrap().0.to_string(),
        "2026-11-21T12:00:00Z"
    );
    assert_eq!(made.status.unwrap().phase.as_deref(), Some("Pending"));
}

#[tokio::test(start_paused = true)]
async fn creating_twice_is_already_exists_and_reading_nothing_is_not_found() {
    let client = simulated().client();
    create(&client, "p").await;
    let again = pods(&client)
        .create(&PostParams::default(), &pod("p"))
        .await;
    assert_eq!(code(again), gone(409, "AlreadyExists"));
    let absent = pods(&client).get("q").await;
    let message = absent.as_ref().unwrap_err().to_string();
    assert!(message.contains("pods \"q\" not found"), "{message}");
    assert_eq!(code(absent), gone(404, "NotFound"));
    let elsewhere: Kube<Pod> = Kube::namespaced(client, "nowhere");
    let made = elsewhere.create(&PostParams::default(), &pod("p")).await;
    assert_eq!(code(made), gone(404, "NotFound"));
}

#[tokio::test(start_paused = true)]
async fn generate_name_adds_five_characters() {
    let client = simulated().client();
    let mut unnamed = pod("");
    unnamed.metadata.name = None;
    unnamed.metadata.generate_name = Some("web-".to_owned());
    let first = pods(&client).create(&PostParams::default(), &unnamed).await;
    let first = first.unwrap().name_any();
    let second = pods(&client).create(&PostParams::default(), &unnamed).await;
    let second = second.unwrap().name_any();
    assert_eq!((first.len(), second.len()), (9, 9));
    assert_ne!(first, second);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_leaves_nothing() {
    let client = simulated().client();
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    pods(&client).create(&params, &pod("p")).await.unwrap();
    assert_eq!(code(pods(&client).get("p").await), gone(404, "NotFound"));
}

#[tokio::test(start_paused = true)]
async fn an_update_on_an_old_version_is_a_conflict() {
    let client = simulated().client();
    let configs: Kube<ConfigMap> = Kube::default_namespaced(client);
    let params = PostParams::default();
    let old = configs.create(&params, &config("c")).await.unwrap();
    let mut new = old.clone();
    new.data = None;
    configs.replace("c", &params, &new).await.unwrap();
    let late = configs.replace("c", &params, &old).await;
    assert_eq!(code(late), gone(409, "Conflict"));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_changes_nothing_makes_no_version() {
    let client = simulated().client();
    let configs: Kube<ConfigMap> = Kube::default_namespaced(client);
    let params = PostParams::default();
    let old = configs.create(&params, &config("c")).await.unwrap();
    let same = configs.replace("c", &params, &old).await.unwrap();
    assert_eq!(same.resource_version(), old.resource_version());
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_binds_a_pod_once() {
    let client = simulated().client();
    let mut loose = pod("p");
    loose.spec.as_mut().unwrap().node_name = None;
    pods(&client)
        .create(&PostParams::default(), &loose)
        .await
        .unwrap();
    let bind = || async {
        let body = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
        let params = PostParams::default();
        pods(&client)
            .create_subresource::<Value, Value>("binding", "p", &params, &body)
            .await
    };
    bind().await.unwrap();
    let bound = pods(&client).get("p").await.unwrap().spec.unwrap();
    assert_eq!(bound.node_name.as_deref(), Some("n1"));
    assert_eq!(code(bind().await), gone(409, "Conflict"));
}

#[tokio::test(start_paused = true)]
async fn a_gate_of_64_characters_is_refused_and_gates_never_change() {
    let client = simulated().client();
    let gated = |name: &str, gates: &[String]| {
        let mut made = pod(name);
        let gates = gates
            .iter()
            .map(|gate| from(json!({"conditionType": gate})));
        made.spec.as_mut().unwrap().readiness_gates = Some(gates.collect());
        made
    };
    let gate = |length| format!("target-health.elbv2.k8s.aws/{}", "a".repeat(length));
    let params = PostParams::default();
    let long = pods(&client)
        .create(&params, &gated("a", &[gate(64)]))
        .await;
    assert_eq!(code(long), gone(422, "Invalid"));
    let twice = gated("b", &[gate(63), gate(63)]);
    pods(&client).create(&params, &twice).await.unwrap();
    let fewer = json!({"spec": {"readinessGates": []}});
    let fewer = pods(&client)
        .patch("b", &PatchParams::default(), &Patch::Merge(fewer))
        .await;
    assert_eq!(code(fewer), gone(422, "Invalid"));
}

#[tokio::test(start_paused = true)]
async fn a_service_port_gets_its_target_port() {
    let client = simulated().client();
    let services: Kube<Service> = Kube::default_namespaced(client);
    let web: Service = from(json!({
        "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}},
    }));
    let made = services.create(&PostParams::default(), &web).await.unwrap();
    let ports = made.spec.unwrap().ports.unwrap();
    assert_eq!(serde_json::to_value(&ports[0].target_port).unwrap(), 80);
}
