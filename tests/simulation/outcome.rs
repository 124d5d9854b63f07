//! A run of the simulated world, and its outcome.

use tokio::runtime::Builder;

use crate::driver::Driver;

/// The outcome of a run.
pub(crate) struct Outcome {
    pub(crate) trace: String,
    pub(crate) violations: Vec<String>,
}

/// Makes the world of a seed, and lets `happens` happen in it, on this thread.
pub(crate) fn simulate(seed: u64, happens: impl AsyncFnOnce(&mut Driver)) -> Outcome {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut driver = Driver::new(seed).await;
        happens(&mut driver).await;
        Outcome {
            trace: driver.world.trace.text(),
            violations: driver.world.trace.violations(),
        }
    })
}
