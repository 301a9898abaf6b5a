//! `roadhound-train ablate`: trains the baseline and one run without each trick, and tabulates the differences.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use candle_core::Device;
use roadhound_shared::contract::{MANIFEST_FILE, sha256_hex};
use roadhound_shared::tracker::TrackerConfig;
use roadhound_trainer::ablate::{Row, Score, Table, Variant, variants};
use roadhound_trainer::batch::Batch;
use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::config::{SystemConfig, TrackerRun};
use roadhound_trainer::data::Dataset;
use roadhound_trainer::evaluate;
use roadhound_trainer::export::bundle;
use roadhound_trainer::model::TrackerNet;
use roadhound_trainer::outputs;
use roadhound_trainer::task::Task;
use roadhound_trainer::task::track::TrackTask;
use roadhound_trainer::train_loop::Outcome;
use roadhound_trainer::tricks::{TRICKS, Trick};

use super::held_out::{held_out_batches, held_out_runs};
use super::tracker::train_tracker;
use super::{load, parse_threads, set_out};

/// Held-out pairs that the finished runs are scored on: the standard error of an AUC of .7 is about .007.
const SCORED_PAIRS: usize = 1_440;

/// Figures of the table and their titles.
const SHOWN: [(&str, &str); 5] = [
    ("auc", "pair AUC"),
    ("presence_auc", "presence ROC-AUC"),
    ("presence_ece", "presence ECE"),
    ("identity_top1", "identity"),
    ("followed_ao", "followed AO"),
];

#[derive(clap::Args)]
pub(crate) struct AblateArguments {
    /// TOML file, as for `tracker`: the baseline.
    #[arg(long)]
    config: PathBuf,
    /// Folder: one run folder a variant, `ablation.csv` and `ablation.md`. The same command goes on where it stopped.
    #[arg(long)]
    out: PathBuf,
    /// Pairs of every run.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pairs: u64,
    /// Checkpoint or bundle that every run starts from.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Only these tricks, by name, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Seeds of the baseline: their spread says how far two figures must be apart to mean anything.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Folder of the training packs, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Threads of the arithmetic, instead of the configuration's.
    #[arg(long, value_parser = parse_threads)]
    threads: Option<usize>,
    /// Runs that are trained at the same time: small ones leave most of a GPU idle. Figures do not depend on it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
}

pub(crate) fn ablate(arguments: &AblateArguments) -> Result<()> {
    let mut baseline = load(&arguments.config, arguments.data.as_ref())?;
    baseline.train.pairs = arguments.pairs;
    let tricks = match arguments.only.as_slice() {
        [] => TRICKS.to_vec(),
        names => names
            .iter()
            .map(|name| Trick::named(name))
            .collect::<Result<_, _>>()?,
    };
    // Threads do not change the weights, but they are part of the configuration that a resumed run is compared by.
    let threads = arguments.threads.unwrap_or(baseline.compute.threads);
    set_out(threads)?;
    let dataset = Arc::new(Dataset::open(&baseline.data)?);
    let started_from = match &arguments.init {
        Some(path) => digest_of(path)?,
        None => String::new(),
    };
    let all = variants(&baseline, &tricks, arguments.seeds);
    let ablation = Ablation {
        arguments,
        baseline: &baseline,
        dataset: &dataset,
        started_from,
        scored: OnceLock::new(),
    };
    let rows = Mutex::new(vec![None; all.len()]);
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || -> Result<()> {
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(variant) = all.get(number) else {
                break;
            };
            log::info!("{} of {}: {}", number + 1, all.len(), variant.folder);
            let done = ablation.row_of(variant).inspect_err(|_| {
                failed.store(true, Ordering::Relaxed);
            })?;
            let Some(row) = done else { break };
            // A row is there whole or not at all.
            let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows[number] = Some(row);
            write_table(&arguments.out, &table_of(&rows), arguments.pairs)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..arguments.jobs).map(|_| scope.spawn(work)).collect();
        jobs.into_iter()
            .map(|job| {
                job.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect::<Result<Vec<()>>>()
    })?;
    let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    if rows.iter().all(Option::is_some) {
        print_table(&table_of(&rows).markdown(arguments.pairs, &SHOWN));
    }
    Ok(())
}

/// The rows that are done, in the order of the variants.
fn table_of(rows: &[Option<Row>]) -> Table {
    Table {
        rows: rows.iter().flatten().cloned().collect(),
    }
}

/// What all runs of an ablation share.
struct Ablation<'a> {
    arguments: &'a AblateArguments,
    baseline: &'a TrackerRun,
    dataset: &'a Arc<Dataset>,
    /// Hash of what every run starts from, or nothing.
    started_from: String,
    /// The pairs that finished runs are scored on, once the first one is.
    scored: OnceLock<Vec<Batch>>,
}

impl Ablation<'_> {
    /// Trains and scores a variant, unless that is done; `None` if it was stopped on the way.
    fn row_of(&self, variant: &Variant) -> Result<Option<Row>> {
        let folder = self.arguments.out.join(&variant.folder);
        let key = format!("{}{}", variant.run.hash()?, self.started_from);
        let path = folder.join("score.json");
        let score = match finished(&path, &key)? {
            Some(score) => score,
            None => {
                let init = self.arguments.init.as_deref();
                let outcome = train_tracker(&variant.run, self.dataset, init, &folder, true)?;
                if outcome == Outcome::Stopped {
                    return Ok(None);
                }
                let score = Score {
                    key,
                    figures: figures_of(self.arguments, variant, &folder, self.held_out()?)?,
                };
                outputs::file(&path, &serde_json::to_vec_pretty(&score)?)?;
                score
            }
        };
        Ok(Some(Row {
            run: variant.folder.clone(),
            trick: variant.trick,
            figures: score.figures,
        }))
    }

    /// The baseline's held-out pairs.
    fn held_out(&self) -> Result<Vec<Batch>> {
        if let Some(batches) = self.scored.get() {
            return Ok(batches.clone());
        }
        let count = SCORED_PAIRS.div_ceil(self.baseline.train.batch);
        // Two jobs that get here at once draw the same pairs.
        let drawn = held_out_batches(self.baseline, self.dataset, count)?;
        Ok(self.scored.get_or_init(|| drawn).clone())
    }
}

#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
fn print_table(markdown: &str) {
    println!("{markdown}");
}

/// The score of a run that is done already, if it is this very run.
fn finished(path: &Path, key: &str) -> Result<Option<Score>> {
    let shown = || format!("{}", path.display());
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read(path).with_context(shown)?;
    let score: Score = serde_json::from_slice(&text).with_context(shown)?;
    anyhow::ensure!(
        score.key == key,
        "{}: scored for another configuration or start; give --out another folder",
        path.display()
    );
    Ok(Some(score))
}

/// Averaged weights of a finished run on the baseline's held-out pairs and videos.
fn figures_of(
    arguments: &AblateArguments,
    variant: &Variant,
    folder: &Path,
    pairs: Vec<Batch>,
) -> Result<BTreeMap<String, f64>> {
    let run: &TrackerRun = &variant.run;
    let checkpoint = Checkpoint::load(&folder.join("last.safetensors"))?;
    let net = || TrackerNet::new(&run.model, run.seed, &Device::Cpu);
    let (loss, precision) = (run.loss.clone(), run.compute.precision);
    let mut task = TrackTask::new(net()?, net()?, loss, precision, 0, &Device::Cpu, pairs);
    let figures = task.validate(&checkpoint.average)?;
    let mut figures: BTreeMap<String, f64> = figures
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();

    let runs = held_out_runs(&arguments.config, arguments.data.as_ref())?;
    if !runs.is_empty() {
        let net = net()?;
        net.params().restore(&checkpoint.average)?;
        let (network, contract) = bundle::graphs_of(&net)?;
        let tracker = TrackerConfig::default();
        let followed = evaluate::follow_runs(network, &contract, &tracker, runs, None, |_| ())?;
        let sum: f64 = followed.iter().map(|f| f.score.average_overlap).sum();
        figures.insert("followed_ao".to_owned(), sum / followed.len() as f64);
    }
    Ok(figures)
}

fn write_table(folder: &Path, table: &Table, pairs: u64) -> Result<()> {
    for (name, text) in [
        ("ablation.csv", table.csv()),
        ("ablation.md", table.markdown(pairs, &SHOWN)),
    ] {
        let path = folder.join(name);
        outputs::file(&path, text)?;
    }
    Ok(())
}

/// SHA-256 of a checkpoint, or of a bundle's manifest, which names the hashes of the rest.
fn digest_of(path: &Path) -> Result<String> {
    let file = match path.is_dir() {
        true => path.join(MANIFEST_FILE),
        false => path.to_owned(),
    };
    let bytes = std::fs::read(&file).with_context(|| format!("{}", file.display()))?;
    Ok(sha256_hex(&bytes))
}
