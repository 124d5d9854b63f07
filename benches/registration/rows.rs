//! The measured figures, compared with their limits.

use std::process::ExitCode;

#[derive(Default)]
pub(crate) struct Rows {
    told: usize,
    past: usize,
}

impl Rows {
    /// Prints a row. `limits` are those of the median, of the 99th percentile, and of the number of calls.
    pub(crate) fn tell(&mut self, what: &str, waits: &[f64], calls: usize, limits: [f64; 3]) {
        self.begin();
        let mut waits = waits.to_vec();
        waits.sort_by(f64::total_cmp);
        let at = |share: usize| waits[(waits.len() * share / 100).min(waits.len() - 1)];
        let figures = [at(50), at(99), calls as f64];
        let most = waits[waits.len() - 1];
        println!(
            "{what:48} {:7.3} s {:7.3} s {most:6.3} {calls:5}   {} s, {} s, {}",
            figures[0], figures[1], limits[0], limits[1], limits[2]
        );
        let pairs = figures.iter().zip(limits);
        self.past += usize::from(pairs.into_iter().any(|(figure, limit)| *figure > limit));
    }

    pub(crate) fn tell_ratio(&mut self, what: &str, figure: f64, limit: f64) {
        self.begin();
        println!("{what:48} {figure:7.2}                          {limit}");
        self.past += usize::from(figure > limit);
    }

    /// Prints the head of the table before its first row.
    fn begin(&mut self) {
        if self.told == 0 {
            println!(
                "work                                              median       p99    most   calls   limits"
            );
        }
        self.told += 1;
    }

    pub(crate) fn verdict(self) -> ExitCode {
        match self.past {
            0 => ExitCode::SUCCESS,
            past => {
                println!("\n{past} rows are past a limit");
                ExitCode::FAILURE
            }
        }
    }
}
