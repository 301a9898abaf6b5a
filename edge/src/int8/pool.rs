//! Threads that wait for work without allocating.
//!
//! Enters: a function that every thread calls with its own number. Leaves: when all have returned. [`Barrier`] keeps
//! them in step inside of it. One thread means no pool and no atomics at all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How often a thread looks before it lets another one have the core.
const SPINS: u32 = 4_000;

/// A job as the threads see it. The lifetime is taken off: [`Pool::run`] returns only after all are done with it.
type Job = &'static (dyn Fn(usize) + Sync);

struct Order {
    /// Counts jobs: a thread works when it has not seen this one.
    number: u64,
    job: Option<Job>,
    /// Threads that have not finished the job.
    left: usize,
    /// A thread's job panicked.
    failed: bool,
    stop: bool,
}

struct Shared {
    order: Mutex<Order>,
    came: Condvar,
    finished: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calling thread and some more.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `threads` in all; 0 counts as 1.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(super) fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            order: Mutex::new(Order {
                number: 0,
                job: None,
                left: 0,
                failed: false,
                stop: false,
            }),
            came: Condvar::new(),
            finished: Condvar::new(),
        });
        let mut pool = Self {
            shared,
            threads: Vec::with_capacity(threads.saturating_sub(1)),
        };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new()
                .name(format!("int8-{index}"))
                .spawn(move || work(&shared, index))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// How many threads there are, the caller among them.
    pub(super) fn len(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `job` with 0 on this thread and with 1, 2, ... on the others; returns when all have returned.
    ///
    /// # Panics
    /// If `job` does, on whichever thread.
    pub(super) fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        if self.threads.is_empty() {
            return job(0);
        }
        // SAFETY: only the lifetime changes. The threads use the reference between here and the wait below, which
        // ends when every one of them has counted itself out; neither a panic of `job` here nor one on a thread leaves
        // this function before that.
        #[expect(
            unsafe_code,
            reason = "a scope that outlives its threads' work, not their lives"
        )]
        let shared_job: Job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        {
            let mut order = self.shared.lock();
            order.number += 1;
            order.job = Some(shared_job);
            order.left = self.threads.len();
            order.failed = false;
        }
        self.shared.came.notify_all();
        let mine = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut order = self.shared.lock();
        while order.left > 0 {
            order = self
                .shared
                .finished
                .wait(order)
                .unwrap_or_else(PoisonError::into_inner);
        }
        order.job = None;
        let failed = order.failed;
        drop(order);
        if let Err(panic) = mine {
            std::panic::resume_unwind(panic);
        }
        assert!(!failed, "a thread of the network panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.came.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let job = {
            let mut order = shared.lock();
            loop {
                if order.stop {
                    return;
                }
                if order.number != seen
                    && let Some(job) = order.job
                {
                    seen = order.number;
                    break job;
                }
                order = shared
                    .came
                    .wait(order)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        };
        let result = catch_unwind(AssertUnwindSafe(|| job(index)));
        let mut order = shared.lock();
        order.failed |= result.is_err();
        order.left -= 1;
        if order.left == 0 {
            shared.finished.notify_one();
        }
    }
}

/// Where threads wait for each other between two steps: a short spin, then they give way.
pub(super) struct Barrier {
    threads: usize,
    arrived: AtomicUsize,
    round: AtomicU32,
    broken: AtomicBool,
}

/// A thread's promise to come to a [`Barrier`].
pub(super) struct Attendance<'a>(&'a Barrier);

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Relaxed);
        }
    }
}

impl Barrier {
    /// For so many threads.
    pub(super) fn new(threads: usize) -> Self {
        Self {
            threads,
            arrived: AtomicUsize::new(0),
            round: AtomicU32::new(0),
            broken: AtomicBool::new(false),
        }
    }

    /// Held by every thread that takes part: should it panic, the others do so too instead of waiting for ever.
    pub(super) fn attend(&self) -> Attendance<'_> {
        Attendance(self)
    }

    fn check(&self) {
        let broken = self.broken.load(Ordering::Relaxed);
        assert!(!broken, "another thread of the network panicked");
    }

    /// Returns when all threads have called it. What they wrote before is seen by all after.
    ///
    /// # Panics
    /// If a thread that had to come has panicked, now or in an earlier run.
    pub(super) fn wait(&self) {
        if self.threads == 1 {
            return;
        }
        self.check();
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut spins = 0;
        while self.round.load(Ordering::Acquire) == round {
            self.check();
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_thread_takes_part_in_every_step_of_every_job() {
        let mut pool = Pool::new(3).unwrap();
        for _ in 0..50 {
            let counts: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
            let barrier = Barrier::new(pool.len());
            let late = AtomicUsize::new(0);
            pool.run(&|me| {
                for step in 0..10 {
                    counts[me].fetch_add(1, Ordering::Relaxed);
                    barrier.wait();
                    let all: usize = counts.iter().map(|c| c.load(Ordering::Relaxed)).sum();
                    late.fetch_add(usize::from(all < 3 * (step + 1)), Ordering::Relaxed);
                    barrier.wait();
                }
            });
            assert_eq!(late.into_inner(), 0);
            assert_eq!(counts.map(AtomicUsize::into_inner), [10; 3]);
        }
    }

    #[test]
    fn nobody_waits_for_ever_for_a_thread_that_panicked() {
        for guilty in 0..3 {
            let mut pool = Pool::new(3).unwrap();
            let barrier = Barrier::new(pool.len());
            // The second time the barrier has been left half full by the first.
            for _ in 0..2 {
                let result = catch_unwind(AssertUnwindSafe(|| {
                    pool.run(&|me| {
                        let _here = barrier.attend();
                        barrier.wait();
                        assert_ne!(me, guilty);
                        barrier.wait();
                    });
                }));
                assert!(result.is_err());
            }
        }
    }

    #[test]
    fn a_panic_on_a_thread_reaches_the_caller_and_the_pool_works_on() {
        let mut pool = Pool::new(2).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(&|me| assert_eq!(me, 0))));
        assert!(result.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(&|me| {
            sum.fetch_add(me + 1, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 3);
    }
}
