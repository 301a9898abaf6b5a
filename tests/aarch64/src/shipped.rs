//! Computes the int8 parts of a bundle's graphs on the pictures that come in, and gives every byte back: for `shipped.py`,
//! which compares them with those of ONNX Runtime.
//!
//!     shipped PATH WHOLE_TURNS GRAPH.onnx...
//!
//! In, for each turn, as little-endian f32: the numbers that the graphs quantise, one graph after the other (the search
//! graph's are the crop and the mixed templates). Out, for each graph of a turn: what is dequantised, as f32, in the
//! order of the nodes, by a program that fuses all it can; and for the first WHOLE_TURNS turns also the bytes of every
//! map that an operator makes, in the order of the nodes.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};

use prost::Message;
use roadhound_edge::int8::{
    Convolution, Graph, Layout, Number, Path, Program, Shape, Sink, Source, Value,
};
use roadhound_shared::quantised::{QuantParams, QuantisedAdd};

#[path = "../../../trainer/src/export/onnx.rs"]
#[expect(dead_code, reason = "only what reads a file is used here")]
mod onnx;
use onnx::{DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto};

type Failure = Box<dyn std::error::Error>;

/// No program has more outputs.
const MOST_OUTPUTS: usize = 16;

/// The initialisers of a file.
struct Constants<'a>(HashMap<&'a str, &'a TensorProto>);

impl<'a> Constants<'a> {
    fn numbers<const N: usize, T>(
        &self,
        name: &str,
        of: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Failure> {
        let tensor = self
            .0
            .get(name)
            .ok_or_else(|| format!("no constant {name}"))?;
        let (chunks, rest) = tensor.raw_data.as_chunks::<N>();
        if rest.is_empty() {
            Ok(chunks.iter().map(|bytes| of(*bytes)).collect())
        } else {
            Err(format!("{name} is of another type").into())
        }
    }

    /// Scale and zero point, at `k` and `k + 1` of the inputs.
    fn params(&self, node: &NodeProto, k: usize) -> Result<QuantParams, Failure> {
        let scale = self.numbers(&node.input[k], f32::from_le_bytes)?;
        let zero = self.numbers(&node.input[k + 1], |[byte]| byte)?;
        Ok(QuantParams::new(scale[0], zero[0])?)
    }

    fn convolution(&self, node: &NodeProto) -> Result<Convolution, Failure> {
        let sides = &self.0[node.input[3].as_str()].dims;
        let ints = |name: &str| {
            let found = node.attribute.iter().find(|a| a.name == name);
            found.map(|a| a.ints.iter().map(|v| *v as usize).collect::<Vec<_>>())
        };
        let two = |name: &str| match ints(name).as_deref() {
            Some(&[a, b]) => [a, b],
            _ => [1, 1],
        };
        let bias = node.input.get(8).filter(|name| !name.is_empty());
        Ok(Convolution {
            weights: self.numbers(&node.input[3], i8::from_le_bytes)?,
            bias: bias
                .map(|name| self.numbers(name, i32::from_le_bytes))
                .transpose()?,
            channels: sides[0] as usize,
            kernel: [sides[2] as usize, sides[3] as usize],
            strides: two("strides"),
            dilations: two("dilations"),
            pads: ints("pads")
                .and_then(|p| p.try_into().ok())
                .unwrap_or([0; 4]),
            input: self.params(node, 1)?,
            weight_scales: self.numbers(&node.input[4], f32::from_le_bytes)?,
            output: self.params(node, 6)?,
        })
    }
}

/// A graph that can be run.
struct Runnable {
    /// Length of each input.
    inputs: Vec<usize>,
    /// What is dequantised, in one fused program.
    results: (Program, Vec<usize>),
    /// Every map, in as many programs as their number takes.
    maps: Vec<(Program, Vec<usize>)>,
}

/// Dimensions of an input of the file, without the batch.
fn sides(graph: &GraphProto, name: &str) -> Option<Vec<usize>> {
    let input = graph.input.iter().find(|input| input.name == name)?;
    let dims = &input
        .r#type
        .as_ref()?
        .tensor_type
        .as_ref()?
        .shape
        .as_ref()?
        .dim;
    let sides = dims[1..].iter().map(|dim| match dim.value {
        Some(DimensionValue::Size(side)) => usize::try_from(side).ok(),
        None => None,
    });
    sides.collect()
}

fn read(file: &str, path: Path) -> Result<Runnable, Failure> {
    let model = ModelProto::decode(std::fs::read(file)?.as_slice())?;
    let proto = model.graph.as_ref().ok_or("no graph")?;
    let constants = Constants(
        proto
            .initializer
            .iter()
            .map(|t| (t.name.as_str(), t))
            .collect(),
    );
    let mut graph = Graph::new();
    let mut values: HashMap<&str, Value> = HashMap::new();
    let mut inputs = Vec::new();
    let mut maps = Vec::new();
    let mut results = Vec::new();
    for node in &proto.node {
        let input = |k: usize| values.get(node.input[k].as_str()).copied();
        let known = |k: usize| input(k).ok_or_else(|| format!("{} reads no bytes", node.output[0]));
        let mut layout = Layout::Planar;
        let made = match node.op_type.as_str() {
            "QuantizeLinear" => {
                let params = constants.params(node, 1)?;
                // A crop, or else the templates: as many cells as the features have, and as many channels.
                let shape = match sides(proto, &node.input[0]).as_deref() {
                    Some(&[c, h, w]) => Shape::new(c, h, w)?,
                    _ => match sides(proto, "template_first").as_deref() {
                        Some(&[c, h, w]) => {
                            layout = Layout::Cells;
                            Shape::new(c, 1, h * w)?
                        }
                        _ => return Err(format!("{}: no shape", node.input[0]).into()),
                    },
                };
                inputs.push(shape.len());
                graph.input(shape, layout, Number::F32(params))?
            }
            "QLinearConv" => graph.convolve(known(0)?, &constants.convolution(node)?)?,
            "QLinearAdd" => {
                let params = |k| constants.params(node, k);
                let add = QuantisedAdd::new(params(1)?, params(4)?, params(6)?);
                graph.add(known(0)?, known(3)?, add)?
            }
            "QLinearMatMul" => {
                let params = |k| constants.params(node, k);
                let (templates, cells) = ((known(0)?, params(1)?), (known(3)?, params(4)?));
                graph.correlate(templates, cells, params(6)?)?
            }
            "Concat" if input(0).is_some() => {
                let parts: Result<Vec<_>, _> = (0..node.input.len()).map(known).collect();
                graph.concat(&parts?)?
            }
            "Slice" if input(0).is_some() => {
                let ints = |k: usize| constants.numbers(&node.input[k], i64::from_le_bytes);
                let (from, to) = (ints(1)?, ints(2)?);
                if ints(3)? != [2, 3] || from.len() != 2 || to.len() != 2 {
                    return Err(
                        format!("{}: not a slice of rows and columns", node.output[0]).into(),
                    );
                }
                let [top, left] = [from[0], from[1]].map(|v| v as usize);
                let size = (to[0] as usize - top, to[1] as usize - left);
                graph.crop(known(0)?, (top, left), size)?
            }
            // The same map under other dimensions: no new bytes.
            "Reshape" if input(0).is_some() => {
                let same = known(0)?;
                values.insert(&node.output[0], same);
                continue;
            }
            "DequantizeLinear" => {
                results.push((
                    known(0)?,
                    Layout::Planar,
                    Number::F32(constants.params(node, 1)?),
                ));
                continue;
            }
            _ if input(0).is_some() => return Err(format!("{} on bytes", node.op_type).into()),
            _ => continue,
        };
        values.insert(&node.output[0], made);
        maps.push((made, layout, Number::U8));
    }
    let program = |outputs: &[(Value, Layout, Number)]| -> Result<_, Failure> {
        let mut graph = graph.clone();
        let mut lens = Vec::new();
        for &(value, layout, number) in outputs {
            lens.push(graph.shape(value).len());
            graph.output(value, layout, number)?;
        }
        let program = graph.plan(path, 1)?;
        if program.path() == path {
            Ok((program, lens))
        } else {
            Err(format!("this processor has no {path}").into())
        }
    };
    Ok(Runnable {
        inputs,
        results: program(&results)?,
        maps: maps
            .chunks(MOST_OUTPUTS)
            .map(program)
            .collect::<Result<_, _>>()?,
    })
}

impl Runnable {
    /// Appends what the graph makes of its inputs; every map too, where they are wanted.
    fn run(&mut self, inputs: &[Vec<f32>], whole: bool, out: &mut Vec<u8>) -> Result<(), Failure> {
        let sources: Vec<Source<'_>> = inputs.iter().map(|input| Source::F32(input)).collect();
        let (program, lens) = &mut self.results;
        let mut results: Vec<Vec<f32>> = lens.iter().map(|len| vec![0.0; *len]).collect();
        let mut sinks: Vec<Sink<'_>> = results.iter_mut().map(|r| Sink::F32(r)).collect();
        program.run(&sources, &mut sinks)?;
        out.extend(results.iter().flatten().flat_map(|v| v.to_le_bytes()));
        if whole {
            for (program, lens) in &mut self.maps {
                let mut maps: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; *len]).collect();
                let mut sinks: Vec<Sink<'_>> = maps.iter_mut().map(|m| Sink::U8(m)).collect();
                program.run(&sources, &mut sinks)?;
                out.extend(maps.iter().flatten());
            }
        }
        Ok(())
    }
}

fn main() -> Result<(), Failure> {
    let usage = "shipped PATH WHOLE_TURNS GRAPH.onnx...";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, whole_turns, files @ ..] = &arguments[..] else {
        return Err(usage.into());
    };
    let path: Path = path.parse()?;
    let whole_turns: usize = whole_turns.parse()?;
    let graphs = files.iter().map(|file| read(file, path));
    let mut graphs: Vec<Runnable> = graphs.collect::<Result<_, _>>()?;
    let (mut stdin, mut stdout) = (std::io::stdin().lock(), std::io::stdout().lock());
    for turn in 0.. {
        let mut inputs: Vec<Vec<Vec<f32>>> = vec![Vec::new(); graphs.len()];
        for (graph, inputs) in graphs.iter().zip(&mut inputs) {
            for &len in &graph.inputs {
                let mut bytes = vec![0; 4 * len];
                match stdin.read_exact(&mut bytes) {
                    Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                    other => other?,
                }
                let (numbers, _) = bytes.as_chunks();
                inputs.push(numbers.iter().map(|b| f32::from_le_bytes(*b)).collect());
            }
        }
        // Nothing is written before all of a turn is read: whoever writes it need not read meanwhile.
        let mut out = Vec::new();
        for (graph, inputs) in graphs.iter_mut().zip(&inputs) {
            graph.run(inputs, turn < whole_turns, &mut out)?;
        }
        stdout.write_all(&out)?;
        stdout.flush()?;
    }
    Ok(())
}
