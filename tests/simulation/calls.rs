//! The ELB calls of one replica: which answers it hears, and how often it calls.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use parking_lot::Mutex;
use targetgate::state::cache::Cache;
use targetgate_core::elb::buckets::Limits;
use targetgate_core::targets::calls::LIMITS as CHANGES;
use tokio::time::{Instant, sleep, timeout_at};

use crate::accounts;
use crate::facts::Heard;
use crate::line::Weather;
use crate::random::Random;
use crate::registration::Change;
use crate::witness::Witness;
use crate::world::World;

/// The most milliseconds by which a call that changes a group is late. A call is given up after 5 s, and the successor
/// of its sender compares each group once more after 10 s (contract 8).
const LATE: u64 = 9_000;
/// A call that changes a group is carried out within this time, or never.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);

/// The calls that a rate allows: a token bucket outside of the replica. It runs dry as soon as any window of
/// time, of any length, has more calls than the burst and what the rate allows in that length.
#[derive(Debug)]
struct Allowance {
    rate: f64,
    burst: f64,
    tokens: f64,
    counted: Instant,
}

impl Allowance {
    fn of(rate: f64, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self {
            rate,
            burst,
            tokens: burst,
            counted: Instant::now(),
        }
    }

    fn spend(&mut self) -> bool {
        let gained = self.counted.elapsed().as_secs_f64() * self.rate;
        self.tokens = (self.tokens + gained).min(self.burst) - 1.0;
        self.counted = Instant::now();
        // The tolerance for rounding errors.
        self.tokens > -0.01
    }
}

/// What the calls of a replica meet, and what it knows when it makes them.
#[derive(Clone)]
pub(crate) struct Circumstances {
    pub(crate) cache: Arc<Cache>,
    pub(crate) weather: Arc<Mutex<Weather>>,
    pub(crate) random: Arc<Mutex<Random>>,
}

/// An HTTP client for the SDK in one life of a replica, whose calls must stay within `limits`.
pub(crate) fn client(
    world: &World,
    incarnation: &str,
    limits: Limits,
    circumstances: Circumstances,
) -> SharedHttpClient {
    let (accounts, witness) = (world.accounts.clone(), world.witness.clone());
    let allowance = |rate, burst| Arc::new(Mutex::new(Allowance::of(rate, burst)));
    let first = allowance(limits.rate, limits.burst);
    let most = allowance(limits.highest, limits.burst);
    let changes = allowance(CHANGES.highest, CHANGES.burst);
    let incarnation: Arc<str> = incarnation.into();
    http_client_fn(
        move |settings: &HttpConnectorSettings, parts: &RuntimeComponents| {
            SharedHttpConnector::new(Overheard {
                accounts: accounts
                    .all()
                    .each_ref()
                    .map(|elb| elb.http_client().http_connector(settings, parts)),
                witness: witness.clone(),
                first: first.clone(),
                most: most.clone(),
                changes: changes.clone(),
                circumstances: circumstances.clone(),
                incarnation: incarnation.clone(),
            })
        },
    )
}

#[derive(Clone)]
struct Overheard {
    accounts: [SharedHttpConnector; 2],
    witness: Witness,
    /// The allowances at the rate at which the replica begins, and at the highest rate.
    first: Arc<Mutex<Allowance>>,
    most: Arc<Mutex<Allowance>>,
    /// The allowance of calls that register and deregister, at the highest rate.
    changes: Arc<Mutex<Allowance>>,
    circumstances: Circumstances,
    incarnation: Arc<str>,
}

/// The fate of a call that changes a group.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Passes,
    /// It takes effect, and is not answered.
    Lost,
    /// It takes effect so much later, even if its sender has given up or died.
    Late(Duration),
}

impl Overheard {
    fn spend(&self, of: &Mutex<Allowance>) {
        if !of.lock().spend() {
            let what = format!("{} asks ELB more often than it may", self.incarnation);
            self.witness.trace.violated("the rate is kept", &what);
        }
    }

    fn fate(&self) -> Fate {
        let weather = *self.circumstances.weather.lock();
        let mut random = self.circumstances.random.lock();
        let (drawn, late) = (random.next() % 100, random.millis(0, LATE));
        match drawn {
            drawn if drawn < weather.calls_lost => Fate::Lost,
            drawn if drawn < weather.calls_lost + weather.calls_late => Fate::Late(late),
            _ => Fate::Passes,
        }
    }

    /// Makes a call that registers or deregisters targets.
    fn change(&self, request: HttpRequest, change: Change) -> HttpConnectorFuture {
        let (sent, fate) = (Instant::now(), self.fate());
        self.spend(&self.changes);
        let targets: Vec<String> = change.targets.iter().map(ToString::to_string).collect();
        let verb = if change.registers {
            "registers"
        } else {
            "deregisters"
        };
        let group = change.arn.split('/').nth(1).unwrap_or_default();
        let what = format!("{verb} {} in {group} {fate:?}", targets.join(" "));
        self.witness.trace.note(&self.incarnation, &what);
        let (cache, incarnation) = (&self.circumstances.cache, &self.incarnation);
        self.witness.change_sent(incarnation, cache, &change);
        let this = self.clone();
        let done = async move {
            if let Fate::Late(late) = fate {
                sleep(late).await;
            }
            let call = this.accounts[accounts::of(&change.arn)].call(request);
            // A call that is not carried out by then never is.
            let answer = timeout_at(sent + ARRIVES_WITHIN, call).await;
            let answer = answer.unwrap_or_else(|late| Err(ConnectorError::timeout(late.into())))?;
            let what = format!("{what}: {}", answer.status().as_u16());
            this.witness.trace.note(&this.incarnation, &what);
            if answer.status().is_success() {
                this.witness.change_done(&this.incarnation, &change);
            }
            Ok(answer)
        };
        HttpConnectorFuture::new(async move {
            if fate == Fate::Passes {
                return done.await;
            }
            let answer = tokio::spawn(done).await;
            let answer = answer.unwrap_or_else(|error| Err(ConnectorError::io(error.into())));
            if fate == Fate::Lost {
                sleep(ARRIVES_WITHIN).await;
            }
            answer
        })
    }
}

impl fmt::Debug for Overheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "calls of {}", self.incarnation)
    }
}

impl HttpConnector for Overheard {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let asked: BTreeMap<String, String> = {
            let body = request.body().bytes().unwrap_or_default();
            form_urlencoded::parse(body).into_owned().collect()
        };
        if let Some(change) = Change::of(&asked) {
            return self.change(request, change);
        }
        let (this, sent) = (self.clone(), Instant::now());
        self.spend(&self.most);
        let action = asked.get("Action").cloned().unwrap_or_default();
        let named = ["TargetGroupArn", "TargetGroupArns.member.1"];
        let arn = named.iter().find_map(|name| asked.get(*name));
        let arn = arn.cloned().unwrap_or_default();
        let group = arn.split('/').nth(1).unwrap_or_default().to_owned();
        let climbed = match self.first.lock().spend() {
            true => "",
            false => ", faster than at first",
        };
        self.witness.trace.note(
            &self.incarnation,
            &format!("asks {action} {group}{climbed}"),
        );
        HttpConnectorFuture::new(async move {
            let answer = this.accounts[accounts::of(&arn)].call(request).await?;
            let code = answer.status().as_u16();
            let body = answer.body().bytes().unwrap_or_default();
            let states = states(&String::from_utf8_lossy(body));
            let told: Vec<String> = states.iter().map(|(t, s)| format!("{t}={s}")).collect();
            let what = format!("hears {action} {group} {code} {}", told.join(" "));
            this.witness.trace.note(&this.incarnation, &what);
            if action == "DescribeTargetHealth" && code == 200 {
                let heard = Heard {
                    arn,
                    sent,
                    received: Instant::now(),
                    states,
                };
                this.witness.heard(&this.incarnation, heard);
            }
            Ok(answer)
        })
    }
}

/// The targets of an answer, with their states.
fn states(xml: &str) -> BTreeMap<SocketAddr, String> {
    let members = xml.split("<Target>").skip(1);
    let read = members.filter_map(|member| {
        let (ip, port) = (within(member, "Id")?, within(member, "Port")?);
        let target = SocketAddr::new(ip.parse().ok()?, port.parse().ok()?);
        Some((target, within(member, "State")?.to_owned()))
    });
    read.collect()
}

fn within<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}
