//! What is to be computed: maps of bytes and the operators between them. Enters: operators, one by one, each checked
//! as it comes. Leaves: a [`Program`], by [`Graph::plan`].
//!
//! ```
//! use roadhound_edge::int8::{Convolution, Graph, Layout, Number, Path, Shape, Sink, Source};
//! use roadhound_shared::quantised::QuantParams;
//!
//! // One 1x1 convolution of two channels to one: their sum, at half the scale.
//! let mut graph = Graph::new();
//! let input = QuantParams::new(0.5, 0)?;
//! let x = graph.input(Shape::new(2, 1, 3)?, Layout::Planar, Number::F32(input))?;
//! let output = QuantParams::new(1.0, 0)?;
//! let y = graph.convolve(x, &Convolution {
//!     weights: vec![1, 1],
//!     bias: None,
//!     channels: 1,
//!     kernel: [1, 1],
//!     strides: [1, 1],
//!     dilations: [1, 1],
//!     pads: [0; 4],
//!     input,
//!     weight_scales: vec![1.0],
//!     output,
//! })?;
//! graph.output(y, Layout::Planar, Number::F32(output))?;
//! let mut program = graph.plan(Path::detect(), 1)?;
//! let mut sums = [0.0; 3];
//! program.run(
//!     &[Source::F32(&[1.0, 2.0, 3.0, 10.0, 20.0, 30.0])],
//!     &mut [Sink::F32(&mut sums)],
//! )?;
//! assert_eq!(sums, [11.0, 22.0, 33.0]);
//! # Ok::<(), roadhound_edge::int8::PlanError>(())
//! ```

use roadhound_shared::quantised::{QuantError, QuantParams, QuantisedAdd, Requantise, check_sum};

use super::observe::Reference;
use super::path::Path;
use super::plan;
use super::program::Program;

/// No map has more numbers than this, and no side is longer: offsets fit into 32 bits with room to spare.
const MOST_NUMBERS: usize = 1 << 26;
/// No graph has more inputs or outputs.
pub(super) const MOST_ENDS: usize = 16;

/// Why an operator cannot be computed here. What cannot is left to somebody else; nothing is computed wrongly.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A scale, or sums that could overflow.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// A map without numbers, or with too many.
    #[error("a map of {channels}x{height}x{width}, expected 1 to 67108864 numbers")]
    Size {
        /// Channels.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// The program would take more memory than is meant for one.
    #[error("a program of {bytes} bytes or more, expected at most 1073741824")]
    Memory {
        /// Counted until it was too much.
        bytes: usize,
    },
    /// Two things that belong together differ in their number.
    #[error("{what}: {found}, expected {expected}")]
    Mismatch {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// The window is larger than the padded map, or has no size.
    #[error("a window of {window:?} on a padded map of {map:?}")]
    Window {
        /// Rows and columns of the window, gaps included.
        window: [usize; 2],
        /// Rows and columns of the map with its padding.
        map: [usize; 2],
    },
    /// From window to window, or from tap to tap, it goes nowhere.
    #[error("a stride or dilation of 0")]
    Step,
    /// Two convolutions pad the same map with different zero points.
    #[error("a map is padded with {first} and with {second}")]
    Padding {
        /// One zero point.
        first: u8,
        /// The other.
        second: u8,
    },
    /// Maps that are to be added or set side by side differ in their sides.
    #[error("maps of {a:?} and {b:?} (channels, rows, columns)")]
    Sides {
        /// The first map.
        a: [usize; 3],
        /// The other.
        b: [usize; 3],
    },
    /// The program was called with an input or output of another length or type.
    #[error("{role} {index}: {found}, expected {expected}")]
    End {
        /// Input or output.
        role: &'static str,
        /// Which one.
        index: usize,
        /// What came.
        found: String,
        /// What was planned.
        expected: String,
    },
    /// Somebody wants to look into what is no convolution, or twice into the same.
    #[error("only a convolution can be observed, and once")]
    Unobservable,
    /// No threads.
    #[error("cannot start {threads} threads: {message}")]
    Threads {
        /// How many were wanted.
        threads: usize,
        /// What the system said.
        message: String,
    },
}

/// Sides of a map; the batch is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    /// A map of so many numbers.
    ///
    /// # Errors
    /// [`PlanError::Size`].
    pub fn new(channels: usize, height: usize, width: usize) -> Result<Self, PlanError> {
        let numbers = channels
            .checked_mul(height)
            .and_then(|n| n.checked_mul(width));
        match numbers {
            Some(1..=MOST_NUMBERS) => Ok(Self {
                channels,
                height,
                width,
            }),
            _ => Err(PlanError::Size {
                channels,
                height,
                width,
            }),
        }
    }

    /// Cells of the map.
    pub fn cells(self) -> usize {
        self.height * self.width
    }

    /// Numbers in the map.
    pub fn len(self) -> usize {
        self.channels * self.cells()
    }

    /// Never: a shape has at least one number.
    pub fn is_empty(self) -> bool {
        false
    }

    fn sides(self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }
}

/// Order of the numbers of an input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channel by channel: `[C, H, W]`.
    Planar,
    /// Cell by cell: `[H, W, C]`.
    Cells,
}

/// Type of an input or output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Quantised on its way in, dequantised on its way out.
    F32(QuantParams),
    /// Bytes as they are.
    U8,
}

/// A map in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value(pub(super) usize);

/// A convolution without groups (`QLinearConv`).
#[derive(Clone, Debug)]
pub struct Convolution {
    /// `[channels, input channels, kernel rows, kernel columns]`.
    pub weights: Vec<i8>,
    /// One for each channel, in steps of input scale times weight scale.
    pub bias: Option<Vec<i32>>,
    /// Output channels.
    pub channels: usize,
    /// Rows and columns of the window.
    pub kernel: [usize; 2],
    /// Rows and columns from window to window.
    pub strides: [usize; 2],
    /// Rows and columns from tap to tap.
    pub dilations: [usize; 2],
    /// Padding above, left, below, right.
    pub pads: [usize; 4],
    /// What the bytes of the input mean.
    pub input: QuantParams,
    /// One for all channels or one for each.
    pub weight_scales: Vec<f32>,
    /// What the bytes of the output mean.
    pub output: QuantParams,
}

/// A convolution, checked.
#[derive(Clone, Debug)]
pub(super) struct Conv {
    pub(super) weights: Vec<i8>,
    pub(super) bias: Vec<i32>,
    pub(super) requantise: Vec<Requantise>,
    pub(super) kernel: [usize; 2],
    pub(super) strides: [usize; 2],
    pub(super) dilations: [usize; 2],
    pub(super) pads: [usize; 4],
    pub(super) input_zero: u8,
    pub(super) output_zero: u8,
    pub(super) output_scale: f32,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Input {
        index: usize,
        layout: Layout,
        number: Number,
    },
    Conv {
        x: Value,
        conv: Conv,
    },
    Add {
        a: Value,
        b: Value,
        add: QuantisedAdd,
    },
    Correlate {
        templates: Value,
        cells: Value,
        template_zero: u8,
        cell_zero: u8,
        requantise: Requantise,
    },
    Concat {
        parts: Vec<Value>,
    },
    Crop {
        x: Value,
        top: usize,
        left: usize,
    },
}

/// A map: its sides and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) shape: Shape,
    pub(super) origin: Origin,
}

/// A map that is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) value: Value,
    pub(super) layout: Layout,
    pub(super) number: Number,
}

/// The operators so far.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) inputs: usize,
    pub(super) outputs: Vec<Output>,
    /// Convolutions that are looked into.
    pub(super) observed: Vec<(Value, Vec<Reference>)>,
}

impl Graph {
    /// Without operators.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sides of a map.
    pub fn shape(&self, value: Value) -> Shape {
        self.nodes[value.0].shape
    }

    /// Products of a weight or template and a byte that a run adds up, whatever the path pads them with.
    pub fn products(&self) -> u64 {
        let of = |node: &Node| match &node.origin {
            Origin::Conv { conv, .. } => node.shape.cells() as u64 * conv.weights.len() as u64,
            Origin::Correlate { cells, .. } => {
                node.shape.len() as u64 * self.shape(*cells).channels as u64
            }
            _ => 0,
        };
        self.nodes.iter().map(of).sum()
    }

    /// The next input.
    ///
    /// # Errors
    /// Too many.
    pub fn input(
        &mut self,
        shape: Shape,
        layout: Layout,
        number: Number,
    ) -> Result<Value, PlanError> {
        at_most("inputs", self.inputs + 1)?;
        let index = self.inputs;
        self.inputs += 1;
        Ok(self.push(
            shape,
            Origin::Input {
                index,
                layout,
                number,
            },
        ))
    }

    /// The next output.
    ///
    /// # Errors
    /// Too many.
    pub fn output(
        &mut self,
        value: Value,
        layout: Layout,
        number: Number,
    ) -> Result<(), PlanError> {
        at_most("outputs", self.outputs.len() + 1)?;
        self.outputs.push(Output {
            value,
            layout,
            number,
        });
        Ok(())
    }

    /// A convolution, its bias, and the rounding to bytes; a ReLU is an output zero point of 0.
    ///
    /// # Errors
    /// Numbers of weights, biases or scales that do not match, windows larger than the map, sums that could overflow.
    pub fn convolve(&mut self, x: Value, spec: &Convolution) -> Result<Value, PlanError> {
        let input = self.shape(x);
        let [kernel_rows, kernel_columns] = spec.kernel;
        let depth = [kernel_rows, kernel_columns]
            .into_iter()
            .try_fold(input.channels, usize::checked_mul)
            .filter(|depth| (1..=MOST_NUMBERS).contains(depth))
            .ok_or(PlanError::Window {
                window: spec.kernel,
                map: [input.height, input.width],
            })?;
        counted(
            "weights",
            spec.weights.len(),
            depth.saturating_mul(spec.channels),
        )?;
        let bias = match &spec.bias {
            Some(bias) => {
                counted("biases", bias.len(), spec.channels)?;
                bias.clone()
            }
            None => vec![0; spec.channels],
        };
        if spec.weight_scales.len() != 1 {
            counted("weight scales", spec.weight_scales.len(), spec.channels)?;
        }
        for &bias in &bias {
            check_sum(depth, 128, bias)?;
        }
        let requantise = spec
            .weight_scales
            .iter()
            .map(|&scale| Requantise::new(spec.input.scale(), scale, spec.output))
            .collect::<Result<_, _>>()?;
        for step in spec.strides.into_iter().chain(spec.dilations) {
            if step == 0 {
                return Err(PlanError::Step);
            }
        }
        let side = |axis: usize, length: usize| {
            let padded = length
                .checked_add(spec.pads[axis])
                .and_then(|n| n.checked_add(spec.pads[axis + 2]))
                .filter(|n| *n <= MOST_NUMBERS);
            let window = (spec.kernel[axis] - 1)
                .checked_mul(spec.dilations[axis])
                .map(|n| n.saturating_add(1));
            match (padded, window) {
                (Some(padded), Some(window)) if window <= padded => {
                    Ok((padded - window) / spec.strides[axis] + 1)
                }
                _ => Err(PlanError::Window {
                    window: [0, 1].map(|axis| {
                        (spec.kernel[axis] - 1)
                            .saturating_mul(spec.dilations[axis])
                            .saturating_add(1)
                    }),
                    map: [0, 1].map(|axis| {
                        [input.height, input.width][axis]
                            .saturating_add(spec.pads[axis])
                            .saturating_add(spec.pads[axis + 2])
                    }),
                }),
            }
        };
        let shape = Shape::new(spec.channels, side(0, input.height)?, side(1, input.width)?)?;
        // The map with its padding must be one that offsets can reach.
        Shape::new(
            input.channels.max(4),
            input.height + spec.pads[0] + spec.pads[2],
            input.width + spec.pads[1] + spec.pads[3],
        )?;
        Ok(self.push(
            shape,
            Origin::Conv {
                x,
                conv: Conv {
                    weights: spec.weights.clone(),
                    bias,
                    requantise,
                    kernel: spec.kernel,
                    strides: spec.strides,
                    dilations: spec.dilations,
                    pads: spec.pads,
                    input_zero: spec.input.zero_point(),
                    output_zero: spec.output.zero_point(),
                    output_scale: spec.output.scale(),
                },
            },
        ))
    }

    /// Looks into a convolution, and lets its channels be adjusted: it is the next one of [`Program::samples`] and
    /// [`Program::adjust`]. What it computes is the same until somebody adjusts it.
    ///
    /// # Errors
    /// Something else than a convolution, one that is observed already, another number of references than channels, too
    /// many of them.
    pub fn observe(&mut self, value: Value, references: &[Reference]) -> Result<(), PlanError> {
        let node = &self.nodes[value.0];
        let again = self.observed.iter().any(|(other, _)| *other == value);
        if again || !matches!(node.origin, Origin::Conv { .. }) {
            return Err(PlanError::Unobservable);
        }
        counted("references", references.len(), node.shape.channels)?;
        at_most("observed convolutions", self.observed.len() + 1)?;
        self.observed.push((value, references.to_vec()));
        Ok(())
    }

    /// The sum of two maps (`QLinearAdd`).
    ///
    /// # Errors
    /// Maps of different sides.
    pub fn add(&mut self, a: Value, b: Value, add: QuantisedAdd) -> Result<Value, PlanError> {
        let (shape, other) = (self.shape(a), self.shape(b));
        if shape != other {
            return Err(PlanError::Sides {
                a: shape.sides(),
                b: other.sides(),
            });
        }
        Ok(self.push(shape, Origin::Add { a, b, add }))
    }

    /// Every cell of `cells` multiplied with every cell of `templates` (`QLinearMatMul`): one channel for each cell of
    /// the templates.
    ///
    /// # Errors
    /// Maps of different channels, sums that could overflow.
    pub fn correlate(
        &mut self,
        (templates, template_params): (Value, QuantParams),
        (cells, cell_params): (Value, QuantParams),
        output: QuantParams,
    ) -> Result<Value, PlanError> {
        let (t, c) = (self.shape(templates), self.shape(cells));
        counted("channels", t.channels, c.channels)?;
        check_sum(c.channels, 255, 0)?;
        let shape = Shape::new(t.cells(), c.height, c.width)?;
        let requantise = Requantise::new(template_params.scale(), cell_params.scale(), output)?;
        Ok(self.push(
            shape,
            Origin::Correlate {
                templates,
                cells,
                template_zero: template_params.zero_point(),
                cell_zero: cell_params.zero_point(),
                requantise,
            },
        ))
    }

    /// The channels of several maps, one after the other.
    ///
    /// # Errors
    /// No maps, or maps of different sides.
    pub fn concat(&mut self, parts: &[Value]) -> Result<Value, PlanError> {
        let first = parts.first().ok_or(PlanError::Mismatch {
            what: "parts",
            found: 0,
            expected: 1,
        })?;
        let first = self.shape(*first);
        let mut channels = 0_usize;
        for part in parts {
            let shape = self.shape(*part);
            if (shape.height, shape.width) != (first.height, first.width) {
                return Err(PlanError::Sides {
                    a: first.sides(),
                    b: shape.sides(),
                });
            }
            channels = channels.saturating_add(shape.channels);
        }
        let shape = Shape::new(channels, first.height, first.width)?;
        Ok(self.push(
            shape,
            Origin::Concat {
                parts: parts.to_vec(),
            },
        ))
    }

    /// A rectangle of the map, all channels.
    ///
    /// # Errors
    /// A rectangle that reaches beyond the map.
    pub fn crop(
        &mut self,
        x: Value,
        (top, left): (usize, usize),
        (height, width): (usize, usize),
    ) -> Result<Value, PlanError> {
        let map = self.shape(x);
        let inside = |at: usize, length: usize, side: usize| {
            at.checked_add(length).is_some_and(|end| end <= side)
        };
        if !inside(top, height, map.height) || !inside(left, width, map.width) {
            return Err(PlanError::Window {
                window: [height, width],
                map: [map.height, map.width],
            });
        }
        let shape = Shape::new(map.channels, height, width)?;
        Ok(self.push(shape, Origin::Crop { x, top, left }))
    }

    /// Lays everything out for a path and so many threads: packs weights, finds a place in the arena for every map.
    /// Where the processor does not have the path it is the scalar one; [`Program::path`] says so.
    ///
    /// # Errors
    /// Maps padded with two zero points, a map that is too large with the padding of all its readers, more memory than is
    /// meant for a program; no threads.
    pub fn plan(self, path: Path, threads: usize) -> Result<Program, PlanError> {
        plan::plan(self, path, threads)
    }

    fn push(&mut self, shape: Shape, origin: Origin) -> Value {
        self.nodes.push(Node { shape, origin });
        Value(self.nodes.len() - 1)
    }
}

/// As many as there should be, or [`PlanError::Mismatch`].
pub(super) fn counted(what: &'static str, found: usize, expected: usize) -> Result<(), PlanError> {
    if found == expected {
        Ok(())
    } else {
        Err(PlanError::Mismatch {
            what,
            found,
            expected,
        })
    }
}

fn at_most(what: &'static str, found: usize) -> Result<(), PlanError> {
    counted(what, found, found.min(MOST_ENDS))
}
