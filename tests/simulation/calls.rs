//! The ELB calls of one replica: which answers it hears, and how often it calls.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use parking_lot::Mutex;
use targetgate_core::elb::buckets::Limits;
use tokio::time::Instant;

use crate::accounts::{self, Accounts};
use crate::facts::Heard;
use crate::witness::Witness;

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

/// An HTTP client for the SDK in one life of a replica, whose calls must stay within `limits`.
pub(crate) fn client(
    accounts: &Accounts,
    witness: &Witness,
    incarnation: &str,
    limits: Limits,
) -> SharedHttpClient {
    let (accounts, witness) = (accounts.clone(), witness.clone());
    let first = Arc::new(Mutex::new(Allowance::of(limits.rate, limits.burst)));
    let most = Arc::new(Mutex::new(Allowance::of(limits.highest, limits.burst)));
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
    incarnation: Arc<str>,
}

impl fmt::Debug for Overheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "calls of {}", self.incarnation)
    }
}

impl HttpConnector for Overheard {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (this, sent) = (self.clone(), Instant::now());
        if !self.most.lock().spend() {
            let what = format!("{} asks ELB more often than it may", self.incarnation);
            self.witness.trace.violated("the rate is kept", &what);
        }
        let asked: BTreeMap<String, String> = {
            let body = request.body().bytes().unwrap_or_default();
            form_urlencoded::parse(body).into_owned().collect()
        };
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
