//! Waits of the commands that may be long.

use std::time::Duration;

use tokio::time::{Instant, interval_at};

/// On a long wait a line comes at least this often. Contract 10.
pub(super) const LINE_EVERY: Duration = Duration::from_secs(30);

/// Does what may take long, such as to read a cluster that hardly answers, and says on standard error that it lasts.
pub(super) async fn with_progress<T>(doing: &str, work: impl Future<Output = T>) -> T {
    telling(doing, work, |line| eprintln!("targetgate: {line}")).await
}

async fn telling<T>(doing: &str, work: impl Future<Output = T>, mut tell: impl FnMut(String)) -> T {
    let begun = Instant::now();
    let mut lines = interval_at(begun + LINE_EVERY, LINE_EVERY);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = lines.tick() => tell(format!("still {doing}, for {} s", begun.elapsed().as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_is_told_each_half_minute_and_a_short_one_not_at_all() {
        for (seconds, expected) in [(29, vec![]), (70, vec!["30 s", "60 s"])] {
            let mut told = vec![];
            let work = async {
                sleep(Duration::from_secs(seconds)).await;
                seconds
            };
            let done = telling("reading", work, |line| told.push(line)).await;
            let expected = expected.iter().map(|at| format!("still reading, for {at}"));
            assert_eq!((done, told), (seconds, expected.collect::<Vec<_>>()));
        }
    }
}
