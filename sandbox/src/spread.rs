//! The spread of several measurements of one quantity.

use std::fmt;

/// The least, the median and the greatest of some values.
pub struct Spread {
    least: f64,
    pub median: f64,
    most: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            least: sorted[0],
            median: sorted[sorted.len() / 2],
            most: sorted[sorted.len() - 1],
        }
    }

    /// The spread of the quotients of pairs that were measured one right after the other.
    pub fn of_ratios(these: &[f64], over: &[f64]) -> Self {
        let ratios: Vec<f64> = these
            .iter()
            .zip(over)
            .map(|(this, over)| this / over)
            .collect();
        Self::of(&ratios)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            least,
            median,
            most,
        } = self;
        f.pad(&format!("{median:.2} [{least:.2} to {most:.2}]"))
    }
}
