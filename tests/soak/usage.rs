//! What a process holds of its machine.

use std::fmt;
use std::path::PathBuf;

use targetgate_sandbox::usage::Memory;

/// In KiB: an allocator keeps some of what it has given back.
const SLACK_MEMORY: u64 = 24 * 1024;
/// Connections come and go all the time, and a task with each; a blocking call has a thread.
const SLACK: usize = 8;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// In KiB.
    resident: u64,
    threads: usize,
    /// Sockets included.
    files: usize,
    sockets: usize,
    tasks: usize,
}

impl Usage {
    /// Of the process with this id, which has so many tasks by its own metric.
    pub(crate) fn of(id: u32, tasks: usize) -> Self {
        let folder = PathBuf::from(format!("/proc/{id}"));
        // One that is closed meanwhile is none.
        let files = std::fs::read_dir(folder.join("fd")).unwrap();
        let files = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        let files: Vec<PathBuf> = files.collect();
        let is_socket = |to: &&PathBuf| to.to_string_lossy().starts_with("socket:");
        Self {
            resident: Memory::of(id).unwrap().resident,
            threads: std::fs::read_dir(folder.join("task")).unwrap().count(),
            sockets: files.iter().filter(is_socket).count(),
            files: files.len(),
            tasks,
        }
    }

    /// Whether it is no more than before, but for what comes and goes.
    pub(crate) fn fits(&self, before: &Self) -> bool {
        self.resident <= before.resident + SLACK_MEMORY
            && self.threads <= before.threads + SLACK
            && self.files <= before.files + SLACK
            && self.sockets <= before.sockets + SLACK
            && self.tasks <= before.tasks + SLACK
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resident,
            threads,
            files,
            sockets,
            tasks,
        } = self;
        write!(
            f,
            "{resident} KiB resident, {threads} threads, {files} files, of them {sockets} sockets, {tasks} tasks"
        )
    }
}
