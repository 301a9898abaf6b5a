//! Same seed, same weights: whatever the number of workers and threads, and however often the run was stopped.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;
use roadhound_edge::scene::{Drive, DriveConfig};
use roadhound_trainer::batch::{Batch, PrefetchConfig, Prefetcher};
use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::config::TrackerRun;
use roadhound_trainer::data::Dataset;
use roadhound_trainer::model::TrackerNet;
use roadhound_trainer::sampler::{Sampler, SamplerScratch, Split};
use roadhound_trainer::task::Task;
use roadhound_trainer::task::track::TrackTask;
use roadhound_trainer::train_loop::{Outcome, Run};
use system_tests::say;

const STEPS: u64 = 6;

/// Two short rendered drives as a video pack.
fn write_pack(root: &Path) {
    let mut lines = String::from("sequence,frame,instance,class,x,y,w,h,occluded\n");
    for (name, seed) in [("one", 1), ("two", 2)] {
        let folder = root.join("drives/images").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut drive = Drive::new(DriveConfig {
            width_px: 256,
            height_px: 144,
            frames: 80,
            seed,
            ..DriveConfig::default()
        });
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
            let b = truth.box_in_image;
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

/// Trains and returns the last checkpoint; with `stop_after`, the run is stopped there and started again.
fn train(
    root: &Path,
    out: PathBuf,
    workers: usize,
    threads: usize,
    stop_after: Option<u64>,
) -> Checkpoint {
    let run = configuration(root);
    let data = Arc::new(Dataset::open(&run.data).unwrap());
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    let mut stop_at = stop_after;
    loop {
        let raised = AtomicBool::new(false);
        let stop = &raised;
        let (mut task, sampler) = task(&run, &data);
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
                    if stop_at == Some(from + i as u64 + 1) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    batch.map_err(anyhow::Error::from)
                }))
            })
        });
        match outcome.unwrap() {
            Outcome::Finished => return Checkpoint::load(&out.join("last.safetensors")).unwrap(),
            Outcome::Stopped => stop_at = None,
        }
    }
}

#[test]
fn workers_threads_and_interruptions_do_not_change_a_single_bit() {
    let folder = tempfile::tempdir().unwrap();
    write_pack(folder.path());
    let out = |name: &str| folder.path().join(name);
    let plain = train(folder.path(), out("plain"), 1, 1, None);
    assert_eq!(plain.step, STEPS);
    for (name, workers, threads, stop_after) in [
        ("again", 1, 1, None),
        ("workers", 3, 1, None),
        ("threads", 1, 2, None),
        ("resumed", 2, 1, Some(3)),
    ] {
        let other = train(folder.path(), out(name), workers, threads, stop_after);
        assert!(plain == other, "{name}: the checkpoint differs");
    }
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
