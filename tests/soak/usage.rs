//! What a process uses of its machine.

use std::fmt;
use std::path::PathBuf;

use targetgate_sandbox::usage::Memory;

/// The tolerance in KiB. Chosen, because an allocator keeps some of the memory that was freed.
const SLACK_MEMORY: u64 = 24 * 1024;
/// The tolerance for other counts. Chosen: connections, their tasks, and threads of blocking calls come and go.
const SLACK: usize = 8;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// The resident memory in KiB.
    resident: u64,
    threads: usize,
    /// Open files, sockets included.
    files: usize,
    sockets: usize,
    tasks: usize,
}

impl Usage {
    /// The usage of the process with this id, which has as many tasks as its metric says.
    pub(crate) fn of(id: u32, tasks: usize) -> Self {
        let folder = PathBuf::from(format!("/proc/{id}"));
        // A file that is closed meanwhile does not count.
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

    /// Whether the usage is no more than before, within the tolerance.
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
