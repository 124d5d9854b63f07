//! An installation whose objects have other names than the defaults, and whose AWS tells who calls.

use std::time::Instant;

use axum::Router;
use axum::routing::post;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::doctor::faults::{mend, set};
use crate::doctor::{DEADLINE, MUTATING, command, configurations, doctor, installed};
use crate::explain::scene::Scene;
use crate::install::Installed;

#[tokio::test]
async fn the_names_that_the_flags_give_are_those_that_are_read() {
    let installed = installed().await;
    set(&installed, "TARGETGATE_TLS_MUTATING", "ours").await;
    let said = doctor(&installed, &[]).await;
    let missing = ("Hook", "mpod.elbv2.k8s.aws", "HookNotRegistered");
    assert!(said.broken().contains(&missing), "{:#}", said.json);
    let rights = |said: &Value| {
        said.to_string()
            .contains("mutatingwebhookconfigurations.admissionregistration.k8s.io ours")
    };
    // The shipped roles are about the configuration of the default name.
    assert!(rights(&said.json), "{:#}", said.json);

    let api = configurations(&installed, MUTATING);
    let mut renamed = api.get("targetgate").await.unwrap();
    renamed.metadata = serde_json::from_value(json!({ "name": "ours" })).unwrap();
    api.delete("targetgate", &DeleteParams::default())
        .await
        .unwrap();
    api.create(&PostParams::default(), &renamed).await.unwrap();
    let begun = Instant::now();
    loop {
        let said = doctor(&installed, &[]).await;
        let sound = said.of("Sound");
        let hooks = sound.iter().filter(|(check, about, _)| {
            ["Hook", "Trust", "PodTrial"].contains(check) && *about == "mpod.elbv2.k8s.aws"
        });
        if hooks.count() == 3 {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{:#}", said.json);
    }
    mend(&Scene::of(&installed, &installed.cluster.namespace)).await;
}

/// An STS that says who calls.
async fn sts(tasks: &mut JoinSet<()>) -> String {
    const ANSWER: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
        <GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/targetgate/laptop</Arn>\
        <UserId>A</UserId><Account>123456789012</Account></GetCallerIdentityResult>\
        <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/", post(async || ANSWER));
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn text(installed: &Installed, sts: Option<&str>, words: &[&str]) -> String {
    let admin = installed.cluster.control_plane().kubeconfig();
    let mut command = command(installed, words, admin);
    if let Some(sts) = sts {
        command.env("AWS_ENDPOINT_URL_STS", sts);
    }
    let output = command.output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn whose_credentials_aws_is_called_with_is_told_and_no_secret_is() {
    let installed = installed().await;
    let mut tasks = JoinSet::new();
    let sts = sts(&mut tasks).await;
    let said = text(&installed, Some(&sts), &[]).await;
    let told = "✓ Identity AWS: It is called as arn:aws:sts::123456789012:assumed-role/targetgate/laptop; the Region";
    assert!(said.contains(told), "{said}");
    let said = text(&installed, None, &[]).await;
    assert!(said.contains("ELB accepts the credentials"), "{said}");
    let said = text(&installed, Some(&sts), &["--no-aws"]).await;
    assert!(!said.contains("Identity"), "{said}");
}
