//! Which constants to try next, and which of them deserve more runs.
//!
//! In: a [`Space`], a seed, and a function that follows runs with given constants. Out: [`Trial`]s. Everything is a
//! function of the seed and of what was measured, so a search can be stopped, continued and extended, on any number of
//! threads.
//!
//! Trial 0 is the current constants, on all runs. Then come generations of [`GENERATION`] trials:
//!
//! - The first two generations, and every fourth trial later on, are *random*: each constant is drawn anew from its
//!   range with probability one half and otherwise keeps its current value, because a point drawn anew in all of twenty
//!   constants is hopeless.
//! - The others are *local*: one of the three best trials so far with some constants moved by a normal step, which
//!   shrinks from generation to generation.
//!
//! A generation is thinned by successive halving (Jamieson and Talwalkar 2016): all of it follows a quarter of the
//! runs, the better half of it half of them, the better half of those all. The runs of a quarter are drawn once, so
//! trials are compared on the same runs.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use roadhound_shared::tracker::TrackerConfig;

use super::space::Space;
use super::{RunFigures, TuneError, Weights};
use crate::sampler::sample_rng;

/// Trials that compete with each other.
pub const GENERATION: u32 = 8;
/// Generations that are drawn at random only.
const RANDOM_GENERATIONS: u32 = 2;
/// Later on, every n-th trial is.
const RANDOM_EVERY: u32 = 4;
/// Standard deviation of a local step, as a share of the range, in the first local generation,
const STEP_AT_FIRST: f64 = 0.2;
/// by how much it shrinks in each,
const STEP_SHRINKS_BY: f64 = 0.8;
/// and where that ends.
const STEP_AT_LEAST: f64 = 0.04;
/// Probability that a local trial moves a constant.
const MOVED_SHARE: f64 = 0.3;
/// Trials from which local ones start.
const PARENTS: usize = 3;
/// Draws until thresholds are in order; enough for one in a million to fail at a rate of one in ten.
const DRAWS: u32 = 150;
/// Separates this stream of random numbers from those of training.
const STREAM: u64 = 0x7475_6e65;

/// Where a trial's constants come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They are the current ones.
    Current,
    /// Drawn from their ranges.
    Random,
    /// Those of this trial, moved.
    Near(u32),
}

/// One set of constants and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// From 0.
    pub number: u32,
    /// 0 for the current constants, then from 1.
    pub generation: u32,
    /// Where the constants come from.
    pub origin: Origin,
    /// Values of the searched constants, in the order of the space.
    pub values: Vec<f64>,
    /// All constants.
    pub constants: TrackerConfig,
    /// By the number of the run; a trial that fell out early has few.
    pub figures: BTreeMap<usize, RunFigures>,
}

impl Trial {
    /// Mean objective over the runs in `among`, which the trial has followed.
    pub fn objective(&self, weights: &Weights, among: &[usize]) -> f64 {
        let sum: f64 = among
            .iter()
            .map(|run| {
                self.figures
                    .get(run)
                    .map_or(f64::NEG_INFINITY, |f| f.objective(weights))
            })
            .sum();
        sum / among.len().max(1) as f64
    }
}

/// One run to be followed with the constants of one trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// Number of the trial.
    pub trial: u32,
    /// Number of the run.
    pub run: usize,
    /// The constants.
    pub constants: TrackerConfig,
}

/// What is searched, and for how long.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The searched constants.
    pub space: &'a Space,
    /// The current constants.
    pub current: &'a TrackerConfig,
    /// What counts.
    pub weights: Weights,
    /// Trials beside the current constants.
    pub trials: u32,
    /// Everything random follows from it.
    pub seed: u64,
    /// Runs there are.
    pub runs: usize,
}

impl Plan<'_> {
    /// Searches. `measure` follows runs and returns one entry a job, in order; `done` sees all trials after each
    /// generation.
    ///
    /// # Errors
    /// Those of `measure` and `done`; a space in which thresholds cannot be put in order.
    pub fn search<E: From<TuneError>>(
        &self,
        mut measure: impl FnMut(&[Job]) -> Result<Vec<RunFigures>, E>,
        mut done: impl FnMut(&[Trial]) -> Result<(), E>,
    ) -> Result<Vec<Trial>, E> {
        let order = self.order_of_runs();
        let mut trials = vec![Trial {
            number: 0,
            generation: 0,
            origin: Origin::Current,
            values: self.space.values_of(self.current),
            constants: *self.current,
            figures: BTreeMap::new(),
        }];
        follow(&mut trials, &[0], &order, &mut measure)?;
        done(&trials)?;
        let mut generation = 0;
        while (trials.len() as u32) <= self.trials {
            generation += 1;
            let first = trials.len();
            let count = GENERATION.min(self.trials + 1 - first as u32);
            for number in first as u32..first as u32 + count {
                // Of a generation, none is a parent yet.
                let trial = self.propose(number, generation, &trials[..first], &order)?;
                trials.push(trial);
            }
            let mut alive: Vec<usize> = (first..trials.len()).collect();
            for (rung, share) in [4, 2, 1].into_iter().enumerate() {
                if rung > 0 {
                    alive.truncate(alive.len().div_ceil(2));
                }
                let among = &order[..self.runs.div_ceil(share)];
                follow(&mut trials, &alive, among, &mut measure)?;
                alive.sort_by(|a, b| {
                    let objective = |k: usize| trials[k].objective(&self.weights, among);
                    objective(*b).total_cmp(&objective(*a)).then(a.cmp(b))
                });
            }
            done(&trials)?;
        }
        Ok(trials)
    }

    /// The numbers of the runs, shuffled: the first quarter is what every trial follows.
    pub fn order_of_runs(&self) -> Vec<usize> {
        let mut rng = sample_rng(self.seed, STREAM, u64::MAX);
        let mut order: Vec<usize> = (0..self.runs).collect();
        for k in (1..order.len()).rev() {
            order.swap(k, rng.random_range(0..=k));
        }
        order
    }

    fn propose(
        &self,
        number: u32,
        generation: u32,
        earlier: &[Trial],
        order: &[usize],
    ) -> Result<Trial, TuneError> {
        let mut rng = sample_rng(self.seed, STREAM, u64::from(number));
        let random = generation <= RANDOM_GENERATIONS || number.is_multiple_of(RANDOM_EVERY);
        let parent = best_of(earlier, &self.weights, order)
            .into_iter()
            .take(PARENTS)
            .nth(rng.random_range(0..PARENTS))
            .unwrap_or(&earlier[0]);
        let step = (STEP_AT_FIRST
            * STEP_SHRINKS_BY.powi(generation.saturating_sub(RANDOM_GENERATIONS + 1) as i32))
        .max(STEP_AT_LEAST);
        let mut refusal = None;
        for _ in 0..DRAWS {
            let values = match random {
                true => self.redrawn(&earlier[0].values, &mut rng),
                false => self.moved(&parent.values, step, &mut rng),
            };
            match self.space.constants(self.current, &values) {
                Ok(constants) => {
                    return Ok(Trial {
                        number,
                        generation,
                        origin: match random {
                            true => Origin::Random,
                            false => Origin::Near(parent.number),
                        },
                        values,
                        constants,
                        figures: BTreeMap::new(),
                    });
                }
                Err(error) => refusal = Some(error),
            }
        }
        let reason = refusal.map_or_else(String::new, |e| e.to_string());
        Err(TuneError::Space(format!(
            "no trial {number} in {DRAWS} draws that the tracker accepts: {reason}"
        )))
    }

    fn redrawn(&self, current: &[f64], rng: &mut ChaCha8Rng) -> Vec<f64> {
        let constants = self.space.searched().iter().zip(current);
        constants
            .map(|(constant, value)| {
                // Both numbers are drawn in any case: what one constant does shall not shift the others.
                let (anew, share) = (rng.random_bool(0.5), rng.random::<f64>());
                if anew {
                    constant.range.at(share)
                } else {
                    *value
                }
            })
            .collect()
    }

    fn moved(&self, from: &[f64], step: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let always = rng.random_range(0..from.len());
        let constants = self.space.searched().iter().zip(from).enumerate();
        constants
            .map(|(k, (constant, value))| {
                let (moves, by) = (rng.random_bool(MOVED_SHARE), normal(rng));
                if !moves && k != always {
                    return *value;
                }
                let share = constant.range.share_of(*value) + step * by;
                // Reflected at the ends, so that trials do not pile up there.
                let reflected = share.rem_euclid(2.0);
                constant.range.at(if reflected > 1.0 {
                    2.0 - reflected
                } else {
                    reflected
                })
            })
            .collect()
    }
}

/// Trials that followed all runs, the best first.
pub fn best_of<'a>(trials: &'a [Trial], weights: &Weights, runs: &[usize]) -> Vec<&'a Trial> {
    let mut whole: Vec<&Trial> = trials
        .iter()
        .filter(|t| t.figures.len() == runs.len())
        .collect();
    // A stable sort: of equals, the earlier one is the better.
    whole.sort_by(|a, b| {
        b.objective(weights, runs)
            .total_cmp(&a.objective(weights, runs))
    });
    whole
}

/// Has the trials at `indices` follow those of `runs` that they have not followed yet.
fn follow<E>(
    trials: &mut [Trial],
    indices: &[usize],
    runs: &[usize],
    measure: &mut impl FnMut(&[Job]) -> Result<Vec<RunFigures>, E>,
) -> Result<(), E> {
    let jobs: Vec<Job> = indices
        .iter()
        .flat_map(|k| {
            let trial = &trials[*k];
            let open = runs.iter().filter(|run| !trial.figures.contains_key(run));
            open.map(|run| Job {
                trial: trial.number,
                run: *run,
                constants: trial.constants,
            })
        })
        .collect();
    let figures = measure(&jobs)?;
    for (job, figures) in jobs.iter().zip(figures) {
        trials[job.trial as usize].figures.insert(job.run, figures);
    }
    Ok(())
}

/// Standard normal, by Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v) = (rng.random::<f64>(), rng.random::<f64>());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A world in which the window should be 0.5 and the size rate 0.3; runs differ in how easy they are.
    fn pretended(job: &Job) -> RunFigures {
        let window = f64::from(job.constants.decode.window_weight) - 0.5;
        let rate = f64::from(job.constants.shape.size_rate) - 0.3;
        RunFigures {
            frames: 100,
            auc: 0.8 - 0.01 * job.run as f64 - window * window - rate * rate,
            absent: 0,
            false_alarms: 0,
            false_lost: 0,
        }
    }

    fn space() -> Space {
        Space::parse(
            "[decode]\nwindow_weight = { min = 0.0, max = 1.0 }\n[shape]\nsize_rate = { min = 0.1, max = 0.9 }\n",
            &TrackerConfig::default(),
        )
        .unwrap()
    }

    fn run(trials: u32, seed: u64, runs: usize) -> (Vec<Trial>, usize) {
        let (space, current) = (space(), TrackerConfig::default());
        let plan = Plan {
            space: &space,
            current: &current,
            weights: Weights::default(),
            trials,
            seed,
            runs,
        };
        let mut followed = 0;
        let found = plan
            .search(
                |jobs| {
                    followed += jobs.len();
                    Ok::<_, TuneError>(jobs.iter().map(pretended).collect())
                },
                |_| Ok(()),
            )
            .unwrap();
        (found, followed)
    }

    fn best(trials: &[Trial], runs: usize) -> f64 {
        let all: Vec<usize> = (0..runs).collect();
        best_of(trials, &Weights::default(), &all)[0].objective(&Weights::default(), &all)
    }

    #[test]
    fn the_search_finds_what_is_there_to_be_found() {
        let (trials, _) = run(64, 1, 12);
        let optimum = 0.8 - 0.01 * 5.5;
        let current = trials[0].objective(&Weights::default(), &(0..12).collect::<Vec<_>>());
        assert!(optimum - current > 0.04, "the start is worth improving");
        assert!(optimum - best(&trials, 12) < 0.002, "{}", best(&trials, 12));
    }

    #[test]
    fn halving_follows_half_the_runs() {
        let (trials, followed) = run(64, 1, 12);
        assert_eq!(trials.len(), 65);
        // 12 for the current constants; of each eight, 8 x 3 + 4 x 3 + 2 x 6.
        assert_eq!(followed, 12 + 8 * 48);
        let whole = trials.iter().filter(|t| t.figures.len() == 12).count();
        assert_eq!(whole, 1 + 8 * 2);
    }

    #[test]
    fn a_longer_search_begins_like_a_shorter_one() {
        let (short, _) = run(16, 3, 5);
        let (long, _) = run(40, 3, 5);
        assert_eq!(short[..], long[..17]);
        assert_ne!(run(16, 4, 5).0, short, "another seed tries other constants");
    }

    #[test]
    fn one_run_and_an_incomplete_generation_are_no_trouble() {
        for (trials, runs) in [(1, 1), (3, 2), (9, 3)] {
            let (found, _) = run(trials, 5, runs);
            assert_eq!(found.len() as u32, trials + 1);
            assert!(best(&found, runs).is_finite());
        }
    }

    #[test]
    fn thresholds_stay_in_order_in_every_trial() {
        let current = TrackerConfig::default();
        let space = Space::default_for(&current).unwrap();
        let plan = Plan {
            space: &space,
            current: &current,
            weights: Weights::default(),
            trials: 80,
            seed: 9,
            runs: 4,
        };
        let measured = |jobs: &[Job]| Ok::<_, TuneError>(jobs.iter().map(pretended).collect());
        for trial in plan.search(measured, |_| Ok(())).unwrap() {
            trial.constants.validate().unwrap();
            for (constant, value) in space.searched().iter().zip(&trial.values) {
                assert!((constant.range.min..=constant.range.max).contains(value));
            }
        }
    }
}
