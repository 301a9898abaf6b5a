//! `roadhound bench`: how long every stage takes on this machine, and how much memory.
//!
//! Frames come from the rendered drive at 1280x720, converted to YUYV as a camera delivers them. The follower is
//! the one that tracks; a wrapper around the network notes when the search graph is entered and left, which splits
//! a step into preprocessing, search, and decoding with the tracker. Steps that refresh the template are counted
//! in the total only.

use std::fmt;
use std::time::Duration;

use roadhound_shared::contract::FollowContract;
use roadhound_shared::follow::Follower;
use roadhound_shared::frame::{FrameView, PixelFormat, Timestamp};
use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};
use serde::Serialize;

use crate::bundle::{Contenders, Model, ModelSource, Precision, StartUp, contenders};
use crate::clock;
use crate::drive::{Drive, DriveConfig};
use crate::failure::Failure;
use crate::infer::{InferError, TractNetwork};
use crate::int8::{Path, peak};

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
    /// By which watch.
    pub watch: Watch,
}

/// What is counted as time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// What a clock on the wall shows.
    #[default]
    Wall,
    /// What the processor spends on this thread: for a machine with neighbours, and one thread only.
    Processor,
}

impl Watch {
    /// From some moment on.
    fn now(self) -> Duration {
        match self {
            Self::Wall => clock::elapsed(),
            Self::Processor => clock::of_this_thread(),
        }
    }

    /// A watch that sees all the threads that work.
    fn sees(self, threads: usize) -> Result<(), Failure> {
        if self == Self::Processor && threads > 1 {
            let why = format!("--processor-time sees one thread, not {threads}");
            return Err(Failure::Usage(why));
        }
        Ok(())
    }
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
    watch: Watch,
    search: Option<(Duration, Duration)>,
    template: Option<Duration>,
}

impl FollowNetwork for Timed {
    type Error = InferError;

    fn template(&mut self, crop_chw: &[f32], out: &mut TemplateOutputs) -> Result<(), InferError> {
        let started = self.watch.now();
        let result = self.network.template(crop_chw, out);
        self.template = Some(self.watch.now() - started);
        result
    }

    fn search(
        &mut self,
        crop_chw: &[f32],
        first: &[f32],
        latest: &[f32],
        out: &mut SearchOutputs,
    ) -> Result<(), InferError> {
        let entered = self.watch.now();
        let result = self.network.search(crop_chw, first, latest, out);
        self.search = Some((entered, self.watch.now()));
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
    let watch = options.watch;
    watch.sees(options.threads)?;
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
        watch,
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
        let started = watch.now();
        follower.step(&view, captured_at).map_err(follow)?;
        let ended = watch.now();
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

/// Times of one contender, and what it computed.
#[derive(Clone, Debug, Serialize)]
pub struct Contender {
    /// Which one.
    pub name: &'static str,
    /// The search graph.
    pub search: Stage,
    /// Its median by that of f32.
    pub search_of_f32: f64,
    /// The template graph.
    pub template: Stage,
    /// Its median by that of f32.
    pub template_of_f32: f64,
    /// A digest of the bits of all outputs, for what this machine, this path and another are to agree on.
    pub outputs: String,
}

/// How near a graph comes to what the cores could multiply at most.
#[derive(Clone, Debug, Serialize)]
pub struct Roofline {
    /// Which graph.
    pub graph: &'static str,
    /// Products of bytes in a run.
    pub products: u64,
    /// Products in a second, over the whole time of the graph: what it does in f32 included.
    pub per_second: f64,
    /// What the same instructions do on operands that are at hand, times the threads.
    pub peak_per_second: f64,
    /// One by the other.
    pub share: f64,
}

/// The contenders, the product's own way first.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The path of the int8 kernels.
    pub int8_path: &'static str,
    /// One network after the other.
    pub contenders: Vec<Contender>,
    /// Of both graphs in int8; none on the scalar path.
    pub rooflines: Vec<Roofline>,
}

impl Comparison {
    /// One JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "median ms             search     of f32   template     of f32  outputs"
        )?;
        for contender in &self.contenders {
            write!(
                f,
                "\n{:<18} {:>9.3} {:>10.3} {:>10.3} {:>10.3}  {}",
                contender.name,
                contender.search.median_millis,
                contender.search_of_f32,
                contender.template.median_millis,
                contender.template_of_f32,
                contender.outputs
            )?;
        }
        for roofline in &self.rooflines {
            write!(
                f,
                "\nint8 by {}, {} graph: {:.1} M products, {:.1} G/s; {:.0} % of the {:.1} G/s that the instructions can do",
                self.int8_path,
                roofline.graph,
                roofline.products as f64 / 1e6,
                roofline.per_second / 1e9,
                100.0 * roofline.share,
                roofline.peak_per_second / 1e9
            )?;
        }
        Ok(())
    }
}

/// FNV-1a over the bits of numbers, 64 bits.
struct Digest(u64);

impl Digest {
    fn add(&mut self, numbers: &[f32]) {
        for byte in numbers.iter().flat_map(|v| v.to_bits().to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

/// Pictures whose outputs are part of the digest, before anything is timed.
const DIGEST_CROPS: usize = 4;
/// Rounds of [`peak::products`] that are timed at once: a tenth of a millisecond or so.
const PEAK_ROUNDS: u32 = 20_000;

/// Values of no picture: what is in a crop does not matter to any contender's speed. Multiples of 1/64, which every
/// machine has alike.
fn noise(len: usize, seed: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 37 + i / 256 * 11 + seed * 101) % 255) as f32 / 64.0 - 1.90625)
        .collect()
}

/// Everything that a network gives for a few pictures.
fn digest_of(network: &mut TractNetwork, contract: &FollowContract) -> Result<String, InferError> {
    let mut digest = Digest::default();
    let mut of_template = TemplateOutputs::for_contract(contract);
    let mut of_search = SearchOutputs::for_contract(contract);
    let mut first = vec![0.0; contract.features_len()];
    for seed in 0..DIGEST_CROPS {
        network.template(&noise(contract.template_len(), seed), &mut of_template)?;
        let latest = &of_template.features;
        let crop = noise(contract.search_len(), seed);
        network.search(&crop, &first, latest, &mut of_search)?;
        first.copy_from_slice(latest);
        for numbers in [
            &of_template.features[..],
            &of_template.embedding,
            &of_search.score,
            &of_search.box_ltrb_px,
            &[of_search.presence],
            &of_search.embedding,
        ] {
            digest.add(numbers);
        }
    }
    Ok(format!("{:016x}", digest.0))
}

/// Times both graphs in int8, in f32 and in tract's own int8: one after the other, frame by frame, so that whatever else
/// the machine does hits all of them, and the peak of the processor with them.
///
/// # Errors
/// A model that is refused, or that fails.
pub fn compare(options: &BenchOptions) -> Result<Comparison, Failure> {
    let watch = options.watch;
    watch.sees(options.threads)?;
    let path = Path::from_environment().map_err(|e| Failure::Usage(e.to_string()))?;
    let Contenders {
        contract,
        mut networks,
    } = contenders(&options.model, options.threads)?;
    let fails = |e: InferError| Failure::Usage(format!("bench: {e}"));
    let crop = noise(contract.search_len(), 0);
    let template = noise(contract.template_len(), 0);
    let features = noise(contract.features_len(), 0);
    let mut of_search = SearchOutputs::for_contract(&contract);
    let mut of_template = TemplateOutputs::for_contract(&contract);
    let mut digests = Vec::with_capacity(networks.len());
    for (_, network) in &mut networks {
        digests.push(digest_of(network, &contract).map_err(fails)?);
    }
    let mut times = vec![[const { Vec::new() }; 2]; networks.len()];
    let mut peaks = Vec::new();
    for frame in 0..options.frames + WARM_UP {
        let counts = frame >= WARM_UP;
        for ((_, network), [searches, templates]) in networks.iter_mut().zip(&mut times) {
            let started = watch.now();
            network
                .search(&crop, &features, &features, &mut of_search)
                .map_err(fails)?;
            let between = watch.now();
            network
                .template(&template, &mut of_template)
                .map_err(fails)?;
            let ended = watch.now();
            if counts {
                searches.push(millis(between - started));
                templates.push(millis(ended - between));
            }
        }
        let started = watch.now();
        if let Some(products) = peak::products(path, PEAK_ROUNDS)
            && counts
        {
            peaks.push(products as f64 / (watch.now() - started).as_secs_f64());
        }
    }
    let stages: Vec<[Stage; 2]> = times.into_iter().map(|t| t.map(Stage::of)).collect();
    let f32 = networks.iter().position(|(name, _)| *name == "f32");
    let of_f32 = |graph: usize, stage: Stage| {
        f32.map_or(f64::NAN, |at| {
            stage.median_millis / stages[at][graph].median_millis
        })
    };
    let contenders = networks.iter().zip(digests).zip(&stages);
    let contenders = contenders.map(|(((name, _), outputs), [search, template])| Contender {
        name,
        search: *search,
        search_of_f32: of_f32(0, *search),
        template: *template,
        template_of_f32: of_f32(1, *template),
        outputs,
    });
    let [of_template, of_search] = networks[0].1.int8_products();
    let [search, template] = stages[0];
    let peak_per_second = median(peaks) * options.threads as f64;
    let rooflines = [
        ("search", of_search, search),
        ("template", of_template, template),
    ];
    let rooflines = rooflines.map(|(graph, products, stage)| {
        let per_second = products as f64 / stage.median_millis * 1e3;
        Roofline {
            graph,
            products,
            per_second,
            peak_per_second,
            share: per_second / peak_per_second,
        }
    });
    Ok(Comparison {
        int8_path: path.name(),
        contenders: contenders.collect(),
        rooflines: rooflines
            .into_iter()
            .filter(|r| r.products > 0 && r.peak_per_second > 0.0)
            .collect(),
    })
}

/// The middle one, or 0 where there is none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_depends_on_every_bit_and_on_the_order() {
        let of = |numbers: &[f32]| {
            let mut digest = Digest::default();
            digest.add(numbers);
            digest.0
        };
        assert_eq!(of(&[]), 0xcbf2_9ce4_8422_2325);
        // The bytes 0, 0, 128, 63, by the definition.
        let one = [0_u64, 0, 0x80, 0x3f]
            .into_iter()
            .fold(of(&[]), |d, b| (d ^ b).wrapping_mul(0x100_0000_01b3));
        assert_eq!(of(&[1.0]), one);
        assert_ne!(of(&[0.0]), of(&[-0.0]));
        assert_ne!(of(&[1.0, 2.0]), of(&[2.0, 1.0]));
    }
}
