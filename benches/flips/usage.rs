//! How the CPU of the machine is spent: by the processes below this one, by the threads of this one by name,
//! and by all others. All of it is read from /proc of Linux.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use targetgate_sandbox::usage::Memory;
use tokio::time::Instant;

/// The unit of CPU time in /proc: `USER_HZ`, which is 100 per second on every Linux.
const TICK: Duration = Duration::from_millis(10);
/// The name of the measured process in /proc.
pub(crate) const PRODUCT: &str = "targetgate";

/// CPU times at one moment.
pub(crate) struct Usage {
    at: Instant,
    /// CPU times by the name of the program, or of the thread of this process.
    ours: BTreeMap<String, Duration>,
    /// The CPU time of the whole machine.
    machine: Duration,
}

/// CPU times between two moments.
pub(crate) struct Spent {
    elapsed: Duration,
    ours: BTreeMap<String, Duration>,
    others: Duration,
}

impl Usage {
    /// The present CPU times.
    pub(crate) fn now() -> anyhow::Result<Self> {
        let mut ours = threads()?;
        for process in descendants()? {
            *ours.entry(process.name).or_default() += process.cpu;
        }
        Ok(Self {
            at: Instant::now(),
            ours,
            machine: machine()?,
        })
    }

    /// The CPU times since then. A process that has ended meanwhile is counted among the others.
    pub(crate) fn spent(&self) -> anyhow::Result<Spent> {
        let now = Self::now()?;
        let mut ours = now.ours;
        for (name, cpu) in &mut ours {
            *cpu = cpu.saturating_sub(self.ours.get(name).copied().unwrap_or_default());
        }
        let machine = now.machine.saturating_sub(self.machine);
        Ok(Spent {
            elapsed: now.at - self.at,
            others: machine.saturating_sub(ours.values().sum()),
            ours,
        })
    }
}

impl Spent {
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The CPU time of one program or thread.
    pub(crate) fn of(&self, name: &str) -> Duration {
        self.ours.get(name).copied().unwrap_or_default()
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU in {:.1} s:", self.elapsed.as_secs_f64())?;
        let mut ours: Vec<_> = self.ours.iter().collect();
        ours.sort_by_key(|(_, cpu)| std::cmp::Reverse(**cpu));
        for (name, cpu) in ours.into_iter().filter(|(_, cpu)| **cpu >= TICK) {
            write!(f, " {name} {:.2} s,", cpu.as_secs_f64())?;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        write!(
            f,
            " others on these {cores} cores {:.1} s",
            self.others.as_secs_f64()
        )
    }
}

/// The resident memory of the product, and its maximum, in MiB.
pub(crate) fn product_memory() -> anyhow::Result<(f64, f64)> {
    let mut processes = descendants()?.into_iter();
    let product = processes.find(|process| process.name == PRODUCT);
    let pid = product.context("there is no targetgate process")?.pid;
    let memory = Memory::of(pid)?;
    let mebibytes = |kibibytes: u64| kibibytes as f64 / 1024.0;
    Ok((mebibytes(memory.resident), mebibytes(memory.most)))
}

struct Process {
    pid: u32,
    parent: u32,
    name: String,
    cpu: Duration,
}

/// The descendants of this process.
fn descendants() -> anyhow::Result<Vec<Process>> {
    let names = fs::read_dir("/proc").context("cannot read /proc")?;
    let pids = names.filter_map(|name| name.ok()?.file_name().to_str()?.parse().ok());
    let mut all: Vec<Process> = pids.filter_map(process).collect();
    let mut family = BTreeSet::from([std::process::id()]);
    loop {
        let known = family.len();
        let children = all
            .iter()
            .filter(|process| family.contains(&process.parent));
        let children: Vec<u32> = children.map(|process| process.pid).collect();
        family.extend(children);
        if family.len() == known {
            break;
        }
    }
    all.retain(|process| process.pid != std::process::id() && family.contains(&process.pid));
    Ok(all)
}

/// A process, or `None` if it has ended since it was listed.
fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and may contain some itself.
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        name: name.to_owned(),
        cpu: TICK * (ticks(11)? + ticks(12)?),
    })
}

/// The CPU times of this process's threads. Each part of the bench has a thread of its own name.
fn threads() -> anyhow::Result<BTreeMap<String, Duration>> {
    let mut threads = BTreeMap::new();
    for thread in fs::read_dir("/proc/self/task").context("cannot read /proc/self/task")? {
        let folder = thread?.path();
        let read = |file: &str| fs::read_to_string(folder.join(file));
        // The thread has ended since it was listed.
        let (Ok(name), Ok(stat)) = (read("comm"), read("schedstat")) else {
            continue;
        };
        let nanoseconds = stat.split(' ').next().unwrap_or_default().parse()?;
        let name = match name.trim() {
            // The thread that runs the rest has the program's own name, with a hash.
            name if name.starts_with("flips") => "bench",
            name => name,
        };
        *threads.entry(name.to_owned()).or_default() += Duration::from_nanos(nanoseconds);
    }
    Ok(threads)
}

fn machine() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let total = stat.lines().next().unwrap_or_default();
    // The fields are user nice system idle iowait irq softirq steal guest guest_nice, and user includes guest.
    let ticks: Vec<u32> = total
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let busy = [0, 1, 2, 5, 6, 7].map(|index| ticks.get(index).copied().unwrap_or_default());
    Ok(TICK * busy.iter().sum::<u32>())
}
