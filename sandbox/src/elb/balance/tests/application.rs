//! Tests as an Application Load Balancer.

use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rstest::rstest;

use super::*;
use crate::elb::HealthCheck;

type Body = Empty<bytes::Bytes>;

async fn alb() -> World {
    let spec = TargetGroupSpec::http("web").health_check(HealthCheck::http("/ready"));
    World::new(LoadBalancerKind::Application, spec, quick()).await
}

fn quick() -> Delays {
    Delays {
        idle_timeout: DEADLINE,
        ..Delays::alb().scaled(0.01)
    }
}

async fn connect(world: &World) -> SendRequest<Body> {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get() -> http::Request<Body> {
    let request = http::Request::get("/hello?a=b").header("host", "shop.example");
    request.body(Body::new()).unwrap()
}

struct Answer {
    status: u16,
    cause: Option<String>,
    /// The body; `None` if the connection broke off.
    body: Option<String>,
}

async fn ask(sender: &mut SendRequest<Body>, request: http::Request<Body>) -> Answer {
    let response = within(sender.send_request(request)).await.unwrap();
    let cause = response.headers().get("x-sandbox-cause");
    let cause = cause.map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = within(response.into_body().collect()).await.ok();
    let body = body.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap());
    Answer {
        status,
        cause,
        body,
    }
}

async fn ask_once(world: &World) -> Answer {
    ask(&mut connect(world).await, get()).await
}

#[tokio::test]
async fn targets_that_pass_their_checks_answer_in_turn_over_one_connection() {
    let world = alb().await;
    for name in ["one", "two"] {
        let pod = target(Behaviour::Answers(ok(name))).await;
        world.register(pod);
        world
            .until(pod, |health| health == Some(Health::healthy()))
            .await;
    }
    let mut client = connect(&world).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(ask(&mut client, get()).await.body.unwrap());
    }
    answers[..2].sort();
    assert_eq!(answers[..2], ["one", "two"]);
    assert_ne!(answers[2], answers[3]);
    let answered = Traffic {
        answered: 4,
        ..Traffic::default()
    };
    world.until_traffic(answered).await;
}

#[tokio::test]
async fn a_request_arrives_as_it_was_without_what_is_for_one_connection_only() {
    let world = alb().await;
    world.in_service(target(Behaviour::Echoes).await);
    let mut request = get();
    let headers = request.headers_mut();
    headers.insert("connection", "keep-alive, x-mine".parse().unwrap());
    headers.insert("keep-alive", "timeout=5".parse().unwrap());
    headers.insert("x-mine", "1".parse().unwrap());
    headers.insert("x-other", "2".parse().unwrap());
    let answer = ask(&mut connect(&world).await, request).await;
    let mut lines: Vec<String> = answer
        .body
        .unwrap()
        .trim()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    let expected = [
        "GET /hello?a=b HTTP/1.1",
        "host: shop.example",
        "x-forwarded-for: 127.0.0.1",
        "x-other: 2",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_group_without_targets_is_answered_with_503() {
    let world = alb().await;
    let answer = ask_once(&world).await;
    assert_eq!(
        (answer.status, answer.cause.as_deref()),
        (503, Some("no-target"))
    );
    assert_eq!(
        world.elb.traffic(),
        Traffic {
            no_target: 1,
            ..Traffic::default()
        }
    );
}

#[tokio::test]
async fn a_target_that_refuses_is_answered_with_502() {
    let world = alb().await;
    let (_bound, nobody) = nobody();
    world.in_service(nobody);
    let answer = ask_once(&world).await;
    assert_eq!(
        (answer.status, answer.cause.as_deref()),
        (502, Some("refused"))
    );
    assert_eq!(
        world.elb.traffic(),
        Traffic {
            refused: 1,
            ..Traffic::default()
        }
    );
}

#[rstest]
#[case::it_closes("")]
#[case::it_does_not_speak_http("SSH-2.0-OpenSSH\r\n\r\n")]
#[case::its_head_breaks_off("HTTP/1.1 200 OK\r\ncontent-")]
#[tokio::test]
async fn a_target_that_breaks_off_is_answered_with_502(#[case] last: &'static str) {
    let world = alb().await;
    world.in_service(target(Behaviour::Breaks(last)).await);
    let answer = ask_once(&world).await;
    assert_eq!(
        (answer.status, answer.cause.as_deref()),
        (502, Some("reset"))
    );
    assert_eq!(
        world.elb.traffic(),
        Traffic {
            reset: 1,
            ..Traffic::default()
        }
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_breaks_off_for_the_client_too() {
    let world = alb().await;
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    world.in_service(target(Behaviour::Breaks(cut)).await);
    let answer = ask_once(&world).await;
    assert_eq!((answer.status, answer.body), (200, None));
    world
        .until_traffic(Traffic {
            reset: 1,
            ..Traffic::default()
        })
        .await;
}

#[rstest]
#[case::at_once(Behaviour::Silent, 504)]
#[case::in_its_body(
    Behaviour::Answers("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_owned()),
    200
)]
#[tokio::test]
async fn a_target_that_falls_silent_is_given_up(#[case] behaviour: Behaviour, #[case] status: u16) {
    let delays = Delays {
        // Longer than the head of an answer takes on a busy machine.
        idle_timeout: Duration::from_secs(2),
        ..quick()
    };
    let spec = TargetGroupSpec::http("web");
    let world = World::new(LoadBalancerKind::Application, spec, delays).await;
    world.in_service(target(behaviour).await);
    let answer = ask_once(&world).await;
    assert_eq!(answer.status, status);
    assert_eq!(answer.cause.is_some(), status == 504);
    world
        .until_traffic(Traffic {
            timeout: 1,
            ..Traffic::default()
        })
        .await;
}

#[tokio::test]
async fn a_request_in_flight_finishes_after_its_target_stopped_getting_new_ones() {
    let world = alb().await;
    let [arrived, told] = [0, 0].map(|permits| Arc::new(Semaphore::new(permits)));
    let semaphores = [Arc::clone(&arrived), Arc::clone(&told)];
    let old = target(Behaviour::AnswersLate(ok("old"), semaphores)).await;
    world.in_service(old);
    let mut client = connect(&world).await;
    let in_flight = tokio::spawn(async move { ask(&mut client, get()).await });
    within(arrived.acquire()).await.unwrap().forget();
    world.deregister(old);
    world.in_service(target(Behaviour::Answers(ok("new"))).await);
    assert_eq!(ask_once(&world).await.body.as_deref(), Some("new"));
    told.add_permits(100);
    let answer = within(in_flight).await.unwrap();
    assert_eq!(answer.body.as_deref(), Some("old"));
}

#[tokio::test]
async fn a_data_plane_that_is_held_back_sends_requests_to_a_deregistered_target() {
    let delays = Delays {
        propagation_lag: Duration::ZERO,
        ..quick()
    };
    let spec = TargetGroupSpec::http("web");
    let world = World::new(LoadBalancerKind::Application, spec, delays).await;
    let old = target(Behaviour::Answers(ok("old"))).await;
    world.register(old);
    let long = Duration::from_secs(3600);
    world.elb.hold_back(&world.arn, long).unwrap();
    world
        .until(old, |health| health == Some(Health::healthy()))
        .await;
    world.deregister(old);
    assert_eq!(ask_once(&world).await.body.as_deref(), Some("old"));
}

#[tokio::test]
async fn with_no_target_in_service_the_registered_ones_answer() {
    let world = alb().await;
    let busy = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
    let pod = target(Behaviour::Answers(busy.to_owned())).await;
    world.register(pod);
    let unhealthy = Health::unhealthy(crate::elb::health::CheckFailure::Status(503));
    world
        .until(pod, |health| health.as_ref() == Some(&unhealthy))
        .await;
    let answer = ask_once(&world).await;
    assert_eq!((answer.status, answer.body.as_deref()), (503, Some("busy")));
    assert_eq!(answer.cause, None, "the target's own 503");
}

#[tokio::test]
async fn a_target_that_speaks_http_1_0_does_not_end_the_connection_of_the_client() {
    let world = alb().await;
    let old = "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold";
    world.in_service(target(Behaviour::Breaks(old)).await);
    let mut client = connect(&world).await;
    for _ in 0..2 {
        let answer = ask(&mut client, get()).await;
        assert_eq!(answer.body.as_deref(), Some("old"));
    }
}
