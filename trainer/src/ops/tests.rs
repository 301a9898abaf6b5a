//! Tests of the operators against candle's own forward pass and `f64` references.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::reference::{self, Images};
use super::*;

struct Case {
    x: [usize; 4],
    w: [usize; 4],
    stride: usize,
    padding: usize,
}

/// Shapes that meet every path: tiles and panels that do not fill, odd sizes, odd channels, phases without taps.
const CASES: [Case; 12] = [
    Case {
        x: [2, 8, 8, 16],
        w: [3, 3, 16, 32],
        stride: 1,
        padding: 1,
    },
    Case {
        x: [3, 8, 10, 8],
        w: [3, 3, 8, 16],
        stride: 2,
        padding: 1,
    },
    Case {
        x: [2, 9, 7, 5],
        w: [3, 3, 5, 7],
        stride: 2,
        padding: 1,
    },
    Case {
        x: [2, 16, 16, 3],
        w: [3, 3, 3, 16],
        stride: 2,
        padding: 1,
    },
    Case {
        x: [1, 7, 5, 3],
        w: [3, 3, 3, 4],
        stride: 1,
        padding: 1,
    },
    Case {
        x: [2, 4, 6, 96],
        w: [1, 1, 96, 4],
        stride: 1,
        padding: 0,
    },
    Case {
        x: [2, 5, 5, 7],
        w: [1, 1, 7, 33],
        stride: 1,
        padding: 0,
    },
    Case {
        x: [2, 5, 6, 4],
        w: [1, 1, 4, 6],
        stride: 2,
        padding: 0,
    },
    Case {
        x: [2, 6, 7, 4],
        w: [3, 2, 4, 5],
        stride: 1,
        padding: 0,
    },
    Case {
        x: [2, 9, 9, 2],
        w: [5, 3, 2, 3],
        stride: 3,
        padding: 2,
    },
    Case {
        x: [1, 13, 29, 2],
        w: [3, 3, 2, 48],
        stride: 1,
        padding: 1,
    },
    Case {
        x: [35, 3, 3, 2],
        w: [2, 2, 2, 3],
        stride: 2,
        padding: 1,
    },
];

fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn as_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Largest difference, relative to the largest expected magnitude.
fn difference(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
    found
        .iter()
        .zip(expected)
        .fold(0., |m: f64, (f, e)| m.max((f64::from(*f) - e).abs()))
        / size
}

/// The operator's result and gradients of `sum(y * g)` against the reference, for inputs passed through `round`.
fn check_conv(case: &Case, precision: Precision, round: impl Fn(f32) -> f32, tolerance: f64) {
    let Case {
        x: x_shape,
        w: w_shape,
        stride,
        padding,
    } = *case;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut draw = |shape: &[usize]| {
        random(&mut rng, shape.iter().product())
            .into_iter()
            .map(&round)
            .collect::<Vec<_>>()
    };
    let (x, w) = (draw(&x_shape), draw(&w_shape));
    let reference_x = Images {
        shape: x_shape,
        values: as_f64(&x),
    };
    let reference_w = Images {
        shape: w_shape,
        values: as_f64(&w),
    };
    let y = reference::conv2d(&reference_x, &reference_w, stride, padding);
    let g = draw(&y.shape);
    let reference_g = Images {
        shape: y.shape,
        values: as_f64(&g),
    };
    let (dx, dw) =
        reference::conv2d_grads(&reference_x, &reference_w, &reference_g, stride, padding);

    let x = Var::from_tensor(&tensor(&x, &x_shape)).unwrap();
    let w = Var::from_tensor(&tensor(&w, &w_shape)).unwrap();
    let found = conv2d(&x, &w, stride, padding, precision).unwrap();
    assert_eq!(found.dims(), y.shape);
    let grads = (&found * tensor(&g, &y.shape))
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let errors = [
        difference(&values(&found), &y.values),
        difference(&values(grads.get(&x).unwrap()), &dx),
        difference(&values(grads.get(&w).unwrap()), &dw),
    ];
    assert!(
        errors.iter().all(|e| *e < tolerance),
        "{x_shape:?} {w_shape:?} s{stride} p{padding}: {errors:?}"
    );
}

#[test]
fn convolution_and_its_gradients_match_the_f64_reference() {
    for case in &CASES {
        check_conv(case, Precision::F32, |v| v, 1e-5);
    }
}

#[test]
fn bf16_convolution_of_rounded_operands_matches_the_f64_reference() {
    // Products of bf16 values are exact in f32, so what is left is f32 summation.
    let round = |v: f32| f32::from_bits((v.to_bits() + 0x8000) & 0xffff_0000);
    for case in &CASES {
        check_conv(case, Precision::Bf16, round, 1e-5);
    }
}

#[test]
fn bf16_convolution_stays_within_bf16_rounding() {
    for case in &CASES {
        check_conv(case, Precision::Bf16, |v| v, 1e-2);
    }
}

#[test]
fn convolution_reference_gradients_match_finite_differences() {
    let case = &CASES[2];
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut draw = |shape: [usize; 4]| Images {
        shape,
        values: as_f64(&random(&mut rng, shape.iter().product())),
    };
    let (mut x, mut w) = (draw(case.x), draw(case.w));
    let g = draw(reference::conv2d(&x, &w, case.stride, case.padding).shape);
    let (dx, dw) = reference::conv2d_grads(&x, &w, &g, case.stride, case.padding);
    let loss = |x: &Images, w: &Images| -> f64 {
        reference::conv2d(x, w, case.stride, case.padding)
            .values
            .iter()
            .zip(&g.values)
            .map(|(y, g)| y * g)
            .sum()
    };
    for i in (0..dx.len()).step_by(37) {
        let at = x.values[i];
        let [above, below] = [1e-5, -1e-5].map(|step| {
            x.values[i] = at + step;
            loss(&x, &w)
        });
        x.values[i] = at;
        assert!(((above - below) / 2e-5 - dx[i]).abs() < 1e-7);
    }
    for i in (0..dw.len()).step_by(29) {
        let at = w.values[i];
        let [above, below] = [1e-5, -1e-5].map(|step| {
            w.values[i] = at + step;
            loss(&x, &w)
        });
        w.values[i] = at;
        assert!(((above - below) / 2e-5 - dw[i]).abs() < 1e-7);
    }
}

#[test]
fn convolution_matches_candles_own() {
    for case in &CASES {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let x = tensor(&random(&mut rng, case.x.iter().product()), &case.x);
        let w = tensor(&random(&mut rng, case.w.iter().product()), &case.w);
        let found = conv2d(&x, &w, case.stride, case.padding, Precision::F32).unwrap();
        let stock = x
            .permute((0, 3, 1, 2))
            .unwrap()
            .contiguous()
            .unwrap()
            .conv2d(
                &w.permute((3, 2, 0, 1)).unwrap().contiguous().unwrap(),
                case.padding,
                case.stride,
                1,
                1,
            )
            .unwrap()
            .permute((0, 2, 3, 1))
            .unwrap();
        assert!(difference(&values(&found), &as_f64(&values(&stock))) < 1e-4);
    }
}

#[test]
fn convolution_takes_views_that_are_not_contiguous() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let x = tensor(&random(&mut rng, 2 * 6 * 6 * 4), &[2, 6, 4, 6])
        .transpose(2, 3)
        .unwrap();
    let w = tensor(&random(&mut rng, 9 * 4 * 8), &[3, 3, 4, 8]);
    let direct = conv2d(&x, &w, 1, 1, Precision::F32).unwrap();
    let copied = conv2d(&x.contiguous().unwrap(), &w, 1, 1, Precision::F32).unwrap();
    assert_eq!(values(&direct), values(&copied));
}

#[test]
fn images_that_nobody_differentiates_get_no_gradient() {
    let x = Tensor::ones((1, 4, 4, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    let w = Var::ones((3, 3, 3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
    let grads = conv2d(&x, &w, 1, 1, Precision::F32)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    assert!(grads.get(&x).is_none());
    assert!(grads.get(&w).is_some());
}

#[test]
fn convolution_of_shapes_that_do_not_fit_is_an_error() {
    let check = |x: &[usize], w: &[usize], stride: usize| {
        let (x, w) = (
            tensor(&vec![0.; x.iter().product()], x),
            tensor(&vec![0.; w.iter().product()], w),
        );
        conv2d(&x, &w, stride, 0, Precision::F32)
            .unwrap_err()
            .to_string()
    };
    assert!(check(&[1, 4, 4, 3], &[3, 3, 4, 8], 1).contains("expect 4"));
    assert!(check(&[1, 2, 2, 3], &[3, 3, 3, 8], 1).contains("smaller than the kernel"));
    assert!(check(&[1, 4, 4, 3], &[3, 3, 3, 8], 0).contains("zero"));
    assert!(check(&[4, 4, 3], &[3, 3, 3, 8], 1).contains("expected images"));
}

/// Result and all gradients of `sum(y * g)` against the reference.
fn check_batch_norm(shape: [usize; 4], relu: bool, with_residual: bool, training: bool) {
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let channels = shape[3];
    let len = shape.iter().product();
    let mut arguments: Vec<Vec<f32>> = [len, channels, channels]
        .into_iter()
        .map(|n| random(&mut rng, n))
        .collect();
    if with_residual {
        arguments.push(random(&mut rng, len));
    }
    // Means away from zero, as in a network, and a gamma of either sign.
    for (i, x) in arguments[0].iter_mut().enumerate() {
        *x += (i % channels) as f32 * 0.1;
    }
    let g = random(&mut rng, len);
    let start = RunningStats {
        mean: random(&mut rng, channels),
        variance: random(&mut rng, channels).iter().map(|v| v + 1.5).collect(),
    };
    let (mean, variance) = (as_f64(&start.mean), as_f64(&start.variance));
    let reference = reference::BatchNorm {
        relu,
        frozen: (!training).then_some((&mean[..], &variance[..])),
        epsilon: BN_EPSILON,
    };
    let wide: Vec<Vec<f64>> = arguments.iter().map(|a| as_f64(a)).collect();

    let running = start.clone().into_shared();
    let stats = if training {
        BnStats::Training {
            running: running.clone(),
            momentum: 0.1,
        }
    } else {
        BnStats::Frozen {
            running: running.clone(),
        }
    };
    let vars: Vec<Var> = arguments
        .iter()
        .enumerate()
        .map(|(i, a)| {
            Var::from_tensor(&tensor(a, if i % 3 == 0 { &shape } else { &shape[3..] })).unwrap()
        })
        .collect();
    let y = batch_norm(
        &vars[0],
        &vars[1],
        &vars[2],
        vars.get(3).map(|v| v.as_tensor()),
        relu,
        &stats,
    )
    .unwrap();
    assert!(difference(&values(&y), &reference.forward(&wide)) < 1e-5);
    let grads = (&y * tensor(&g, &shape))
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    for (i, (var, expected)) in vars
        .iter()
        .zip(reference.gradients(&wide, &as_f64(&g)))
        .enumerate()
    {
        let error = difference(&values(grads.get(var).unwrap()), &expected);
        assert!(
            error < 1e-4,
            "argument {i} of {shape:?}, relu {relu}, training {training}: {error}"
        );
    }

    let after = running.lock().unwrap().clone();
    if training {
        let rows = (len / channels) as f64;
        for c in 0..channels {
            let column: Vec<f64> = wide[0].iter().skip(c).step_by(channels).copied().collect();
            let batch_mean = column.iter().sum::<f64>() / rows;
            let unbiased =
                column.iter().map(|x| (x - batch_mean).powi(2)).sum::<f64>() / (rows - 1.);
            assert!((f64::from(after.mean[c]) - (0.9 * mean[c] + 0.1 * batch_mean)).abs() < 1e-5);
            assert!(
                (f64::from(after.variance[c]) - (0.9 * variance[c] + 0.1 * unbiased)).abs() < 1e-5
            );
        }
    } else {
        assert_eq!(after, start);
    }
}

#[test]
fn batch_norm_and_its_gradients_match_the_f64_reference() {
    for shape in [[2, 3, 4, 16], [3, 2, 3, 5], [2, 3, 2, 37], [1, 1, 5, 1]] {
        for relu in [false, true] {
            for with_residual in [false, true] {
                for training in [false, true] {
                    check_batch_norm(shape, relu, with_residual, training);
                }
            }
        }
    }
}

#[test]
fn batch_norm_over_several_blocks_normalises() {
    // More values than one parallel block, so that the sums of blocks are joined.
    let shape = [6, 64, 48, 16];
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let x = (tensor(&random(&mut rng, shape.iter().product()), &shape) + 3.).unwrap();
    let stats = BnStats::Training {
        running: RunningStats::new(16).into_shared(),
        momentum: 0.1,
    };
    let (one, zero) = (tensor(&[1.; 16], &[16]), tensor(&[0.; 16], &[16]));
    let y = batch_norm(&x, &one, &zero, None, false, &stats)
        .unwrap()
        .flatten(0, 2)
        .unwrap();
    assert!(
        values(&y.mean(0).unwrap())
            .iter()
            .all(|mean| mean.abs() < 1e-4)
    );
    assert!(
        values(&y.sqr().unwrap().mean(0).unwrap())
            .iter()
            .all(|variance| (variance - 1.).abs() < 1e-3)
    );
}

#[test]
fn batch_norm_of_wrong_sizes_is_an_error() {
    let stats = BnStats::Frozen {
        running: RunningStats::new(4).into_shared(),
    };
    let of = |channels: usize| tensor(&vec![1.; channels], &[channels]);
    let x = tensor(&[1.; 16], &[2, 2, 1, 4]);
    assert!(batch_norm(&x, &of(3), &of(3), None, true, &stats).is_err());
    assert!(
        batch_norm(
            &x,
            &of(4),
            &of(4),
            Some(&tensor(&[1.; 8], &[2, 1, 1, 4])),
            true,
            &stats
        )
        .is_err()
    );
    let three = BnStats::Frozen {
        running: RunningStats::new(3).into_shared(),
    };
    let error = batch_norm(&x, &of(4), &of(4), None, true, &three)
        .unwrap_err()
        .to_string();
    assert!(error.contains("3 channels"), "{error}");
    let training = BnStats::Training {
        running: RunningStats::new(4).into_shared(),
        momentum: 0.1,
    };
    let single = tensor(&[1.; 4], &[1, 1, 1, 4]);
    assert!(batch_norm(&single, &of(4), &of(4), None, true, &training).is_err());
}

#[test]
fn two_threads_give_the_same_bytes_as_one() {
    let step = |threads: usize, precision: Precision| -> Vec<Vec<u32>> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(|| {
                let mut rng = ChaCha8Rng::seed_from_u64(19);
                let x = Var::from_tensor(&tensor(
                    &random(&mut rng, 21 * 32 * 32 * 16),
                    &[21, 32, 32, 16],
                ))
                .unwrap();
                let w = Var::from_tensor(&tensor(&random(&mut rng, 9 * 16 * 32), &[3, 3, 16, 32]))
                    .unwrap();
                let gamma = Var::from_tensor(&tensor(&random(&mut rng, 32), &[32])).unwrap();
                let beta = Var::from_tensor(&tensor(&random(&mut rng, 32), &[32])).unwrap();
                let running = RunningStats::new(32).into_shared();
                let stats = BnStats::Training {
                    running: running.clone(),
                    momentum: 0.1,
                };
                let y = conv2d(&x, &w, 1, 1, precision).unwrap();
                let y = batch_norm(&y, &gamma, &beta, None, true, &stats).unwrap();
                let layer = ConvBn {
                    weight: &w,
                    gamma: &gamma,
                    beta: &beta,
                    stats: &stats,
                    stride: 2,
                    padding: 1,
                    relu: true,
                    precision,
                };
                let y = (y.mean_all().unwrap()
                    + layer
                        .forward(&x, None)
                        .unwrap()
                        .sqr()
                        .unwrap()
                        .mean_all()
                        .unwrap())
                .unwrap();
                let grads = y.sqr().unwrap().mean_all().unwrap().backward().unwrap();
                let mut all: Vec<Vec<f32>> = [&x, &w, &gamma, &beta]
                    .map(|v| values(grads.get(v).unwrap()))
                    .to_vec();
                all.push(values(&y));
                all.push(running.lock().unwrap().variance.clone());
                all.iter()
                    .map(|v| v.iter().map(|v| v.to_bits()).collect())
                    .collect()
            })
    };
    for precision in [Precision::F32, Precision::Bf16] {
        assert_eq!(step(1, precision), step(2, precision));
    }
}

#[test]
fn global_max_pool_has_the_right_value_and_gradient() {
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    let x: Vec<f64> = as_f64(&random(&mut rng, 2 * 3 * 4 * 5));
    let x = Tensor::from_vec(x, (2, 3, 4, 5), &Device::Cpu).unwrap();
    let expected = x.flatten(1, 2).unwrap().max(1).unwrap();
    let found = global_max_pool(&x).unwrap();
    assert_eq!(
        found.to_vec2::<f64>().unwrap(),
        expected.to_vec2::<f64>().unwrap()
    );
    let weights = Tensor::from_vec(as_f64(&random(&mut rng, 10)), (2, 5), &Device::Cpu).unwrap();
    let settings = gradcheck::Settings {
        values_per_tensor: 0,
        ..gradcheck::Settings::F64
    };
    gradcheck::check(&[x], &settings, |x| {
        (global_max_pool(&x[0])? * &weights)?.sum_all()
    })
    .unwrap();
}

#[test]
fn a_small_network_passes_the_f32_gradient_check() {
    let mut rng = ChaCha8Rng::seed_from_u64(29);
    let point = [
        tensor(&random(&mut rng, 2 * 6 * 6 * 3), &[2, 6, 6, 3]),
        tensor(&random(&mut rng, 9 * 3 * 8), &[3, 3, 3, 8]),
        tensor(&[0.7; 8], &[8]),
        tensor(&[0.1; 8], &[8]),
    ];
    // Without ReLU: its kinks are not differentiable, and a step of this size crosses some.
    gradcheck::check(&point, &gradcheck::Settings::F32, |t| {
        let y = conv2d(&t[0], &t[1], 2, 1, Precision::F32)?;
        let stats = BnStats::Training {
            running: RunningStats::new(8).into_shared(),
            momentum: 0.1,
        };
        batch_norm(&y, &t[2], &t[3], None, false, &stats)?
            .tanh()?
            .mean_all()
    })
    .unwrap();
}

/// The fused layer against convolution followed by normalisation: result, gradients, running statistics.
fn check_conv_bn(
    case: &Case,
    relu: bool,
    with_residual: bool,
    training: bool,
    precision: Precision,
) {
    let channels = case.w[3];
    let step = |fused: bool| -> Vec<Vec<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(31);
        let mut draw = |shape: &[usize]| tensor(&random(&mut rng, shape.iter().product()), shape);
        let vars: Vec<Var> = [&case.x[..], &case.w, &[channels], &[channels]]
            .iter()
            .map(|shape| Var::from_tensor(&draw(shape)).unwrap())
            .collect();
        let running = RunningStats {
            mean: vec![0.1; channels],
            variance: vec![2.; channels],
        }
        .into_shared();
        let stats = if training {
            BnStats::Training {
                running: running.clone(),
                momentum: 0.1,
            }
        } else {
            BnStats::Frozen {
                running: running.clone(),
            }
        };
        let u = conv2d(&vars[0], &vars[1], case.stride, case.padding, precision).unwrap();
        let residual = Var::from_tensor(&draw(u.dims())).unwrap();
        let g = draw(u.dims());
        let residual_tensor = with_residual.then(|| residual.as_tensor());
        let y = if fused {
            let layer = ConvBn {
                weight: &vars[1],
                gamma: &vars[2],
                beta: &vars[3],
                stats: &stats,
                stride: case.stride,
                padding: case.padding,
                relu,
                precision,
            };
            layer.forward(&vars[0], residual_tensor).unwrap()
        } else {
            batch_norm(&u, &vars[2], &vars[3], residual_tensor, relu, &stats).unwrap()
        };
        let grads = (&y * &g).unwrap().sum_all().unwrap().backward().unwrap();
        let mut all = vec![values(&y)];
        all.extend(vars.iter().map(|v| values(grads.get(v).unwrap())));
        all.extend(with_residual.then(|| values(grads.get(&residual).unwrap())));
        let running = running.lock().unwrap();
        all.push([&running.mean[..], &running.variance].concat());
        all
    };
    for (i, (fused, separate)) in step(true).iter().zip(step(false)).enumerate() {
        let error = difference(fused, &as_f64(&separate));
        assert!(
            error < 1e-4,
            "value {i} of {:?}, relu {relu}, training {training}: {error}",
            case.w
        );
    }
}

#[test]
fn fused_layer_equals_convolution_then_normalisation() {
    for case in &CASES {
        for relu in [false, true] {
            for with_residual in [false, true] {
                for training in [false, true] {
                    check_conv_bn(case, relu, with_residual, training, Precision::F32);
                }
            }
        }
    }
}

#[test]
fn fused_layer_without_relu_passes_the_f32_gradient_check() {
    let mut rng = ChaCha8Rng::seed_from_u64(37);
    let mut draw = |shape: &[usize]| tensor(&random(&mut rng, shape.iter().product()), shape);
    let point = [
        draw(&[2, 6, 6, 3]),
        draw(&[3, 3, 3, 8]),
        draw(&[8]),
        draw(&[8]),
        draw(&[2, 3, 3, 8]),
    ];
    let weights = draw(&[2, 3, 3, 8]);
    gradcheck::check(&point, &gradcheck::Settings::F32, |t| {
        let layer = ConvBn {
            weight: &t[1],
            gamma: &t[2],
            beta: &t[3],
            stats: &BnStats::Training {
                running: RunningStats::new(8).into_shared(),
                momentum: 0.1,
            },
            stride: 2,
            padding: 1,
            relu: false,
            precision: Precision::F32,
        };
        (layer.forward(&t[0], Some(&t[4]))? * &weights)?.mean_all()
    })
    .unwrap();
}

#[test]
fn fused_layer_rejects_parameters_that_do_not_fit() {
    let stats = BnStats::Frozen {
        running: RunningStats::new(4).into_shared(),
    };
    let of = |channels: usize| tensor(&vec![1.; channels], &[channels]);
    let (weight, four, three) = (tensor(&[1.; 12], &[1, 1, 3, 4]), of(4), of(3));
    let layer = ConvBn {
        weight: &weight,
        gamma: &four,
        beta: &four,
        stats: &stats,
        stride: 1,
        padding: 0,
        relu: true,
        precision: Precision::F32,
    };
    let x = tensor(&[1.; 12], &[1, 2, 2, 3]);
    assert_eq!(layer.forward(&x, None).unwrap().dims(), [1, 2, 2, 4]);
    assert!(
        layer
            .forward(&x, Some(&tensor(&[1.; 16], &[1, 1, 4, 4])))
            .is_err()
    );
    assert!(
        layer
            .forward(&x, Some(&tensor(&[1.; 8], &[1, 1, 2, 4])))
            .is_err()
    );
    assert!(
        ConvBn {
            gamma: &three,
            ..layer
        }
        .forward(&x, None)
        .is_err()
    );
}
