//! Where the sums of int8 graphs lie on the source: what the board's `--adapt` starts from and goes back to.
//!
//! Enters: a bundle with int8 graphs, pairs of crops from the source. Leaves: mean and standard deviation of every channel of
//! the first layers that both graphs share. They are measured before the activation, of the very weights and bytes of the
//! int8 graph: a way of quantising may have moved scales between layers, so that the f32 graph's do not compare.

use anyhow::{Context, Result, ensure};
use prost::Message;
use roadhound_shared::adapt::{LayerStatistics, MOST_LAYERS, SourceStatistics};
use roadhound_shared::contract::FollowContract;

use super::follow::PairSamples;
use super::source::f32_values;
use super::{Samples, Values};
use crate::export::array::Value;
use crate::export::bundle::Graphs;
use crate::export::interpret::Graph;
use crate::export::onnx::{self, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::sampler::Pair;

/// No deviation is less than this share of the layer's mean one: a channel that does nothing on the source would be
/// thought to do a lot elsewhere.
const LEAST_SHARE: f64 = 0.01;

/// What was seen of one channel.
#[derive(Clone, Copy, Default)]
struct Seen {
    count: f64,
    sum: f64,
    squares: f64,
}

/// The statistics of the first `most_layers` layers that template and search graph share.
///
/// # Errors
/// Graphs that are none or share nothing; pairs of another size.
pub fn source_statistics(
    graphs: &Graphs,
    contract: &FollowContract,
    pairs: &[Pair],
    most_layers: usize,
) -> Result<SourceStatistics> {
    let graph = |bytes: &[u8], name: &str| -> Result<GraphProto> {
        let model = ModelProto::decode(bytes).with_context(|| name.to_owned())?;
        model.graph.with_context(|| format!("{name}: no graph"))
    };
    let template = graph(&graphs.template, "template graph")?;
    let mut search = graph(&graphs.search, "search graph")?;
    let layers: Vec<NodeProto> = shared(&template, &search)
        .take(most_layers.min(MOST_LAYERS))
        .cloned()
        .collect();
    ensure!(
        !layers.is_empty(),
        "template and search graph share no int8 convolution"
    );
    for layer in &layers {
        let looked_into = look_into(&mut search, layer);
        looked_into.with_context(|| format!("{}: not as quantise writes it", layer.name))?;
    }
    let search = Graph::parse(&onnx::model(search, &[]))?;
    let template = Graph::parse(&graphs.template)?;
    let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); layers.len()];
    let samples = PairSamples { pairs, contract };
    for index in 0..samples.count() {
        samples.forward(index, &mut |which, inputs| {
            let values = [&template, &search][which].run(inputs)?;
            for (layer, seen) in layers.iter().zip(&mut seen).filter(|_| which == 1) {
                add(&values, &sums_of(layer), seen)?;
            }
            Ok(values)
        })?;
    }
    let layers = layers.iter().zip(seen).map(|(layer, seen)| {
        let mean = |s: &Seen| s.sum / s.count.max(1.0);
        let deviations: Vec<f64> = seen
            .iter()
            .map(|s| {
                (s.squares / s.count.max(1.0) - mean(s).powi(2))
                    .max(0.0)
                    .sqrt()
            })
            .collect();
        let typical = deviations.iter().sum::<f64>() / deviations.len().max(1) as f64;
        let least = (LEAST_SHARE * typical).max(f64::from(f32::MIN_POSITIVE));
        LayerStatistics {
            tensor: layer.output.first().cloned().unwrap_or_default(),
            mean: seen.iter().map(|s| mean(s) as f32).collect(),
            deviation: deviations.iter().map(|d| d.max(least) as f32).collect(),
        }
    });
    let statistics = SourceStatistics {
        crops: pairs.len() as u64,
        layers: layers.collect(),
    };
    statistics.validate()?;
    Ok(statistics)
}

fn constant<'a>(graph: &'a GraphProto, name: &str) -> Option<&'a TensorProto> {
    graph.initializer.iter().find(|tensor| tensor.name == name)
}

/// Convolutions of the search graph that the template graph has under the same name with the same weights.
fn shared<'a>(
    template: &'a GraphProto,
    search: &'a GraphProto,
) -> impl Iterator<Item = &'a NodeProto> {
    let convs = |graph: &'a GraphProto| graph.node.iter().filter(|n| n.op_type == "QLinearConv");
    let weights = |graph: &'a GraphProto, node: &NodeProto| {
        let tensor = constant(graph, node.input.get(3)?)?;
        Some((&tensor.dims, &tensor.raw_data))
    };
    convs(search).filter(move |node| {
        let mut same = convs(template).filter(|other| other.output == node.output);
        same.any(|other| {
            let own = weights(search, node);
            own.is_some() && own == weights(template, other)
        })
    })
}

fn sums_of(layer: &NodeProto) -> String {
    format!("{}.sums", layer.name)
}

/// Adds what the layer sums up, in real numbers, as a value that nobody reads. `None` where its constants are not there.
fn look_into(graph: &mut GraphProto, layer: &NodeProto) -> Option<()> {
    let [x, x_scale, x_zero, weight, weight_scale, _, _, _, rest @ ..] = &layer.input[..] else {
        return None;
    };
    let input_scale = *f32_values(constant(graph, x_scale)?)?.first()?;
    let scales = f32_values(constant(graph, weight_scale)?)?;
    let weight = constant(graph, weight)?.clone();
    let channels = usize::try_from(*weight.dims.first()?)
        .ok()
        .filter(|c| *c > 0)?;
    let scale = |channel: usize| scales.get(channel).or(scales.first()).copied();
    let depth = (weight.raw_data.len() / channels).max(1);
    let mut weights = Vec::with_capacity(weight.raw_data.len());
    for (channel, of_channel) in weight.raw_data.chunks_exact(depth).enumerate() {
        let scale = scale(channel)?;
        weights.extend(
            of_channel
                .iter()
                .map(|w| f32::from(w.cast_signed()) * scale),
        );
    }
    let biases = match rest.first().filter(|name| !name.is_empty()) {
        Some(name) => {
            let (numbers, _) = constant(graph, name)?.raw_data.as_chunks::<4>();
            let bias = |(channel, b): (usize, &[u8; 4])| {
                Some(i32::from_le_bytes(*b) as f32 * (scale(channel)? * input_scale))
            };
            numbers
                .iter()
                .enumerate()
                .map(bias)
                .collect::<Option<_>>()?
        }
        None => vec![0.0; channels],
    };
    let mut floats = |what: &str, dims: Vec<i64>, values: &[f32]| {
        let name = format!("{}.{what}", layer.name);
        graph.initializer.push(TensorProto {
            dims,
            data_type: onnx::types::FLOAT,
            name: name.clone(),
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        });
        name
    };
    let weights = floats("weights", weight.dims.clone(), &weights);
    let biases = floats("biases", vec![channels as i64], &biases);
    let numbers = format!("{}.numbers", layer.name);
    graph.node.push(NodeProto {
        input: vec![x.clone(), x_scale.clone(), x_zero.clone()],
        output: vec![numbers.clone()],
        name: numbers.clone(),
        op_type: "DequantizeLinear".to_owned(),
        ..NodeProto::default()
    });
    graph.node.push(NodeProto {
        input: vec![numbers, weights, biases],
        output: vec![sums_of(layer)],
        name: sums_of(layer),
        op_type: "Conv".to_owned(),
        attribute: layer.attribute.clone(),
        ..NodeProto::default()
    });
    Some(())
}

/// Counts a map, channel by channel.
fn add(values: &Values, name: &str, seen: &mut Vec<Seen>) -> Result<()> {
    let map = values.get(name).and_then(Value::floats);
    let map = map.with_context(|| format!("{name}: not computed"))?;
    let channels = *map.shape().get(1).context("a map without channels")?;
    seen.resize(channels, Seen::default());
    let cells = map.values().len() / channels.max(1);
    for (seen, plane) in seen.iter_mut().zip(map.values().chunks_exact(cells.max(1))) {
        for value in plane.iter().map(|v| f64::from(*v)) {
            seen.count += 1.0;
            seen.sum += value;
            seen.squares += value * value;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use roadhound_shared::geometry::BoxLtrb;
    use roadhound_shared::quantised::QuantParams;

    use super::*;
    use crate::export::bundle;

    fn pair(contract: &FollowContract, seed: u32) -> Pair {
        let pixels = |side: u32| {
            let byte = |i: u32| ((i * (7 + seed) / 3) % 251) as u8;
            (0..3 * side * side).map(byte).collect::<Vec<u8>>()
        };
        Pair {
            template_rgb: pixels(contract.template_px),
            template_latest_rgb: pixels(contract.template_px),
            search_rgb: pixels(contract.search_px),
            box_in_search: BoxLtrb::new(96.0, 96.0, 160.0, 160.0),
            present: true,
            instance: 0,
            has_distinct_latest: false,
        }
    }

    #[test]
    fn the_backbone_is_what_both_graphs_share_and_what_it_sums_rounds_to_its_bytes() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/models/roadhound-s");
        let files = bundle::read(&shipped).unwrap();
        let (contract, graphs) = (&files.manifest.follow, files.int8.unwrap());
        let pairs = [pair(contract, 1), pair(contract, 4)];
        let found = source_statistics(&graphs, contract, &pairs, 16).unwrap();
        assert_eq!(found.crops, 2);
        // Four strides, a plain one, two pairs and the neck; nothing of the heads.
        let channels: Vec<usize> = found.layers.iter().map(|l| l.mean.len()).collect();
        assert_eq!(channels, [16, 32, 32, 64, 64, 64, 128, 128, 128, 96]);
        let few = source_statistics(&graphs, contract, &pairs, 2).unwrap();
        assert_eq!(few.layers, found.layers[..2]);

        let proto = |bytes: &[u8]| ModelProto::decode(bytes).unwrap().graph.unwrap();
        let (template, mut search) = (proto(&graphs.template), proto(&graphs.search));
        let layers: Vec<NodeProto> = shared(&template, &search).cloned().collect();
        for layer in &layers {
            look_into(&mut search, layer).unwrap();
        }
        let graph = Graph::parse(&onnx::model(search.clone(), &[])).unwrap();
        let template = Graph::parse(&graphs.template).unwrap();
        let samples = PairSamples {
            pairs: &pairs[..1],
            contract,
        };
        let mut compared = 0;
        samples
            .forward(0, &mut |which, inputs| {
                let values = [&template, &graph][which].run(inputs)?;
                for layer in layers.iter().filter(|_| which == 1) {
                    let scale = f32_values(constant(&search, &layer.input[6]).unwrap()).unwrap();
                    let zero = constant(&search, &layer.input[7]).unwrap().raw_data[0];
                    let params = QuantParams::new(scale[0], zero).unwrap();
                    let sums = values[&sums_of(layer)].floats().unwrap();
                    let bytes = values[&layer.output[0]].bytes().unwrap();
                    for (sum, byte) in sums.values().iter().zip(bytes.values()) {
                        // Sums in floats can fall on the other side of a half.
                        let off = params.quantise(*sum).abs_diff(*byte);
                        assert!(off <= 1, "{}: {sum} and {byte}", layer.name);
                        compared += 1;
                    }
                }
                Ok(values)
            })
            .unwrap();
        assert_eq!(compared, 843_776);
    }

    #[test]
    fn statistics_go_into_a_bundle_and_leave_it_with_its_int8_graphs() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/models/roadhound-s");
        let mut files = bundle::read(&shipped).unwrap();
        let contract = files.manifest.follow.clone();
        let pairs = [pair(&contract, 2)];
        let graphs = files.int8.as_ref().unwrap();
        let found = source_statistics(graphs, &contract, &pairs, 2).unwrap();
        bundle::set_statistics(&mut files, &found).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("bundle");
        bundle::write_quantised(files, &[], &out).unwrap();
        let mut files = bundle::read(&out).unwrap();
        let back: SourceStatistics = serde_json::from_slice(files.adapt.as_ref().unwrap()).unwrap();
        assert_eq!(back, found);
        // Other int8 graphs, other sums.
        let graphs = files.int8.as_ref().unwrap();
        let graphs = [graphs.template.clone(), graphs.search.clone()];
        bundle::set_int8(&mut files, graphs).unwrap();
        assert_eq!((&files.manifest.adapt, &files.adapt), (&None, &None));
        assert!(!files.manifest.files.contains_key("adapt.json"));
    }
}
