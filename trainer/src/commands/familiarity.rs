//! `roadhound-train familiarity`: learns what the board may expect to see, scores it on faults that it never saw, and puts
//! it into a bundle.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use roadhound_shared::contract::Training;
use roadhound_shared::familiarity::AlarmConfig;
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::export::package::Package;
use roadhound_trainer::familiarity::FamiliarityRun;
use roadhound_trainer::familiarity::export::{add_to_bundle, packed};
use roadhound_trainer::familiarity::faults::Fault;
use roadhound_trainer::familiarity::frames::{Faulted, clips, crops_of, faulted, gather, held};
use roadhound_trainer::familiarity::measure::{PART_NAMES, PARTS, Statistics};
use roadhound_trainer::familiarity::scores::{
    OnClip, Told, alarm, distances, largest, look, on_clip, parts, quantile, roc, told,
    told_by_part,
};
use roadhound_trainer::labelled::Samples;
use roadhound_trainer::labelled::sheet::sheet;
use roadhound_trainer::ops::open_device;
use roadhound_trainer::outputs;
use roadhound_trainer::report::facts::commit;
use roadhound_trainer::report::panels::{self, Figure, Panel};
use roadhound_trainer::systems::System;
use roadhound_trainer::task::Task;
use roadhound_trainer::task::autoencoder::{AutoencoderNet, AutoencoderTask, batches};

use super::system::{self, LearnArguments, Learned};

/// Columns of the picture of faults.
const SHOWN: usize = 8;

#[derive(clap::Args)]
pub(crate) struct FamiliarityArguments {
    #[command(flatten)]
    learn: LearnArguments,
    /// A folder of clips (`NAME/img`): what the board would say of them. Nothing is learned from them.
    #[arg(long)]
    clips: Option<PathBuf>,
    /// A bundle that is written anew to `--into`, with the graph.
    #[arg(long, requires = "into")]
    bundle: Option<PathBuf>,
    /// Where to.
    #[arg(long, requires = "bundle")]
    into: Option<PathBuf>,
}

/// What was found out about a trained network.
struct Findings {
    alarm: AlarmConfig,
    /// Distances of frames held out, by source.
    by_source: Vec<(String, Vec<f32>)>,
    normal: Vec<f32>,
    faults: Vec<FoundFault>,
    clips: Vec<(String, OnClip)>,
}

/// How one fault is told.
struct FoundFault {
    name: &'static str,
    distances: Vec<f32>,
    told: Told,
    /// The same of each part of the distance by itself.
    by_part: [Told; PARTS],
    /// The same against the frames of each source.
    by_source: Vec<(String, Told)>,
    /// What the board would say of clips that have it from their first picture to the last.
    held: Vec<OnClip>,
}

impl FoundFault {
    /// Clips on which it is told, and the median time until then.
    fn on_clips(&self) -> (usize, f32) {
        let first = self.held.iter().filter_map(|clip| clip.first_seconds);
        let first: Vec<f32> = first.map(|s| s as f32).collect();
        (first.len(), quantile(&first, 0.5))
    }
}

pub(crate) fn familiarity(arguments: &FamiliarityArguments) -> Result<()> {
    let learn = &arguments.learn;
    let mut run = FamiliarityRun::load(&learn.config)?;
    learn.apply(&mut run.seed, &mut run.frames.root, &mut run.train);
    run.validate()?;
    super::set_out(learn.threads)?;
    let device = open_device(learn.device)?;
    let frames = {
        let bar = progress(&run, learn.quiet);
        let frames = gather(&run, &|| bar.inc(1))?;
        bar.finish_and_clear();
        frames
    };
    log::info!(
        "{} frames to learn from, {} held out",
        frames.train.len(),
        frames.test.len()
    );
    let config = run.train.of_samples(frames.train.len(), 0.0);
    let model = run.autoencoder();
    let held_out = Arc::new(frames.test);
    let mut task = AutoencoderTask::new(&model, held_out.clone(), config.steps(), &device)?;
    let parameters = task.params().parameter_count() as u64;
    learn.begin(System::Familiarity, &run, run.seed, parameters, &config)?;
    let train = Arc::new(frames.train);
    let seen = config.pairs;
    let (shown, batch, how) = (train.clone(), run.train.batch, model.binarise);
    let learned = learn.learn(&mut task, config, &run.optim, &run, |step| {
        Ok(batches(shown, batch, how, run.seed, step))
    })?;
    let Learned::Finished { mut figures } = learned else {
        return Ok(());
    };
    let net = task.averaged();
    let (codes, errors) = look(net, &train)?;
    let statistics = Statistics::fit(&codes, &errors, train.labels(), run.alarm.reach);
    log::info!(
        "reach of codes, errors, detail and the sharpest of it: {:?}",
        statistics.reach
    );
    let spoiled = faulted(&run)?;
    let findings = find(arguments, &run, net, &statistics, &held_out, &spoiled)?;
    say(&findings);
    for fault in &findings.faults {
        figures.push((fault.name, fault.told.auc));
    }
    let mut all = task.panels(&learn.out)?;
    all.splice(0..0, show(&findings, &spoiled, learn)?);
    panels::write(&learn.out, &all)?;

    let config_sha256 = run.hash()?;
    let metadata = [("config_sha256", config_sha256.as_str())];
    let graph = packed(task.averaged(), &statistics, &held_out, &metadata)?;
    let scores: Vec<(String, f64)> = findings
        .faults
        .iter()
        .flat_map(|fault| {
            let (name, told) = (fault.name, &fault.told);
            [
                (format!("familiarity_auc_{name}"), told.auc),
                (format!("familiarity_caught_{name}"), told.caught),
            ]
        })
        .collect();
    let bytes = graph.bytes.clone();
    let package = Package {
        system: System::Familiarity,
        graphs: vec![graph],
        others: vec![(
            "alarm.json".into(),
            serde_json::to_vec_pretty(&findings.alarm)?,
        )],
        scores: system::scores(&figures),
        config_sha256: config_sha256.clone(),
    };
    learn.finish(package, &figures)?;
    if let (Some(from), Some(into)) = (&arguments.bundle, &arguments.into) {
        let training = Training {
            commit: std::env::current_dir()
                .ok()
                .and_then(|folder| commit(&folder))
                .unwrap_or_default(),
            config_sha256,
            data: findings
                .by_source
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
            pairs_seen: seen,
        };
        add_to_bundle(
            bytes,
            run.size(),
            findings.alarm,
            training,
            &scores,
            from,
            into,
        )?;
        log::info!("{}", into.display());
    }
    Ok(())
}

fn progress(run: &FamiliarityRun, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let drives = run.frames.drives as usize * run.frames.regions.len();
    let bar = ProgressBar::new((drives + run.frames.packs.len() * run.frames.pictures) as u64);
    match ProgressStyle::with_template("{bar:30} {pos}/{len} drives and pictures, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn find(
    arguments: &FamiliarityArguments,
    run: &FamiliarityRun,
    net: &AutoencoderNet,
    statistics: &Statistics,
    held_out: &Samples,
    spoiled: &Faulted,
) -> Result<Findings> {
    let by_source = of_sources(held_out, &distances(net, statistics, held_out)?);
    let values: Vec<Vec<f32>> = by_source.iter().map(|(_, values)| values.clone()).collect();
    let alarm = alarm(&values, &run.alarm);
    let normal_parts = parts(net, statistics, &spoiled.normal)?;
    let normal = largest(&normal_parts);
    let normal_by_source = of_sources(&spoiled.normal, &normal);
    let clips = match &arguments.clips {
        Some(folder) => clips(folder)?,
        None => Vec::new(),
    };
    let mut faults = Vec::new();
    for (fault, samples) in Fault::ALL.into_iter().zip(&spoiled.faults) {
        let with_parts = parts(net, statistics, samples)?;
        let with = largest(&with_parts);
        let sources = of_sources(samples, &with)
            .into_iter()
            .zip(&normal_by_source);
        let by_source = sources.map(|((name, with), (_, without))| {
            let told = told(&with, without, &alarm);
            (name, told)
        });
        let by_source = by_source.collect();
        let mut held_on = Vec::new();
        for (at, clip) in (0u64..).zip(&clips) {
            // Pictures that the board would look at.
            let step = (1000 * u64::from(alarm.every_millis)).div_ceil(clip.micros_per_picture);
            let looked: Vec<&PathBuf> = clip.pictures.iter().step_by(step as usize).collect();
            let samples = held(run, fault, &looked, at).with_context(|| clip.name.clone())?;
            let distances = distances(net, statistics, &samples)?;
            held_on.push(on_clip(&distances, step * clip.micros_per_picture, &alarm));
        }
        faults.push(FoundFault {
            name: fault.name(),
            told: told(&with, &normal, &alarm),
            distances: with,
            by_part: told_by_part(&with_parts, &normal_parts, &alarm),
            by_source,
            held: held_on,
        });
    }
    let mut on_clips = Vec::new();
    for clip in clips {
        let samples = crops_of(&clip.pictures, run.size(), run.shape())?;
        let distances = distances(net, statistics, &samples).with_context(|| clip.name.clone())?;
        let found = on_clip(&distances, clip.micros_per_picture, &alarm);
        on_clips.push((clip.name, found));
    }
    Ok(Findings {
        alarm,
        by_source,
        normal,
        faults,
        clips: on_clips,
    })
}

/// Distances by the samples' classes, with the names of those.
fn of_sources(samples: &Samples, distances: &[f32]) -> Vec<(String, Vec<f32>)> {
    let classes = samples.by_class();
    let classes = (0u32..).zip(&classes);
    let of_class = classes.map(|(class, members)| {
        let values = members.iter().map(|i| distances[*i]).collect();
        (samples.class_name(class).to_owned(), values)
    });
    of_class.collect()
}

fn say(findings: &Findings) {
    log::info!(
        "alarm beyond a distance of {:.3}, ends below {:.3}",
        findings.alarm.distance_above,
        findings.alarm.clear_below
    );
    for (name, values) in &findings.by_source {
        log::info!(
            "{name}: {} frames held out, distance {:.2} in the middle, {:.2} at 99 %",
            values.len(),
            quantile(values, 0.5),
            quantile(values, 0.99)
        );
    }
    for fault in &findings.faults {
        let FoundFault { name, told, .. } = fault;
        log::info!(
            "{name}: area under the ROC {:.4}, {:.1} % caught at {:.2} % false; distance {:.2} in the middle",
            told.auc,
            100.0 * told.caught,
            100.0 * told.false_alarms,
            quantile(&fault.distances, 0.5)
        );
        for (part, told) in PART_NAMES.iter().zip(&fault.by_part) {
            log::info!(
                "{name} by {part} alone: {:.4}, {:.1} % caught",
                told.auc,
                100.0 * told.caught
            );
        }
        for (source, told) in &fault.by_source {
            log::info!(
                "{name} on {source}: {:.4}, {:.1} % caught at {:.2} % false",
                told.auc,
                100.0 * told.caught,
                100.0 * told.false_alarms
            );
        }
        if !fault.held.is_empty() {
            let (told, seconds) = fault.on_clips();
            log::info!(
                "{name} on clips: told on {told} of {}, after {} s in the middle",
                fault.held.len(),
                or_dash(seconds)
            );
        }
    }
    for (name, clip) in &findings.clips {
        log::info!(
            "{name}: {} alarms in {:.1} s, distance {:.2} in the middle, {:.2} at most, {:.1} % beyond",
            clip.alarms,
            clip.seconds,
            clip.median,
            clip.largest,
            100.0 * clip.beyond
        );
    }
}

/// A time, or a dash where there is none.
fn or_dash(seconds: f32) -> String {
    match seconds.is_nan() {
        true => "-".into(),
        false => format!("{seconds:.2}"),
    }
}

fn show(findings: &Findings, spoiled: &Faulted, learn: &LearnArguments) -> Result<Vec<Panel>> {
    let shape = spoiled.normal.shape();
    let step = (spoiled.normal.len() / SHOWN).max(1);
    let row = |samples: &Samples| -> Vec<Vec<f32>> {
        (0..samples.len())
            .step_by(step)
            .take(SHOWN)
            .map(|i| samples.row(i))
            .collect()
    };
    let mut rows = vec![row(&spoiled.normal)];
    rows.extend(spoiled.faults.iter().map(row));
    let file = "faults.png";
    outputs::picture(&learn.out.join(file), &sheet(&rows, shape))?;
    let figures = findings.faults.iter().flat_map(|fault| {
        let FoundFault { name, told, .. } = fault;
        [
            Figure::new(format!("{name}: area under the ROC"), told.auc),
            Figure::new(format!("{name}: caught, %"), 100.0 * told.caught),
        ]
    });
    let curves = findings
        .faults
        .iter()
        .map(|fault| roc(fault.name, &fault.distances, &findings.normal));
    let on_sources = findings.faults.iter().flat_map(|fault| {
        fault.by_source.iter().map(|(source, told)| {
            vec![
                fault.name.to_owned(),
                source.clone(),
                format!("{:.4}", told.auc),
                format!("{:.1}", 100.0 * told.caught),
                format!("{:.1}", 100.0 * told.false_alarms),
            ]
        })
    });
    let by_part = findings.faults.iter().map(|fault| {
        let told = fault.by_part.iter();
        let cells = told.map(|t| format!("{:.3}, {:.1} %", t.auc, 100.0 * t.caught));
        std::iter::once(fault.name.to_owned())
            .chain(cells)
            .collect()
    });
    let number = |v: f32| format!("{v:.2}");
    let sources = findings.by_source.iter().map(|(name, values)| {
        vec![
            name.clone(),
            values.len().to_string(),
            number(quantile(values, 0.5)),
            number(quantile(values, 0.99)),
            number(quantile(values, 1.0)),
        ]
    });
    let clips = findings.clips.iter().map(|(name, clip)| {
        vec![
            name.clone(),
            clip.alarms.to_string(),
            number(clip.median),
            number(clip.largest),
            format!("{:.1}", 100.0 * clip.beyond),
        ]
    });
    let columns = |names: [&str; 5]| names.map(str::to_owned).to_vec();
    let mut shown = vec![
        Panel::figures("Faults", figures.collect()),
        Panel::Lines {
            title: "ROC of faults against held-out frames".into(),
            x_label: "share of frames without a fault beyond the threshold".into(),
            lines: curves.collect(),
            note: "Share of frames with one beyond it; up and left is good.".into(),
        },
        Panel::Table {
            title: "Which part of the distance tells it".into(),
            columns: std::iter::once("fault")
                .chain(PART_NAMES)
                .map(str::to_owned)
                .collect(),
            rows: by_part.collect(),
            note: "Area under the ROC and share beyond the alarm's threshold of each part by itself. Code and error are the network's; detail is of the picture alone.".into(),
        },
        Panel::Table {
            title: "Faults by source".into(),
            columns: columns(["fault", "source", "area", "caught, %", "false, %"]),
            rows: on_sources.collect(),
            note: "One frame at a time, at the threshold of the alarm.".into(),
        },
        Panel::Table {
            title: "Frames held out".into(),
            columns: columns(["source", "frames", "middle", "99 %", "largest"]),
            rows: sources.collect(),
            note: format!(
                "Distances; an alarm begins beyond {:.2}.",
                findings.alarm.distance_above
            ),
        },
        Panel::Picture {
            title: "Held-out frames, and the same covered, blurred, at night with glare, turned, and a room in their place".into(),
            file: file.into(),
            note: String::new(),
        },
    ];
    if !findings.clips.is_empty() {
        let held = findings.faults.iter().map(|fault| {
            let (told, seconds) = fault.on_clips();
            vec![
                fault.name.to_owned(),
                fault.held.len().to_string(),
                told.to_string(),
                or_dash(seconds),
            ]
        });
        shown.push(Panel::Table {
            title: "The same clips with a fault".into(),
            columns: ["fault", "clips", "told on", "after, s"]
                .map(str::to_owned)
                .to_vec(),
            rows: held.collect(),
            note: "From the first picture to the last, by the board's own state machine.".into(),
        });
        shown.push(Panel::Table {
            title: "Clips that nothing was learned from".into(),
            columns: columns(["clip", "alarms", "middle", "largest", "beyond, %"]),
            rows: clips.collect(),
            note: "By the board's own state machine.".into(),
        });
    }
    Ok(shown)
}
