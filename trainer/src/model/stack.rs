//! A network of one path: convolutions, dense layers and ReLUs one after the other, over samples as they are read.
//!
//! In: rows `[N, length]`, a sample a row, pictures as rows of pixels with their channels together. Out: rows of another
//! length. A [`Stack`] is made to narrow ([`Stack::encoder`]) or to widen ([`Stack::decoder`]), and writes itself as a graph.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use roadhound_trainer::labelled::Shape;
//! use roadhound_trainer::model::Pass;
//! use roadhound_trainer::model::stack::{Stack, StackConfig};
//! use roadhound_trainer::params::ParamBuilder;
//! let shape = Shape { height: 28, width: 28, channels: 1 };
//! let config = StackConfig { channels: vec![8, 16], widths: vec![32], kernel: 3 };
//! let mut builder = ParamBuilder::new(1, &Device::Cpu);
//! let encoder = Stack::encoder(&mut builder, "encoder", shape, &config, 10, true)?;
//! let codes = encoder.forward(&Tensor::zeros((2, 784), DType::F32, &Device::Cpu)?, Pass::Eval)?;
//! assert_eq!(codes.dims(), [2, 10]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use candle_core::{Result, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::layers::{ConvBn, ConvShape, FoldedConv, Pass, oihw_from_hwio};
use super::spectral::Spectral;
use crate::config::{ConfigError, in_range};
use crate::export::follow::conv;
use crate::export::onnx::{Attribute, GraphBuilder};
use crate::labelled::Shape;
use crate::ops;
use crate::params::{Init, ParamBuilder};

/// Widest layer that a configuration may ask for.
const MAX_WIDTH: f64 = 16_384.0;

/// Widths of a network, from the samples inwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StackConfig {
    /// Channels after each convolution of stride 2; samples must be pictures where there is one.
    pub channels: Vec<usize>,
    /// Side of the windows of convolutions that narrow, an odd number; those that widen have 3.
    pub kernel: usize,
    /// Values after each dense layer between the convolutions and the last layer.
    pub widths: Vec<usize>,
}

impl Default for StackConfig {
    fn default() -> Self {
        Self {
            channels: Vec::new(),
            kernel: 3,
            widths: vec![256],
        }
    }
}

impl StackConfig {
    /// Checks the widths; `name` is the table's.
    ///
    /// # Errors
    /// The first that is out of range.
    pub fn validate(&self, name: &str) -> std::result::Result<(), ConfigError> {
        for (key, widths) in [("channels", &self.channels), ("widths", &self.widths)] {
            in_range(
                &format!("{name}.{key}, its length"),
                widths.len() as f64,
                0.0,
                8.0,
            )?;
            for width in widths {
                in_range(&format!("{name}.{key}"), *width as f64, 1.0, MAX_WIDTH)?;
            }
        }
        match matches!(self.kernel, 1 | 3 | 5 | 7) {
            true => Ok(()),
            false => Err(ConfigError::Value(format!(
                "{name}.kernel is {}, expected 1, 3, 5 or 7",
                self.kernel
            ))),
        }
    }

    /// Sides of the map after each convolution, the sample's own first.
    fn sides(&self, shape: Shape) -> Vec<Shape> {
        let mut sides = vec![shape];
        for channels in &self.channels {
            let last = sides[sides.len() - 1];
            sides.push(Shape {
                height: last.height.div_ceil(2),
                width: last.width.div_ceil(2),
                channels: *channels,
            });
        }
        sides
    }
}

/// Samples that a network cannot take.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// Convolutions of something that is no picture.
    #[error("`channels` is set, but samples are {height} x {width} x {channels}: not pictures")]
    NoPicture {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Values of a pixel.
        channels: usize,
    },
    /// Halving and doubling must come out at the same size.
    #[error(
        "pictures of {height} x {width} are not halved {times} times without a rest: `channels` is too long"
    )]
    Rest {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// How often they were to be halved.
        times: usize,
    },
    /// An operator failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A matrix product and a bias.
struct Dense {
    weight: Var,
    bias: Var,
    spectral: Option<Spectral>,
    inputs: usize,
    outputs: usize,
}

impl Dense {
    /// `gain` is 2 before a ReLU, 1 elsewhere: values keep their variance.
    fn new(
        builder: &mut ParamBuilder,
        name: &str,
        inputs: usize,
        outputs: usize,
        gain: f32,
    ) -> Result<Self> {
        let std = (gain / inputs.max(1) as f32).sqrt();
        let weight = builder.var(
            &format!("{name}.weight"),
            &[inputs, outputs],
            Init::Normal { std },
        )?;
        let bias = builder.var(&format!("{name}.bias"), &[outputs], Init::Constant(0.0))?;
        Ok(Self {
            weight,
            bias,
            spectral: None,
            inputs,
            outputs,
        })
    }

    /// The matrix as it multiplies, `[inputs, outputs]`.
    fn matrix(&self, pass: Pass) -> Result<Tensor> {
        match &self.spectral {
            Some(spectral) => spectral.normalised(&self.weight, pass),
            None => Ok(self.weight.as_tensor().clone()),
        }
    }
}

/// A 3x3 convolution with a bias, stride 1.
struct Conv {
    weight: Var,
    bias: Var,
    spectral: Option<Spectral>,
    shape: ConvShape,
}

impl Conv {
    fn new(builder: &mut ParamBuilder, name: &str, shape: ConvShape, gain: f32) -> Result<Self> {
        let ConvShape {
            input,
            output,
            kernel,
            ..
        } = shape;
        let std = (gain / (kernel * kernel * input) as f32).sqrt();
        let weight = builder.var(
            &format!("{name}.weight"),
            &[kernel, kernel, input, output],
            Init::Normal { std },
        )?;
        let bias = builder.var(&format!("{name}.bias"), &[output], Init::Constant(0.0))?;
        Ok(Self {
            weight,
            bias,
            spectral: None,
            shape,
        })
    }

    /// The kernel as it multiplies, `[kernel, kernel, input, output]`.
    fn kernel(&self, pass: Pass) -> Result<Tensor> {
        match &self.spectral {
            Some(spectral) => spectral.normalised(&self.weight, pass),
            None => Ok(self.weight.as_tensor().clone()),
        }
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let padding = self.shape.kernel / 2;
        ops::conv2d(
            x,
            &self.kernel(pass)?,
            self.shape.stride,
            padding,
            pass.precision(),
        )?
        .broadcast_add(&self.bias)
    }

    fn folded(&self) -> Result<FoldedConv> {
        let weight = self.kernel(Pass::Eval)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(FoldedConv {
            shape: self.shape,
            weight_oihw: oihw_from_hwio(&weight, self.shape, |_| 1.0),
            bias: self.bias.to_vec1::<f32>()?,
            relu: false,
        })
    }
}

enum Layer {
    /// Convolution, normalisation, ReLU.
    ConvBn(ConvBn),
    Conv(Conv),
    Dense(Dense),
    Relu,
    /// Rows to maps `[N, height, width, channels]`.
    Map(Shape),
    /// Maps to rows.
    Rows(Shape),
    /// Maps of four times the channels to maps of twice the sides (Shi et al. 2016); of which size they come out.
    Shuffle(Shape),
}

/// The network; see the module head.
pub struct Stack {
    layers: Vec<Layer>,
    input: Shape,
    output: Shape,
}

/// What a row of numbers is as a shape.
fn row(length: usize) -> Shape {
    Shape {
        height: 1,
        width: 1,
        channels: length,
    }
}

impl Stack {
    /// From samples of `shape` to rows of `outputs` values: convolutions of stride 2, dense layers, a last dense layer
    /// without ReLU. Convolutions are normalised where `norm` is set.
    ///
    /// # Errors
    /// Convolutions of samples that are no pictures; a name that is taken.
    pub fn encoder(
        builder: &mut ParamBuilder,
        name: &str,
        shape: Shape,
        config: &StackConfig,
        outputs: usize,
        norm: bool,
    ) -> std::result::Result<Self, StackError> {
        let mut stack = Self::trunk(builder, name, shape, config, norm)?;
        let length = stack.output.len();
        let last = Dense::new(builder, &format!("{name}.last"), length, outputs, 1.0)?;
        stack.layers.push(Layer::Dense(last));
        stack.output = row(outputs);
        Ok(stack)
    }

    /// As [`Stack::encoder`] without the last layer: rows of what comes after the last ReLU, as long as they are.
    ///
    /// # Errors
    /// As [`Stack::encoder`].
    pub fn trunk(
        builder: &mut ParamBuilder,
        name: &str,
        shape: Shape,
        config: &StackConfig,
        norm: bool,
    ) -> std::result::Result<Self, StackError> {
        let mut layers = Vec::new();
        if !config.channels.is_empty() {
            if !shape.is_map() {
                let Shape {
                    height,
                    width,
                    channels,
                } = shape;
                return Err(StackError::NoPicture {
                    height,
                    width,
                    channels,
                });
            }
            layers.push(Layer::Map(shape));
        }
        let sides = config.sides(shape);
        for (k, pair) in sides.windows(2).enumerate() {
            let conv = ConvShape::new(pair[0].channels, pair[1].channels, config.kernel).strided(2);
            let name = format!("{name}.conv{k}");
            if norm {
                layers.push(Layer::ConvBn(ConvBn::new(builder, &name, conv, true)?));
            } else {
                layers.push(Layer::Conv(Conv::new(builder, &name, conv, 2.0)?));
                layers.push(Layer::Relu);
            }
        }
        let last = sides[sides.len() - 1];
        if !config.channels.is_empty() {
            layers.push(Layer::Rows(last));
        }
        let mut length = last.len();
        for (k, width) in config.widths.iter().enumerate() {
            let name = format!("{name}.dense{k}");
            layers.push(Layer::Dense(Dense::new(
                builder, &name, length, *width, 2.0,
            )?));
            layers.push(Layer::Relu);
            length = *width;
        }
        Ok(Self {
            layers,
            input: shape,
            output: row(length),
        })
    }

    /// From rows of `inputs` values to samples of `shape`: the layers of [`Stack::encoder`] the other way round.
    ///
    /// # Errors
    /// Pictures that convolutions do not halve without a rest; a name that is taken.
    pub fn decoder(
        builder: &mut ParamBuilder,
        name: &str,
        inputs: usize,
        config: &StackConfig,
        shape: Shape,
    ) -> std::result::Result<Self, StackError> {
        let times = config.channels.len();
        if !shape.height.is_multiple_of(1 << times) || !shape.width.is_multiple_of(1 << times) {
            let (height, width) = (shape.height, shape.width);
            return Err(StackError::Rest {
                height,
                width,
                times,
            });
        }
        let mut layers = Vec::new();
        let mut length = inputs;
        for (k, width) in config.widths.iter().rev().enumerate() {
            let name = format!("{name}.dense{k}");
            layers.push(Layer::Dense(Dense::new(
                builder, &name, length, *width, 2.0,
            )?));
            layers.push(Layer::Relu);
            length = *width;
        }
        let sides = config.sides(shape);
        let first = sides[times];
        let gain = if times > 0 { 2.0 } else { 1.0 };
        let name_of_last = format!("{name}.last");
        layers.push(Layer::Dense(Dense::new(
            builder,
            &name_of_last,
            length,
            first.len(),
            gain,
        )?));
        if times > 0 {
            layers.push(Layer::Relu);
            layers.push(Layer::Map(first));
        }
        for k in (0..times).rev() {
            let (from, to) = (sides[k + 1], sides[k]);
            let conv = ConvShape::new(from.channels, 4 * to.channels, 3);
            let gain = if k > 0 { 2.0 } else { 1.0 };
            let name = format!("{name}.conv{k}");
            layers.push(Layer::Conv(Conv::new(builder, &name, conv, gain)?));
            layers.push(Layer::Shuffle(to));
            if k > 0 {
                layers.push(Layer::Relu);
            }
        }
        if times > 0 {
            layers.push(Layer::Rows(shape));
        }
        Ok(Self {
            layers,
            input: row(inputs),
            output: shape,
        })
    }

    /// Gives every matrix and every convolution that is not followed by a normalisation of its own a largest singular value
    /// of 1 ([`super::spectral`]); `name` is that of the stack.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn with_spectral_norm(mut self, builder: &mut ParamBuilder, name: &str) -> Result<Self> {
        for (k, layer) in self.layers.iter_mut().enumerate() {
            let name = format!("{name}.spectral{k}");
            match layer {
                Layer::Dense(dense) => {
                    dense.spectral = Some(Spectral::new(builder, &name, dense.inputs)?);
                }
                Layer::Conv(conv) => {
                    let ConvShape { input, kernel, .. } = conv.shape;
                    let rows = kernel * kernel * input;
                    conv.spectral = Some(Spectral::new(builder, &name, rows)?);
                }
                _ => {}
            }
        }
        Ok(self)
    }

    /// Values of what it takes.
    pub fn inputs(&self) -> usize {
        self.input.len()
    }

    /// Values of a result.
    pub fn outputs(&self) -> usize {
        self.output.len()
    }

    /// Values that the last layer, a dense one, is given: the features of [`Stack::forward_with_features`]. Of a decoder
    /// whose last layer is a convolution, none.
    pub fn feature_count(&self) -> usize {
        match self.layers.last() {
            Some(Layer::Dense(dense)) => dense.inputs,
            _ => 0,
        }
    }

    /// As [`Stack::forward`], and what the last layer is given.
    ///
    /// # Shapes
    /// `rows` `[N, length]`; returns `[N, length of the output]` and `[N, features]`.
    ///
    /// # Errors
    /// Rows of another length.
    pub fn forward_with_features(&self, rows: &Tensor, pass: Pass) -> Result<(Tensor, Tensor)> {
        let before = self.layers.len().saturating_sub(1);
        let features = self.through(&self.layers[..before], rows, pass)?;
        let (n, _) = rows.dims2()?;
        let outputs = self.applied(&self.layers[before..], features.clone(), n, pass)?;
        Ok((outputs, features))
    }

    /// The gradient of the first output with respect to the rows, of a stack of dense layers: a tensor that can be
    /// differentiated once more. A ReLU is a straight line on either side of zero: its slopes are constants.
    ///
    /// # Shapes
    /// `rows` `[N, length]`; returns `[N, length]`.
    ///
    /// # Errors
    /// A stack with convolutions; rows of another length.
    pub fn input_gradient(&self, rows: &Tensor, pass: Pass) -> Result<Tensor> {
        let mut steps = Vec::with_capacity(self.layers.len());
        let mut x = rows.clone();
        for layer in &self.layers {
            match layer {
                Layer::Dense(dense) => {
                    let matrix = dense.matrix(pass)?;
                    x = x.matmul(&matrix)?.broadcast_add(&dense.bias)?;
                    steps.push((Some(matrix), None));
                }
                Layer::Relu => {
                    let slopes = x.gt(0.0)?.to_dtype(x.dtype())?.detach();
                    x = x.relu()?;
                    steps.push((None, Some(slopes)));
                }
                _ => candle_core::bail!("the gradient of a convolution has no second gradient"),
            }
        }
        let mut one = vec![0f32; self.output.len()];
        if let Some(first) = one.first_mut() {
            *first = 1.0;
        }
        let one = Tensor::from_vec(one, (1, self.output.len()), rows.device())?;
        let mut gradient = one.broadcast_as(x.shape())?.contiguous()?;
        for step in steps.iter().rev() {
            gradient = match step {
                (Some(matrix), _) => gradient.matmul(&matrix.t()?.contiguous()?)?,
                (_, Some(slopes)) => (gradient * slopes)?,
                _ => gradient,
            };
        }
        Ok(gradient)
    }

    /// # Shapes
    /// `rows` `[N, length]`; returns `[N, length of the output]`.
    ///
    /// # Errors
    /// Rows of another length.
    pub fn forward(&self, rows: &Tensor, pass: Pass) -> Result<Tensor> {
        self.through(&self.layers, rows, pass)
    }

    /// The first `layers` of the stack.
    fn through(&self, layers: &[Layer], rows: &Tensor, pass: Pass) -> Result<Tensor> {
        let (n, length) = rows.dims2()?;
        if length != self.input.len() {
            candle_core::bail!("rows of {length} values, expected {}", self.input.len());
        }
        self.applied(layers, rows.clone(), n, pass)
    }

    fn applied(&self, layers: &[Layer], mut x: Tensor, n: usize, pass: Pass) -> Result<Tensor> {
        for layer in layers {
            x = match layer {
                Layer::ConvBn(conv) => conv.forward(&x, None, pass)?,
                Layer::Conv(conv) => conv.forward(&x, pass)?,
                Layer::Dense(dense) => {
                    x.matmul(&dense.matrix(pass)?)?.broadcast_add(&dense.bias)?
                }
                Layer::Relu => x.relu()?,
                Layer::Map(to) => x.reshape((n, to.height, to.width, to.channels))?,
                Layer::Rows(of) => x.reshape((n, of.len()))?,
                Layer::Shuffle(to) => shuffled(&x, *to)?,
            };
        }
        Ok(x)
    }

    /// Sizes of a sample as the graph takes it: pictures `[1, channels, height, width]` where there are convolutions.
    pub fn onnx_input(&self) -> Vec<usize> {
        onnx_shape(
            self.input,
            matches!(self.layers.first(), Some(Layer::Map(_))),
        )
    }

    /// Sizes of a result as the graph gives it.
    pub fn onnx_output(&self) -> Vec<usize> {
        onnx_shape(self.output, self.is_picture())
    }

    /// Whether a result is a picture, as a decoder's is.
    fn is_picture(&self) -> bool {
        matches!(self.layers.last(), Some(Layer::Rows(shape)) if *shape == self.output)
    }

    /// Whether the values of an input, and of an output, stand channel after channel in the graph.
    fn planar(&self) -> (bool, bool) {
        (self.onnx_input().len() == 4, self.onnx_output().len() == 4)
    }

    /// A sample's values in the order of the graph's input.
    pub fn onnx_values(&self, sample: &[f32]) -> Vec<f32> {
        planes(sample, self.input, self.planar().0)
    }

    /// A result's values in the order of the graph's output.
    pub fn onnx_results(&self, result: &[f32]) -> Vec<f32> {
        planes(result, self.output, self.planar().1)
    }

    /// Adds the layers to a graph; `x` has the sizes of [`Stack::onnx_input`], the value whose name is returned those of
    /// [`Stack::onnx_output`]. Maps are channels first there: the weights of dense layers beside them are reordered.
    ///
    /// # Errors
    /// If a weight cannot be read.
    pub fn write(&self, g: &mut GraphBuilder, x: &str) -> Result<String> {
        Ok(self.write_with_features(g, x)?.0)
    }

    /// As [`Stack::write`], with the first `count` values of an encoder's row alone: weights of the others are not written.
    ///
    /// # Errors
    /// If a weight cannot be read.
    pub fn write_first(&self, g: &mut GraphBuilder, x: &str, count: usize) -> Result<String> {
        Ok(self.write_layers(g, x, count)?.0)
    }

    /// As [`Stack::write`], and the name of what the last layer is given.
    ///
    /// # Errors
    /// If a weight cannot be read.
    pub fn write_with_features(&self, g: &mut GraphBuilder, x: &str) -> Result<(String, String)> {
        self.write_layers(g, x, usize::MAX)
    }

    /// `most` values of a dense layer that is the last one.
    fn write_layers(&self, g: &mut GraphBuilder, x: &str, most: usize) -> Result<(String, String)> {
        let mut x = x.to_owned();
        let mut features = x.clone();
        let mut rows_of: Option<Shape> = None;
        for (k, layer) in self.layers.iter().enumerate() {
            if k + 1 == self.layers.len() {
                features.clone_from(&x);
            }
            x = match layer {
                Layer::ConvBn(layer) => conv(g, &x, &layer.folded()?),
                Layer::Conv(layer) => conv(g, &x, &layer.folded()?),
                Layer::Dense(dense) => {
                    // A ReLU may stand between a dense layer and the map that it becomes.
                    let next = self.layers[k + 1..]
                        .iter()
                        .find(|l| !matches!(l, Layer::Relu));
                    let map_of = match next {
                        Some(Layer::Map(to)) => Some(*to),
                        _ => None,
                    };
                    let kept = match k + 1 == self.layers.len() {
                        true => dense.outputs.min(most),
                        false => dense.outputs,
                    };
                    dense_node(g, &x, dense, kept, rows_of.take(), map_of)?
                }
                Layer::Relu => g.node("Relu", &[&x], vec![]),
                Layer::Map(_) if k == 0 => x,
                Layer::Map(to) => {
                    let sizes = onnx_shape(*to, true).into_iter().map(|s| s as i64);
                    let sizes = g.ints(&sizes.collect::<Vec<_>>());
                    g.node("Reshape", &[&x, &sizes], vec![])
                }
                Layer::Rows(_) if self.is_picture() && k + 1 == self.layers.len() => x,
                Layer::Rows(of) if k + 1 == self.layers.len() => {
                    // Nothing follows whose weights could be reordered.
                    let order = Attribute::Ints("perm", &[0, 2, 3, 1]);
                    let x = g.node("Transpose", &[&x], vec![order]);
                    let sizes = g.ints(&[1, of.len() as i64]);
                    g.node("Reshape", &[&x, &sizes], vec![])
                }
                Layer::Rows(of) => {
                    rows_of = Some(*of);
                    let sizes = g.ints(&[1, of.len() as i64]);
                    g.node("Reshape", &[&x, &sizes], vec![])
                }
                Layer::Shuffle(to) => {
                    let [c, h, w] = [to.channels, to.height / 2, to.width / 2].map(|s| s as i64);
                    let parts = g.ints(&[1, 2, 2, c, h, w]);
                    let x = g.node("Reshape", &[&x, &parts], vec![]);
                    let order = Attribute::Ints("perm", &[0, 3, 4, 1, 5, 2]);
                    let x = g.node("Transpose", &[&x], vec![order]);
                    let sizes = g.ints(&[1, c, 2 * h, 2 * w]);
                    g.node("Reshape", &[&x, &sizes], vec![])
                }
            };
        }
        Ok((x, features))
    }
}

/// `[N, h, w, 4 C]` to `[N, 2 h, 2 w, C]`: the channels of a cell are its four pixels.
fn shuffled(x: &Tensor, to: Shape) -> Result<Tensor> {
    let (n, h, w, _) = x.dims4()?;
    let parts = x.reshape(&[n, h, w, 2, 2, to.channels][..])?;
    let pixels = parts.permute(&[0, 1, 3, 2, 4, 5][..])?.contiguous()?;
    pixels.reshape((n, to.height, to.width, to.channels))
}

fn onnx_shape(shape: Shape, map: bool) -> Vec<usize> {
    match map {
        true => vec![1, shape.channels, shape.height, shape.width],
        false => vec![1, shape.len()],
    }
}

/// The place of value `index` of a sample when its channels stand one after the other.
fn place_in_planes(shape: Shape, index: usize) -> usize {
    let (pixel, channel) = (index / shape.channels, index % shape.channels);
    channel * shape.height * shape.width + pixel
}

/// A sample's values with its channels one after the other, where `planar`.
pub(crate) fn planes(values: &[f32], shape: Shape, planar: bool) -> Vec<f32> {
    if !planar {
        return values.to_vec();
    }
    let mut moved = vec![0.0; values.len()];
    for (index, value) in values.iter().enumerate() {
        moved[place_in_planes(shape, index)] = *value;
    }
    moved
}

fn dense_node(
    g: &mut GraphBuilder,
    x: &str,
    dense: &Dense,
    kept: usize,
    rows_of: Option<Shape>,
    map_of: Option<Shape>,
) -> Result<String> {
    let weight = dense.matrix(Pass::Eval)?.flatten_all()?.to_vec1::<f32>()?;
    let bias = dense.bias.to_vec1::<f32>()?;
    let place = |shape: Option<Shape>, index| shape.map_or(index, |s| place_in_planes(s, index));
    let mut moved = vec![0.0; dense.inputs * kept];
    for (index, value) in weight.iter().enumerate() {
        let (row, column) = (index / dense.outputs, index % dense.outputs);
        if column < kept {
            moved[place(rows_of, row) * kept + place(map_of, column)] = *value;
        }
    }
    let mut moved_bias = vec![0.0; kept];
    for (column, value) in bias.iter().enumerate().take(kept) {
        moved_bias[place(map_of, column)] = *value;
    }
    let weight = g.floats(&[dense.inputs, kept], &moved);
    let bias = g.floats(&[1, kept], &moved_bias);
    let product = g.node("MatMul", &[x, &weight], vec![]);
    Ok(g.node("Add", &[&product, &bias], vec![]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::export::array::Array;
    use crate::export::interpret::Graph;
    use crate::ops::gradcheck::{Settings, check};
    use candle_core::{DType, Device};

    fn picture(channels: usize) -> Shape {
        Shape {
            height: 8,
            width: 12,
            channels,
        }
    }

    fn config() -> StackConfig {
        StackConfig {
            channels: vec![6, 8],
            kernel: 3,
            widths: vec![10],
        }
    }

    fn samples(count: usize, length: usize) -> Tensor {
        let values = (0..count * length).map(|i| (i as f32 * 0.37).sin());
        Tensor::from_vec(values.collect::<Vec<_>>(), (count, length), &Device::Cpu).unwrap()
    }

    /// The graph of a stack, run on one sample, against the stack itself.
    fn check_graph(stack: &Stack) {
        let x = samples(1, stack.input.len());
        let expected = stack.forward(&x, Pass::Eval).unwrap();
        let expected = stack.onnx_results(&expected.flatten_all().unwrap().to_vec1().unwrap());
        let mut g = GraphBuilder::new("stack");
        g.input("x", &stack.onnx_input());
        let y = stack.write(&mut g, "x").unwrap();
        g.output("y", &y, &stack.onnx_output());
        let graph = Graph::parse(&g.finish(&[])).unwrap();
        let values = stack.onnx_values(&x.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        let input = Array::new(stack.onnx_input(), values).unwrap();
        let found = graph.run(&[("x", input)]).unwrap();
        let found = found["y"].floats().unwrap();
        assert_eq!(found.shape(), stack.onnx_output());
        for (a, b) in found.values().iter().zip(&expected) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn the_graph_of_a_network_says_what_the_network_says_with_and_without_convolutions() {
        let dense = StackConfig {
            channels: vec![],
            widths: vec![7, 5],
            ..StackConfig::default()
        };
        let large = StackConfig {
            kernel: 5,
            widths: vec![],
            ..config()
        };
        for config in [config(), dense, large] {
            for channels in [1, 3] {
                let mut builder = ParamBuilder::new(3, &Device::Cpu);
                let shape = picture(channels);
                for norm in [true, false] {
                    let name = format!("encoder{norm}");
                    check_graph(
                        &Stack::encoder(&mut builder, &name, shape, &config, 4, norm).unwrap(),
                    );
                    let name = format!("trunk{norm}");
                    check_graph(&Stack::trunk(&mut builder, &name, shape, &config, norm).unwrap());
                }
                check_graph(&Stack::decoder(&mut builder, "decoder", 4, &config, shape).unwrap());
            }
        }
    }

    #[test]
    fn pixels_that_channels_become_have_the_gradients_of_finite_differences() {
        let to = picture(2);
        let values: Vec<f64> = (0..2 * 4 * 6 * 8)
            .map(|i| (f64::from(i) * 0.7).sin())
            .collect();
        let x = Tensor::from_vec(values, (2, 4, 6, 8), &Device::Cpu).unwrap();
        let weights: Vec<f64> = (0..2 * 8 * 12 * 2)
            .map(|i| (f64::from(i) * 1.1).cos())
            .collect();
        let weights = Tensor::from_vec(weights, (2, 8, 12, 2), &Device::Cpu).unwrap();
        check(&[x], &Settings::F64, |x| {
            (shuffled(&x[0], to)?.sqr()? * &weights)?.sum_all()
        })
        .unwrap();
    }

    #[test]
    fn a_step_along_the_gradient_of_both_halves_lowers_the_loss_by_its_square() {
        let mut builder = ParamBuilder::new(5, &Device::Cpu);
        let (shape, config) = (picture(1), config());
        let encoder = Stack::encoder(&mut builder, "e", shape, &config, 3, false).unwrap();
        let decoder = Stack::decoder(&mut builder, "d", 3, &config, shape).unwrap();
        let params = builder.finish();
        let x = samples(2, shape.len());
        let loss = || {
            let code = encoder.forward(&x, Pass::Eval)?;
            (decoder.forward(&code, Pass::Eval)? - &x)?
                .sqr()?
                .mean_all()
        };
        let before = loss().unwrap();
        let gradients = before.backward().unwrap();
        let (step, mut squares) = (1e-3, 0.0);
        for var in params.vars.values() {
            let gradient = gradients.get(var).unwrap();
            squares += f64::from(
                gradient
                    .sqr()
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap(),
            );
            let moved = (var.as_tensor() - (gradient * step).unwrap()).unwrap();
            var.set(&moved.detach()).unwrap();
        }
        let number = |t: Tensor| f64::from(t.to_scalar::<f32>().unwrap());
        let fallen = number(before) - number(loss().unwrap());
        assert!(
            (fallen / (step * squares) - 1.0).abs() < 0.05,
            "{fallen} {squares}"
        );
    }

    #[test]
    fn samples_that_a_network_cannot_take_are_refused_with_their_sizes() {
        let mut builder = ParamBuilder::new(1, &Device::Cpu);
        let said = Stack::encoder(&mut builder, "a", row(13), &config(), 2, true);
        let said = said.err().unwrap().to_string();
        assert!(said.contains("1 x 1 x 13: not pictures"), "{said}");
        let odd = Shape {
            height: 6,
            ..picture(1)
        };
        let said = Stack::decoder(&mut builder, "b", 2, &config(), odd);
        let said = said.err().unwrap().to_string();
        assert!(said.contains("6 x 12 are not halved 2 times"), "{said}");
        let encoder = Stack::encoder(&mut builder, "c", row(4), &StackConfig::default(), 2, true);
        let rows = Tensor::zeros((1, 5), DType::F32, &Device::Cpu).unwrap();
        let said = encoder.unwrap().forward(&rows, Pass::Eval).unwrap_err();
        assert!(said.to_string().contains("rows of 5 values, expected 4"));
    }
}
