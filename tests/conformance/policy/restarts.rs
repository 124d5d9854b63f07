//! What becomes of pods while their API server starts: it has to read policy, rules and webhooks first.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use rstest::rstest;
use serde_json::Value;
use targetgate_sandbox::harness::waiting::until;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::install::{Installed, Site};
use crate::policy::ways::Way;
use crate::servers::Server;
use crate::shop::{gate, gates, of_app};

/// So many clients create pods, each one after the other. Chosen: an API server on one core answers them all.
const CLIENTS: usize = 4;
/// The time after the first answer in which pods are counted. Issue 16.
const FIRST: Duration = Duration::from_secs(1);
/// The pause of a client whose connection was refused. Chosen: the first second is not missed.
const AGAIN: Duration = Duration::from_millis(5);

/// How the API server answered a creation.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Gated,
    Ungated,
    Refused(u16, String),
}

/// An answer, and when the client asked for it and had it.
struct Answered {
    asked: Instant,
    at: Instant,
    answer: Answer,
}

/// Creates pods until it is told to end.
async fn creating(pods: Api<Pod>, end: watch::Receiver<bool>) -> Vec<Answered> {
    let mut pod: Value = of_app("", "web");
    pod["metadata"]["generateName"] = "web-".into();
    pod["metadata"].as_object_mut().unwrap().remove("name");
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let mut answers = vec![];
    while !*end.borrow() {
        let asked = Instant::now();
        let answer = match pods.create(&PostParams::default(), &pod).await {
            Ok(made) if gates(&made) == [gate("web")] => Answer::Gated,
            Ok(_) => Answer::Ungated,
            Err(kube::Error::Api(status)) => Answer::Refused(status.code, status.message.clone()),
            Err(_) => {
                sleep(AGAIN).await;
                continue;
            }
        };
        let at = Instant::now();
        answers.push(Answered { asked, at, answer });
    }
    answers
}

fn counted<'a>(answers: impl Iterator<Item = &'a Answered>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for answered in answers {
        let what = match &answered.answer {
            Answer::Refused(code, message) => {
                let words: String = message.chars().take(80).collect();
                format!("refused {code}: {words}")
            }
            other => format!("{other:?}"),
        };
        *counts.entry(what).or_default() += 1;
    }
    counts
}

#[rstest]
#[tokio::test]
async fn an_api_server_that_starts_refuses_no_pod_because_of_us_and_gives_gates_again(
    #[values(Way::Webhook, Way::Policy, Way::Both)] way: Way,
) {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let site = Site::on_by(cluster, way, &[]).await;
    let mut installed = Installed::started(site).await;
    installed.bind("web").await;
    installed.cluster.gated_pod("before", "web", &["web"]).await;

    installed.cluster.stop();
    let (ends, end) = watch::channel(false);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(creating(installed.cluster.pods(), end.clone()));
    }
    installed.cluster.start().await;
    let ready = Instant::now();
    let asked = of_app("asked", "web");
    until("pods get their gates again", async || {
        let given = installed.cluster.gates_of(asked.clone()).await.ok()?;
        (given == [gate("web")]).then_some(())
    })
    .await;
    let gives = Instant::now();
    // It is the span that is measured.
    sleep(FIRST).await;
    ends.send(true).unwrap();
    let mut answers: Vec<Answered> = clients.join_all().await.into_iter().flatten().collect();
    answers.sort_by_key(|answered| answered.at);

    let first = answers[0].at;
    let in_first = answers
        .iter()
        .filter(|answered| answered.at < first + FIRST);
    println!(
        "{way:?}: ready {:?} after the first answer; in its first second {:#?}",
        ready.saturating_duration_since(first),
        counted(in_first),
    );
    let later = answers
        .iter()
        .filter(|answered| answered.at >= first + FIRST);
    println!("later {:#?}", counted(later));
    // A busy machine delivers an answer late, so what counts is when the client asked.
    for Answered { asked, answer, .. } in &answers {
        if let Answer::Refused(_, message) = answer {
            assert!(!message.contains("targetgate"), "{message}");
            assert!(
                *asked < ready,
                "{message}, {:?} after it was ready",
                *asked - ready
            );
        }
    }
    let last = answers.iter().filter(|answered| answered.asked > gives);
    let ungated = last.filter(|answered| answered.answer == Answer::Ungated);
    assert_eq!(ungated.count(), 0, "once it gives gates, it goes on");
}
