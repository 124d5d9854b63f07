//! Steps that are accidents: of ELB, of the API server, of the lines to it, of clocks and of replicas.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use targetgate_sandbox::api::Away;
use targetgate_sandbox::elb::faults::On;
use tokio::time::Instant;

use crate::driver::Driver;
use crate::line::{Failing, Weather};
use crate::steps::{SLICES, WATCHED};

const HEALTH: &str = "DescribeTargetHealth";
/// The time in which a blind leader is followed: a minute, the retry period for writes on their way, and the time in
/// which the other candidate sees that the Lease is free.
const HANDS_OVER_WITHIN: Duration = Duration::from_secs(60 + 2 + 8);
/// The time in which a request that a line holds up arrives: a watch of pods may be on its way when pods get out of reach.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);
/// The greatest error of a wall clock.
const YEAR: i64 = 365 * 24 * 3600;

impl Driver {
    pub(crate) fn elb_has_trouble(&mut self) {
        let arns: Vec<String> = {
            let facts = self.world.facts.lock();
            facts.groups.values().flatten().cloned().collect()
        };
        let Some(arn) = self.random.pick(&arns) else {
            return;
        };
        let theirs = self.world.accounts.theirs();
        let faults = self.world.accounts.of(&arn).faults();
        let what = match self.random.below(10) {
            0 => {
                faults.throttle(2.0, 3);
                "throttles"
            }
            1 => {
                faults.unthrottle();
                "throttles no more"
            }
            2 => {
                let on = On::arn(&arn);
                faults.hang(on.clone());
                self.hanging.push(on);
                "hangs"
            }
            3 => {
                let all = self.world.accounts.all().iter();
                all.for_each(|elb| self.hanging.iter().for_each(|on| elb.faults().release(on)));
                self.hanging.clear();
                "hangs no more"
            }
            4 => {
                let times = Some(u32::try_from(self.random.between(1, 4)).unwrap());
                faults.fail(
                    On::action(HEALTH),
                    "InternalFailure",
                    StatusCode::BAD_GATEWAY,
                    times,
                );
                "fails"
            }
            5 => {
                faults.delay(self.random.millis(0, 12_000));
                "is slow"
            }
            6 => {
                faults.delay(Duration::ZERO);
                "is quick"
            }
            7 => {
                theirs.faults().throttle(0.0, 0);
                "throttles all that the other account asks"
            }
            8 => {
                self.world.accounts.of(&arn).freeze(&arn).unwrap();
                self.frozen.push(arn);
                "answers from the past"
            }
            _ => {
                let accounts = &self.world.accounts;
                let thaw = |arn: String| accounts.of(&arn).faults().thaw(&arn);
                self.frozen.drain(..).for_each(thaw);
                "answers from the present"
            }
        };
        self.note(&format!("ELB {what}"));
    }

    pub(crate) fn registrar_pauses(&mut self) {
        let on = !self.world.registers.fetch_xor(true, Ordering::Relaxed);
        self.note(&format!("targets are registered: {on}"));
    }

    pub(crate) async fn watches_have_trouble(&mut self) {
        let mut resource = self.random.pick(&WATCHED).unwrap_or_default();
        if self.world.product_registers && self.random.percent(15) {
            resource = SLICES;
        }
        match self.random.below(6) {
            0 => self.world.api.faults().close_watches(),
            1 => self.world.api.forget_history(),
            2 => {
                self.world.api.faults().away(Some(Away::Refusing));
                let time = self.random.millis(100, 25_000);
                self.note(&format!("the API server is away for {time:?}"));
                self.pass(time).await;
                self.world.api.faults().away(None);
            }
            3 => self
                .world
                .api
                .faults()
                .delay_watch(resource, Duration::ZERO),
            _ => {
                let delay = self.random.millis(0, 90_000);
                self.note(&format!("watches of {resource} are late by {delay:?}"));
                self.world.api.faults().delay_watch(resource, delay);
            }
        }
    }

    pub(crate) fn lines_have_trouble(&mut self) {
        let which = self.random.below(2);
        let mut share = |most| {
            if self.random.percent(50) {
                self.random.between(0, most)
            } else {
                0
            }
        };
        let weather = Weather {
            refused: share(30),
            denied: share(30),
            unanswered: share(30),
            no_lease: false,
            no_pods: false,
            no_services: false,
            slow: share(60),
            late: share(50),
            ..Weather::default()
        };
        let writes = match self.random.percent(25) {
            true => self.random.pick(&Failing::ALL),
            false => None,
        };
        let weather = Weather { writes, ..weather };
        // Sometimes no request passes, so that a leader cannot renew its Lease.
        let weather = match self.random.below(6) {
            0 => Weather {
                refused: 100,
                ..Weather::default()
            },
            1 => Weather {
                late: 100,
                ..Weather::default()
            },
            _ => weather,
        };
        self.note(&format!("{} has {weather:?}", self.replicas[which].name));
        *self.replicas[which].weather.lock() = weather;
    }

    /// The leader can do everything except renew the Lease, and is not told that another replica leads. Then a
    /// pod is created, so that it has a gate to write.
    pub(crate) async fn lease_is_out_of_reach(&mut self) {
        let holder = self.world.witness.holder().unwrap_or_default();
        let mut replicas = self.replicas.iter();
        let Some(leader) = replicas.find(|replica| holder.starts_with(replica.name)) else {
            return;
        };
        *leader.weather.lock() = Weather {
            no_lease: true,
            ..Weather::default()
        };
        self.note(&format!("the Lease is out of reach of {holder}"));
        self.world.api.faults().close_watches();
        let time = self.random.millis(10_000, 20_000);
        self.pass(time).await;
        self.pod_comes().await;
    }

    /// The leader can do everything except see pods, which the other replica does. Judges that the other one leads
    /// before long.
    pub(crate) async fn pods_are_out_of_reach(&mut self) {
        let holder = self.world.witness.holder().unwrap_or_default();
        let lives = |driver: &Self| {
            let lives = driver.replicas.iter().filter_map(|r| r.life.as_ref());
            let lives =
                lives.map(|life| (life.incarnation.clone(), life.cache.pending().is_empty()));
            lives.collect::<Vec<_>>()
        };
        let before = lives(self);
        if before.len() < 2 || !before.iter().any(|(incarnation, _)| *incarnation == holder) {
            return;
        }
        for replica in &self.replicas {
            replica.spare();
            *replica.weather.lock() = Weather {
                no_pods: holder.starts_with(replica.name),
                ..Weather::default()
            };
        }
        self.world.api.faults().delay_watch("pods", Duration::ZERO);
        self.note(&format!("pods are out of reach of {holder}"));
        self.pass(ARRIVES_WITHIN).await;
        self.world.api.faults().close_watches();
        self.pass(HANDS_OVER_WITHIN).await;
        let warm = before.iter().all(|(_, warm)| *warm);
        let still = self.world.witness.holder().unwrap_or_default();
        if warm && lives(self) == before && still == holder {
            let what = format!(
                "{holder} leads, and its watch of pods has failed for {HANDS_OVER_WITHIN:?}"
            );
            self.world.trace.violated("the leader sees", &what);
        }
        for replica in &self.replicas {
            replica.weather.lock().no_pods = false;
        }
        self.pod_comes().await;
    }

    pub(crate) fn clock_jumps(&mut self) {
        let which = self.random.below(2);
        // Within what certificates allow for, or up to a year.
        let most = if self.random.below(2) == 0 { 240 } else { YEAR };
        let by = i64::try_from(self.random.next() % (2 * most as u64)).unwrap() - most;
        self.note(&format!(
            "the clock of {} is off by {by} s",
            self.replicas[which].name
        ));
        self.replicas[which].skew.store(by, Ordering::Relaxed);
    }

    pub(crate) fn replica_dies(&mut self) {
        let (which, polls) = (self.random.below(2), self.random.between(1, 300));
        let down = self.random.millis(500, 30_000);
        let replica = &mut self.replicas[which];
        replica.dies_after(polls);
        replica.starts_at = Instant::now() + down;
        let name = replica.name;
        self.note(&format!("{name} dies after {polls} polls"));
    }

    pub(crate) fn replica_leaves(&mut self) {
        let which = self.random.below(2);
        let down = self.random.millis(500, 10_000);
        let replica = &mut self.replicas[which];
        replica.stop();
        replica.starts_at = Instant::now() + down;
        let name = replica.name;
        self.note(&format!("{name} is stopped"));
    }
}
