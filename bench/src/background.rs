//! Load that is not measured itself, but is there while something else is.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, anyhow};

/// Runs `measure` while so many threads do work. `prepare` is called on each thread, with its
/// number; what it returns does one step, again and again until `measure` has ended. A step should
/// be short.
pub(crate) fn during<T, W>(
    threads: usize,
    prepare: impl Fn(usize) -> W + Sync,
    measure: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T>
where
    W: FnMut() -> anyhow::Result<()>,
{
    let over = AtomicBool::new(false);
    let started = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let (over, started, prepare) = (&over, &started, &prepare);
                scope.spawn(move || {
                    let mut work = prepare(number);
                    // Everybody has begun before anything is measured.
                    let first = work();
                    started.wait();
                    first?;
                    while !over.load(Ordering::Relaxed) {
                        work()?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        started.wait();
        let result = measure();
        over.store(true, Ordering::Relaxed);
        for worker in workers {
            let worker = worker.join().map_err(|_| anyhow!("a thread panicked"))?;
            worker.context("the load in the background")?;
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn work_is_done_until_the_measurement_ends() {
        let steps = AtomicU32::new(0);
        let step = |_| {
            || {
                steps.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        };
        let at_first = during(2, step, || Ok(steps.load(Ordering::Relaxed))).unwrap();
        assert!(at_first >= 2);
    }

    #[test]
    fn a_failure_is_told() {
        let error = during(1, |_| || Err(anyhow!("broken")), || Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("broken"));
    }
}
