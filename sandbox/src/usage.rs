//! The memory and CPU time of a process, which Linux shows in /proc.
//! Source: <https://docs.kernel.org/filesystems/proc.html>

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The current resident memory: `VmRSS`.
    pub resident: u64,
    /// The part of it that is the process's own, such as its heap: `RssAnon`.
    pub own: u64,
    /// The peak of the resident memory: `VmHWM`.
    pub most: u64,
}

impl Memory {
    /// The memory of the process with this id.
    ///
    /// # Errors
    /// When the process or /proc does not exist.
    pub fn of(id: u32) -> io::Result<Self> {
        let status = fs::read_to_string(folder(id).join("status"))?;
        let kibibytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let number = line.and_then(|line| line.split_whitespace().next());
            number
                .and_then(|number| number.parse().ok())
                .ok_or_else(strange)
        };
        Ok(Self {
            resident: kibibytes("VmRSS:")?,
            own: kibibytes("RssAnon:")?,
            most: kibibytes("VmHWM:")?,
        })
    }
}

/// The CPU time of the running threads of a process; threads that have ended are not included.
///
/// # Errors
/// When the process or /proc does not exist.
pub fn cpu(id: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(folder(id).join("task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = text.split(' ').next();
        let spent: Option<u64> = first.and_then(|first| first.parse().ok());
        nanoseconds += spent.ok_or_else(strange)?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn folder(id: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{id}"))
}

fn strange() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "/proc does not have Linux's format",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_memory_and_cpu() {
        let id = std::process::id();
        let memory = Memory::of(id).unwrap();
        assert!(
            memory.own > 0 && memory.resident > memory.own && memory.most >= memory.resident,
            "{memory:?}"
        );
        assert!(cpu(id).unwrap() > Duration::ZERO);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert_eq!(Memory::of(0).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(cpu(0).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
