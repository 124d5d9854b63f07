//! How many connections the listeners hold, given how many files the process may open.

/// Maximum number of connections of the HTTPS listener. Chosen.
const HOOKS: u64 = 2048;
/// Maximum number of connections of the admin listener. Chosen: many more than the kubelet and scrapers use, so that
/// a flood of connections must be quicker than the answer to a probe.
const ADMIN: u64 = 256;

/// The maximum numbers of connections of both listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    pub hooks: usize,
    pub admin: usize,
}

impl Default for Places {
    fn default() -> Self {
        Self::of(u64::MAX)
    }
}

impl Places {
    /// The places under this limit of open files: at most half of it, so that watches, the Lease and AWS have the
    /// rest. Each listener has one place at least.
    pub fn of(open_files: u64) -> Self {
        let half = open_files / 2;
        let admin = (half / 8).clamp(1, ADMIN);
        let hooks = half.saturating_sub(admin).clamp(1, HOOKS);
        // Both are at most the constants above.
        Self {
            hooks: hooks as usize,
            admin: admin as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(u64::MAX, 2048, 256)]
    #[case(4608, 2048, 256)]
    #[case(1024, 448, 64)]
    #[case(256, 112, 16)]
    #[case(16, 7, 1)]
    #[case(0, 1, 1)]
    fn places_are_at_most_half_of_the_limit(
        #[case] open_files: u64,
        #[case] hooks: usize,
        #[case] admin: usize,
    ) {
        assert_eq!(Places::of(open_files), Places { hooks, admin });
        assert!(open_files < 4 || ((hooks + admin) as u64) <= open_files / 2);
    }
}
