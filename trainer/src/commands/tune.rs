//! `tune`: the shell around the search: files, threads, and what is said on the way.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use roadhound_shared::contract::{FollowContract, MANIFEST_FILE, sha256_hex};
use roadhound_shared::network::FollowNetwork;
use roadhound_shared::tracker::TrackerConfig;
use roadhound_trainer::data::otb;
use roadhound_trainer::data::sequence::Run;
use roadhound_trainer::evaluate::{self, TimedRun};
use roadhound_trainer::export::bundle::{self, GraphPrecision};
use roadhound_trainer::network::CandleNetwork;
use roadhound_trainer::outputs;
use roadhound_trainer::tune::gain::Gain;
use roadhound_trainer::tune::log::{RunLog, claim, trials_csv};
use roadhound_trainer::tune::search::{Job, Plan, Trial, best_of};
use roadhound_trainer::tune::space::Space;
use roadhound_trainer::tune::{
    ABSENCE_TABLES, ABSENT_FRAMES_NEEDED, RunFigures, Weights, absent_frames,
    refuse_evaluation_clips,
};

use super::held_out::held_out_runs;
use super::{network_of, parse_threads, tracker_config};

#[derive(clap::Args)]
pub(crate) struct TuneArguments {
    /// Bundle (a folder) or checkpoint (a file).
    #[arg(long)]
    model: PathBuf,
    /// Training configuration whose held-out videos are followed; with --held-out, or where no --sequences are given.
    #[arg(long, required_unless_present = "sequences")]
    config: Option<PathBuf>,
    /// Folder of OTB-style sequences, such as rendered drives; repeatable. Evaluation clips are refused.
    #[arg(long, value_name = "DIR")]
    sequences: Vec<PathBuf>,
    /// Follow the held-out videos of --config as well as --sequences.
    #[arg(long, requires = "config")]
    held_out: bool,
    /// Folder of the training packs, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The current constants: TOML over those of the bundle.
    #[arg(long)]
    tracker: Option<PathBuf>,
    /// TOML file with the constants to search and their ranges, instead of the built-in ones.
    #[arg(long)]
    space: Option<PathBuf>,
    /// Sets of constants to try; a finished search given more of them goes on.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    trials: u32,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the results; the same command goes on where it was stopped.
    #[arg(long)]
    out: PathBuf,
    /// Cost of a box on every absent frame, in units of AUC.
    #[arg(long, default_value_t = Weights::default().false_alarm, allow_hyphen_values = true, value_parser = parse_cost)]
    false_alarm: f64,
    /// Cost of "lost" on every present frame, in units of AUC, beyond the overlap that is missed.
    #[arg(long, default_value_t = Weights::default().false_lost, allow_hyphen_values = true, value_parser = parse_cost)]
    false_lost: f64,
    /// Runs followed at a time. They do not change the result.
    #[arg(long, default_value_t = 1, value_parser = parse_threads)]
    threads: usize,
}

fn parse_cost(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(cost) if cost.is_finite() && cost >= 0.0 => Ok(cost),
        _ => Err("expected a number from 0 on".into()),
    }
}

/// The model: how a thread gets a network of its own.
enum Model {
    Bundle(PathBuf),
    Checkpoint(PathBuf),
}

impl Model {
    /// Contract, constants that it ships with, and the digest of the file that says what it is.
    fn describe(&self) -> Result<(FollowContract, TrackerConfig, String)> {
        let (contract, tracker, file) = match self {
            Self::Bundle(folder) => {
                let (_, manifest) = bundle::load(folder, GraphPrecision::F32)?;
                (
                    manifest.follow,
                    manifest.tracker,
                    folder.join(MANIFEST_FILE),
                )
            }
            Self::Checkpoint(path) => {
                let (net, ..) = network_of(path)?;
                let contract = bundle::contract_of(&net)?;
                (contract, TrackerConfig::default(), path.clone())
            }
        };
        let bytes = std::fs::read(&file).with_context(|| format!("{}", file.display()))?;
        Ok((contract, tracker, sha256_hex(&bytes)))
    }
}

pub(crate) fn tune(arguments: &TuneArguments) -> Result<()> {
    let timed = runs(arguments)?;
    let runs: Vec<Run> = timed.iter().map(|timed| timed.run.clone()).collect();
    let model = match arguments.model.is_dir() {
        true => Model::Bundle(arguments.model.clone()),
        false => Model::Checkpoint(arguments.model.clone()),
    };
    let (contract, shipped, digest) = model.describe()?;
    let current = tracker_config(shipped, arguments.tracker.as_ref())?;
    let space = space(arguments, &current, &runs)?;
    let weights = Weights {
        false_alarm: arguments.false_alarm,
        false_lost: arguments.false_lost,
    };
    let settings = settings(arguments, &digest, &current, &weights, &space, &timed)?;
    claim(&arguments.out, &settings)?;
    let log = RunLog::open(&arguments.out)?;
    log::info!(
        "{} runs, {} frames, {} of them without the target; {} constants; {} runs followed before",
        runs.len(),
        runs.iter().map(|r| r.frames.len()).sum::<usize>(),
        absent_frames(&runs),
        space.searched().len(),
        log.len()
    );

    let plan = Plan {
        space: &space,
        current: &current,
        weights,
        trials: arguments.trials,
        seed: arguments.seed,
        runs: runs.len(),
    };
    let team = Team {
        model: &model,
        contract: &contract,
        runs: &timed,
        threads: arguments.threads,
        log: Mutex::new(log),
    };
    roadhound_trainer::ops::set_candle_threads(1);
    let order = plan.order_of_runs();
    let trials = plan.search(
        |jobs| team.follow(jobs),
        |trials: &[Trial]| {
            let text = trials_csv(trials, &space, &weights);
            outputs::file(&arguments.out.join("trials.csv"), &text)?;
            let best = best_of(trials, &weights, &order)[0];
            log::info!(
                "{} of {} trials: current {:.4}, best {:.4} (trial {})",
                trials.len() - 1,
                arguments.trials,
                trials[0].objective(&weights, &order),
                best.objective(&weights, &order),
                best.number
            );
            Ok(())
        },
    )?;
    conclude(arguments, &plan, &trials)
}

fn runs(arguments: &TuneArguments) -> Result<Vec<TimedRun>> {
    let mut runs: Vec<TimedRun> = Vec::new();
    for folder in &arguments.sequences {
        runs.extend(otb::load_runs(folder)?.into_iter().map(TimedRun::from));
    }
    if let Some(config) = &arguments.config
        && (arguments.held_out || arguments.sequences.is_empty())
    {
        runs.extend(held_out_runs(config, arguments.data.as_ref())?);
    }
    // What cannot be followed cannot be tuned on either; it is said here rather than after an hour.
    for TimedRun { run, .. } in &runs {
        refuse_evaluation_clips(std::slice::from_ref(run))?;
        if run.truth.first().copied().flatten().is_none() {
            bail!("run {} starts without its target", run.name);
        }
    }
    if runs.is_empty() {
        bail!("no runs to follow: neither in --sequences nor held out by --config");
    }
    Ok(runs)
}

fn space(arguments: &TuneArguments, current: &TrackerConfig, runs: &[Run]) -> Result<Space> {
    let space = match &arguments.space {
        None => Space::default_for(current)?,
        Some(path) => {
            let shown = || format!("{}", path.display());
            let text = std::fs::read_to_string(path).with_context(shown)?;
            Space::parse(&text, current).with_context(shown)?
        }
    };
    let absent = absent_frames(runs);
    if absent >= ABSENT_FRAMES_NEEDED {
        return Ok(space);
    }
    log::warn!(
        "only {absent} frames lack the target, so nothing speaks against never saying lost: the constants of {} stay as they are",
        ABSENCE_TABLES.join(" and ")
    );
    Ok(space.without(&ABSENCE_TABLES)?)
}

/// What a search is recognised by; neither trials nor threads, which may change.
fn settings(
    arguments: &TuneArguments,
    digest: &str,
    current: &TrackerConfig,
    weights: &Weights,
    space: &Space,
    runs: &[TimedRun],
) -> Result<String> {
    #[derive(serde::Serialize)]
    struct Settings<'a> {
        model_sha256: &'a str,
        seed: u64,
        runs: Vec<String>,
        weights: &'a Weights,
        space: toml::Table,
        current: &'a TrackerConfig,
    }
    // Another clock makes other figures; what has every frame has the clock of before it was known.
    let run = |timed: &TimedRun| {
        let TimedRun { run, .. } = timed;
        let named = format!("{}: {} frames", run.name, run.frames.len());
        let times = timed.times(None);
        match times == TimedRun::from(run.clone()).times(None) {
            true => named,
            false => {
                let seconds = times.last().map_or(0.0, |at| at.0 as f64 * 1e-6);
                format!("{named} in {seconds:.3} s")
            }
        }
    };
    Ok(toml::to_string(&Settings {
        model_sha256: digest,
        seed: arguments.seed,
        runs: runs.iter().map(run).collect(),
        weights,
        space: toml::from_str(&space.to_toml())?,
        current,
    })?)
}

/// Threads that follow runs, and where their results go.
struct Team<'a> {
    model: &'a Model,
    contract: &'a FollowContract,
    runs: &'a [TimedRun],
    threads: usize,
    log: Mutex<RunLog>,
}

impl Team<'_> {
    /// Follows what was not followed before. Each job is done by one thread, so their number changes nothing.
    fn follow(&self, jobs: &[Job]) -> Result<Vec<RunFigures>> {
        let open: Vec<&Job> = {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let unknown = |job: &&Job| log.get(job.trial, job.run).is_none();
            jobs.iter().filter(unknown).collect()
        };
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads.min(open.len()))
                .map(|_| {
                    scope.spawn(|| {
                        // One failure ends the search: the others finish what they are at and take no more.
                        let stop = |_: &anyhow::Error| next.store(open.len(), Ordering::Relaxed);
                        self.work(&open, &next).inspect_err(stop)
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread that follows runs panicked")))
            })
        })?;
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter()
            .map(|job| {
                log.get(job.trial, job.run).with_context(|| {
                    format!("trial {} on run {} was not followed", job.trial, job.run)
                })
            })
            .collect()
    }

    fn work(&self, jobs: &[&Job], next: &AtomicUsize) -> Result<()> {
        // The network's own threads would wait for each other in the global pool.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        pool.install(|| match self.model {
            Model::Bundle(folder) => {
                self.take_jobs(bundle::load(folder, GraphPrecision::F32)?.0, jobs, next)
            }
            Model::Checkpoint(path) => {
                let (net, ..) = network_of(path)?;
                self.take_jobs(CandleNetwork::new(net, &Device::Cpu), jobs, next)
            }
        })
    }

    fn take_jobs<N: FollowNetwork>(
        &self,
        mut network: N,
        jobs: &[&Job],
        next: &AtomicUsize,
    ) -> Result<()> {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let run = vec![self.runs[job.run].clone()];
            let followed = evaluate::follow_runs(
                &mut network,
                self.contract,
                &job.constants,
                run,
                None,
                |_| {},
            )?;
            let figures = RunFigures::of(&followed[0]);
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.add(job.trial, job.run, figures)?;
        }
        Ok(())
    }
}

/// Says what the search was worth and writes the constants.
fn conclude(arguments: &TuneArguments, plan: &Plan<'_>, trials: &[Trial]) -> Result<()> {
    let order = plan.order_of_runs();
    // In the order of their numbers, so that the current constants are the first.
    let whole: Vec<&Trial> = trials
        .iter()
        .filter(|t| t.figures.len() == order.len())
        .collect();
    let objectives: Vec<Vec<f64>> = whole
        .iter()
        .map(|t| {
            t.figures
                .values()
                .map(|f| f.objective(&plan.weights))
                .collect()
        })
        .collect();
    let gain = Gain::of(&objectives, plan.seed);
    let best = whole[gain.best];
    let [low, high] = gain.interval();
    let verdict = match (gain.best, gain.is_real()) {
        (0, _) => "nothing tried is better than the current constants".to_owned(),
        (_, true) => format!(
            "trial {} gains {:+.4} on these runs; corrected for the choice among {} trials {:+.4}, 90 % interval {low:+.4} to {high:+.4}: worth shipping",
            best.number,
            gain.measured,
            whole.len(),
            gain.corrected()
        ),
        (_, false) => format!(
            "trial {} gains {:+.4} on these runs; corrected for the choice among {} trials {:+.4}, 90 % interval {low:+.4} to {high:+.4}: may be luck, the current constants stay",
            best.number,
            gain.measured,
            whole.len(),
            gain.corrected()
        ),
    };
    let head = |what: &str| {
        format!(
            "# {what}\n# Objective {:.4} with the current constants, {:.4} with trial {}, mean over {} runs.\n# {verdict}.\n\n",
            trials[0].objective(&plan.weights, &order),
            best.objective(&plan.weights, &order),
            best.number,
            order.len(),
        )
    };
    let shipped = if gain.is_real() { best } else { &trials[0] };
    for (name, what, trial) in [
        ("tracker.toml", "The constants to ship", shipped),
        (
            "best.toml",
            "The best constants that were found, be it by luck",
            best,
        ),
    ] {
        let text = head(what) + &toml::to_string(&trial.constants)?;
        outputs::file(&arguments.out.join(name), &text)?;
    }
    print(plan, trials, best, &verdict);
    log::info!(
        "{}, for evaluate --tracker and export --tracker",
        arguments.out.join("tracker.toml").display()
    );
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result is what the command is for")]
fn print(plan: &Plan<'_>, trials: &[Trial], best: &Trial, verdict: &str) {
    println!("{:<34} {:>10} {:>10}", "", "current", "best");
    let means = |trial: &Trial| {
        let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
        let sum = |f: fn(&RunFigures) -> usize| trial.figures.values().map(f).sum::<usize>();
        let auc = trial.figures.values().map(|f| f.auc).sum::<f64>();
        [
            trial.objective(&plan.weights, &plan.order_of_runs()),
            auc / trial.figures.len().max(1) as f64,
            share(sum(|f| f.false_alarms), sum(|f| f.absent)),
            share(sum(|f| f.false_lost), sum(|f| f.frames)),
        ]
    };
    let names = [
        "objective",
        "success AUC",
        "boxes on absent frames",
        "lost on present frames",
    ];
    for (name, (a, b)) in names
        .iter()
        .zip(means(&trials[0]).into_iter().zip(means(best)))
    {
        println!("{name:<34} {a:>10.4} {b:>10.4}");
    }
    let values = trials[0].values.iter().zip(&best.values);
    for (constant, (a, b)) in plan.space.searched().iter().zip(values) {
        if a != b {
            println!("{:<34} {a:>10} {b:>10}", constant.key);
        }
    }
    println!("{verdict}");
}
