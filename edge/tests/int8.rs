//! Every path of the int8 kernels computes the definition, byte by byte: random graphs against plain loops over
//! `[C, H, W]`, written from the ONNX text and sharing nothing with the kernels but the arithmetic of one number.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use roadhound_edge::int8::{
    Convolution, Graph, Layout, Number, Path, PlanError, Reference, Shape, Sink, Source, Value,
};
use roadhound_shared::adapt::{Adjustment, SAMPLE_STEPS, SAMPLE_ZERO};
use roadhound_shared::mix::SplitMix64;
use roadhound_shared::quantised::{QuantParams, QuantisedAdd, Requantise};

/// A map as plain bytes, `[C, H, W]`.
#[derive(Clone, Debug)]
struct Plain {
    shape: Shape,
    bytes: Vec<u8>,
}

impl Plain {
    fn at(&self, c: usize, y: isize, x: isize) -> Option<u8> {
        let (h, w) = (self.shape.height as isize, self.shape.width as isize);
        ((0..h).contains(&y) && (0..w).contains(&x)).then(|| {
            self.bytes[(c * self.shape.height + y as usize) * self.shape.width + x as usize]
        })
    }
}

/// What turns sums of a channel into bytes.
fn requantise(conv: &Convolution, channel: usize) -> Requantise {
    let scale = conv.weight_scales[channel.min(conv.weight_scales.len() - 1)];
    Requantise::new(conv.input.scale(), scale, conv.output).unwrap()
}

/// What a convolution gives, by its definition.
fn plain(conv: &Convolution, x: &Plain, shape: Shape) -> Plain {
    let sums = sums(conv, x, shape);
    let byte = |(at, sum): (usize, i32)| requantise(conv, at / shape.cells()).apply(sum);
    let bytes = sums.into_iter().enumerate().map(byte).collect();
    Plain { shape, bytes }
}

/// What a convolution sums up, bias included, `[C, H, W]`.
fn sums(conv: &Convolution, x: &Plain, shape: Shape) -> Vec<i32> {
    let zero = i32::from(conv.input.zero_point());
    let mut sums = Vec::with_capacity(shape.len());
    for o in 0..conv.channels {
        for (oy, ox) in (0..shape.height).flat_map(|y| (0..shape.width).map(move |x| (y, x))) {
            let mut sum = conv.bias.as_ref().map_or(0, |bias| i64::from(bias[o]));
            for i in 0..x.shape.channels {
                for ky in 0..conv.kernel[0] {
                    for kx in 0..conv.kernel[1] {
                        let y = (oy * conv.strides[0] + ky * conv.dilations[0]) as isize
                            - conv.pads[0] as isize;
                        let z = (ox * conv.strides[1] + kx * conv.dilations[1]) as isize
                            - conv.pads[1] as isize;
                        let byte = x.at(i, y, z).map_or(zero, i32::from);
                        let at = ((o * x.shape.channels + i) * conv.kernel[0] + ky)
                            * conv.kernel[1]
                            + kx;
                        sum += i64::from(byte - zero) * i64::from(conv.weights[at]);
                    }
                }
            }
            sums.push(i32::try_from(sum).unwrap());
        }
    }
    sums
}

/// Where channels lay on some source, and what is done to them.
fn moved(seed: u64, conv: &Convolution) -> (Vec<Reference>, Vec<Adjustment>) {
    let mut stream = SplitMix64(seed);
    let mut share = || (stream.next() >> 40) as f32 / (1 << 24) as f32;
    let (mut references, mut adjustments) = (Vec::new(), Vec::new());
    for _ in 0..conv.channels {
        references.push(Reference {
            mean: (share() - 0.5) * 200.0 * conv.output.scale(),
            deviation: (0.1 + share() * 40.0) * conv.output.scale(),
        });
        adjustments.push(Adjustment {
            scale: 0.25 + share() * 3.75,
            shift: (share() - 0.5) * 8.0,
        });
    }
    (references, adjustments)
}

/// Runs a graph whose only convolution is observed on every path and on one and three threads: as it is, adjusted, and
/// as it was before. Samples are those of some cells, and alike everywhere.
fn check_observed(
    graph: &Graph,
    source: Source<'_>,
    (conv, sums, cells): (&Convolution, &[i32], usize),
    (references, adjustments): (&[Reference], &[Adjustment]),
) -> Result<(), TestCaseError> {
    let channel = |at: usize| at / cells;
    let of = |bytes: &dyn Fn(usize, i32) -> u8| -> Vec<u8> {
        let each = sums.iter().enumerate();
        each.map(|(at, sum)| bytes(channel(at), *sum)).collect()
    };
    let shifted = |c: usize, sum: i32, steps: f32, factor: f32, zero: u8| {
        let (shift, moved) = requantise(conv, c)
            .moved(steps, factor, zero, i32::MAX / 2)
            .unwrap();
        moved.apply(sum + shift)
    };
    let output = conv.output;
    let before = of(&|c, sum| requantise(conv, c).apply(sum));
    let after = of(&|c, sum| {
        let Adjustment { scale, shift } = adjustments[c];
        let mean = references[c].mean / output.scale();
        let steps =
            mean * (1.0 - scale) / scale - shift * (references[c].deviation / output.scale());
        shifted(c, sum, steps, scale, output.zero_point())
    });
    let sampled = of(&|c, sum| {
        let deviation = references[c].deviation / output.scale();
        let steps = -(references[c].mean / output.scale());
        shifted(c, sum, steps, SAMPLE_STEPS / deviation, SAMPLE_ZERO)
    });
    let channels = conv.channels;
    let cell = |at: usize| -> Vec<u8> { (0..channels).map(|c| sampled[c * cells + at]).collect() };
    let possible: Vec<Vec<u8>> = (0..cells).map(cell).collect();
    let mut first: Option<Vec<Vec<u8>>> = None;
    for path in Path::available() {
        for threads in [1, 3] {
            let mut program = graph.clone().plan(path, threads).unwrap();
            let mut seen = Vec::new();
            for (adjusted, expected) in [
                (None, &before),
                (Some(adjustments), &after),
                (Some(&vec![Adjustment::NONE; channels][..]), &before),
            ] {
                if let Some(adjusted) = adjusted {
                    program.adjust(0, adjusted).unwrap();
                }
                let mut found = vec![77; sums.len()];
                program.run(&[source], &mut [Sink::U8(&mut found)]).unwrap();
                prop_assert!(found == *expected, "{} with {} threads", path, threads);
                let samples = program.samples(0).to_vec();
                prop_assert!(samples.len() >= 8 * channels);
                for cell in samples.chunks(channels) {
                    prop_assert!(possible.iter().any(|p| p == cell), "no cell has {:?}", cell);
                }
                seen.push(samples);
            }
            prop_assert!(program.samples(1).is_empty());
            match &first {
                None => first = Some(seen),
                Some(first) => prop_assert!(seen == *first, "samples of {}", path),
            }
        }
    }
    Ok(())
}

/// The map of a convolution. A window that is larger than the padded map is refused, and such a case thrown away; too
/// many of them fail the test.
fn convolved(graph: &mut Graph, x: Value, conv: &Convolution) -> Result<Value, TestCaseError> {
    graph.convolve(x, conv).map_err(|error| match error {
        PlanError::Window { .. } => TestCaseError::reject(error.to_string()),
        other => TestCaseError::fail(other.to_string()),
    })
}

/// A convolution that takes numbers and makes bytes of them itself.
struct Stem {
    graph: Graph,
    y: Value,
    numbers: Vec<f32>,
    /// The same numbers as bytes.
    x: Plain,
}

fn stem(
    conv: &Convolution,
    shape: Shape,
    input: QuantParams,
    seed: u64,
) -> Result<Stem, TestCaseError> {
    let numbers: Vec<f32> = bytes(seed, shape.len())
        .into_iter()
        .map(|b| (f32::from(b) - 100.5) * input.scale() * 0.7)
        .collect();
    let mut graph = Graph::new();
    let x = graph
        .input(shape, Layout::Planar, Number::F32(input))
        .unwrap();
    let y = convolved(&mut graph, x, conv)?;
    graph.output(y, Layout::Planar, Number::U8).unwrap();
    let quantised = numbers.iter().map(|v| input.quantise(*v)).collect();
    let x = Plain {
        shape,
        bytes: quantised,
    };
    Ok(Stem {
        graph,
        y,
        numbers,
        x,
    })
}

/// Pseudo-random bytes from a seed: large inputs need no strategy of their own.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let byte = (state >> 32) as u8;
            // A third is at the ends of the range, where sums saturate and overflow.
            match state >> 60 {
                0..=2 => 0,
                3..=5 => 255,
                _ => byte,
            }
        })
        .collect()
}

fn params() -> impl Strategy<Value = QuantParams> {
    let zero = prop_oneof![Just(0_u8), Just(255), Just(128), any::<u8>()];
    (1e-3_f32..1.0, zero).prop_map(|(scale, zero)| QuantParams::new(scale, zero).unwrap())
}

fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![
        1_usize..70,
        Just(3),
        Just(16),
        Just(32),
        Just(48),
        Just(64),
        Just(96)
    ]
}

/// A convolution of so many channels. Weights of -128 come in one case of two.
fn conv(in_channels: usize, input: QuantParams) -> impl Strategy<Value = Convolution> {
    let window = (
        channels(),
        [1_usize..4, 1..4],
        [1_usize..4, 1..4],
        [1_usize..3, 1..3],
        [0_usize..3, 0..3, 0..3, 0..3],
    );
    (
        window,
        any::<u64>(),
        [any::<bool>(), any::<bool>(), any::<bool>()],
        params(),
    )
        .prop_map(
            move |(
                (channels, kernel, strides, dilations, pads),
                seed,
                [whole, scalar, with_bias],
                output,
            )| {
                let depth = in_channels * kernel[0] * kernel[1];
                let weights = bytes(seed, channels * depth)
                    .into_iter()
                    .map(|b| (b as i8).max(if whole { i8::MIN } else { -127 }))
                    .collect();
                // Scales at which sums of this depth reach both ends of the byte.
                let scale = |o: usize| {
                    output.scale() / input.scale() * (0.02 + 0.01 * (o % 5) as f32)
                        / (depth as f32).sqrt()
                };
                let bias = (0..channels).map(|o| o as i32 * 977 - 9_000).collect();
                Convolution {
                    weights,
                    bias: with_bias.then_some(bias),
                    channels,
                    kernel,
                    strides,
                    dilations,
                    pads,
                    input,
                    weight_scales: (0..if scalar { 1 } else { channels }).map(scale).collect(),
                    output,
                }
            },
        )
}

/// Runs a graph of one input on every path and on one and three threads.
fn check(graph: &Graph, source: Source<'_>, expected: &[&[u8]]) -> Result<(), TestCaseError> {
    for path in Path::available() {
        for threads in [1, 3] {
            let mut program = graph.clone().plan(path, threads).unwrap();
            prop_assert_eq!(program.path(), path);
            let mut found: Vec<Vec<u8>> = expected.iter().map(|e| vec![77; e.len()]).collect();
            // Twice: what a run leaves in the arena must not matter to the next.
            for _ in 0..2 {
                let mut sinks: Vec<Sink<'_>> =
                    found.iter_mut().map(|f| Sink::U8(&mut f[..])).collect();
                program.run(&[source], &mut sinks).unwrap();
            }
            for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                let differ = found.iter().zip(*expected).filter(|(a, b)| a != b).count();
                prop_assert_eq!(
                    differ,
                    0,
                    "output {} of {}, {} threads: {} bytes, first {:?}",
                    index,
                    path,
                    threads,
                    differ,
                    found
                        .iter()
                        .zip(*expected)
                        .enumerate()
                        .find(|(_, (a, b))| a != b)
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn a_convolution_of_any_shape_has_the_bytes_of_the_definition(
        (x, conv) in (channels(), 1_usize..15, 1_usize..15, params(), any::<u64>()).prop_flat_map(
            |(c, h, w, input, seed)| {
                let shape = Shape::new(c, h, w).unwrap();
                let x = Plain { shape, bytes: bytes(seed, shape.len()) };
                (Just(x), conv(c, input))
            }
        ),
        layout in prop_oneof![Just(Layout::Planar), Just(Layout::Cells)],
    ) {
        let mut graph = Graph::new();
        let input = graph.input(x.shape, layout, Number::U8).unwrap();
        let y = convolved(&mut graph, input, &conv)?;
        graph.output(y, Layout::Planar, Number::U8).unwrap();
        let expected = plain(&conv, &x, graph.shape(y));
        let cells: Vec<u8> = match layout {
            Layout::Planar => x.bytes.clone(),
            Layout::Cells => (0..x.shape.len())
                .map(|i| x.bytes[i % x.shape.channels * x.shape.cells() + i / x.shape.channels])
                .collect(),
        };
        check(&graph, Source::U8(&cells), &[&expected.bytes])?;
    }

    #[test]
    fn a_stem_quantises_its_input_itself(
        (conv, input) in params().prop_flat_map(|input| (conv(3, input), Just(input))),
        h in 1_usize..40, w in 1_usize..40, seed: u64,
    ) {
        let shape = Shape::new(3, h, w).unwrap();
        let Stem { graph, y, numbers, x } = stem(&conv, shape, input, seed)?;
        let expected = plain(&conv, &x, graph.shape(y));
        check(&graph, Source::F32(&numbers), &[&expected.bytes])?;
    }

    #[test]
    fn an_observed_convolution_is_the_same_until_it_is_adjusted_and_after(
        (x, conv) in (channels(), 1_usize..15, 1_usize..15, params(), any::<u64>()).prop_flat_map(
            |(c, h, w, input, seed)| {
                let shape = Shape::new(c, h, w).unwrap();
                let x = Plain { shape, bytes: bytes(seed, shape.len()) };
                (Just(x), conv(c, input))
            }
        ),
        seed: u64,
    ) {
        let mut graph = Graph::new();
        let input = graph.input(x.shape, Layout::Planar, Number::U8).unwrap();
        let y = convolved(&mut graph, input, &conv)?;
        graph.output(y, Layout::Planar, Number::U8).unwrap();
        let (references, adjustments) = moved(seed, &conv);
        graph.observe(y, &references).unwrap();
        let shape = graph.shape(y);
        let sums = sums(&conv, &x, shape);
        let told = (&conv, &sums[..], shape.cells());
        check_observed(&graph, Source::U8(&x.bytes), told, (&references, &adjustments))?;
    }

    #[test]
    fn an_observed_stem_is_the_same_until_it_is_adjusted_and_after(
        (conv, input) in params().prop_flat_map(|input| (conv(3, input), Just(input))),
        h in 1_usize..40, w in 1_usize..40, seed: u64,
    ) {
        let shape = Shape::new(3, h, w).unwrap();
        let Stem { mut graph, y, numbers, x } = stem(&conv, shape, input, seed)?;
        let (references, adjustments) = moved(seed, &conv);
        graph.observe(y, &references).unwrap();
        let of = graph.shape(y);
        let sums = sums(&conv, &x, of);
        let told = (&conv, &sums[..], of.cells());
        check_observed(&graph, Source::F32(&numbers), told, (&references, &adjustments))?;
    }

    #[test]
    fn a_residual_block_has_the_bytes_of_its_parts(
        c in channels(), h in 1_usize..12, w in 1_usize..12, seed: u64, first: bool, kept: bool,
        conv in (1_usize..70).prop_flat_map(|_| params()).prop_flat_map(|p| (Just(p), conv(1, p))),
        other in params(), out in params(),
    ) {
        // c channels to c channels, 3x3, padded by one.
        let (input, shape) = (conv.0, Shape::new(c, h, w).unwrap());
        let scale = conv.1.weight_scales[0] / (9.0 * c as f32).sqrt();
        let conv = Convolution {
            weights: bytes(seed ^ 7, 9 * c * c).into_iter().map(|b| (b as i8).max(-127)).collect(),
            bias: Some((0..c).map(|o| o as i32 * 311 - 4_000).collect()),
            channels: c, kernel: [3, 3], strides: [1, 1], dilations: [1, 1], pads: [1; 4],
            weight_scales: vec![scale], input, ..conv.1
        };
        let x = Plain { shape, bytes: bytes(seed, shape.len()) };
        let (a, b) = if first { (conv.output, other) } else { (other, conv.output) };
        let add = QuantisedAdd::new(a, b, out);
        let mut graph = Graph::new();
        let input = graph.input(shape, Layout::Planar, Number::U8).unwrap();
        let y = graph.convolve(input, &conv).unwrap();
        let z = if first { graph.add(y, input, add) } else { graph.add(input, y, add) }.unwrap();
        graph.output(z, Layout::Planar, Number::U8).unwrap();
        let of_conv = plain(&conv, &x, shape).bytes;
        let sums: Vec<u8> = of_conv
            .iter()
            .zip(&x.bytes)
            .map(|(y, x)| if first { add.apply(*y, *x) } else { add.apply(*x, *y) })
            .collect();
        // With the convolution wanted as well, it cannot be fused: both ways of adding are tried.
        if kept {
            graph.output(y, Layout::Planar, Number::U8).unwrap();
            check(&graph, Source::U8(&x.bytes), &[&sums, &of_conv])?;
        } else {
            check(&graph, Source::U8(&x.bytes), &[&sums])?;
        }
    }

    #[test]
    fn a_correlation_beside_its_map_has_the_bytes_of_the_definition(
        c in channels(), h in 1_usize..9, w in 1_usize..20, (top, left) in (0_usize..3, 0_usize..3), seed: u64,
        template in params(), cell in params(), out in params(),
    ) {
        let shape = Shape::new(c, h, w).unwrap();
        let x = Plain { shape, bytes: bytes(seed, shape.len()) };
        let (top, left) = (top.min(h - 1), left.min(w - 1));
        let sides = (h - top, w - left);
        let out = QuantParams::new(template.scale() * cell.scale() * 300.0 * (c as f32).sqrt(), out.zero_point()).unwrap();
        let mut graph = Graph::new();
        let input = graph.input(shape, Layout::Planar, Number::U8).unwrap();
        let part = graph.crop(input, (top, left), sides).unwrap();
        // The templates come twice, once as a concatenation that cannot be written in place.
        let y = graph.correlate((part, template), (input, cell), out).unwrap();
        let z = graph.concat(&[y, input, y]).unwrap();
        graph.output(z, Layout::Cells, Number::U8).unwrap();
        let requantise = Requantise::new(template.scale(), cell.scale(), out).unwrap();
        let (zt, zc) = (i32::from(template.zero_point()), i32::from(cell.zero_point()));
        let mut expected = Vec::new();
        for p in 0..h * w {
            let column: Vec<u8> = (0..sides.0 * sides.1).map(|t| {
                let at = (top + t / sides.1) * w + left + t % sides.1;
                let sum = (0..c).map(|k| {
                    (i32::from(x.bytes[k * h * w + at]) - zt) * (i32::from(x.bytes[k * h * w + p]) - zc)
                }).sum();
                requantise.apply(sum)
            }).collect();
            expected.extend(&column);
            expected.extend((0..c).map(|k| x.bytes[k * h * w + p]));
            expected.extend(&column);
        }
        check(&graph, Source::U8(&x.bytes), &[&expected])?;
    }
}

#[test]
fn only_a_convolution_is_observed_and_once_and_by_as_many_references_as_it_has_channels() {
    let params = QuantParams::new(0.5, 0).unwrap();
    let shape = Shape::new(2, 3, 3).unwrap();
    let reference = Reference {
        mean: 0.0,
        deviation: 1.0,
    };
    let mut graph = Graph::new();
    let x = graph.input(shape, Layout::Planar, Number::U8).unwrap();
    let conv = Convolution {
        weights: vec![1; 6],
        bias: None,
        channels: 3,
        kernel: [1, 1],
        strides: [1, 1],
        dilations: [1, 1],
        pads: [0; 4],
        input: params,
        weight_scales: vec![1.0],
        output: params,
    };
    let y = graph.convolve(x, &conv).unwrap();
    assert_eq!(
        graph.observe(x, &[reference; 2]),
        Err(PlanError::Unobservable)
    );
    let said = graph.observe(y, &[reference; 2]).unwrap_err().to_string();
    assert_eq!(said, "references: 2, expected 3");
    graph.observe(y, &[reference; 3]).unwrap();
    assert_eq!(
        graph.observe(y, &[reference; 3]),
        Err(PlanError::Unobservable)
    );
    graph.output(y, Layout::Planar, Number::U8).unwrap();
    let mut program = graph.plan(Path::detect(), 1).unwrap();
    let said = program
        .adjust(0, &[Adjustment::NONE; 2])
        .unwrap_err()
        .to_string();
    assert_eq!(said, "adjustments: 2, expected 3");
}

/// A 1x1 convolution of so many channels to one.
fn pointwise(from: usize, pads: [usize; 4], strides: [usize; 2]) -> Convolution {
    let params = QuantParams::new(1.0, 0).unwrap();
    Convolution {
        weights: vec![1; from],
        bias: None,
        channels: 1,
        kernel: [1, 1],
        strides,
        dilations: [1, 1],
        pads,
        input: params,
        weight_scales: vec![1.0],
        output: params,
    }
}

/// Two readers of a map of one cell: one pads far above, the other far to the left, each a map that can be.
fn padded_both_ways(graph: &mut Graph, x: Value, cells: usize) {
    let channels = graph.shape(x).channels;
    for (pads, strides) in [
        ([cells, 0, 0, 0], [2 * cells, 1]),
        ([0, cells, 0, 0], [1, 2 * cells]),
    ] {
        let y = graph
            .convolve(x, &pointwise(channels, pads, strides))
            .unwrap();
        graph.output(y, Layout::Planar, Number::U8).unwrap();
    }
}

#[test]
fn a_map_whose_readers_pad_it_to_too_much_together_is_refused() {
    for cells in [(1 << 19) - 32, (1 << 24) - 1] {
        for path in Path::available() {
            let mut graph = Graph::new();
            let shape = Shape::new(4, 1, 1).unwrap();
            let x = graph.input(shape, Layout::Planar, Number::U8).unwrap();
            padded_both_ways(&mut graph, x, cells);
            let refused = graph.plan(path, 1).unwrap_err();
            let expected = PlanError::Size {
                channels: 4,
                height: cells + 1,
                width: cells + 1,
            };
            assert_eq!(refused, expected);
        }
    }
}

/// 2^24 rows, as many columns and 2^16 channels are 2^64 bytes, which 64 bits count as none.
#[test]
fn the_padding_of_a_part_is_counted_with_all_channels_of_its_concatenation() {
    for path in Path::available() {
        let mut graph = Graph::new();
        let mut input = |channels| {
            let shape = Shape::new(channels, 1, 1).unwrap();
            graph.input(shape, Layout::Planar, Number::U8).unwrap()
        };
        let (x, rest) = (input(4), input(65535));
        let part = graph.convolve(x, &pointwise(4, [0; 4], [1, 1])).unwrap();
        padded_both_ways(&mut graph, part, (1 << 24) - 1);
        let whole = graph.concat(&[part, rest]).unwrap();
        graph.output(whole, Layout::Planar, Number::U8).unwrap();
        let refused = graph.plan(path, 1).unwrap_err();
        let expected = PlanError::Size {
            channels: 1 << 16,
            height: 1 << 24,
            width: 1 << 24,
        };
        assert_eq!(refused, expected);
    }
}

#[test]
fn a_program_that_takes_more_than_a_gibibyte_is_refused_before_memory_is_asked_for() {
    let shape = |height, width| Shape::new(1, height, width).unwrap();
    let params = QuantParams::new(1.0, 0).unwrap();
    let input = |graph: &mut Graph, shape| graph.input(shape, Layout::Planar, Number::U8).unwrap();
    // Many large maps that are needed at the same time.
    let mut maps = Graph::new();
    let x = input(&mut maps, shape(8192, 8192));
    let parts: Vec<Value> = (0..20)
        .map(|_| maps.crop(x, (0, 0), (8192, 8191)).unwrap())
        .collect();
    let add = QuantisedAdd::new(params, params, params);
    let sum = parts
        .iter()
        .skip(1)
        .fold(parts[0], |sum, part| maps.add(sum, *part, add).unwrap());
    let sum = maps.crop(sum, (0, 0), (1, 1)).unwrap();
    maps.output(sum, Layout::Planar, Number::U8).unwrap();
    // Results that leave as four bytes a number.
    let mut results = Graph::new();
    let templates = input(&mut results, shape(2048, 2048));
    let cells = input(&mut results, shape(4, 4));
    let product = results
        .correlate((templates, params), (cells, params), params)
        .unwrap();
    for _ in 0..5 {
        results
            .output(product, Layout::Planar, Number::F32(params))
            .unwrap();
    }
    for (what, graph) in [("maps", maps), ("results", results)] {
        for path in Path::available() {
            match graph.clone().plan(path, 1) {
                Err(PlanError::Memory { bytes }) => assert!(bytes > 1 << 30, "{what}: {bytes}"),
                other => panic!("{what} on {path}: {other:?}"),
            }
        }
    }
}

#[test]
fn numbers_leave_in_either_layout() {
    let params = QuantParams::new(0.25, 7).unwrap();
    for (c, h, w) in [(1, 1, 1), (8, 2, 8), (19, 3, 21), (96, 16, 16)] {
        let shape = Shape::new(c, h, w).unwrap();
        let from = bytes(5, shape.len());
        let mut graph = Graph::new();
        let x = graph.input(shape, Layout::Planar, Number::U8).unwrap();
        graph
            .output(x, Layout::Planar, Number::F32(params))
            .unwrap();
        graph.output(x, Layout::Cells, Number::F32(params)).unwrap();
        for path in Path::available() {
            let mut program = graph.clone().plan(path, 2).unwrap();
            let (mut planar, mut cells) = (vec![0.0; from.len()], vec![0.0; from.len()]);
            program
                .run(
                    &[Source::U8(&from)],
                    &mut [Sink::F32(&mut planar), Sink::F32(&mut cells)],
                )
                .unwrap();
            for (i, byte) in from.iter().enumerate() {
                assert_eq!(planar[i], params.dequantise(*byte));
                assert_eq!(cells[i % (h * w) * c + i / (h * w)], planar[i]);
            }
        }
    }
}

#[test]
fn ends_of_another_length_or_type_are_refused() {
    let params = QuantParams::new(0.25, 7).unwrap();
    let mut graph = Graph::new();
    let x = graph
        .input(
            Shape::new(2, 2, 2).unwrap(),
            Layout::Planar,
            Number::F32(params),
        )
        .unwrap();
    graph.output(x, Layout::Planar, Number::U8).unwrap();
    let mut program = graph.plan(Path::detect(), 1).unwrap();
    let (good, mut to) = ([0.0; 8], [0; 8]);
    let mut fails = |source: Source<'_>, to: &mut [u8]| {
        program
            .run(&[source], &mut [Sink::U8(to)])
            .map_err(|e| e.to_string())
    };
    assert_eq!(
        fails(Source::F32(&good[1..]), &mut to),
        Err("input 0: 7 f32, expected 8 f32".into())
    );
    assert_eq!(
        fails(Source::U8(&[0; 8]), &mut to),
        Err("input 0: 8 bytes, expected 8 f32".into())
    );
    assert_eq!(
        fails(Source::F32(&good), &mut to[1..]),
        Err("output 0: 7 bytes, expected 8 bytes".into())
    );
    assert_eq!(fails(Source::F32(&good), &mut to), Ok(()));
}

/// Virtual machines often do not report AVX-VNNI. The tests of this file run again in a process that assumes it; where
/// the processor has not got it, that process is ended by its first instruction.
#[cfg(all(target_arch = "x86_64", unix))]
#[test]
#[expect(clippy::print_stdout, reason = "tests say why they pass over")]
fn avx_vnni_computes_the_definition_where_a_processor_executes_it_without_saying_so() {
    use std::os::unix::process::ExitStatusExt;

    use roadhound_edge::int8::ASSUME_VARIABLE;

    const ILLEGAL_INSTRUCTION: i32 = 4;
    if std::env::var_os(ASSUME_VARIABLE).is_some() {
        return;
    }
    if Path::AvxVnni.is_available() || !Path::Avx2.is_available() {
        println!("skipped: AVX-VNNI is reported, or AVX2 is not there");
        return;
    }
    let done = std::process::Command::new(std::env::current_exe().unwrap())
        .env(ASSUME_VARIABLE, Path::AvxVnni.name())
        .output()
        .unwrap();
    if done.status.signal() == Some(ILLEGAL_INSTRUCTION) {
        println!("skipped: this processor has no AVX-VNNI");
        return;
    }
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
    let result = said.lines().find(|line| line.starts_with("test result"));
    println!("AVX-VNNI, unreported: {}", result.unwrap_or_default());
}
