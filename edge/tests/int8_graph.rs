//! Graphs in QOperator form on tract and the int8 kernels: the same numbers as stock tract, node by node where a node
//! cannot be fused; a damaged graph is an error or runs, and never a crash.
#![allow(clippy::unwrap_used)]

mod common;

use common::{constant_of, contract, ints, model, node, panics, search_onnx, value_info};
use proptest::prelude::*;
use roadhound_edge::infer::{InferError, Int8, TractNetwork};
use roadhound_edge::int8::{Graph, Layout, Number, Path, Shape};
use roadhound_host::guard::quietly;
use roadhound_shared::network::{FollowNetwork, TemplateOutputs};

/// Name, dimensions, ONNX type, bytes.
type Constant = (String, Vec<usize>, i64, Vec<u8>);

/// A template graph: a stem, a residual block and a 1x1, all in eight bits.
#[derive(Clone)]
struct Int8Graph {
    constants: Vec<Constant>,
    /// Of the 3x3: kernel_shape, pads, strides, dilations.
    attributes: Vec<(&'static str, Vec<i64>)>,
    /// Inputs of the 3x3 after the first.
    inputs: Vec<String>,
}

impl Int8Graph {
    fn new() -> Self {
        let mut graph = Self {
            constants: Vec::new(),
            attributes: vec![
                ("kernel_shape", vec![3, 3]),
                ("pads", vec![1, 1, 1, 1]),
                ("strides", vec![1, 1]),
                ("dilations", vec![1, 1]),
            ],
            inputs: conv_inputs("b", "c"),
        };
        // Powers of two, so that multiplying by an inverse (as stock tract does) is dividing.
        graph.params("a", 1.0 / 64.0, 114);
        graph.params("b", 1.0 / 32.0, 0);
        graph.params("c", 1.0 / 16.0, 131);
        graph.params("d", 1.0 / 32.0, 0);
        graph.params("e", 1.0 / 16.0, 3);
        graph.weights("stem", &[8, 3, 16, 16], 1.0 / 1024.0);
        graph.weights("block", &[8, 8, 3, 3], 1.0 / 512.0);
        graph.weights("last", &[4, 8, 1, 1], 1.0 / 128.0);
        graph
    }

    fn params(&mut self, name: &str, scale: f32, zero: u8) {
        let scale = scale.to_le_bytes().to_vec();
        self.constants.push((format!("{name}s"), vec![], 1, scale));
        self.constants
            .push((format!("{name}z"), vec![], 2, vec![zero]));
    }

    fn weights(&mut self, name: &str, dims: &[usize], scale: f32) {
        let len: usize = dims.iter().product();
        let bytes = (0..len)
            .map(|i| ((i * 89 + i / 7 * 31) % 255) as u8 ^ 0x80)
            .collect();
        let scales = (0..dims[0]).flat_map(|o| (scale * (1 << (o % 2)) as f32).to_le_bytes());
        let bias = (0..dims[0]).flat_map(|o| (o as i32 * 40 - 100).to_le_bytes());
        self.constants
            .push((format!("{name}w"), dims.to_vec(), 3, bytes));
        self.constants
            .push((format!("{name}ws"), vec![dims[0]], 1, scales.collect()));
        self.constants
            .push((format!("{name}wz"), vec![], 3, vec![0]));
        self.constants
            .push((format!("{name}b"), vec![dims[0]], 6, bias.collect()));
    }

    fn constant(&mut self, name: &str) -> &mut Constant {
        self.constants.iter_mut().find(|c| c.0 == name).unwrap()
    }

    fn onnx(&self) -> Vec<u8> {
        let c = contract();
        let t = &c.tensors;
        let inputs = |from: &str, rest: &[String]| {
            let mut all = vec![from.to_owned()];
            all.extend_from_slice(rest);
            all
        };
        let conv = |from: &str, weights: &str, rest: &[String], to: &str, side: i64, attributes| {
            let rest: Vec<String> = rest.iter().map(|n| n.replace('#', weights)).collect();
            let all = inputs(from, &rest);
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let mut given = vec![
                ints("kernel_shape", &[side, side]),
                ints("strides", &[side, side]),
            ];
            if let Some(attributes) = attributes {
                given = attributes;
            }
            node("QLinearConv", &all, to, given)
        };
        let attributes = self
            .attributes
            .iter()
            .map(|(name, v)| ints(name, v))
            .collect();
        let nodes = vec![
            node(
                "QuantizeLinear",
                &[&t.template.name, "as", "az"],
                "q0",
                vec![],
            ),
            conv("q0", "stem", &conv_inputs("a", "b"), "q1", 16, None),
            conv("q1", "block", &self.inputs, "q2", 3, Some(attributes)),
            node(
                "QLinearAdd",
                &["q2", "cs", "cz", "q1", "bs", "bz", "ds", "dz"],
                "q3",
                vec![],
            ),
            conv("q3", "last", &conv_inputs("d", "e"), "q4", 1, None),
            node(
                "DequantizeLinear",
                &["q4", "es", "ez"],
                &t.features.name,
                vec![],
            ),
            node("GlobalAveragePool", &[&t.features.name], "pooled", vec![]),
            node("Flatten", &["pooled"], &t.template_embedding.name, vec![]),
        ];
        let constants = self.constants.iter();
        let constants =
            constants.map(|(name, dims, kind, bytes)| constant_of(name, dims, *kind, bytes));
        model(
            nodes,
            constants.collect(),
            vec![value_info(&t.template.name, &t.template.shape)],
            vec![
                value_info(&t.features.name, &t.features.shape),
                value_info(&t.template_embedding.name, &t.template_embedding.shape),
            ],
        )
    }
}

fn conv_inputs(x: &str, y: &str) -> Vec<String> {
    let names = [
        format!("{x}s"),
        format!("{x}z"),
        "#w".into(),
        "#ws".into(),
        "#wz".into(),
    ];
    let mut names = names.to_vec();
    names.extend([format!("{y}s"), format!("{y}z"), "#b".into()]);
    names
}

fn load(template: &[u8], int8: Int8, threads: usize) -> Result<TractNetwork, InferError> {
    let c = contract();
    TractNetwork::load_with(&c, template, &search_onnx(&c), threads, int8)
}

fn features(template: &[u8], int8: Int8, threads: usize) -> Result<Vec<f32>, InferError> {
    let c = contract();
    let crop: Vec<f32> = (0..c.template_len())
        .map(|i| ((i * 37 + i / 128 * 11) % 255) as f32 / 64.0 - 1.8)
        .collect();
    let mut out = TemplateOutputs::for_contract(&c);
    load(template, int8, threads)?.template(&crop, &mut out)?;
    Ok(out.features)
}

#[test]
fn every_path_computes_what_stock_tract_does() {
    let graph = Int8Graph::new().onnx();
    let stock = features(&graph, Int8::Stock, 1).unwrap();
    assert!(
        stock.iter().any(|v| *v != stock[0]),
        "the graph is constant"
    );
    for path in Path::available() {
        for threads in [1, 2] {
            assert_eq!(
                features(&graph, Int8::Kernels(path), threads).unwrap(),
                stock,
                "{path}"
            );
        }
    }
}

#[test]
fn a_node_that_cannot_be_fused_runs_on_stock_tract_between_those_that_can() {
    // A zero point of the weights that is not 0, which the kernels leave alone.
    let mut zero = Int8Graph::new();
    zero.constant("blockwz").3 = vec![5];
    let graph = zero.onnx();
    let stock = features(&graph, Int8::Stock, 1).unwrap();
    assert_ne!(
        stock,
        features(&Int8Graph::new().onnx(), Int8::Stock, 1).unwrap()
    );
    for path in Path::available() {
        assert_eq!(
            features(&graph, Int8::Kernels(path), 1).unwrap(),
            stock,
            "{path}"
        );
    }
}

#[test]
fn malformed_graphs_give_an_error_or_run_and_never_crash() {
    type Edit = fn(&mut Int8Graph);
    let set: [(&str, Edit); 20] = [
        ("scale of 0", |g| {
            g.constant("bs").3 = 0_f32.to_le_bytes().to_vec()
        }),
        ("scale of NaN", |g| {
            g.constant("bs").3 = f32::NAN.to_le_bytes().to_vec()
        }),
        ("huge scale", |g| {
            g.constant("cs").3 = 1e38_f32.to_le_bytes().to_vec()
        }),
        ("negative scale", |g| {
            g.constant("as").3 = (-1_f32).to_le_bytes().to_vec()
        }),
        ("infinite weight scale", |g| {
            g.constant("blockws").3[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
        }),
        ("missing zero point", |g| g.inputs[1] = String::new()),
        ("zero point of another type", |g| g.constant("cz").2 = 3),
        ("two scales", |g| {
            let scale = g.constant("cs");
            scale.1 = vec![2];
            scale.3.extend_from_within(..);
        }),
        ("weights of three dimensions", |g| {
            g.constant("blockw").1 = vec![8, 8, 9]
        }),
        ("weights for other channels", |g| {
            g.constant("blockw").1 = vec![4, 16, 3, 3]
        }),
        ("weights without channels", |g| {
            *g.constant("blockw") = ("blockw".into(), vec![0, 8, 3, 3], 3, vec![]);
        }),
        ("fewer weights than promised", |g| {
            g.constant("blockw").3.truncate(10)
        }),
        ("a bias too few", |g| {
            let bias = g.constant("blockb");
            bias.1 = vec![7];
            bias.3.truncate(28);
        }),
        ("a bias that overflows", |g| {
            g.constant("blockb").3[..4].copy_from_slice(&i32::MAX.to_le_bytes());
        }),
        ("stride of 0", |g| g.attributes[2].1 = vec![0, 1]),
        ("huge padding", |g| {
            g.attributes[1].1 = vec![1 << 40, 1, 1, 1]
        }),
        ("negative padding", |g| {
            g.attributes[1].1 = vec![-1, 1, 1, 1]
        }),
        ("huge dilation", |g| g.attributes[3].1 = vec![i64::MAX, 1]),
        ("another kernel", |g| g.attributes[0].1 = vec![5, 5]),
        ("an input that nobody makes", |g| {
            g.inputs[2] = "nowhere".into()
        }),
    ];
    for (what, edit) in set {
        let mut graph = Int8Graph::new();
        edit(&mut graph);
        for path in Path::available() {
            // Errors that only the first run could show are found at loading, by a rehearsal.
            match features(&graph.onnx(), Int8::Kernels(path), 1) {
                Ok(found) => assert!(found.len() == 256, "{what}"),
                Err(error) => {
                    let line = error.to_string();
                    assert!(
                        line.contains("template.onnx") && !line.contains('\n'),
                        "{what}: {line}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_transposition_that_names_an_axis_twice_is_refused() {
    let c = contract();
    let t = &c.tensors;
    let shape = &t.template.shape;
    for order in [vec![0, 1, 1, 3], vec![0, 1, 2, 4], vec![-1, 0, 1, 2]] {
        let nodes = vec![node(
            "Transpose",
            &[&t.template.name],
            &t.features.name,
            vec![ints("perm", &order)],
        )];
        let inputs = vec![value_info(&t.template.name, shape)];
        let outputs = vec![value_info(&t.features.name, shape)];
        let graph = model(nodes, vec![], inputs, outputs);
        let error = load(&graph, Int8::Stock, 1).err().unwrap().to_string();
        assert!(error.contains("is no order of axes"), "{error}");
    }
}

#[test]
fn a_panic_of_our_own_is_seen_behind_the_guard_and_somebody_elses_is_not_taken_for_one() {
    let mut graph = Graph::new();
    let shape = Shape::new(1, 1, 1).unwrap();
    let value = graph.input(shape, Layout::Planar, Number::U8).unwrap();
    // A value of another graph, which no file can ask for.
    let (caught, places) = panics::of_ours(|| quietly(|| Graph::new().shape(value)));
    assert!(caught.is_err());
    assert!(
        places.len() == 1 && places[0].contains("int8/graph.rs"),
        "{places:?}"
    );
    let (caught, places) = panics::of_ours(|| quietly(|| Vec::<u8>::new()[0]));
    assert!(caught.is_err() && places.is_empty(), "{places:?}");
    let (caught, places) = panics::of_ours(|| quietly(|| graph.shape(value)));
    assert!(caught.is_ok() && places.is_empty(), "{places:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damaged_bytes_give_an_error_or_run(at in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..4)) {
        let mut bytes = Int8Graph::new().onnx();
        let len = bytes.len();
        for (place, value) in at {
            // The weights of the stem are in the middle; the ends are names, numbers and dimensions.
            let place = place as usize % 2600;
            let place = if place < 1300 { place } else { len - 1 - (place - 1300) };
            bytes[place] = value;
        }
        let (_, places) = panics::of_ours(|| features(&bytes, Int8::Kernels(Path::detect()), 1));
        prop_assert!(places.is_empty(), "caught, but ours: {places:?}");
    }
}
