//! `roadhound-train adapt`: a bundle, labelled packs of its source and unlabelled video of a target in; a bundle for the
//! target out, or the same one again where nothing speaks for the new one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use roadhound_shared::contract::MANIFEST_FILE;
use roadhound_trainer::adapt::attempt::{Adapted, CONTROL};
use roadhound_trainer::adapt::config::{AdaptRun, Part};
use roadhound_trainer::adapt::deliver::Calibration;
use roadhound_trainer::adapt::score;
use roadhound_trainer::adapt::setting::{Setting, Sources};
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::outputs;
use roadhound_trainer::report::{self, panels};
use roadhound_trainer::systems::System;

use super::quantise::quantise_follow;
use super::system::check_own;
use super::{STOP, parse_threads, set_out};

#[derive(clap::Args)]
pub(crate) struct AdaptArguments {
    /// Bundle of the source; it is not changed.
    #[arg(long)]
    bundle: PathBuf,
    /// Unlabelled video of the target: folders of frames, or folders of such folders.
    #[arg(long, required = true, num_args = 1.., value_name = "FOLDER")]
    target: Vec<PathBuf>,
    /// Folder of the run; the bundle is written to its `bundle`.
    #[arg(long)]
    out: PathBuf,
    /// TOML file; every key has a default.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Folder of the source's labelled packs, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Checkpoint that the bundle was exported from: its normalisation need not be measured anew.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Labelled pack of the target: a few of its tracks are learned from as well. `[labelled]` in the configuration says its
    /// layout, `video` (our own) without it.
    #[arg(long, value_name = "PACK")]
    labelled: Option<PathBuf>,
    /// How many of its tracks, instead of the configuration's.
    #[arg(long, requires = "labelled", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    tracks: Option<u64>,
    /// Labelled pack of the target, for the score alone: a network that learns from all of it says how much there is to gain,
    /// and the joint error of the bound.
    #[arg(long, value_name = "PACK")]
    oracle: Option<PathBuf>,
    /// Another bundle, whose proposals say where pseudo-tracks may begin.
    #[arg(long, value_name = "BUNDLE")]
    proposals: Option<PathBuf>,
    /// Parts that take part, instead of the configuration's.
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// Also adapt by each part alone, and go on as long without any (`control`), and tabulate.
    #[arg(long)]
    ablate: bool,
    /// Annotated sequences to score the bundles on, before and after; what they say chooses nothing.
    #[arg(long, num_args = 1.., value_name = "FOLDER")]
    score: Vec<PathBuf>,
    /// Pairs to learn from, instead of the configuration's.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pairs: Option<u64>,
    /// Everything random follows from it, instead of the configuration's.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads of the arithmetic, instead of the configuration's. They do not change the weights.
    #[arg(long, value_parser = parse_threads)]
    threads: Option<usize>,
    /// No int8 graphs.
    #[arg(long)]
    no_int8: bool,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
}

impl AdaptArguments {
    /// Where the bundle goes.
    fn bundle_out(&self) -> PathBuf {
        self.out.join("bundle")
    }

    fn sources(&self) -> Sources {
        Sources {
            bundle: self.bundle.clone(),
            target: self.target.clone(),
            out: self.out.clone(),
            checkpoint: self.checkpoint.clone(),
            proposals: self.proposals.clone(),
            score: self.score.clone(),
            oracle: self.oracle.clone(),
        }
    }

    /// Refuses a bundle that the run would write over, and a place for its own that is none.
    fn check_bundles(&self) -> Result<()> {
        for bundle in [Some(&self.bundle), self.proposals.as_ref()] {
            let same =
                bundle.map(|bundle| (bundle.canonicalize(), self.bundle_out().canonicalize()));
            if let Some((Ok(bundle), Ok(out))) = same
                && bundle == out
            {
                bail!(
                    "{}: would be written over; give --out another folder",
                    bundle.display()
                );
            }
        }
        // Said now, and not after hours: what an adaptation replaces has to be a bundle.
        let out = self.bundle_out();
        let entries = std::fs::read_dir(&out);
        if entries.is_ok_and(|mut entries| entries.next().is_some())
            && !out.join(MANIFEST_FILE).is_file()
        {
            bail!(
                "{}: holds other things and no {MANIFEST_FILE}; give --out another folder",
                out.display()
            );
        }
        Ok(())
    }
}

pub(crate) fn adapt(arguments: &AdaptArguments) -> Result<()> {
    let run = run_of(arguments)?;
    check_own(&arguments.out, System::Adapt)?;
    arguments.check_bundles()?;
    // They do not change the weights: a run goes on with more or fewer of them.
    set_out(arguments.threads.unwrap_or(run.compute.threads))?;
    let bar = match arguments.quiet {
        true => indicatif::ProgressBar::hidden(),
        false => indicatif::ProgressBar::new_spinner().with_message("clips looked through"),
    };
    let setting = Setting::open(arguments.sources(), run, || bar.inc(1))?;
    bar.finish_and_clear();
    let adapted = |parts: &_, out: &Path| setting.adapted(parts, out, &STOP, arguments.quiet);
    let scored_before = setting.scores(&setting.network()?)?;
    let mut rows = vec![setting.row_before(&scored_before)];
    let Some(kept) = adapted(&setting.run.adapt.parts, &arguments.out)? else {
        log::info!("stopped; the same command goes on");
        return Ok(());
    };
    rows.push(setting.row_of(&kept));
    let mut alones = Vec::new();
    if arguments.ablate {
        let out = arguments.out.join("parts").join(CONTROL);
        let Some(control) = setting.control(&out, &STOP, arguments.quiet)? else {
            return Ok(());
        };
        rows.push(setting.row_of(&control));
        alones.push(control);
        let has_labels = setting.few.is_some();
        for part in Part::ALL {
            if part == Part::Labelled && !has_labels {
                continue;
            }
            let out = arguments.out.join("parts").join(part.name());
            let Some(alone) = adapted(&[part].into(), &out)? else {
                return Ok(());
            };
            rows.push(setting.row_of(&alone));
            alones.push(alone);
        }
    }
    let mut oracle = None;
    if arguments.oracle.is_some() {
        oracle = setting.oracle(&arguments.out.join("oracle"), &STOP, arguments.quiet)?;
        let Some(oracle) = &oracle else {
            return Ok(());
        };
        rows.push(setting.row_of(oracle));
    }
    let csv: String = std::iter::once(setting.head())
        .chain(rows.iter().cloned())
        .map(|row| row.join(",") + "\n")
        .collect();
    outputs::file(&arguments.out.join("ablation.csv"), csv)?;
    let gains = score::gains(&scored_before, &kept.scores, setting.run.seed);
    if !gains.is_empty() {
        let table = score::csv(&gains, &setting.folders());
        outputs::file(&arguments.out.join("gains.csv"), table)?;
    }
    let all: Vec<&Adapted> = std::iter::once(&kept).chain(&alones).collect();
    let gaps = oracle
        .as_ref()
        .map(|oracle| setting.gaps(&scored_before, &all, oracle));
    let gaps = gaps.unwrap_or_default();
    let bound = setting.bound(&kept, oracle.as_ref());
    print(&setting.head(), &rows, &kept, &bound, &gaps);
    let mut shown = setting.panels(&kept, &scored_before, &rows);
    shown.extend(setting.panels_of_labels(&gains, bound, &gaps)?);
    let restyler = all.iter().find_map(|adapted| adapted.restyler.as_ref());
    if let Some(restyler) = restyler {
        shown.extend(setting.panels_of_style(restyler, &arguments.out)?);
    }
    shown.extend(setting.pictures(&kept.kept, &arguments.out)?);
    panels::write(&arguments.out, &shown)?;
    report::refresh(&arguments.out)?;
    let quantise = (!arguments.no_int8).then_some(|folder: &Path, by: Calibration| {
        quantise_follow(folder, by.pairs, by.held_out, arguments.quiet)
    });
    setting.deliver(kept, &arguments.bundle_out(), quantise)
}

#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
fn print(
    head: &[String],
    rows: &[Vec<String>],
    kept: &Adapted,
    bound: &[Vec<String>],
    gaps: &[String],
) {
    for row in std::iter::once(head).chain(rows.iter().map(Vec::as_slice)) {
        let line = row
            .iter()
            .skip(1)
            .fold(format!("{:<28}", row[0]), |mut line, field| {
                let _ = write!(line, " {field:>16}");
                line
            });
        println!("{line}");
    }
    println!("{}", kept.choice.sentence());
    for term in bound {
        println!("{:<46} {:>10} {:>10}", term[0], term[1], term[2]);
    }
    for line in gaps {
        println!("{line}");
    }
}

fn run_of(arguments: &AdaptArguments) -> Result<AdaptRun> {
    let mut run = match &arguments.config {
        Some(path) => AdaptRun::load(path)?,
        None => AdaptRun::default(),
    };
    if let Some(root) = &arguments.data {
        run.data.root.clone_from(root);
    }
    if !arguments.parts.is_empty() {
        run.adapt.parts = arguments.parts.iter().copied().collect();
    }
    if let Some(pack) = &arguments.labelled {
        run.labelled.pack = Some(pack.clone());
        run.adapt.parts.insert(Part::Labelled);
    }
    run.labelled.tracks = arguments.tracks.map_or(run.labelled.tracks, |n| n as usize);
    run.train.pairs = arguments.pairs.unwrap_or(run.train.pairs);
    run.seed = arguments.seed.unwrap_or(run.seed);
    run.validate()?;
    Ok(run)
}
