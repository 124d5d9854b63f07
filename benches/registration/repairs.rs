//! Targets that another hand removes: how soon they are in again, and what the looks cost that find it.

use std::time::Duration;

use jiff::Timestamp;
use targetgate_sandbox::harness::many_groups::{ManyGroups, waits};
use tokio::time::sleep;

use crate::rows::Rows;
use crate::site;

/// As many groups as are looked at within a minute at one call a second, and twice as many.
const FEW: usize = 60;
const MANY: usize = 120;
/// So many targets are removed, spread over the time between two looks at a group. Chosen: few enough that no repair
/// waits for the budget of calls.
const REMOVED: usize = 10;
/// Longer than until the second look of a leadership, after which only idle looks are left. Contract 8.
const SETTLED: Duration = Duration::from_secs(20);

pub(crate) async fn measure(rows: &mut Rows) {
    let (few, many) = tokio::join!(repairs(FEW), repairs(MANY));
    for (groups, repairs) in [(FEW, few), (MANY, many)] {
        let limit = groups as f64;
        rows.tell(
            &format!("1 of {groups} targets removed; looks a minute"),
            &repairs.waits,
            repairs.looks,
            [limit, limit, 60.0],
        );
    }
}

struct Repairs {
    waits: Vec<f64>,
    /// The calls of DescribeTargetHealth that all groups together cost in an idle minute.
    looks: usize,
}

async fn repairs(groups: usize) -> Repairs {
    let many = ManyGroups::create(site().await, groups, 1).await;
    many.bind_all().await;
    many.become_ready(Duration::ZERO).await;
    many.all_registered().await;
    sleep(SETTLED).await;
    let since = Timestamp::now();
    let touched: Vec<usize> = (0..groups).step_by(groups / REMOVED).collect();
    let between = Duration::from_secs(groups as u64) / REMOVED as u32;
    let removed = many.remove_by_hand(&touched, between).await;
    let again = many.all_registered_since(&removed).await;
    let idle = (0..groups).filter(|number| !touched.contains(number));
    let idle: Vec<f64> = idle
        .filter_map(|number| interval(&many.looks(number), since))
        .collect();
    let mean = idle.iter().sum::<f64>() / idle.len() as f64;
    Repairs {
        waits: waits(&removed, &again),
        looks: (groups as f64 * 60.0 / mean).round() as usize,
    }
}

/// The seconds between two looks of which the second was after that time.
fn interval(looks: &[Timestamp], since: Timestamp) -> Option<f64> {
    let mut pairs = looks.windows(2).filter(|pair| pair[1] > since);
    let pair = pairs.next()?;
    Some(pair[1].duration_since(pair[0]).as_secs_f64())
}
