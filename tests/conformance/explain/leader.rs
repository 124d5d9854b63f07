//! What `explain` hears of the leader, by a port-forward through a real kube-apiserver.

use std::path::Path;

use http::StatusCode;
use serde_json::{Value, json};
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::harness::waiting::until;

use crate::explain::kubelet::Kubelet;
use crate::explain::scene::{IP, POD, Said, Scene, explain, run, said};
use crate::install::Installed;
use crate::servers::Server;

/// Explains as an administrator, who may forward ports.
async fn explained(installed: &Installed, words: &[&str], port: u16) -> Said {
    let listen = format!("--explain-listen=127.0.0.1:{port}");
    let words: Vec<&str> = words
        .iter()
        .copied()
        .chain([&*listen, "--no-aws", "-o", "json"])
        .collect();
    let kubeconfig: &Path = installed.cluster.control_plane().kubeconfig();
    said(run(installed, &words, Some(kubeconfig)).await)
}

#[tokio::test]
async fn the_leader_is_asked_by_a_port_forward_to_its_pod() {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let installed = Installed::on(cluster, &[]).await;
    let scene = Scene::new(&installed, "led").await;
    scene.service(json!({})).await;
    let arn = scene.bind(json!({})).await;
    scene.gated_pod(json!({})).await;
    let kubelet = Kubelet::of(&installed).await;
    let port = installed.process().explain.unwrap().port();
    let name = format!("{}/{POD}", scene.namespace);

    let words = ["pod", &*name];
    let known = until("the leader has asked ELB about the pod", async || {
        let known = explained(&installed, &words, port).await;
        let target = &known.json["gates"][0]["targets"][0];
        target["asked"].is_string().then_some(known)
    })
    .await;
    assert_eq!((known.status, known.reason()), (1, "NotRegistered"));
    let evidence = &known.json["evidence"];
    assert_eq!(
        (&evidence["source"], &evidence["leader"]),
        (&json!("leader"), &json!("targetgate-0"))
    );
    let rate = evidence["rates"][0]["callsPerSecond"].as_f64();
    assert!(rate > Some(0.0), "{evidence:#}");
    let gate = &known.json["gates"][0];
    assert_eq!(gate["source"], "leader");
    assert!(gate["dueSince"].is_string(), "{gate:#}");
    let target = &gate["targets"][0];
    let expected = json!(["not registered", arn, 1, 1]);
    let found = ["elb", "targetGroupARN", "place", "queue"].map(|field| target[field].clone());
    // While a call is in flight the group is in no queue.
    let in_flight = target["nextLook"].is_null();
    assert!(
        in_flight || Value::from(found.to_vec()) == expected,
        "{target:#}"
    );
    let expected = "/portForward/targetgate-system/targetgate-0";
    assert!(
        kubelet
            .asked()
            .iter()
            .all(|path| path.starts_with(expected))
    );

    let all = ["--all", "-n", &*scene.namespace];
    let all = explained(&installed, &all, port).await;
    assert_eq!(all.json["evidence"]["source"], "leader");
    assert_eq!(all.json["waiting"][0]["why"]["reason"], "NotRegistered");

    // Whatever ELB said last is the leader's word, with its age.
    installed.register(&arn, IP);
    let text = format!("--explain-listen=127.0.0.1:{port}");
    let text = ["pod", &*name, &*text, "--no-aws"];
    let kubeconfig = installed.cluster.control_plane().kubeconfig();
    let text = run(&installed, &text, Some(kubeconfig)).await;
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("The leader was asked just now, pod targetgate-0"),
        "{text}"
    );
    assert!(text.contains("Budget of "), "{text}");
}

#[tokio::test]
async fn the_leader_tells_that_its_calls_fail_with_the_code_and_since_when() {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let installed = Installed::on(cluster, &[]).await;
    let scene = Scene::new(&installed, "denied").await;
    let calls = On::action("DescribeTargetHealth");
    let faults = installed.elb.faults();
    faults.fail(calls, "AccessDenied", StatusCode::FORBIDDEN, None);
    scene.gated(json!({})).await;
    let _kubelet = Kubelet::of(&installed).await;
    let port = installed.process().explain.unwrap().port();
    let name = format!("{}/{POD}", scene.namespace);
    let failing = until("the leader tells of its calls", async || {
        let said = explained(&installed, &["pod", &name], port).await;
        let target = &said.json["gates"][0]["targets"][0];
        target["failing"].is_object().then_some(said)
    })
    .await;
    let told = &failing.json["gates"][0]["targets"][0]["failing"];
    assert_eq!(told["code"], "AccessDenied");
    assert!(told["since"].is_string() && told["calls"].as_u64() > Some(0));
    assert_eq!((failing.status, failing.reason()), (1, "NotPolled"));
    let message = failing.json["why"]["message"].as_str().unwrap();
    assert!(message.contains("AccessDenied"), "{message}");
}

#[tokio::test]
async fn where_the_leader_cannot_be_asked_the_answer_says_why() {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let installed = Installed::on(cluster, &[]).await;
    let scene = Scene::new(&installed, "led").await;
    scene.service(json!({})).await;
    scene.bind(json!({})).await;
    scene.gated_pod(json!({})).await;
    let name = format!("{}/{POD}", scene.namespace);
    let why = |said: &Said| {
        let why = &said.json["evidence"]["withoutLeader"];
        why.as_str().unwrap_or_default().to_owned()
    };
    // There is no pod of the holder's name.
    let port = installed.process().explain.unwrap().port();
    let absent = explained(&installed, &["pod", &*name], port).await;
    assert!(why(&absent).contains("targetgate-0"), "{}", why(&absent));
    assert_eq!(absent.json["evidence"]["source"], "condition");

    let _kubelet = Kubelet::of(&installed).await;
    // Nothing listens at this port.
    let refused = explained(&installed, &["pod", &*name], 1).await;
    assert!(why(&refused).contains("refused"), "{}", why(&refused));
    let off = explain(&installed, &["pod", &name, "--explain-listen=off"]).await;
    assert_eq!(why(&off), "--explain-listen is off");
    // The shipped account may not forward ports; ELB is asked then.
    let listen = format!("--explain-listen=127.0.0.1:{port}");
    let denied = explain(&installed, &["pod", &name, &listen]).await;
    assert!(why(&denied).contains("403"), "{}", why(&denied));
    assert_eq!(denied.json["evidence"]["source"], "elb");
}
