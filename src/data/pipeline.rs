//! Jobs done before their results are needed, in order, by a pool of threads.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Once};
use std::thread::{self, JoinHandle};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::device::host;
use crate::error::{Error, Kind, Result, panic_text};

/// Tells a job that nobody waits for it any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Does jobs `first`, `first + 1`, … ahead of time.
///
/// Two feeders take turns, so that the pool's threads begin the next job while the last images
/// of this one are being finished. A feeder holds its result until it is taken: two results at
/// most lie ready or are in the making, whatever the number of threads.
pub(crate) struct Pipeline<T> {
    ready: Vec<Receiver<Result<T>>>,
    next: u64,
    stop: Stop,
    feeders: Vec<JoinHandle<()>>,
}

const FEEDERS: u64 = 2;

impl<T: Send + 'static> Pipeline<T> {
    /// `make` runs inside a pool of `workers` threads ([`host::threads`]) and does job `n`; `None`
    /// says that there are no more.
    pub(crate) fn start<F>(workers: usize, first: u64, make: F) -> Result<Self>
    where
        F: Fn(u64, &Stop) -> Option<Result<T>> + Send + Sync + 'static,
    {
        let no_thread = |e: &dyn std::fmt::Display| {
            Error::device(format!(
                "cannot start the loader's threads (data.workers={workers}): {e}; lower \
                 data.workers, or raise the limit of processes (ulimit -u) or of memory (ulimit -v)"
            ))
        };
        let threads = host::threads(workers);
        if threads < workers {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                tracing::warn!(
                    "data.workers={workers}: more than 4 a core do not help; {threads} are used"
                );
            });
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("loader-{i}"))
            .build()
            .map_err(|e| no_thread(&e))?;
        let (pool, make, stop) = (Arc::new(pool), Arc::new(make), Stop::default());
        let mut pipeline =
            Self { ready: Vec::new(), next: 0, stop: stop.clone(), feeders: Vec::new() };
        for k in 0..FEEDERS {
            let (send, receive) = sync_channel(0);
            let (pool, make, stop) = (pool.clone(), make.clone(), stop.clone());
            let feeder = thread::Builder::new()
                .name(format!("loader-feeder-{k}"))
                .spawn(move || feed(&pool, &*make, &stop, &send, first + k))
                .map_err(|e| no_thread(&e))?;
            pipeline.ready.push(receive);
            pipeline.feeders.push(feeder);
        }
        Ok(pipeline)
    }

    /// The next result; `None` after the last, and after an error.
    pub(crate) fn next(&mut self) -> Option<Result<T>> {
        let turn = (self.next % FEEDERS) as usize;
        let result = self.ready.get(turn)?.recv().ok();
        self.next += 1;
        if !matches!(result, Some(Ok(_))) {
            self.end();
        }
        result
    }
}

impl<T> Pipeline<T> {
    /// Stops the threads and waits for them: at most one image's time.
    fn end(&mut self) {
        self.stop.0.store(true, Ordering::Relaxed);
        self.ready.clear();
        for feeder in self.feeders.drain(..) {
            // Panics were caught inside.
            let _ = feeder.join();
        }
    }
}

impl<T> Drop for Pipeline<T> {
    fn drop(&mut self) {
        self.end();
    }
}

fn feed<T: Send>(
    pool: &ThreadPool,
    make: &(dyn Fn(u64, &Stop) -> Option<Result<T>> + Send + Sync),
    stop: &Stop,
    send: &SyncSender<Result<T>>,
    first: u64,
) {
    for job in (first..).step_by(FEEDERS as usize) {
        let attempt = AssertUnwindSafe(|| pool.install(|| make(job, stop)));
        let result = match catch_unwind(attempt) {
            Ok(None) => return,
            Ok(Some(result)) => result,
            Err(panic) => Err(panicked(&*panic)),
        };
        let failed = result.is_err();
        // Nobody takes it where the loader was dropped.
        if send.send(result).is_err() || failed {
            return;
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let what = panic_text(panic);
    Error::new(
        Kind::Device,
        format!(
            "a loader thread panicked ({what}); this is a mistake in the program: please report it"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_end() {
        let mut p = Pipeline::start(3, 5, |job, _| (job < 20).then_some(Ok(job))).unwrap();
        let mut all = Vec::new();
        while let Some(result) = p.next() {
            all.push(result.unwrap());
        }
        assert_eq!(all, (5..20).collect::<Vec<_>>());
        assert!(p.next().is_none());
    }

    #[test]
    fn a_panic_is_an_error_and_errors_end_it() {
        let mut p = Pipeline::start(2, 0, |job, _| {
            assert!(job != 3, "job three");
            Some(Ok(job))
        })
        .unwrap();
        for _ in 0..3 {
            p.next().unwrap().unwrap();
        }
        let e = p.next().unwrap().unwrap_err();
        assert!(e.to_string().contains("job three"), "{e}");
        assert!(p.next().is_none());
    }

    #[test]
    fn dropping_it_ends_endless_jobs() {
        let p = Pipeline::start(2, 0, |_, stop| {
            while !stop.is_set() {
                thread::yield_now();
            }
            Some(Ok(()))
        })
        .unwrap();
        drop(p);
    }
}
