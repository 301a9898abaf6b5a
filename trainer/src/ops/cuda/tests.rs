//! The GPU's steps and kernels on this processor, against the operators of the CPU.
//!
//! Every test runs twice, with the threads of a block taking turns from the first and from the last one: a missing barrier
//! gives two results.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::conv::Plan;
use super::descent::{Descent, Variable};
use super::engine::{Arg, Engine, Factor, kernels};
use super::host::{Buffer, Host};
use super::layer::{Gradients, Layer};
use super::norm::{Mask, Rows, Statistics};
use super::{pixels, pool};
use crate::ops::conv::Geometry;
use crate::ops::{BnStats, ConvBn, Precision, RunningStats, batch_norm, conv2d, global_max_pool};
use crate::optim::{AdamW, OptimConfig};
use crate::params::{Init, ParamBuilder};

/// Images `[N, H, W, Ci]`, weights `[kh, kw, Ci, Co]`, stride, padding: those of the networks, and odd ones.
const SHAPES: [([usize; 4], [usize; 4], usize, usize); 12] = [
    ([2, 8, 8, 16], [3, 3, 16, 32], 1, 1),
    ([3, 8, 10, 8], [3, 3, 8, 16], 2, 1),
    ([2, 9, 7, 5], [3, 3, 5, 7], 2, 1),
    ([2, 16, 16, 3], [3, 3, 3, 16], 2, 1),
    ([2, 4, 6, 96], [1, 1, 96, 4], 1, 0),
    ([2, 5, 5, 7], [1, 1, 7, 33], 1, 0),
    ([2, 5, 6, 4], [1, 1, 4, 6], 2, 0),
    ([2, 6, 7, 4], [3, 2, 4, 5], 1, 0),
    ([2, 9, 9, 2], [5, 3, 2, 3], 3, 2),
    ([1, 6, 9, 12], [3, 3, 12, 20], 1, 1),
    ([9, 3, 3, 2], [2, 2, 2, 3], 2, 1),
    ([1, 3, 2, 4], [1, 1, 4, 300], 1, 0),
];

/// The engine in both orders of turns; empty, with a reason printed, without a C++ compiler.
fn hosts() -> Vec<Host> {
    Host::new()
        .map(|host| vec![host.clone(), host.backwards()])
        .unwrap_or_default()
}

fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Asserts that the largest difference, relative to the largest expected magnitude, is below `tolerance`.
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

/// Tolerance for a precision: the orders of summation differ, and bf16 rounds in both, the same values the same way.
fn tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::F32 | Precision::Tf32 => 2e-6,
        Precision::Bf16 => 1e-2,
    }
}

#[test]
fn every_kernel_is_found_under_its_name_with_the_kinds_of_arguments_it_takes() {
    for host in hosts() {
        for kernel in kernels::ALL {
            // No arguments are never right, so a kernel that is there says so and does not run.
            let error = host.launch(*kernel, [1, 1], &[]).unwrap_err().to_string();
            assert!(error.contains("other parameters"), "{error}");
        }
        let wrong = [Arg::Null, Arg::Null, Arg::F32(1.)];
        assert!(host.launch(kernels::ROUND_TO_BF16, [1, 1], &wrong).is_err());
    }
}

/// Result and gradients of a convolution by the GPU's steps.
fn convolution(
    host: &Host,
    plan: &Plan<'_>,
    g: &Geometry,
    [x, w, y_gradient]: [&[f32]; 3],
) -> [Vec<f32>; 3] {
    let [x, w, dy] = [x, w, y_gradient].map(|values| host.upload(values).unwrap());
    let lens = [
        g.images * g.out_len(),
        g.images * g.image_len(),
        g.weight_len(),
    ];
    let [y, dx, dw] = lens.map(|len| host.allocate(len).unwrap());
    plan.forward(host, host.span(&x), host.span(&w), host.span(&y))
        .unwrap();
    let rounded = plan.rounded(host, host.span(&dy), lens[0]).unwrap();
    let dy = rounded.as_ref().unwrap_or(&dy);
    let (x, w, dy) = (host.span(&x), host.span(&w), host.span(dy));
    let gradients = [&dx, &dw].map(|buffer| Some(host.span(buffer)));
    plan.backward(host, x, w, dy, gradients[0], gradients[1])
        .unwrap();
    [(y, lens[0]), (dx, lens[1]), (dw, lens[2])]
        .map(|(buffer, len)| host.download(&buffer, len).unwrap())
}

#[test]
fn convolution_and_its_gradients_equal_those_of_the_cpu() {
    let mut rng = ChaCha8Rng::seed_from_u64(41);
    for (x_shape, w_shape, stride, padding) in SHAPES {
        let g = Geometry::new(&x_shape, &w_shape, stride, padding).unwrap();
        let [x, w] = [x_shape, w_shape].map(|s| random(&mut rng, s.iter().product()));
        let dy = random(&mut rng, g.images * g.out_len());
        for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
            let (xv, wv) = (
                Var::from_tensor(&tensor(&x, &x_shape)).unwrap(),
                Var::from_tensor(&tensor(&w, &w_shape)).unwrap(),
            );
            let y = conv2d(&xv, &wv, stride, padding, precision).unwrap();
            let grads = (&y * tensor(&dy, y.dims()))
                .unwrap()
                .sum_all()
                .unwrap()
                .backward()
                .unwrap();
            let expected = [&y, grads.get(&xv).unwrap(), grads.get(&wv).unwrap()].map(values);
            for host in hosts() {
                // All images at once, and one at a time.
                for bytes in [usize::MAX, 1] {
                    let plan = Plan::new(&g, precision).with_column_bytes(bytes);
                    let found = convolution(&host, &plan, &g, [&x, &w, &dy]);
                    for (name, (found, expected)) in
                        ["result", "x", "w"].iter().zip(found.iter().zip(&expected))
                    {
                        let what = format!(
                            "{name} of {x_shape:?} {w_shape:?} s{stride} p{padding} {precision:?}"
                        );
                        assert_close(&what, found, expected, tolerance(precision));
                    }
                }
            }
        }
    }
}

#[test]
fn bf16_products_are_those_of_rounded_factors_with_f32_sums() {
    // The CPU may lack bf16 and compute in f32, so the expectation is f32 arithmetic on values that are bf16 already.
    let round = |v: f32| f32::from_bits((v.to_bits() + 0x8000) & 0xffff_0000);
    let mut rng = ChaCha8Rng::seed_from_u64(43);
    for (x_shape, w_shape, stride, padding) in SHAPES {
        let g = Geometry::new(&x_shape, &w_shape, stride, padding).unwrap();
        let mut draw = |len| {
            random(&mut rng, len)
                .into_iter()
                .map(round)
                .collect::<Vec<_>>()
        };
        let (x, w) = (
            draw(x_shape.iter().product()),
            draw(w_shape.iter().product()),
        );
        let dy = draw(g.images * g.out_len());
        for host in hosts() {
            let [bf16, f32] = [Precision::Bf16, Precision::F32]
                .map(|p| convolution(&host, &Plan::new(&g, p), &g, [&x, &w, &dy]));
            for (found, expected) in bf16.iter().zip(&f32) {
                assert_close("bf16", found, expected, 1e-6);
            }
        }
    }
}

#[test]
fn rounding_to_bf16_is_to_nearest_even_and_keeps_nan() {
    let values = [
        1.0,
        -1.0,
        0.0,
        f32::NAN,
        f32::INFINITY,
        f32::MAX,
        1.003_906_2,
        1.011_718_8,
        1e-40,
        -3.137_6,
    ];
    for host in hosts() {
        let (source, rounded) = (
            host.upload(&values).unwrap(),
            host.allocate(values.len().div_ceil(2)).unwrap(),
        );
        let arguments = [
            Arg::Memory(host.span(&source)),
            Arg::Memory(host.span(&rounded)),
            Arg::U32(values.len() as u32),
        ];
        host.launch_each(kernels::ROUND_TO_BF16, values.len(), &arguments)
            .unwrap();
        let words = host.download(&rounded, values.len() / 2).unwrap();
        let found: Vec<f32> = words
            .iter()
            .flat_map(|word| [word.to_bits() << 16, word.to_bits() & 0xffff_0000])
            .map(f32::from_bits)
            .collect();
        assert!(found[3].is_nan());
        // Halfway cases go to the even neighbour: down to 1, and up to 1 + 2/128.
        let expected = [1., -1., 0., 0., f32::INFINITY, f32::INFINITY, 1., 1.015_625];
        for (i, expected) in expected.iter().enumerate().filter(|(i, _)| *i != 3) {
            assert_eq!(found[i], *expected, "{}", values[i]);
        }
        assert!((found[9] + 3.140_625).abs() < 1e-6);
    }
}

#[test]
fn four_channels_at_a_time_give_the_bytes_of_one_at_a_time() {
    let g = Geometry::new(&[2, 5, 6, 8], &[3, 3, 8, 4], 2, 1).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(47);
    let inputs = [2 * 5 * 6 * 8, 9 * 8 * 4, g.images * g.out_len()].map(|n| random(&mut rng, n));
    for host in hosts() {
        let plan = Plan::new(&g, Precision::F32);
        let aligned = convolution(&host, &plan, &g, [&inputs[0], &inputs[1], &inputs[2]]);
        assert!(host.launches().contains(&"im2col_f32_4"));
        assert!(host.launches().contains(&"col2im_4"));
        // Behind one more value, the images start where sixteen bytes do not divide the address.
        let shifted = host.upload(&[&[0.], &inputs[0][..]].concat()).unwrap();
        let w = host.upload(&inputs[1]).unwrap();
        let y = host.allocate(inputs[2].len()).unwrap();
        let x = host.span(&shifted).words(1, inputs[0].len()).unwrap();
        plan.forward(&host, x, host.span(&w), host.span(&y))
            .unwrap();
        assert!(host.launches().contains(&"im2col_f32_1"));
        assert_eq!(host.download(&y, inputs[2].len()).unwrap(), aligned[0]);
    }
}

fn stats(running: &RunningStats, training: bool) -> BnStats {
    let running = running.clone().into_shared();
    if training {
        BnStats::Training {
            running,
            momentum: 0.1,
        }
    } else {
        BnStats::Frozen { running }
    }
}

fn statistics<'a>(host: &Host, running: &'a Buffer, training: bool) -> Statistics<'a> {
    let running = host.span(running);
    if training {
        Statistics::Batch {
            running,
            momentum: 0.1,
        }
    } else {
        Statistics::Frozen { running }
    }
}

/// Normalisation by the GPU's steps and by the CPU, results, gradients and running statistics.
fn check_norm(shape: [usize; 4], relu: bool, with_residual: bool, training: bool) {
    let mut rng = ChaCha8Rng::seed_from_u64(53);
    let (len, channels) = (shape.iter().product(), shape[3]);
    let rows = Rows {
        rows: len / channels,
        channels,
    };
    let x: Vec<f32> = random(&mut rng, len)
        .iter()
        .enumerate()
        // Means away from zero, as in a network: up to two deviations. Further out, both sides lose digits of the
        // variance to sums of squares in f32.
        .map(|(i, x)| x + (i % channels % 10) as f32 * 0.1)
        .collect();
    let [gamma, beta] = [channels; 2].map(|n| random(&mut rng, n));
    let [residual, g] = [len; 2].map(|n| random(&mut rng, n));
    let start = RunningStats {
        mean: random(&mut rng, channels),
        variance: random(&mut rng, channels).iter().map(|v| v + 1.5).collect(),
    };

    let on_cpu = stats(&start, training);
    let vars = [
        (&x, &shape[..]),
        (&gamma, &shape[3..]),
        (&beta, &shape[3..]),
        (&residual, &shape),
    ]
    .map(|(values, shape)| Var::from_tensor(&tensor(values, shape)).unwrap());
    let residual_tensor = with_residual.then(|| vars[3].as_tensor());
    let y = batch_norm(&vars[0], &vars[1], &vars[2], residual_tensor, relu, &on_cpu).unwrap();
    let grads = (&y * tensor(&g, &shape))
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let gradient = |i: usize| values(grads.get(&vars[i]).unwrap());
    let after = on_cpu.running().lock().unwrap().clone();

    for host in hosts() {
        let upload = |values: &[f32]| host.upload(values).unwrap();
        let [u, dy, gammas, betas, added] =
            [&x, &g, &gamma, &beta, &residual].map(|values| upload(values));
        let running = upload(&[&start.mean[..], &start.variance].concat());
        let [out, du, masked] = [len; 3].map(|n| host.allocate(n).unwrap());
        let affine = host.allocate(2 * channels).unwrap();
        let span = |buffer| host.span(buffer);
        let coefficients = rows
            .forward(
                &host,
                statistics(&host, &running, training),
                span(&u),
                span(&gammas),
                span(&betas),
                with_residual.then(|| span(&added)),
                relu,
                span(&out),
            )
            .unwrap();
        let masks = match (relu, with_residual) {
            (false, _) => vec![Mask::All],
            (true, false) => vec![Mask::Affine, Mask::Result(span(&out))],
            (true, true) => vec![Mask::Result(span(&out))],
        };
        let name = format!("{shape:?} relu {relu} residual {with_residual} training {training}");
        assert_close(&name, &host.download(&out, len).unwrap(), &values(&y), 2e-6);
        for mask in masks {
            let input = rows
                .affine_gradient(
                    &host,
                    training,
                    span(&u),
                    span(&dy),
                    mask,
                    span(&gammas),
                    &coefficients,
                    span(&affine),
                )
                .unwrap();
            rows.input_gradient(
                &host,
                span(&u),
                span(&dy),
                mask,
                &coefficients,
                &input,
                Factor::F32,
                Some(span(&du)),
                with_residual.then(|| span(&masked)),
            )
            .unwrap();
            let found = host.download(&affine, 2 * channels).unwrap();
            assert_close(&name, &host.download(&du, len).unwrap(), &gradient(0), 1e-5);
            assert_close(&name, &found[..channels], &gradient(1), 1e-5);
            assert_close(&name, &found[channels..], &gradient(2), 1e-5);
            if with_residual {
                assert_eq!(host.download(&masked, len).unwrap(), gradient(3), "{name}");
            }
        }
        let moved = host.download(&running, 2 * channels).unwrap();
        assert_close(&name, &moved[..channels], &after.mean, 1e-6);
        assert_close(&name, &moved[channels..], &after.variance, 1e-6);
    }
}

#[test]
fn batch_norm_and_its_gradients_equal_those_of_the_cpu() {
    // Few and many channels, more than a block has threads, and more rows than one run of sums.
    for shape in [
        [2, 3, 4, 16],
        [3, 2, 3, 5],
        [1, 5, 2, 37],
        [1, 1, 5, 1],
        [1, 3, 3, 300],
        [3, 40, 50, 4],
    ] {
        for relu in [false, true] {
            for with_residual in [false, true] {
                for training in [false, true] {
                    check_norm(shape, relu, with_residual, training);
                }
            }
        }
    }
}

/// The fused layer by the GPU's steps and by the CPU.
fn check_layer(case: usize, relu: bool, with_residual: bool, training: bool, precision: Precision) {
    let (x_shape, w_shape, stride, padding) = SHAPES[case];
    let g = Geometry::new(&x_shape, &w_shape, stride, padding).unwrap();
    let channels = g.outputs;
    if training && g.images * g.out_h * g.out_w < 2 {
        return;
    }
    let out_shape = [g.images, g.out_h, g.out_w, g.outputs];
    let mut rng = ChaCha8Rng::seed_from_u64(59);
    // Values that are bf16 already, so that a CPU without bf16 computes the same products.
    let round = |v: f32| f32::from_bits((v.to_bits() + 0x8000) & 0xffff_0000);
    let mut draw =
        |len: usize| -> Vec<f32> { random(&mut rng, len).into_iter().map(round).collect() };
    let (x, w) = (
        draw(x_shape.iter().product()),
        draw(w_shape.iter().product()),
    );
    let (gamma, beta) = (draw(channels), draw(channels));
    let [residual, dy] = [g.images * g.out_len(); 2].map(&mut draw);
    let start = RunningStats {
        mean: vec![0.1; channels],
        variance: vec![2.; channels],
    };

    let on_cpu = stats(&start, training);
    let shapes = [&x_shape[..], &w_shape, &[channels], &[channels], &out_shape];
    let vars: Vec<Var> = [&x, &w, &gamma, &beta, &residual]
        .iter()
        .zip(shapes)
        .map(|(values, shape)| Var::from_tensor(&tensor(values, shape)).unwrap())
        .collect();
    let layer = ConvBn {
        weight: &vars[1],
        gamma: &vars[2],
        beta: &vars[3],
        stats: &on_cpu,
        stride,
        padding,
        relu,
        // The reference is always f32: bf16 differs from it by the rounding of one gradient.
        precision: Precision::F32,
    };
    let residual_tensor = with_residual.then(|| vars[4].as_tensor());
    let y = layer.forward(&vars[0], residual_tensor).unwrap();
    let grads = (&y * tensor(&dy, &out_shape))
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let gradient = |i: usize| values(grads.get(&vars[i]).unwrap());

    for host in hosts() {
        let upload = |values: &[f32]| host.upload(values).unwrap();
        let [x, added, dy] = [&x, &residual, &dy].map(|values| upload(values));
        let parameters = upload(&[&w[..], &gamma, &beta].concat());
        let running = upload(&[&start.mean[..], &start.variance].concat());
        let [out, masked] = [g.images * g.out_len(); 2].map(|n| host.allocate(n).unwrap());
        let dx = host.allocate(g.images * g.image_len()).unwrap();
        let dp = host.allocate(g.weight_len() + 2 * channels).unwrap();
        let span = |buffer| host.span(buffer);
        let layer = Layer::new(&g, precision, relu);
        let saved = layer
            .forward(
                &host,
                statistics(&host, &running, training),
                span(&x),
                span(&parameters),
                with_residual.then(|| span(&added)),
                span(&out),
            )
            .unwrap();
        layer
            .backward(
                &host,
                &saved,
                training,
                span(&x),
                span(&parameters),
                with_residual,
                span(&out),
                span(&dy),
                &Gradients {
                    x: Some(span(&dx)),
                    parameters: span(&dp),
                    residual: (with_residual && relu).then(|| span(&masked)),
                },
            )
            .unwrap();
        let name = format!(
            "{w_shape:?} relu {relu} residual {with_residual} training {training} {precision:?}"
        );
        let tolerance = match precision {
            Precision::F32 | Precision::Tf32 => 2e-5,
            Precision::Bf16 => 1e-2,
        };
        let download = |buffer: &Buffer, len: usize| host.download(buffer, len).unwrap();
        assert_close(&name, &download(&out, residual.len()), &values(&y), 2e-5);
        assert_close(
            &name,
            &download(&dx, g.images * g.image_len()),
            &gradient(0),
            tolerance,
        );
        let dp = download(&dp, g.weight_len() + 2 * channels);
        let (dw, affine) = dp.split_at(g.weight_len());
        assert_close(&name, dw, &gradient(1), tolerance);
        assert_close(&name, &affine[..channels], &gradient(2), 2e-5);
        assert_close(&name, &affine[channels..], &gradient(3), 2e-5);
        if with_residual && relu {
            assert_eq!(download(&masked, residual.len()), gradient(4), "{name}");
        }
    }
}

#[test]
fn the_fused_layer_and_its_gradients_equal_those_of_the_cpu() {
    for case in 0..SHAPES.len() {
        for relu in [false, true] {
            for with_residual in [false, true] {
                check_layer(case, relu, with_residual, true, Precision::F32);
            }
        }
    }
    check_layer(0, true, true, false, Precision::F32);
    check_layer(2, true, false, false, Precision::F32);
}

#[test]
fn the_fused_layer_in_bf16_rounds_factors_only() {
    for case in [0, 2, 3, 4, 9] {
        check_layer(case, true, true, true, Precision::Bf16);
        check_layer(case, false, false, true, Precision::Bf16);
    }
}

#[test]
fn global_maxima_and_their_gradients_equal_those_of_the_cpu() {
    let mut rng = ChaCha8Rng::seed_from_u64(61);
    for [n, h, w, c] in [[2, 3, 4, 5], [3, 1, 1, 7], [1, 16, 16, 96]] {
        // Few different values, so that maxima tie: the first one counts.
        let x: Vec<f32> = (0..n * h * w * c)
            .map(|_| rng.random_range(-3..3) as f32)
            .collect();
        let g = random(&mut rng, n * c);
        let var = Var::from_tensor(&tensor(&x, &[n, h, w, c])).unwrap();
        let y = global_max_pool(&var).unwrap();
        let grads = (&y * tensor(&g, &[n, c]))
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        for host in hosts() {
            let maps = pool::Maps {
                images: n,
                positions: h * w,
                channels: c,
            };
            let (source, dy) = (host.upload(&x).unwrap(), host.upload(&g).unwrap());
            let (out, dx) = (
                host.allocate(n * c).unwrap(),
                host.allocate(x.len()).unwrap(),
            );
            let position = maps
                .forward(&host, host.span(&source), host.span(&out))
                .unwrap();
            maps.backward(&host, host.span(&dy), &position, host.span(&dx))
                .unwrap();
            assert_eq!(host.download(&out, n * c).unwrap(), values(&y));
            let expected = values(grads.get(&var).unwrap());
            assert_eq!(host.download(&dx, x.len()).unwrap(), expected);
        }
    }
}

#[test]
fn bytes_become_the_values_of_the_cpu_to_the_bit() {
    let bytes: Vec<u8> = (0..=255).chain(0..=255).chain(3..70).collect();
    let (mean, scale) = (114f32, 1f32 / 58.);
    for host in hosts() {
        let words: Vec<f32> = bytes
            .chunks(4)
            .map(|c| {
                let mut word = [0; 4];
                word[..c.len()].copy_from_slice(c);
                f32::from_bits(u32::from_le_bytes(word))
            })
            .collect();
        let (source, out) = (
            host.upload(&words).unwrap(),
            host.allocate(bytes.len()).unwrap(),
        );
        let (from, to) = (host.span(&source), host.span(&out));
        pixels::normalise(&host, from, bytes.len(), mean, scale, to).unwrap();
        let expected: Vec<f32> = bytes
            .iter()
            .map(|b| (f32::from(*b) - mean) * scale)
            .collect();
        assert_eq!(host.download(&out, bytes.len()).unwrap(), expected);
    }
}

#[test]
fn descent_moves_weights_moments_and_average_as_on_the_cpu() {
    let config = OptimConfig {
        clip_norm: 0.5,
        weight_decay: 0.1,
        ..OptimConfig::default()
    };
    let shapes: [(&str, &[usize]); 3] = [("bias", &[7]), ("long", &[3, 3000]), ("weight", &[4, 5])];
    for host in hosts() {
        let mut builder = ParamBuilder::new(5, &Device::Cpu);
        for (name, shape) in shapes {
            builder.var(name, shape, Init::Normal { std: 1. }).unwrap();
        }
        let params = builder.finish();
        let mut average = params.snapshot().unwrap();
        let mut adam = AdamW::default();

        let mut descent = Descent::<Host>::new(0);
        let on_device: Vec<(Buffer, usize)> = average
            .values
            .values()
            .map(|v| (host.upload(v).unwrap(), v.len()))
            .collect();
        for (name, values) in &average.values {
            descent.set_average(&host, name, values).unwrap();
        }
        let mut rng = ChaCha8Rng::seed_from_u64(67);
        for step in 0..4 {
            // The gradient of a sum of products is the other factor. The second variable has none at first.
            let factors: Vec<Vec<f32>> = params
                .vars
                .values()
                .map(|v| random(&mut rng, v.elem_count()))
                .collect();
            let takes_part = |name: &str| name != "long" || step > 0;
            let mut loss = Tensor::new(0f32, &Device::Cpu).unwrap();
            for ((name, var), factor) in params.vars.iter().zip(&factors) {
                if takes_part(name) {
                    let product = (var.as_tensor() * tensor(factor, var.dims())).unwrap();
                    loss = (loss + product.sum_all().unwrap()).unwrap();
                }
            }
            let expected = adam
                .step(&params, &loss.backward().unwrap(), 0.01, &config)
                .unwrap();
            average.blend_towards(&params.snapshot().unwrap(), 0.9);

            let gradients: Vec<Buffer> = factors.iter().map(|f| host.upload(f).unwrap()).collect();
            let variables: Vec<Variable<'_>> = params
                .vars
                .iter()
                .zip(on_device.iter().zip(&gradients))
                .filter(|((name, _), _)| takes_part(name))
                .map(|((name, var), ((values, len), gradient))| Variable {
                    name,
                    len: *len,
                    values: host.span(values),
                    gradient: host.span(gradient),
                    decays: var.rank() > 1,
                })
                .collect();
            let norm = descent.step(&host, &variables, 0.01, &config).unwrap();
            assert!((norm / expected - 1.).abs() < 1e-12, "{norm} {expected}");
            for (name, (values, _)) in params.vars.keys().zip(&on_device) {
                descent.blend(&host, name, host.span(values), 0.9).unwrap();
            }
        }
        let [first, second] = descent.moments(&host).unwrap();
        assert_eq!(first.keys().collect::<Vec<_>>(), ["bias", "long", "weight"]);
        let moved = descent.average(&host).unwrap();
        for ((name, var), (buffer, len)) in params.vars.iter().zip(&on_device) {
            let close = |what: &str, found: &[f32], expected: &[f32]| {
                assert_close(&format!("{what} of {name}"), found, expected, 1e-6);
            };
            close(
                "weights",
                &host.download(buffer, *len).unwrap(),
                &values(var.as_tensor()),
            );
            close("first moment", &first[name], &adam.first.values[name]);
            close("second moment", &second[name], &adam.second.values[name]);
            close("average", &moved[name], &average.values[name]);
        }
        assert_eq!(descent.updates, 4);
    }
}

#[test]
fn a_gradient_that_is_not_a_number_moves_nothing() {
    for host in hosts() {
        let mut descent = Descent::<Host>::new(3);
        let (values, gradient) = (
            host.upload(&[1., 2., 3.]).unwrap(),
            host.upload(&[1., f32::INFINITY, 0.]).unwrap(),
        );
        let variable = Variable {
            name: "x",
            len: 3,
            values: host.span(&values),
            gradient: host.span(&gradient),
            decays: false,
        };
        let norm = descent
            .step(&host, &[variable], 0.1, &OptimConfig::default())
            .unwrap();
        assert!(!norm.is_finite());
        assert_eq!(host.download(&values, 3).unwrap(), [1., 2., 3.]);
        assert_eq!(descent.updates, 3);
    }
}
