//! Same seed, same weights: whatever the number of workers and threads, and however often the run was stopped.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;
use roadhound_edge::drive::{Drive, DriveConfig};
use roadhound_trainer::augment::AugmentConfig;
use roadhound_trainer::batch::{Batch, PrefetchConfig, Prefetcher};
use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::config::{SystemConfig, TrackerRun};
use roadhound_trainer::data::Dataset;
use roadhound_trainer::model::TrackerNet;
use roadhound_trainer::report;
use roadhound_trainer::sampler::{Sampler, SamplerScratch, Split};
use roadhound_trainer::task::Task;
use roadhound_trainer::task::track::TrackTask;
use roadhound_trainer::train_loop::{Outcome, Run};
use system_tests::say;

const STEPS: u64 = 6;

/// Three short rendered drives as a video pack: two to learn from, so that each can lend the other its object, and one
/// held out. Of seed 7, because the target must not be too small to be drawn from at this picture size, as that of seed 2 is.
fn write_pack(root: &Path) {
    let mut lines = String::from("sequence,frame,instance,class,x,y,w,h,occluded\n");
    for (name, seed) in [("one", 1), ("two", 7), ("three", 3)] {
        let folder = root.join("drives/images").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut drive = Drive::new(DriveConfig {
            width_px: 256,
            height_px: 144,
            frames: 300,
            seed,
            ..DriveConfig::default()
        })
        .unwrap();
        let mut rgb = Vec::new();
        for frame in (0..12).map(|k| k * 2) {
            let truth = drive.render(frame, &mut rgb);
            image::save_buffer(
                folder.join(format!("{frame:05}.png")),
                &rgb,
                256,
                144,
                image::ExtendedColorType::Rgb8,
            )
            .unwrap();
            let b = truth.box_in_image.unwrap();
            lines += &format!(
                "{name},{frame},1,car,{},{},{},{},0\n",
                b.x_px, b.y_px, b.w_px, b.h_px
            );
        }
    }
    std::fs::write(root.join("drives/boxes.csv"), lines).unwrap();
}

fn configuration(root: &Path) -> TrackerRun {
    TrackerRun::parse(&format!(
        r#"
        seed = 11
        [model]
        stage_channels = [4, 8, 8, 16]
        feature_channels = 16
        head_channels = 16
        embedding = 8
        [train]
        pairs = {pairs}
        batch = 4
        log_every = 2
        validate_every = 3
        checkpoint_every = 2
        [validation]
        batches = 1
        [data]
        root = {root:?}
        [[data.packs]]
        name = "drives"
        kind = "video"
        weight = 1.0
        held_out = ["two"]
        [augment.paste]
        share = 0.4
        [augment.distractor]
        share = 0.5
        [augment.occluder]
        share = 0.5
        "#,
        pairs = STEPS * 4,
        root = root
    ))
    .unwrap()
}

fn task(run: &TrackerRun, data: &Arc<Dataset>) -> (TrackTask, Arc<Sampler>) {
    let sampler = |split| {
        Sampler::new(
            data.clone(),
            run.sampler.clone(),
            run.augment.clone(),
            split,
            run.seed,
        )
        .unwrap()
    };
    let held_out = sampler(Split::Validation);
    let validation = vec![
        Batch::draw(
            &held_out,
            0,
            run.train.batch,
            &mut SamplerScratch::default(),
        )
        .unwrap(),
    ];
    let net = || TrackerNet::new(&run.model, run.seed, &Device::Cpu).unwrap();
    let task = TrackTask::new(
        net(),
        net(),
        run.loss.clone(),
        run.compute.precision,
        run.seed,
        &Device::Cpu,
        validation,
    );
    (task, Arc::new(sampler(Split::Train)))
}

/// How one start of the program ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// All steps are done.
    Whole,
    /// Ctrl-C during this step: a checkpoint is written.
    Stop(u64),
    /// Killed during this step: what was done since the last checkpoint is lost.
    Kill(u64),
}

/// One start of the program.
#[derive(Clone, Copy, Debug)]
struct Leg {
    workers: usize,
    threads: usize,
    end: End,
}

const fn leg(workers: usize, threads: usize, end: End) -> Leg {
    Leg {
        workers,
        threads,
        end,
    }
}

/// Trains in these legs and returns the last checkpoint.
fn train(run: &TrackerRun, out: PathBuf, legs: &[Leg]) -> Checkpoint {
    let data = Arc::new(Dataset::open(&run.data).unwrap());
    for Leg {
        workers,
        threads,
        end,
    } in legs.iter().copied()
    {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let raised = AtomicBool::new(false);
        let stop = &raised;
        let (mut task, sampler) = task(run, &data);
        let loop_ = Run {
            folder: out.clone(),
            config: run.train.clone(),
            optim: run.optim.clone(),
            config_toml: run.to_toml().unwrap(),
            stop,
            quiet: true,
        };
        let prefetch = PrefetchConfig {
            batch_size: run.train.batch,
            workers,
            ahead: 1,
        };
        let outcome = pool.install(|| {
            loop_.train(&mut task, |from| {
                let batches = Prefetcher::new(sampler, &prefetch, from)?;
                Ok(batches.enumerate().map(move |(i, batch)| {
                    let step = from + i as u64 + 1;
                    match end {
                        End::Kill(at) if at == step => anyhow::bail!("killed"),
                        End::Stop(at) if at == step => stop.store(true, Ordering::Relaxed),
                        _ => {}
                    }
                    batch.map_err(anyhow::Error::from)
                }))
            })
        });
        match (end, outcome) {
            (End::Whole, Ok(Outcome::Finished)) | (End::Stop(_), Ok(Outcome::Stopped)) => {}
            (End::Kill(_), Err(error)) if error.to_string() == "killed" => {}
            (end, outcome) => panic!("{end:?}: {outcome:?}"),
        }
    }
    Checkpoint::load(&out.join("last.safetensors")).unwrap()
}

#[test]
fn workers_threads_and_interruptions_do_not_change_a_single_bit() {
    let folder = tempfile::tempdir().unwrap();
    write_pack(folder.path());
    let run = configuration(folder.path());
    let out = |name: &str| folder.path().join(name);
    let plain = train(&run, out("plain"), &[leg(1, 1, End::Whole)]);
    assert_eq!(plain.step, STEPS);
    let record = report::read_run(&out("plain")).unwrap();
    assert_eq!((record.losses.len(), record.validation.len()), (3, 2));
    assert!(record.calibration.iter().any(|bin| bin.count > 0.0));
    let page = std::fs::read_to_string(out("plain").join(report::REPORT_FILE)).unwrap();
    assert!(
        page.contains("24 of 24 pairs, finished"),
        "the run leaves its page"
    );
    // Checkpoints fall on even steps and validations on every third: a kill during the fourth step repeats the third.
    let cases: [(&str, &[Leg]); 6] = [
        ("again", &[leg(1, 1, End::Whole)]),
        ("two workers", &[leg(2, 1, End::Whole)]),
        ("four workers", &[leg(4, 1, End::Whole)]),
        ("threads", &[leg(1, 2, End::Whole)]),
        ("stopped", &[leg(2, 1, End::Stop(3)), leg(3, 1, End::Whole)]),
        (
            "stopped and killed, on other numbers of workers and threads",
            &[
                leg(4, 1, End::Stop(1)),
                leg(2, 2, End::Kill(4)),
                leg(3, 1, End::Stop(5)),
                leg(1, 2, End::Whole),
            ],
        ),
    ];
    for (name, legs) in cases {
        let other = train(&run, out(name), legs);
        assert!(plain == other, "{name}: the checkpoint differs");
    }
}

#[test]
fn a_run_that_ends_in_eight_bits_is_resumed_in_them_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    write_pack(folder.path());
    let out = |name: &str| folder.path().join(name);
    let mut run = configuration(folder.path());
    let f32 = train(&run, out("f32"), &[leg(1, 2, End::Whole)]);
    run.train.quantised_share = 0.5; // the last three of the six steps
    let plain = train(&run, out("plain"), &[leg(1, 2, End::Whole)]);
    assert!(f32.weights != plain.weights, "eight bits change nothing");
    let legs = [
        leg(2, 1, End::Stop(4)),
        leg(1, 1, End::Kill(6)),
        leg(2, 2, End::Whole),
    ];
    let other = train(&run, out("stopped"), &legs);
    assert!(plain == other, "the checkpoint differs");
}

/// What the test above would not show if augmentation did nothing, or everything were drawn from one stream.
#[test]
fn the_pairs_of_these_runs_are_augmented_and_differ_from_step_to_step() {
    let folder = tempfile::tempdir().unwrap();
    write_pack(folder.path());
    let run = configuration(folder.path());
    let data = Arc::new(Dataset::open(&run.data).unwrap());
    let batches = |augment: &AugmentConfig| -> Vec<Batch> {
        let crops = run.sampler.clone();
        let sampler =
            Sampler::new(data.clone(), crops, augment.clone(), Split::Train, run.seed).unwrap();
        let mut scratch = SamplerScratch::default();
        (0..STEPS)
            .map(|step| Batch::draw(&sampler, step, run.train.batch, &mut scratch).unwrap())
            .collect()
    };
    let (augmented, plain) = (batches(&run.augment), batches(&AugmentConfig::none()));
    for (step, (a, b)) in augmented.iter().zip(&plain).enumerate() {
        assert_eq!(a.instance, b.instance, "step {step}: the plan is the same");
        assert_ne!(a.search_rgb, b.search_rgb, "step {step}");
        assert_ne!(a.template_rgb, b.template_rgb, "step {step}");
    }
    assert!(
        augmented
            .windows(2)
            .all(|w| w[0].search_rgb != w[1].search_rgb)
    );
}

#[test]
fn one_batch_can_be_learned_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    write_pack(folder.path());
    let run = configuration(folder.path());
    let data = Arc::new(Dataset::open(&run.data).unwrap());
    let (task, sampler) = task(&run, &data);
    let batch = Batch::draw(&sampler, 0, 4, &mut SamplerScratch::default()).unwrap();
    let mut adam = roadhound_trainer::optim::AdamW::default();
    let loss_at = |step: u64| task.loss(&batch, step).unwrap();
    let first = loss_at(0).total.to_scalar::<f32>().unwrap();
    let mut last = first;
    for step in 0..150 {
        let loss = loss_at(step);
        last = loss.total.to_scalar().unwrap();
        adam.step(
            task.params(),
            &loss.total.backward().unwrap(),
            5e-3,
            &run.optim,
        )
        .unwrap();
    }
    say(&format!(
        "loss {first:.3} at first, {last:.3} after 150 steps on one batch"
    ));
    assert!(last < 0.25 * first, "{first} -> {last}");
}
