//! The operators on a real GPU, against the CPU. Without one, each test says so and passes over.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roadhound_shared::quantised::QuantParams;

use crate::batch::Batch;
use crate::descent::Descent;
use crate::model::{ModelConfig, TrackerNet};
use crate::ops::{
    BnStats, ConvBn, DeviceChoice, Precision, RunningStats, batch_norm, conv2d, fake_quantise,
    fake_quantise_weights, global_max_pool, images_from_bytes, open_device,
};
use crate::optim::{AdamW, OptimConfig};
use crate::params::Snapshot;
use crate::task::Task;
use crate::task::track::{LossConfig, TrackTask};

/// The first GPU, or `None` after printing why there is none.
fn gpu() -> Option<Device> {
    open_device(DeviceChoice::Cuda(0))
        .inspect_err(|reason| eprintln!("passed over: {reason}"))
        .ok()
}

#[test]
fn every_kernel_is_in_the_module_of_its_file() {
    for kernel in super::engine::kernels::ALL {
        let (module, ptx) = super::device::ptx(kernel.file);
        let entry = format!(".entry {}(", kernel.name);
        assert!(ptx.contains(&entry), "{module} has no {}", kernel.name);
    }
}

fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    let error = found
        .iter()
        .zip(expected)
        .map(|(f, e)| (f - e).abs() / size)
        // Written so that a NaN counts.
        .fold(0f32, |m, e| if e > m || e.is_nan() { e } else { m });
    assert!(
        error < tolerance,
        "{what}: off by {error}, allowed {tolerance}"
    );
}

/// A function's result and the gradients of its sum, weighted at random, on the CPU and on the GPU.
fn compare(
    name: &str,
    shapes: &[&[usize]],
    tolerance: f32,
    f: impl Fn(&[Tensor]) -> candle_core::Result<Tensor>,
) {
    let Some(gpu) = gpu() else { return };
    let on = |device: &Device| -> Vec<Vec<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(71);
        let mut draw = |shape: &[usize]| {
            let values = random(&mut rng, shape.iter().product());
            Tensor::from_vec(values, shape, device).unwrap()
        };
        let vars: Vec<Var> = shapes
            .iter()
            .map(|shape| Var::from_tensor(&draw(shape)).unwrap())
            .collect();
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let y = f(&tensors).unwrap();
        let weights = draw(y.dims());
        let grads = (&y * weights)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        let mut all = vec![values(&y)];
        all.extend(vars.iter().map(|v| values(grads.get(v).unwrap())));
        all
    };
    let found = on(&gpu);
    for (i, (found, expected)) in found.iter().zip(on(&Device::Cpu)).enumerate() {
        assert_close(&format!("{name}, value {i}"), found, &expected, tolerance);
    }
    assert_eq!(found, on(&gpu), "{name}: a second run gives other bytes");
}

#[test]
fn convolution_on_the_gpu_equals_the_cpu() {
    for (x, w, stride, padding) in [
        ([2, 8, 8, 16], [3, 3, 16, 32], 1, 1),
        ([2, 9, 7, 5], [3, 3, 5, 7], 2, 1),
        ([2, 64, 64, 3], [3, 3, 3, 16], 2, 1),
        ([2, 5, 5, 7], [1, 1, 7, 33], 1, 0),
        ([2, 5, 6, 4], [1, 1, 4, 6], 2, 0),
        // More than one run of patches.
        ([40, 64, 64, 32], [3, 3, 32, 32], 1, 1),
    ] {
        for (precision, tolerance) in [
            (Precision::F32, 1e-4),
            (Precision::Tf32, 1e-2),
            (Precision::Bf16, 2e-2),
        ] {
            let name = format!("{w:?} s{stride} p{padding} {precision:?}");
            compare(&name, &[&x, &w], tolerance, |t| {
                conv2d(&t[0], &t[1], stride, padding, precision)
            });
        }
    }
}

fn stats(channels: usize, training: bool) -> BnStats {
    let running = RunningStats::new(channels).into_shared();
    if training {
        BnStats::Training {
            running,
            momentum: 0.1,
        }
    } else {
        BnStats::Frozen { running }
    }
}

#[test]
fn batch_norm_on_the_gpu_equals_the_cpu() {
    for shape in [
        [2, 3, 4, 16],
        [3, 2, 3, 5],
        [1, 5, 2, 37],
        [4, 128, 128, 16],
    ] {
        for (relu, training) in [(true, true), (false, true), (true, false)] {
            let (shape, c) = (&shape[..], &shape[3..]);
            let name = format!("{shape:?} relu {relu} training {training}");
            compare(&name, &[shape, c, c], 1e-4, |t| {
                batch_norm(&t[0], &t[1], &t[2], None, relu, &stats(c[0], training))
            });
            compare(&name, &[shape, c, c, shape], 1e-4, |t| {
                let stats = stats(c[0], training);
                batch_norm(&t[0], &t[1], &t[2], Some(&t[3]), relu, &stats)
            });
        }
    }
}

#[test]
fn the_fused_layer_on_the_gpu_equals_the_cpu_and_moves_its_statistics() {
    let (x, w, y): ([usize; 4], [usize; 4], [usize; 4]) =
        ([3, 10, 12, 8], [3, 3, 8, 16], [3, 5, 6, 16]);
    for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::Bf16, 3e-2)] {
        for relu in [false, true] {
            compare("conv_bn", &[&x, &w, &[16], &[16], &y], tolerance, |t| {
                let layer = ConvBn {
                    weight: &t[1],
                    gamma: &t[2],
                    beta: &t[3],
                    stats: &stats(16, true),
                    stride: 2,
                    padding: 1,
                    relu,
                    precision,
                };
                layer.forward(&t[0], None)?;
                layer.forward(&t[0], Some(&t[4]))
            });
        }
    }
    let Some(gpu) = gpu() else { return };
    let moved = |device: &Device| {
        let running = RunningStats::new(4).into_shared();
        let stats = BnStats::Training {
            running: running.clone(),
            momentum: 0.5,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(73);
        let x = Tensor::from_vec(random(&mut rng, 60 * 4), (60, 4), device).unwrap();
        let one = Tensor::ones(4, candle_core::DType::F32, device).unwrap();
        for _ in 0..3 {
            batch_norm(&x, &one, &one, None, true, &stats).unwrap();
        }
        let after = running.lock().unwrap().clone();
        [after.mean, after.variance].concat()
    };
    assert_close("running", &moved(&gpu), &moved(&Device::Cpu), 1e-5);
}

#[test]
fn global_maxima_on_the_gpu_equal_the_cpu() {
    compare("global_max_pool", &[&[3, 16, 16, 96]], 1e-7, |t| {
        global_max_pool(&t[0])
    });
}

#[test]
fn values_are_rounded_to_those_of_bytes_on_the_gpu_as_on_the_cpu() {
    let params = QuantParams::new(0.0061, 100).unwrap(); // -0.61 to 0.95
    compare("fake_quantise", &[&[2, 4, 8]], 1e-6, |t| {
        fake_quantise(&t[0], params)
    });
    compare("fake_quantise_weights", &[&[3, 3, 4, 8]], 1e-6, |t| {
        fake_quantise_weights(&t[0], None)
    });
}

#[test]
fn bytes_on_the_gpu_become_the_values_of_the_cpu_to_the_bit() {
    let Some(gpu) = gpu() else { return };
    let bytes: Vec<u8> = (0..2 * 8 * 8 * 3).map(|i| (i * 7 % 256) as u8).collect();
    let on = |device: &Device| {
        values(&images_from_bytes(&bytes, (2, 8, 8, 3), 114., 1. / 58., device).unwrap())
    };
    assert_eq!(on(&gpu), on(&Device::Cpu));
}

fn batch(config: &ModelConfig, len: usize) -> Batch {
    let mut rng = ChaCha8Rng::seed_from_u64(79);
    let (template, search) = (config.template_px, config.search_px);
    let mut bytes =
        |px: usize| -> Vec<u8> { (0..len * px * px * 3).map(|_| rng.random()).collect() };
    let side = search as f32;
    Batch {
        len,
        template_px: template,
        search_px: search,
        template_rgb: bytes(template),
        template_latest_rgb: bytes(template),
        search_rgb: bytes(search),
        box_in_search: (0..len)
            .map(|i| {
                let from = (0.1 + 0.05 * i as f32) * side;
                [from, from, from + 0.4 * side, from + 0.3 * side]
            })
            .collect(),
        present: (0..len).map(|i| f32::from(i % 4 != 3)).collect(),
        instance: (0..len as u64).collect(),
        has_distinct_latest: (0..len).map(|i| i % 2 == 0).collect(),
    }
}

/// What three steps of training leave behind.
#[derive(Debug, PartialEq)]
struct Trained {
    /// Parts of the loss and norm of the gradients, step by step.
    losses: Vec<Vec<f32>>,
    /// Gradients of the first step.
    gradients: Snapshot,
    weights: Snapshot,
    average: Snapshot,
}

fn train(device: &Device, precision: Precision) -> Trained {
    let config = ModelConfig {
        stage_channels: vec![8, 12],
        plain_convs: vec![0, 1],
        residual_pairs: vec![0, 1],
        feature_channels: 16,
        head_channels: 12,
        embedding: 8,
        template_px: 32,
        search_px: 64,
    };
    let net = || TrackerNet::new(&config, 3, device).unwrap();
    let mut task = TrackTask::new(
        net(),
        net(),
        LossConfig::default(),
        precision,
        3,
        device,
        vec![batch(&config, 4)],
    );
    let start = task.params().snapshot().unwrap();
    let mut descent = Descent::new(task.params(), AdamW::default(), start).unwrap();
    let batch = batch(&config, 8);
    let mut losses = Vec::new();
    let mut first = Snapshot::default();
    for step in 0..3 {
        let loss = task.loss(&batch, step).unwrap();
        let gradients = loss.total.backward().unwrap();
        if step == 0 {
            for (name, var) in &task.params().vars {
                let gradient = values(gradients.get(var).unwrap());
                first.values.insert(name.clone(), gradient);
            }
        }
        let norm = descent
            .step(task.params(), &gradients, 1e-3, &OptimConfig::default())
            .unwrap();
        descent.average_towards(task.params(), 0.5).unwrap();
        let mut parts: Vec<f32> = loss.parts.iter().map(|(_, value)| *value).collect();
        parts.push(norm as f32);
        losses.push(parts);
    }
    let average = descent.average().unwrap();
    task.validate(&average).unwrap();
    Trained {
        losses,
        gradients: first,
        weights: task.params().snapshot().unwrap(),
        average,
    }
}

/// All values of a snapshot, after a check that the names are the same.
fn flat(found: &Snapshot, names: &Snapshot) -> Vec<f32> {
    assert!(found.values.keys().eq(names.values.keys()));
    found.values.values().flatten().copied().collect()
}

#[test]
fn training_on_the_gpu_follows_the_cpu_and_repeats_to_the_bit() {
    let Some(gpu) = gpu() else { return };
    let found = train(&gpu, Precision::F32);
    let expected = train(&Device::Cpu, Precision::F32);
    for (found, expected) in found.losses.iter().zip(&expected.losses) {
        assert_close("losses", found, expected, 1e-3);
    }
    let gradients = flat(&found.gradients, &expected.gradients);
    assert_close(
        "gradients",
        &gradients,
        &flat(&expected.gradients, &expected.gradients),
        1e-3,
    );
    // Adam divides by the gradient's own size. Where that is nothing but rounding (a shift that the next normalisation
    // takes out again), its sign differs, and with it steps of 1e-3; so weights agree on the whole, not each.
    for (found, expected) in [
        (&found.weights, &expected.weights),
        (&found.average, &expected.average),
    ] {
        let (found, expected) = (flat(found, expected), flat(expected, expected));
        let apart: Vec<f32> = found
            .iter()
            .zip(&expected)
            .map(|(f, e)| (f - e).abs())
            .collect();
        let far = apart.iter().filter(|d| **d > 1e-4).count();
        assert!(
            far * 20 < apart.len(),
            "{far} of {} weights are more than a tenth of a step apart",
            apart.len()
        );
    }
    assert_eq!(train(&gpu, Precision::F32), found);
}

#[test]
fn training_in_bf16_on_the_gpu_stays_near_f32() {
    let Some(gpu) = gpu() else { return };
    let found = train(&gpu, Precision::Bf16);
    let expected = train(&gpu, Precision::F32);
    assert_close("losses", &found.losses[0], &expected.losses[0], 5e-2);
}
