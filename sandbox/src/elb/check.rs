//! Health checks: their content, the probe that makes them, and the loop that schedules them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Elb;
use super::group::HealthCheck;
use super::health::CheckFailure;

/// One health check to be made.
#[derive(Clone, Debug)]
pub struct Check {
    /// The ARN of the target group.
    pub arn: String,
    pub target: SocketAddr,
    /// The protocol and what passes.
    pub how: HealthCheck,
    /// The timeout of the check, which the caller of the probe enforces.
    pub timeout: Duration,
    /// The registration of the target that this check belongs to.
    pub(super) generation: u64,
}

/// The result of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The target answered as the check requires.
    Passed,
    /// The target did not answer, or answered otherwise.
    Failed(CheckFailure),
}

/// Makes health checks: [`HttpProbe`] over sockets, [`ScriptedProbe`] in a simulation.
pub trait Probe: Send + Sync {
    /// Makes one check. The caller ends it after [`Check::timeout`].
    fn check(&self, check: &Check) -> BoxFuture<'static, CheckOutcome>;
}

/// Checks the target itself, on a new connection for each check, as ELB does.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpProbe;

impl Probe for HttpProbe {
    fn check(&self, check: &Check) -> BoxFuture<'static, CheckOutcome> {
        let target = check.target;
        let how = check.how.clone();
        Box::pin(async move {
            let outcome = match &how {
                HealthCheck::Tcp => TcpStream::connect(target).await.map(|_| 200).ok(),
                HealthCheck::Http { path, .. } => status_of(target, path).await,
            };
            match (outcome, how) {
                (None, _) => CheckOutcome::Failed(CheckFailure::Connection),
                (Some(status), HealthCheck::Http { matcher, .. }) if !matcher.accepts(status) => {
                    CheckOutcome::Failed(CheckFailure::Status(status))
                }
                (Some(_), _) => CheckOutcome::Passed,
            }
        })
    }
}

/// The status of `GET path`; `None` if the target refused, reset, or did not speak HTTP.
async fn status_of(target: SocketAddr, path: &str) -> Option<u16> {
    let stream = TcpStream::connect(target).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .ok()?;
    let request = http::Request::get(path)
        .header(http::header::HOST, target.to_string())
        .header(http::header::USER_AGENT, "ELB-HealthChecker/2.0")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new())
        .ok()?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer.ok().map(|response| response.status().as_u16()),
        // The connection may end just after it brought the answer.
        _ = &mut connection => answer.await.ok().map(|response| response.status().as_u16()),
    }
}

/// Answers checks from memory, without a socket, for simulations with paused time.
#[derive(Clone, Debug)]
pub struct ScriptedProbe {
    answers: Arc<Mutex<BTreeMap<SocketAddr, Option<CheckOutcome>>>>,
    otherwise: CheckOutcome,
}

impl ScriptedProbe {
    /// A probe whose checks all find `otherwise`, except those of targets given to
    /// [`ScriptedProbe::answer`].
    pub fn new(otherwise: CheckOutcome) -> Self {
        Self {
            answers: Arc::default(),
            otherwise,
        }
    }

    /// From now on checks of this target find `outcome`; with `None` they never answer.
    pub fn answer(&self, target: SocketAddr, outcome: Option<CheckOutcome>) {
        self.answers.lock().insert(target, outcome);
    }
}

impl Probe for ScriptedProbe {
    fn check(&self, check: &Check) -> BoxFuture<'static, CheckOutcome> {
        let answers = self.answers.lock();
        match answers.get(&check.target).copied() {
            None => Box::pin(std::future::ready(self.otherwise)),
            Some(Some(outcome)) => Box::pin(std::future::ready(outcome)),
            Some(None) => Box::pin(std::future::pending()),
        }
    }
}

/// Starts each check when it is due, and advances the model to its deadlines, until it is dropped.
///
/// Targets are checked independently, so that a slow one delays no other. At most one check per
/// target is under way, which bounds the number of tasks.
pub(super) async fn drive(elb: Elb) {
    let mut changed = elb.model_changes();
    let mut running: JoinSet<(Check, CheckOutcome)> = JoinSet::new();
    loop {
        changed.mark_unchanged();
        for check in elb.begin_checks() {
            let answer = elb.probe().check(&check);
            running.spawn(async move {
                let outcome = tokio::time::timeout(check.timeout, answer)
                    .await
                    .unwrap_or(CheckOutcome::Failed(CheckFailure::Timeout));
                (check, outcome)
            });
        }
        let next = elb.next_event();
        tokio::select! {
            biased;
            Some(done) = running.join_next() => match done {
                Ok((check, outcome)) => elb.finish_check(&check, outcome),
                Err(failure) => std::panic::resume_unwind(failure.into_panic()),
            },
            () = sleep_until(next) => {}
            () = changed.changed() => {}
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::elb::log::Transition;
    use crate::elb::{LoadBalancerKind, Options, State, TargetGroupSpec};

    const PASSED: CheckOutcome = CheckOutcome::Passed;
    const BROKEN: CheckOutcome = CheckOutcome::Failed(CheckFailure::Connection);

    /// Starts a server that answers one connection with these bytes and closes it.
    async fn answers_once(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1_024];
            if stream
                .read(&mut request)
                .await
                .is_ok_and(|length| length > 0)
            {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    fn check(target: SocketAddr, how: HealthCheck) -> Check {
        Check {
            arn: String::new(),
            target,
            how,
            timeout: Duration::from_secs(20),
            generation: 0,
        }
    }

    #[rstest]
    #[case::ok("HTTP/1.1 200 OK\r\n\r\n", PASSED)]
    #[case::another_status(
        "HTTP/1.1 503 Busy\r\n\r\n",
        CheckOutcome::Failed(CheckFailure::Status(503))
    )]
    #[case::no_http("SSH-2.0-OpenSSH\r\n", BROKEN)]
    #[case::nothing("", BROKEN)]
    #[tokio::test]
    async fn an_http_check_finds_what_the_target_answers(
        #[case] answer: &'static str,
        #[case] expected: CheckOutcome,
    ) {
        let target = answers_once(answer).await;
        let outcome = HttpProbe.check(&check(target, HealthCheck::http("/")));
        assert_eq!(outcome.await, expected);
    }

    #[rstest]
    #[case::http(HealthCheck::http("/"))]
    #[case::tcp(HealthCheck::Tcp)]
    #[tokio::test]
    async fn a_check_of_a_target_that_refuses_fails(#[case] how: HealthCheck) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        assert_eq!(
            HttpProbe.check(&check(target, HealthCheck::Tcp)).await,
            PASSED
        );
        drop(listener);
        assert_eq!(HttpProbe.check(&check(target, how)).await, BROKEN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_never_answers_times_out_and_delays_no_other() {
        let probe = ScriptedProbe::new(PASSED);
        let [slow, good] = [1, 2].map(|last| SocketAddr::from(([10, 0, 0, last], 80)));
        probe.answer(slow, None);
        let elb = Elb::new(Options {
            probe: Arc::new(probe),
            ..Options::default()
        });
        let arn = elb.create_target_group(TargetGroupSpec::http("web"));
        let balancer = elb.create_load_balancer("lb", LoadBalancerKind::Application, &[]);
        elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
        for target in [slow, good] {
            elb.register(&arn, target.ip(), target.port()).unwrap();
        }
        let start = Instant::now();
        tokio::spawn(elb.run());
        let decided = |log: &[Transition]| {
            let is_decided = |entry: &&Transition| entry.to > Some(State::Initial);
            log.iter().filter(is_decided).count()
        };
        elb.until(|elb| decided(&elb.log()) == 2).await;
        assert!(start.elapsed() <= Duration::from_secs(4 + 15 + 15 + 5));
        let [first, second] = &elb.log()[4..] else {
            panic!("six transitions: {:?}", elb.log());
        };
        assert_eq!(
            (first.ip, first.to.clone()),
            (good.ip(), Some(State::Healthy))
        );
        assert_eq!(second.reason.as_deref(), Some("Target.Timeout"));
    }
}
