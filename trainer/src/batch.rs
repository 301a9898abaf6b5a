//! Pairs gathered into batches, made ahead of time by worker threads.
//!
//! In goes a [`BatchSource`] such as a [`Sampler`], and the step to start at; out come its batches, of a [`Sampler`]
//! [`Batch`]es, in order, the same ones however many workers make them. Batch `s` of size `n` holds pairs `s * n` to `s * n + n - 1` of the run, so a run resumed at step `s`
//! sees what an uninterrupted one would have seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roadhound_shared::geometry::BoxLtrb;
use serde::{Deserialize, Serialize};

use crate::data::DataError;
use crate::sampler::{Pair, Sampler, SamplerScratch};

/// `len` pairs, each field concatenated in order.
///
/// # Shapes
/// - `template_rgb`, `template_latest_rgb`: `[len, template_px, template_px, 3]`
/// - `search_rgb`: `[len, search_px, search_px, 3]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Number of pairs.
    pub len: usize,
    /// Side of a template crop.
    pub template_px: usize,
    /// Side of a search crop.
    pub search_px: usize,
    /// The targets as first seen.
    pub template_rgb: Vec<u8>,
    /// The targets as seen later.
    pub template_latest_rgb: Vec<u8>,
    /// Where they are looked for.
    pub search_rgb: Vec<u8>,
    /// Left, top, right, bottom in pixels of the search crop; of meaning only where `present` is 1.
    pub box_in_search: Vec<[f32; 4]>,
    /// 1 where the target can be seen, else 0.
    pub present: Vec<f32>,
    /// Stable identity of the object on the template.
    pub instance: Vec<u64>,
    /// Where the latest template differs from the first.
    pub has_distinct_latest: Vec<bool>,
}

impl Batch {
    /// Makes one batch on this thread.
    ///
    /// # Errors
    /// An image that cannot be read.
    pub fn draw(
        sampler: &Sampler,
        step: u64,
        batch_size: usize,
        scratch: &mut SamplerScratch,
    ) -> Result<Self, DataError> {
        let never = AtomicBool::new(false);
        Ok(Self::draw_unless(sampler, step, batch_size, scratch, &never)?.unwrap_or_default())
    }

    /// `None` where `stop` was set before the batch was full.
    fn draw_unless(
        sampler: &Sampler,
        step: u64,
        batch_size: usize,
        scratch: &mut SamplerScratch,
        stop: &AtomicBool,
    ) -> Result<Option<Self>, DataError> {
        let template_px = sampler.config().template_crop_px as usize;
        let search_px = sampler.config().search_crop_px as usize;
        let (template_len, search_len) = (template_px * template_px * 3, search_px * search_px * 3);
        let mut batch = Self {
            len: 0,
            template_px,
            search_px,
            template_rgb: Vec::with_capacity(batch_size * template_len),
            template_latest_rgb: Vec::with_capacity(batch_size * template_len),
            search_rgb: Vec::with_capacity(batch_size * search_len),
            box_in_search: Vec::with_capacity(batch_size),
            present: Vec::with_capacity(batch_size),
            instance: Vec::with_capacity(batch_size),
            has_distinct_latest: Vec::with_capacity(batch_size),
        };
        for i in 0..batch_size as u64 {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            batch.push(&sampler.draw_number(step * batch_size as u64 + i, scratch)?);
        }
        Ok(Some(batch))
    }

    /// Seeded crops of coloured noise at several scales, each with a target in the middle: enough to measure the
    /// statistics of a network where there is no data.
    pub fn noise(seed: u64, len: usize, template_px: usize, search_px: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut crops = |px: usize| -> Vec<u8> {
            (0..len)
                .flat_map(|_| textured_noise(px, &mut rng))
                .collect()
        };
        let middle = search_px as f32 / 2.0;
        let half = template_px as f32 / 4.0;
        let target = [middle - half, middle - half, middle + half, middle + half];
        Self {
            len,
            template_px,
            search_px,
            template_rgb: crops(template_px),
            template_latest_rgb: crops(template_px),
            search_rgb: crops(search_px),
            box_in_search: vec![target; len],
            present: vec![1.0; len],
            instance: (0..len as u64).collect(),
            has_distinct_latest: vec![true; len],
        }
    }

    /// Pair `i` of the batch, which holds at least `i + 1`.
    pub fn pair(&self, i: usize) -> Pair {
        let (template, search) = (
            self.template_px * self.template_px * 3,
            self.search_px * self.search_px * 3,
        );
        let crop = |rgb: &[u8], len: usize| rgb[i * len..(i + 1) * len].to_vec();
        let [left_px, top_px, right_px, bottom_px] = self.box_in_search[i];
        Pair {
            template_rgb: crop(&self.template_rgb, template),
            template_latest_rgb: crop(&self.template_latest_rgb, template),
            search_rgb: crop(&self.search_rgb, search),
            box_in_search: BoxLtrb {
                left_px,
                top_px,
                right_px,
                bottom_px,
            },
            present: self.present[i] > 0.5,
            instance: self.instance[i],
            has_distinct_latest: self.has_distinct_latest[i],
        }
    }

    /// These pairs and those of `others`, whose crops have the same sides, behind them.
    #[must_use]
    pub fn joined(&self, others: &Self) -> Self {
        let mut joined = self.clone();
        joined.len += others.len;
        joined.template_rgb.extend_from_slice(&others.template_rgb);
        let latest = &others.template_latest_rgb;
        joined.template_latest_rgb.extend_from_slice(latest);
        joined.search_rgb.extend_from_slice(&others.search_rgb);
        joined
            .box_in_search
            .extend_from_slice(&others.box_in_search);
        joined.present.extend_from_slice(&others.present);
        joined.instance.extend_from_slice(&others.instance);
        let distinct = &others.has_distinct_latest;
        joined.has_distinct_latest.extend_from_slice(distinct);
        joined
    }

    /// The pairs of these numbers, which there are.
    #[must_use]
    pub fn chosen(&self, pairs: &[u32]) -> Self {
        let mut chosen = Self {
            template_px: self.template_px,
            search_px: self.search_px,
            ..Self::default()
        };
        for pair in pairs {
            chosen.push(&self.pair(*pair as usize));
        }
        chosen
    }

    fn push(&mut self, pair: &Pair) {
        self.len += 1;
        self.template_rgb.extend_from_slice(&pair.template_rgb);
        self.template_latest_rgb
            .extend_from_slice(&pair.template_latest_rgb);
        self.search_rgb.extend_from_slice(&pair.search_rgb);
        self.box_in_search.push(pair.box_in_search.to_array());
        self.present.push(if pair.present { 1.0 } else { 0.0 });
        self.instance.push(pair.instance);
        self.has_distinct_latest.push(pair.has_distinct_latest);
    }
}

/// One crop of noise whose amplitude grows with its wavelength, as in photographs.
fn textured_noise(px: usize, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut sums = vec![[114.0_f32; 3]; px * px];
    for (cell, amplitude) in [
        (px.div_ceil(3).max(2), 60.0_f32),
        (16, 40.0),
        (4, 20.0),
        (1, 6.0),
    ] {
        let grid = px / cell + 2;
        let knots: Vec<[f32; 3]> = (0..grid * grid)
            .map(|_| {
                let light = rng.random_range(-amplitude..amplitude);
                std::array::from_fn(|_| light + 0.3 * rng.random_range(-amplitude..amplitude))
            })
            .collect();
        for (at, sum) in sums.iter_mut().enumerate() {
            let (x, y) = (at % px, at / px);
            let (u, v) = (
                (x % cell) as f32 / cell as f32,
                (y % cell) as f32 / cell as f32,
            );
            let knot = |dx: usize, dy: usize| &knots[(y / cell + dy) * grid + x / cell + dx];
            for (c, sum) in sum.iter_mut().enumerate() {
                let top = knot(0, 0)[c] * (1.0 - u) + knot(1, 0)[c] * u;
                let bottom = knot(0, 1)[c] * (1.0 - u) + knot(1, 1)[c] * u;
                *sum += top * (1.0 - v) + bottom * v;
            }
        }
    }
    sums.iter()
        .flatten()
        .map(|v| v.clamp(0.0, 255.0) as u8)
        .collect()
}

/// What batches are drawn from: the batch of a step depends on the step alone, whoever draws it.
pub trait BatchSource: Send + Sync + 'static {
    /// What a step sees.
    type Batch: Send + 'static;

    /// The batch of `step`; `None` where `stop` was set before it was full.
    ///
    /// # Errors
    /// An image that cannot be read.
    fn draw_unless(
        &self,
        step: u64,
        batch_size: usize,
        scratch: &mut SamplerScratch,
        stop: &AtomicBool,
    ) -> Result<Option<Self::Batch>, DataError>;
}

impl BatchSource for Sampler {
    type Batch = Batch;

    fn draw_unless(
        &self,
        step: u64,
        batch_size: usize,
        scratch: &mut SamplerScratch,
        stop: &AtomicBool,
    ) -> Result<Option<Batch>, DataError> {
        Batch::draw_unless(self, step, batch_size, scratch, stop)
    }
}

/// How batches are made ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrefetchConfig {
    /// Pairs a batch.
    pub batch_size: usize,
    /// Threads.
    pub workers: usize,
    /// Finished batches each thread may hold.
    pub ahead: usize,
}

impl Default for PrefetchConfig {
    fn default() -> Self {
        Self {
            batch_size: 24,
            workers: 1,
            ahead: 2,
        }
    }
}

impl PrefetchConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`DataError::Config`] where a count is zero, or beyond reason.
    pub fn validate(&self) -> Result<(), DataError> {
        for (field, count, most) in [
            ("prefetch.batch_size", self.batch_size, 65_536),
            ("prefetch.workers", self.workers, 1024),
            ("prefetch.ahead", self.ahead, 1024),
        ] {
            if !(1..=most).contains(&count) {
                let reason = "must be at least 1 and within reason";
                return Err(DataError::Config {
                    field,
                    value: count.to_string(),
                    reason,
                });
            }
        }
        Ok(())
    }
}

/// An endless iterator over batches. After an error it ends. Dropping it stops and joins the workers.
#[derive(Debug)]
pub struct Prefetcher<B = Batch> {
    workers: Vec<Worker<B>>,
    stop: Arc<AtomicBool>,
    start_at_step: u64,
    next_step: u64,
    failed: bool,
}

#[derive(Debug)]
struct Worker<B> {
    /// Dropped first on shutdown, so that a worker waiting to deliver wakes up.
    batches: Option<Receiver<Result<B, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

impl<B: Send + 'static> Prefetcher<B> {
    /// Starts the workers; the first batch out is that of `start_at_step`.
    ///
    /// # Errors
    /// Settings that cannot be used, or a thread that the system does not grant.
    pub fn new<S: BatchSource<Batch = B>>(
        source: Arc<S>,
        config: &PrefetchConfig,
        start_at_step: u64,
    ) -> Result<Self, DataError> {
        config.validate()?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut prefetcher = Self {
            workers: Vec::new(),
            stop,
            start_at_step,
            next_step: start_at_step,
            failed: false,
        };
        for first in 0..config.workers as u64 {
            // Worker k makes every n-th batch from the k-th on: order is kept without a shared queue.
            let (sender, receiver) = sync_channel(config.ahead);
            let (source, stop) = (source.clone(), prefetcher.stop.clone());
            let (batch_size, stride) = (config.batch_size, config.workers);
            let make = move || {
                let mut scratch = SamplerScratch::default();
                for step in (start_at_step + first..).step_by(stride) {
                    let made = source
                        .draw_unless(step, batch_size, &mut scratch, &stop)
                        .transpose();
                    let Some(made) = made else { return };
                    let last = made.is_err();
                    if sender.send(made).is_err() || last {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new()
                .name(format!("pairs-{first}"))
                .spawn(make)
                .map_err(|reason| DataError::Io {
                    path: format!("worker thread {first}").into(),
                    reason,
                })?;
            prefetcher.workers.push(Worker {
                batches: Some(receiver),
                thread: Some(thread),
            });
        }
        Ok(prefetcher)
    }

    /// The step whose batch comes next.
    pub fn next_step(&self) -> u64 {
        self.next_step
    }
}

impl<B> Iterator for Prefetcher<B> {
    type Item = Result<B, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.next_step;
        let worker = ((step - self.start_at_step) % self.workers.len() as u64) as usize;
        let received = self.workers[worker].batches.as_ref()?.recv();
        let batch = received.unwrap_or(Err(DataError::WorkerGone { worker, step }));
        self.failed = batch.is_err();
        self.next_step += 1;
        Some(batch)
    }
}

impl<B> Drop for Prefetcher<B> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in &mut self.workers {
            worker.batches = None;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // A panic was reported as `WorkerGone` when its batch was asked for.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::augment::AugmentConfig;
    use crate::data::{DataConfig, Dataset, PackConfig, PackKind};
    use crate::sampler::{SamplerConfig, Split};

    fn small_sampler(folder: &std::path::Path) -> Arc<Sampler> {
        std::fs::create_dir_all(folder.join("p/images")).unwrap();
        let mut lines = String::from("sequence,frame,instance,class,x,y,w,h,occluded\n");
        for i in 0..5_u32 {
            image::RgbImage::from_fn(90, 70, |x, y| {
                image::Rgb([(x * 7) as u8, (y * 5 * i) as u8, (x ^ y) as u8])
            })
            .save(folder.join(format!("p/images/{i}.png")))
            .unwrap();
            lines += &format!("{i},0,0,car,{},20,30,25,-1\n", 10 + 5 * i);
        }
        std::fs::write(folder.join("p/boxes.csv"), lines).unwrap();
        let pack = PackConfig {
            name: "p".into(),
            kind: PackKind::Stills,
            weight: 1.0,
            path: None,
            held_out: Some(vec![]),
            fixed_camera_prefixes: vec![],
            read: Default::default(),
        };
        let config = DataConfig {
            root: folder.into(),
            packs: vec![pack],
            ..DataConfig::default()
        };
        let crops = SamplerConfig {
            pairs_per_epoch: 7,
            template_crop_px: 32,
            search_crop_px: 64,
            ..Default::default()
        };
        let crops = SamplerConfig {
            search_shift_px: 16.0,
            wide_shift_px: 24.0,
            ..crops
        };
        let dataset = Arc::new(Dataset::open(&config).unwrap());
        Arc::new(Sampler::new(dataset, crops, AugmentConfig::default(), Split::Train, 3).unwrap())
    }

    fn batches(sampler: &Arc<Sampler>, workers: usize, from: u64, count: usize) -> Vec<Batch> {
        let config = PrefetchConfig {
            batch_size: 3,
            workers,
            ahead: 2,
        };
        let prefetcher = Prefetcher::new(sampler.clone(), &config, from).unwrap();
        prefetcher.take(count).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn batches_are_the_same_for_one_two_and_four_workers() {
        let folder = tempfile::tempdir().unwrap();
        let sampler = small_sampler(folder.path());
        let one = batches(&sampler, 1, 0, 9);
        assert_eq!(one, batches(&sampler, 2, 0, 9));
        assert_eq!(one, batches(&sampler, 4, 0, 9));
        assert_ne!(one[0], one[1]);
        let shapes = (
            one[0].len,
            one[0].template_rgb.len(),
            one[0].search_rgb.len(),
            one[0].instance.len(),
        );
        assert_eq!(shapes, (3, 3 * 32 * 32 * 3, 3 * 64 * 64 * 3, 3));
    }

    #[test]
    fn a_resumed_run_sees_what_an_uninterrupted_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let sampler = small_sampler(folder.path());
        let whole = batches(&sampler, 2, 0, 9);
        // 5 is no multiple of the workers, and step 5 lies inside the third epoch of seven pairs.
        assert_eq!(whole[5..], batches(&sampler, 2, 5, 4));
        assert_eq!(whole[5..], batches(&sampler, 3, 5, 4));
        let alone = Batch::draw(&sampler, 6, 3, &mut SamplerScratch::default()).unwrap();
        assert_eq!(whole[6], alone);
    }

    #[test]
    fn an_image_that_vanishes_ends_the_iterator_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let sampler = small_sampler(folder.path());
        std::fs::remove_file(folder.path().join("p/images/3.png")).unwrap();
        let config = PrefetchConfig {
            batch_size: 4,
            workers: 2,
            ahead: 1,
        };
        let mut prefetcher = Prefetcher::new(sampler, &config, 0).unwrap();
        let error = prefetcher.find_map(Result::err).unwrap().to_string();
        assert!(error.contains("3.png"), "{error}");
        assert!(prefetcher.next().is_none());
    }

    #[test]
    fn dropping_a_prefetcher_stops_workers_that_wait_to_deliver() {
        let folder = tempfile::tempdir().unwrap();
        let sampler = small_sampler(folder.path());
        let config = PrefetchConfig {
            batch_size: 2,
            workers: 3,
            ahead: 1,
        };
        let mut prefetcher = Prefetcher::new(sampler.clone(), &config, 0).unwrap();
        prefetcher.next().unwrap().unwrap();
        drop(prefetcher);
        assert_eq!(
            Arc::strong_count(&sampler),
            1,
            "every worker has let go of the sampler"
        );
    }

    #[test]
    fn counts_of_zero_are_refused() {
        for config in [
            PrefetchConfig {
                workers: 0,
                ..Default::default()
            },
            PrefetchConfig {
                batch_size: 0,
                ..Default::default()
            },
            PrefetchConfig {
                ahead: 0,
                ..Default::default()
            },
        ] {
            assert!(config.validate().is_err());
        }
    }
}
