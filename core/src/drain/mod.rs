//! The end of a pod: how long its containers sleep before `SIGTERM`, until the load balancer sends nothing more
//! (contract 9).

use std::fmt;
use std::str::FromStr;

use crate::names::NameError;
use crate::reason::Reason;

pub mod inject;

/// Whether pods get a sleep before their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum DrainMode {
    /// They do not.
    #[default]
    Off,
    /// Each main container without a `preStop` sleeps before `SIGTERM`.
    Sleep,
}

impl DrainMode {
    /// Both, in their order.
    pub const ALL: [Self; 2] = [Self::Off, Self::Sleep];

    /// The word in label, annotation and flag.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Sleep => "sleep",
        }
    }
}

impl FromStr for DrainMode {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut all = Self::ALL.into_iter();
        all.find(|mode| mode.as_str() == text)
            .ok_or_else(|| NameError::new(text, "one of off, sleep"))
    }
}

impl fmt::Display for DrainMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether pods sleep, and for how long, where neither pod nor Namespace says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DrainPolicy {
    pub mode: DrainMode,
    pub seconds: DrainSeconds,
}

impl DrainPolicy {
    /// The mode for a pod: its annotation comes before its Namespace's label.
    pub fn mode(&self, pod: Option<DrainMode>, namespace: DrainLabel) -> DrainMode {
        pod.or(namespace.mode()).unwrap_or(self.mode)
    }
}

/// What a pod's own annotations say about its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DrainAnnotations {
    /// [`DRAIN_ANNOTATION`](crate::names::DRAIN_ANNOTATION).
    pub mode: Option<DrainMode>,
    /// [`DRAIN_SECONDS_ANNOTATION`](crate::names::DRAIN_SECONDS_ANNOTATION).
    pub seconds: Option<SleepSeconds>,
}

/// Whether a pod with a gate is to sleep, and for how long, or why it is left as it is.
pub type Asked = Result<SleepSeconds, Reason>;

/// What is asked for by annotation, label and flag, and whether the API server can do it. `label` is `None` while
/// the Namespace is not known, `server` while the API server has not told its version, and `kinds` are those of the
/// bindings that give the pod its gates.
///
/// ```
/// use targetgate_core::drain::{
///     DrainAnnotations, DrainLabel, DrainMode, DrainPolicy, LoadBalancerKind, ServerVersion, asked,
/// };
/// use targetgate_core::reason::Reason;
///
/// let (own, policy) = (DrainAnnotations::default(), DrainPolicy::default());
/// let label = Some(DrainLabel::Mode(DrainMode::Sleep));
/// let server = ServerVersion::of("1", "31");
/// let sleep = asked(own, label, [Some(LoadBalancerKind::Alb)], &policy, server);
/// assert_eq!(sleep.map(|seconds| seconds.get()), Ok(20));
/// assert_eq!(asked(own, Some(DrainLabel::Absent), [], &policy, server), Err(Reason::Off));
/// ```
pub fn asked(
    own: DrainAnnotations,
    label: Option<DrainLabel>,
    kinds: impl IntoIterator<Item = Option<LoadBalancerKind>>,
    policy: &DrainPolicy,
    server: Option<ServerVersion>,
) -> Asked {
    let mode = match (own.mode, label) {
        (Some(mode), _) => mode,
        // The label may switch off what the flag asks for.
        (None, None) => return Err(Reason::NotReady),
        (None, Some(label)) => policy.mode(None, label),
    };
    if mode == DrainMode::Off {
        return Err(Reason::Off);
    }
    let version = server.ok_or(Reason::ServerUnknown)?;
    if !version.knows_sleep() {
        return Err(Reason::ServerTooOld);
    }
    Ok(own.seconds.unwrap_or_else(|| policy.seconds.longest(kinds)))
}

/// The version of an API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    pub major: u32,
    pub minor: u32,
}

impl ServerVersion {
    /// The oldest version whose pods get a sleep. By default 1.30 is the first to take it, and 1.29 refuses the pod;
    /// while a control plane is upgraded another API server may be a minor version older than the one that told its
    /// version.
    const SLEEPS_SINCE: Self = Self {
        major: 1,
        minor: 31,
    };

    /// Reads `major` and `minor` of `/version`; clouds add a `+` to the latter.
    ///
    /// ```
    /// use targetgate_core::drain::ServerVersion;
    ///
    /// let eks = ServerVersion::of("1", "31+").unwrap();
    /// assert!(eks.knows_sleep());
    /// assert!(!ServerVersion::of("1", "30").unwrap().knows_sleep());
    /// assert_eq!(ServerVersion::of("", ""), None);
    /// ```
    pub fn of(major: &str, minor: &str) -> Option<Self> {
        let number = |text: &str| {
            let end = text.find(|c: char| !c.is_ascii_digit());
            text[..end.unwrap_or(text.len())].parse().ok()
        };
        Some(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }

    /// Whether each API server beside it takes a sleep as well.
    pub fn knows_sleep(self) -> bool {
        self >= Self::SLEEPS_SINCE
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a Namespace's label says about the drain of its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DrainLabel {
    /// The Namespace does not have the label.
    #[default]
    Absent,
    /// The label's value is not one that is documented, and counts as absent.
    Unreadable,
    Mode(DrainMode),
}

impl DrainLabel {
    /// Reads the value of the label.
    ///
    /// ```
    /// use targetgate_core::drain::{DrainLabel, DrainMode};
    ///
    /// assert_eq!(DrainLabel::of(Some("sleep")), DrainLabel::Mode(DrainMode::Sleep));
    /// assert_eq!(DrainLabel::of(Some("true")), DrainLabel::Unreadable);
    /// assert_eq!(DrainLabel::of(None), DrainLabel::Absent);
    /// ```
    pub fn of(value: Option<&str>) -> Self {
        let read = |value: &str| value.parse().map_or(Self::Unreadable, Self::Mode);
        value.map_or(Self::Absent, read)
    }

    /// The mode that it asks for.
    pub fn mode(self) -> Option<DrainMode> {
        match self {
            Self::Mode(mode) => Some(mode),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

/// The kinds of load balancers that need different times until they send a target nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LoadBalancerKind {
    /// An Application Load Balancer.
    Alb,
    /// A Network Load Balancer.
    Nlb,
}

impl LoadBalancerKind {
    /// Both, in their order.
    pub const ALL: [Self; 2] = [Self::Alb, Self::Nlb];

    /// The word in flags and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alb => "alb",
            Self::Nlb => "nlb",
        }
    }

    /// The kind that can use a target group of this protocol; `None` for a Gateway Load Balancer's, and for one that
    /// AWS introduces later.
    /// Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroup.html>
    ///
    /// ```
    /// use targetgate_core::drain::LoadBalancerKind;
    ///
    /// assert_eq!(LoadBalancerKind::of_protocol("HTTPS"), Some(LoadBalancerKind::Alb));
    /// assert_eq!(LoadBalancerKind::of_protocol("TCP_UDP"), Some(LoadBalancerKind::Nlb));
    /// assert_eq!(LoadBalancerKind::of_protocol("GENEVE"), None);
    /// ```
    pub fn of_protocol(protocol: &str) -> Option<Self> {
        match protocol {
            "HTTP" | "HTTPS" => Some(Self::Alb),
            "TCP" | "UDP" | "TCP_UDP" | "TLS" | "QUIC" | "TCP_QUIC" => Some(Self::Nlb),
            _ => None,
        }
    }
}

/// The seconds of a sleep: 1 to 600. Contract 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SleepSeconds(u16);

impl SleepSeconds {
    /// The longest sleep, in seconds. Contract 9.
    pub const MAX: u16 = 600;

    /// The seconds; `None` if they are not between 1 and [`Self::MAX`].
    pub fn new(seconds: u16) -> Option<Self> {
        (1..=Self::MAX).contains(&seconds).then_some(Self(seconds))
    }

    /// The seconds as a number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl FromStr for SleepSeconds {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // `parse` would also read a number with a sign.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        let seconds = number.and_then(Self::new);
        seconds.ok_or_else(|| NameError::new(text, "a whole number of seconds from 1 to 600"))
    }
}

impl fmt::Display for SleepSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How long each kind of load balancer needs until it sends a target nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSeconds {
    pub alb: SleepSeconds,
    pub nlb: SleepSeconds,
}

impl DrainSeconds {
    /// The time that this kind needs; of a kind that is not known, the Network Load Balancer's.
    pub fn of(&self, kind: Option<LoadBalancerKind>) -> SleepSeconds {
        match kind {
            Some(LoadBalancerKind::Alb) => self.alb,
            Some(LoadBalancerKind::Nlb) | None => self.nlb,
        }
    }

    /// The time that all of these need; of none, that of a kind that is not known.
    ///
    /// ```
    /// use targetgate_core::drain::{DrainSeconds, LoadBalancerKind};
    ///
    /// let seconds = DrainSeconds::default();
    /// assert_eq!(seconds.longest([Some(LoadBalancerKind::Alb)]).get(), 20);
    /// assert_eq!(seconds.longest([Some(LoadBalancerKind::Alb), None]).get(), 100);
    /// assert_eq!(seconds.longest([]).get(), 100);
    /// ```
    pub fn longest(
        &self,
        kinds: impl IntoIterator<Item = Option<LoadBalancerKind>>,
    ) -> SleepSeconds {
        let times = kinds.into_iter().map(|kind| self.of(kind));
        times.max().unwrap_or_else(|| self.of(None))
    }
}

impl Default for DrainSeconds {
    /// What users report, not what AWS promises: contract 9 and `docs/design/drain.md`.
    fn default() -> Self {
        Self {
            alb: SleepSeconds(20),
            nlb: SleepSeconds(100),
        }
    }
}

/// `alb=20,nlb=100`: a kind that is left out keeps its default.
impl FromStr for DrainSeconds {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || {
            let expected = "such as alb=20,nlb=100, each at most once and from 1 to 600 seconds";
            NameError::new(text, expected)
        };
        let mut read = Self::default();
        let mut seen = vec![];
        for part in text.split(',') {
            let (kind, seconds) = part.split_once('=').ok_or_else(error)?;
            if seen.contains(&kind) {
                return Err(error());
            }
            seen.push(kind);
            let place = match kind {
                "alb" => &mut read.alb,
                "nlb" => &mut read.nlb,
                _ => return Err(error()),
            };
            *place = seconds.parse().map_err(|_| error())?;
        }
        Ok(read)
    }
}

impl fmt::Display for DrainSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "alb={},nlb={}", self.alb, self.nlb)
    }
}

/// What was done to a pod, by its annotation `targetgate.dev/drained: <sleep>/<given>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// The seconds that its containers were made to sleep.
    pub sleep: SleepSeconds,
    /// The grace period that it was given by its owner, in seconds, at least 1.
    pub given: i64,
}

impl Drained {
    /// The shortest grace period that leaves the owner's own after the sleep, at most the largest integer.
    pub fn grace(&self) -> i64 {
        self.given.saturating_add(i64::from(self.sleep.get()))
    }
}

impl FromStr for Drained {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let read = || {
            let (sleep, given) = text.split_once('/')?;
            let digits = given.bytes().all(|b| b.is_ascii_digit());
            let given = given.parse().ok().filter(|given| digits && *given >= 1)?;
            let sleep = sleep.parse().ok()?;
            Some(Self { sleep, given })
        };
        read().ok_or_else(|| NameError::new(text, "two numbers of seconds, such as 20/30"))
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.sleep, self.given)
    }
}

#[cfg(test)]
mod tests;
