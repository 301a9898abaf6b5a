//! `roadhound bench`: how long every stage takes on this machine, and how much memory.
//!
//! Frames come from the rendered drive at 1280x720, converted to YUYV as a camera delivers them. The follower is
//! the one that tracks; a wrapper around the network notes when the search graph is entered and left, which splits
//! a step into preprocessing, search, and decoding with the tracker. Steps that refresh the template are counted
//! in the total only.

use std::fmt;
use std::time::{Duration, Instant};

use roadhound_shared::follow::Follower;
use roadhound_shared::frame::{FrameView, PixelFormat, Timestamp};
use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};
use serde::Serialize;

use crate::bundle::{Contenders, Model, ModelSource, Precision, StartUp, contenders};
use crate::drive::{Drive, DriveConfig};
use crate::failure::Failure;
use crate::infer::{InferError, TractNetwork};
use crate::int8::Path;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The model.
    pub model: ModelSource,
    /// How it computes; without it, in int8 where the model can.
    pub precision: Option<Precision>,
    /// Threads of the network.
    pub threads: usize,
    /// Frames to follow.
    pub frames: u32,
}

/// Median and 99th percentile.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Stage {
    /// Half of the frames took at most this long.
    pub median_millis: f64,
    /// One frame in a hundred took longer.
    pub p99_millis: f64,
}

impl Stage {
    fn of(mut millis: Vec<f64>) -> Self {
        millis.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = millis.len().saturating_sub(1);
            millis
                .get((last as f64 * share).round() as usize)
                .copied()
                .unwrap_or(0.0)
        };
        Self {
            median_millis: at(0.5),
            p99_millis: at(0.99),
        }
    }
}

/// The measurements.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Name and version of the model.
    pub model: String,
    /// How it computes: f32, or int8 and the path of its kernels.
    pub arithmetic: String,
    /// Threads of the network.
    pub threads: usize,
    /// Size of the frames.
    pub frame_px: [u32; 2],
    /// Frames measured.
    pub frames: u32,
    /// Crop and normalise, straight from YUYV.
    pub preprocess: Stage,
    /// The search graph.
    pub search: Stage,
    /// Candidates, motion, state machine.
    pub decode_and_tracker: Stage,
    /// From frame to report.
    pub total: Stage,
    /// The template graph, run at the start and when the template is refreshed.
    pub template: Stage,
    /// Reading and hashing the bundle.
    pub verify_millis: f64,
    /// Parsing and optimising the graphs.
    pub load_millis: f64,
    /// Replaying the probe.
    pub probe_millis: f64,
    /// Highest memory use of this process (VmHWM), where the system tells.
    pub peak_memory_mib: Option<f64>,
}

impl Figures {
    /// The same as one JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [w, h] = self.frame_px;
        writeln!(
            f,
            "{}, {}, {} thread(s), {} YUYV frames of {w}x{h}",
            self.model, self.arithmetic, self.threads, self.frames
        )?;
        writeln!(f, "stage               median ms     p99 ms")?;
        for (name, stage) in [
            ("preprocess", self.preprocess),
            ("search", self.search),
            ("decode + tracker", self.decode_and_tracker),
            ("total", self.total),
            ("template", self.template),
        ] {
            writeln!(
                f,
                "{name:<18} {:>10.3} {:>10.3}",
                stage.median_millis, stage.p99_millis
            )?;
        }
        write!(
            f,
            "start-up {:.1} ms: verify {:.1}, load {:.1}, probe {:.1}",
            self.verify_millis + self.load_millis + self.probe_millis,
            self.verify_millis,
            self.load_millis,
            self.probe_millis
        )?;
        match self.peak_memory_mib {
            Some(mib) => write!(f, "\npeak memory {mib:.1} MiB"),
            None => Ok(()),
        }
    }
}

/// Notes when the graphs are entered and left.
struct Timed {
    network: TractNetwork,
    search: Option<(Instant, Instant)>,
    template: Option<Duration>,
}

impl FollowNetwork for Timed {
    type Error = InferError;

    fn template(&mut self, crop_chw: &[f32], out: &mut TemplateOutputs) -> Result<(), InferError> {
        let started = Instant::now();
        let result = self.network.template(crop_chw, out);
        self.template = Some(started.elapsed());
        result
    }

    fn search(
        &mut self,
        crop_chw: &[f32],
        first: &[f32],
        latest: &[f32],
        out: &mut SearchOutputs,
    ) -> Result<(), InferError> {
        let entered = Instant::now();
        let result = self.network.search(crop_chw, first, latest, out);
        self.search = Some((entered, Instant::now()));
        result
    }
}

/// How many different frames are held in memory; the drive is played over and over.
const DISTINCT_FRAMES: u32 = 8;
/// Frames that warm caches and are not counted.
const WARM_UP: u32 = 5;

/// Measures.
///
/// # Errors
/// A model that is refused, or that fails on a frame.
pub fn bench(options: &BenchOptions) -> Result<Figures, Failure> {
    let model = Model::open(&options.model, options.precision, options.threads)?;
    let StartUp {
        verify,
        load,
        probe,
    } = model.start_up;
    let name = format!("{} {}", model.manifest.name, model.manifest.version);
    let arithmetic = match model.precision {
        Precision::F32 => "f32".to_owned(),
        Precision::Int8 => match Path::from_environment() {
            Ok(path) => format!("int8 ({path})"),
            Err(e) => return Err(Failure::Usage(e.to_string())),
        },
    };
    let config = DriveConfig {
        width_px: 1280,
        height_px: 720,
        ..DriveConfig::default()
    };
    let mut drive = Drive::new(config).map_err(|e| Failure::Usage(format!("bench: {e}")))?;
    let mut rgb = Vec::new();
    let mut initial = None;
    let frames: Vec<Vec<u8>> = (0..DISTINCT_FRAMES)
        .map(|i| {
            let truth = drive.render(i, &mut rgb);
            initial = initial.or(truth.box_in_image);
            yuyv_from_rgb(&rgb)
        })
        .collect();
    drop((drive, rgb));

    let network = Timed {
        network: model.network,
        search: None,
        template: None,
    };
    let follow = |error| Failure::Follow {
        source_name: "bench".into(),
        error: Box::new(error),
    };
    let mut follower = Follower::new(network, model.manifest.follow, model.manifest.tracker)
        .map_err(|e| Failure::Usage(format!("model {name}: {e}")))?;
    let view = |i: u32| {
        // Forwards and backwards, so that the target moves smoothly.
        let (turn, last) = (2 * DISTINCT_FRAMES - 2, DISTINCT_FRAMES - 1);
        let at = last - last.abs_diff(i % turn);
        let data = &frames[at as usize];
        FrameView::packed(
            PixelFormat::Yuyv,
            config.width_px,
            config.height_px,
            config.width_px as usize * 2,
            data,
        )
        .map_err(|e| Failure::Usage(format!("bench: {e}")))
    };
    let Some(initial) = initial else {
        return Err(Failure::Usage("bench: no frames".into()));
    };
    let mut template = Vec::new();
    let mut stages = [const { Vec::new() }; 4];
    for repeat in 0..WARM_UP {
        follower
            .start(&view(0)?, initial, Timestamp(0))
            .map_err(follow)?;
        let took = follower.network_mut().template.take();
        template.extend(took.filter(|_| repeat > 0).map(millis));
    }
    for i in 1..=options.frames + WARM_UP {
        let view = view(i)?;
        let captured_at = Timestamp(u64::from(i) * 33_333);
        let started = Instant::now();
        follower.step(&view, captured_at).map_err(follow)?;
        let ended = Instant::now();
        let network = follower.network_mut();
        let refreshed = network.template.take();
        let Some((entered, left)) = network.search.take() else {
            continue;
        };
        if i <= WARM_UP {
            continue;
        }
        let [preprocess, search, decode, total] = &mut stages;
        preprocess.push(millis(entered - started));
        search.push(millis(left - entered));
        total.push(millis(ended - started));
        match refreshed {
            Some(took) => template.push(millis(took)),
            None => decode.push(millis(ended - left)),
        }
    }
    let [preprocess, search, decode, total] = stages;
    Ok(Figures {
        model: name,
        arithmetic,
        threads: options.threads,
        frame_px: [config.width_px, config.height_px],
        frames: options.frames,
        preprocess: Stage::of(preprocess),
        search: Stage::of(search),
        decode_and_tracker: Stage::of(decode),
        total: Stage::of(total),
        template: Stage::of(template),
        verify_millis: millis(verify),
        load_millis: millis(load),
        probe_millis: millis(probe),
        peak_memory_mib: peak_memory_mib(),
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// BT.601 limited range, two pixels at a time.
fn yuyv_from_rgb(rgb: &[u8]) -> Vec<u8> {
    let matrix = roadhound_shared::frame::YuvMatrix::Bt601Limited;
    rgb.chunks_exact(6)
        .flat_map(|pair| {
            let yuv =
                |p: &[u8]| matrix.yuv_from_rgb([f32::from(p[0]), f32::from(p[1]), f32::from(p[2])]);
            let (a, b) = (yuv(&pair[..3]), yuv(&pair[3..]));
            [a[0], (a[1] + b[1]) / 2.0, b[0], (a[2] + b[2]) / 2.0]
                .map(|v| v.round().clamp(0.0, 255.0) as u8)
        })
        .collect()
}

/// `VmHWM` of this process.
pub(crate) fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Times of one contender on the search graph.
#[derive(Clone, Debug, Serialize)]
pub struct Contender {
    /// Which one.
    pub name: &'static str,
    /// The search graph.
    pub search: Stage,
    /// Its median by that of f32.
    pub of_f32: f64,
}

/// The contenders, the product's own way first.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison(pub Vec<Contender>);

impl Comparison {
    /// One JSON array.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "search graph        median ms     p99 ms     of f32")?;
        for contender in &self.0 {
            write!(
                f,
                "\n{:<18} {:>10.3} {:>10.3} {:>10.3}",
                contender.name,
                contender.search.median_millis,
                contender.search.p99_millis,
                contender.of_f32
            )?;
        }
        Ok(())
    }
}

/// Times the search graph in int8, in f32 and in tract's own int8: one after the other, frame by frame, so that whatever
/// else the machine does hits all of them. What is in the crop does not matter to any.
///
/// # Errors
/// A model that is refused, or that fails.
pub fn compare(options: &BenchOptions) -> Result<Comparison, Failure> {
    let Contenders {
        contract,
        mut networks,
    } = contenders(&options.model, options.threads)?;
    let noise = |len: usize| -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 37 + i / 256 * 11) % 255) as f32 / 64.0 - 1.9)
            .collect()
    };
    let (crop, features) = (noise(contract.search_len()), noise(contract.features_len()));
    let mut out = SearchOutputs::for_contract(&contract);
    let mut times = vec![Vec::new(); networks.len()];
    for frame in 0..options.frames + WARM_UP {
        for ((_, network), times) in networks.iter_mut().zip(&mut times) {
            let started = Instant::now();
            network
                .search(&crop, &features, &features, &mut out)
                .map_err(|e| Failure::Usage(format!("bench: {e}")))?;
            if frame >= WARM_UP {
                times.push(millis(started.elapsed()));
            }
        }
    }
    let stages: Vec<Stage> = times.into_iter().map(Stage::of).collect();
    let f32 = networks.iter().position(|(name, _)| *name == "f32");
    let f32 = f32.map_or(f64::NAN, |at| stages[at].median_millis);
    let contenders = networks.iter().zip(stages);
    let contenders = contenders.map(|((name, _), search)| Contender {
        name,
        search,
        of_f32: search.median_millis / f32,
    });
    Ok(Comparison(contenders.collect()))
}
