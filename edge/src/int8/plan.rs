//! From a graph to a program: what is fused, where every map lies, in which order weights are read.
//!
//! - A convolution whose only reader is an addition does the addition itself.
//! - Numbers of three planes that only one convolution reads are quantised by it, a band of rows at a time.
//! - The parts of a concatenation are written where they belong, so that it costs nothing.
//! - Maps share one arena; two whose lifetimes do not meet may have the same place.

use roadhound_shared::quantised::{QuantParams, QuantisedAdd, Requantise};

use super::graph::{Conv, Graph, Layout, Node, Number, Origin, PlanError, Shape, Value};
use super::kernel::{Kernels, SLACK_BYTES};
use super::observe::{Reference, Watch};
use super::path::Path;
use super::pool::{Barrier, Pool};
use super::program::{End, Program};

/// Most bytes of a program: arena, packed weights, offsets, and the numbers that it writes. Each of them follows from a
/// file, running out of memory cannot be caught, and sums below this fit into 32 bits. Shipped graphs take a hundredth.
const MOST_BYTES: usize = 1 << 30;
/// Output rows of a band: its input stays in the first-level cache.
const BAND_ROWS: usize = 8;
/// Buffers and packed weights start at multiples of this.
pub(super) const ALIGNMENT: usize = 64;

/// Bytes that start at a multiple of 64.
#[derive(Clone, Debug, Default)]
pub(super) struct Aligned {
    lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read and written as bytes")] [u8; ALIGNMENT]);

impl Aligned {
    /// So many zeros, rounded up to whole lines.
    pub(super) fn zeros(bytes: usize) -> Self {
        Self {
            lines: vec![Line([0; ALIGNMENT]); bytes.div_ceil(ALIGNMENT)],
        }
    }

    pub(super) fn as_ptr(&self) -> *const u8 {
        self.lines.as_ptr().cast()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }

    /// The bytes.
    #[expect(unsafe_code, reason = "a view of lines as bytes")]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.lines.len() * ALIGNMENT;
        // SAFETY: the lines are initialised, next to each other, and every bit pattern is a byte.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }
}

/// A place in the arena.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    /// From the start of the arena, once that is known.
    pub(super) offset: usize,
    /// Length without slack.
    pub(super) bytes: usize,
    /// First and last step that needs it.
    life: (usize, usize),
}

/// Where a map lies: in a buffer, with a border around it, between other channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map {
    pub(super) buffer: usize,
    pub(super) shape: Shape,
    /// Bytes from cell to cell.
    pub(super) pixel: usize,
    /// Bytes from row to row.
    pub(super) row: usize,
    /// Byte of the first cell's first channel.
    pub(super) first: usize,
}

impl Map {
    /// Byte of a cell's first channel.
    pub(super) fn at(&self, y: usize, x: usize) -> usize {
        self.first + y * self.row + x * self.pixel
    }
}

/// The border of a buffer: filled before its first map is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Halo {
    pub(super) buffer: usize,
    pub(super) pixel: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Above, left, below, right.
    pub(super) cells: [usize; 4],
    pub(super) fill: u8,
}

/// Packed weights or biases: made when planned, or by a step of the program.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Owned(Aligned),
    Buffer(usize),
}

/// A convolution, laid out.
#[derive(Clone, Debug)]
pub(super) struct ConvStep {
    pub(super) input: usize,
    pub(super) input_offsets: Vec<u32>,
    pub(super) runs: Vec<u32>,
    pub(super) steps: usize,
    pub(super) weights: Operand,
    pub(super) pairs_fit: bool,
    pub(super) block: usize,
    pub(super) channels: usize,
    pub(super) bias: Operand,
    pub(super) cell_bias: Option<usize>,
    pub(super) multipliers: Vec<f32>,
    pub(super) requantise: Vec<Requantise>,
    pub(super) zero_point: u8,
    pub(super) residual: Option<ResidualStep>,
    pub(super) output: usize,
    pub(super) output_offsets: Vec<u32>,
    /// Somebody looks into it.
    pub(super) watch: Option<Box<Watch>>,
}

/// The other side of a fused addition.
#[derive(Clone, Debug)]
pub(super) struct ResidualStep {
    pub(super) buffer: usize,
    pub(super) offsets: Vec<u32>,
    pub(super) add: QuantisedAdd,
    pub(super) sum_is_first: bool,
}

/// A convolution that quantises its input itself, band by band.
#[derive(Clone, Debug)]
pub(super) struct Stem {
    pub(super) input: usize,
    pub(super) params: QuantParams,
    pub(super) shape: Shape,
    /// Padding above and left.
    pub(super) pads: [usize; 2],
    pub(super) stride_rows: usize,
    /// Bytes of a row of a band, border included.
    pub(super) row: usize,
    /// Input rows of a band.
    pub(super) rows: usize,
    /// Output rows and columns.
    pub(super) out: [usize; 2],
    /// What is outside of the map.
    pub(super) fill: u8,
    /// Bands, one for every thread, each so many bytes with their wide copy behind.
    pub(super) bands: usize,
    pub(super) band_bytes: usize,
    /// `input_offsets` are those of one band.
    pub(super) conv: ConvStep,
}

/// Templates that become the weights of a convolution.
#[derive(Clone, Debug)]
pub(super) struct Pack {
    pub(super) templates: Map,
    /// Zero point of the templates.
    pub(super) zero: u8,
    /// Zero point of the cells, as the kernels see it.
    pub(super) seen_cell_zero: i32,
    pub(super) block: usize,
    pub(super) weights: usize,
    pub(super) bias: usize,
}

/// One thing to do. All threads do their share of it, then wait for each other.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Read {
        input: usize,
        layout: Layout,
        number: Number,
        to: Map,
    },
    Stem(Box<Stem>),
    Widen {
        from: usize,
        to: usize,
        bytes: usize,
    },
    Conv(Box<ConvStep>),
    Pack(Pack),
    /// Sums over the channels of every cell, times a factor.
    Sum {
        cells: Map,
        factor: i32,
        to: usize,
    },
    Add {
        a: Map,
        b: Map,
        add: QuantisedAdd,
        to: Map,
    },
    Copy {
        from: Map,
        to: Map,
    },
    Write {
        from: Map,
        output: usize,
        layout: Layout,
        number: Number,
    },
}

/// A step: borders that have to be filled, then the work.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) halos: Vec<Halo>,
    pub(super) work: Work,
}

/// What is known of a value while planning.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It has a map of its own or in a concatenation.
    Kept,
    /// A convolution that the addition after it does.
    FusedInto(usize),
    /// An input that the convolution after it quantises.
    ReadBy(usize),
}

/// A buffer of maps before its size is known.
#[derive(Clone, Copy, Debug)]
struct Room {
    pixel: usize,
    height: usize,
    width: usize,
    halo: [usize; 4],
    fill: Option<u8>,
    filled: bool,
}

struct Planner<'a> {
    kernels: Kernels,
    threads: usize,
    nodes: &'a [Node],
    fates: Vec<Fate>,
    /// Of every value: its buffer and the first of its channels in it.
    places: Vec<(usize, usize)>,
    rooms: Vec<Room>,
    buffers: Vec<Buffer>,
    steps: Vec<Step>,
    /// Of every value, the buffer of its wide copy.
    wide: Vec<Option<usize>>,
    observed: &'a [(Value, Vec<Reference>)],
    held: Held,
}

/// What a program takes so far, counted before it is asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bytes: usize,
}

impl Held {
    /// So many of so many bytes each.
    fn take(&mut self, count: usize, each: usize) -> Result<(), PlanError> {
        self.bytes = self.bytes.saturating_add(count.saturating_mul(each));
        if self.bytes <= MOST_BYTES {
            Ok(())
        } else {
            Err(PlanError::Memory { bytes: self.bytes })
        }
    }
}

/// See [`Graph::plan`].
pub(super) fn plan(graph: Graph, path: Path, threads: usize) -> Result<Program, PlanError> {
    let threads = threads.max(1);
    let path = if path.is_available() {
        path
    } else {
        Path::Scalar
    };
    let kernels = Kernels::of(path);
    let nodes = &graph.nodes;
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        for value in operands(&node.origin) {
            readers[value.0].push(at);
        }
    }
    let mut wanted = vec![false; nodes.len()];
    for output in &graph.outputs {
        wanted[output.value.0] = true;
    }
    let fates = fates(nodes, &readers, &wanted);
    let mut planner = Planner {
        kernels,
        threads,
        nodes,
        places: vec![(usize::MAX, 0); nodes.len()],
        rooms: Vec::new(),
        buffers: Vec::new(),
        steps: Vec::new(),
        wide: vec![None; nodes.len()],
        observed: &graph.observed,
        fates,
        held: Held::default(),
    };
    planner.place();
    planner.reserve_halos()?;
    planner.size_rooms()?;
    for at in 0..nodes.len() {
        planner.emit(at)?;
    }
    for (index, output) in graph.outputs.iter().enumerate() {
        let from = planner.map(output.value);
        planner.held.take(from.shape.len(), size_of::<f32>())?;
        planner.push(Work::Write {
            from,
            output: index,
            layout: output.layout,
            number: output.number,
        });
    }
    let Planner {
        mut buffers,
        steps,
        mut held,
        ..
    } = planner;
    let arena_bytes = allocate(&mut buffers)?;
    held.take(arena_bytes, 1)?;
    let mut inputs = Vec::with_capacity(graph.inputs);
    for node in nodes {
        if let Origin::Input { number, .. } = &node.origin {
            inputs.push(End::new(*number, node.shape.len()));
        }
    }
    let outputs = graph
        .outputs
        .iter()
        .map(|output| End::new(output.number, nodes[output.value.0].shape.len()))
        .collect();
    let pool = Pool::new(threads).map_err(|e| PlanError::Threads {
        threads,
        message: e.to_string(),
    })?;
    let mut samples = vec![Aligned::default(); graph.observed.len()];
    for watch in steps.iter().filter_map(Step::watch) {
        samples[watch.index] = Aligned::zeros(watch.sample_bytes() + SLACK_BYTES);
    }
    Ok(Program {
        runs: 0,
        samples,
        kernels,
        steps,
        buffers,
        arena: Aligned::zeros(arena_bytes),
        inputs,
        outputs,
        barrier: Barrier::new(pool.len()),
        pool,
    })
}

fn operands(origin: &Origin) -> Vec<Value> {
    match origin {
        Origin::Input { .. } => vec![],
        Origin::Conv { x, .. } | Origin::Crop { x, .. } => vec![*x],
        Origin::Add { a, b, .. } => vec![*a, *b],
        Origin::Correlate {
            templates, cells, ..
        } => vec![*templates, *cells],
        Origin::Concat { parts } => parts.clone(),
    }
}

fn fates(nodes: &[Node], readers: &[Vec<usize>], wanted: &[bool]) -> Vec<Fate> {
    let mut fates = vec![Fate::Kept; nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        let [reader] = readers[at][..] else { continue };
        if wanted[at] {
            continue;
        }
        match (&node.origin, &nodes[reader].origin) {
            // Only one of the two operands can be computed on the way.
            (Origin::Conv { .. }, Origin::Add { a, b, .. })
                if a != b
                    && !matches!(fates[a.0], Fate::FusedInto(_))
                    && !matches!(fates[b.0], Fate::FusedInto(_)) =>
            {
                fates[at] = Fate::FusedInto(reader);
            }
            (
                Origin::Input {
                    layout: Layout::Planar,
                    number: Number::F32(_),
                    ..
                },
                Origin::Conv { conv, .. },
            ) if node.shape.channels == 3 && conv.dilations == [1, 1] => {
                fates[at] = Fate::ReadBy(reader);
            }
            _ => {}
        }
    }
    fates
}

impl Step {
    /// The convolution that it computes.
    pub(super) fn conv_mut(&mut self) -> Option<&mut ConvStep> {
        match &mut self.work {
            Work::Stem(stem) => Some(&mut stem.conv),
            Work::Conv(conv) => Some(conv),
            _ => None,
        }
    }

    /// How it is looked into.
    pub(super) fn watch(&self) -> Option<&Watch> {
        match &self.work {
            Work::Stem(stem) => stem.conv.watch.as_deref(),
            Work::Conv(conv) => conv.watch.as_deref(),
            _ => None,
        }
    }
}

impl Planner<'_> {
    /// Gives every value that is kept a room: the parts of a concatenation share its.
    fn place(&mut self) {
        for at in (0..self.nodes.len()).rev() {
            let node = &self.nodes[at];
            if self.fates[at] != Fate::Kept {
                continue;
            }
            if self.places[at].0 == usize::MAX {
                let rgb = node.shape.channels == 3 && matches!(node.origin, Origin::Input { .. });
                self.rooms.push(Room {
                    pixel: if rgb { 4 } else { node.shape.channels },
                    height: node.shape.height,
                    width: node.shape.width,
                    halo: [0; 4],
                    fill: None,
                    filled: false,
                });
                self.places[at] = (self.rooms.len() - 1, 0);
            }
            if let Origin::Concat { parts } = &node.origin {
                let (room, mut channel) = self.places[at];
                for (index, part) in parts.iter().enumerate() {
                    let free = self.places[part.0].0 == usize::MAX
                        && self.fates[part.0] == Fate::Kept
                        && !parts[..index].contains(part)
                        && !matches!(self.nodes[part.0].origin, Origin::Input { .. });
                    if free {
                        self.places[part.0] = (room, channel);
                    }
                    channel += self.nodes[part.0].shape.channels;
                }
            }
        }
    }

    /// Makes room for the padding of every convolution around the map that it reads.
    fn reserve_halos(&mut self) -> Result<(), PlanError> {
        for (at, node) in self.nodes.iter().enumerate() {
            let Origin::Conv { x, conv } = &node.origin else {
                continue;
            };
            if self.fates[x.0] == Fate::ReadBy(at) {
                continue;
            }
            let input = self.nodes[x.0].shape;
            let below = |axis: usize, out: usize, length: usize| {
                let reach = (out - 1) * conv.strides[axis]
                    + (conv.kernel[axis] - 1) * conv.dilations[axis]
                    + 1;
                reach.saturating_sub(length + conv.pads[axis])
            };
            let needed = [
                conv.pads[0],
                conv.pads[1],
                below(0, node.shape.height, input.height),
                below(1, node.shape.width, input.width),
            ];
            if needed == [0; 4] {
                continue;
            }
            let room = &mut self.rooms[self.places[x.0].0];
            match room.fill {
                Some(first) if first != conv.input_zero => {
                    return Err(PlanError::Padding {
                        first,
                        second: conv.input_zero,
                    });
                }
                _ => room.fill = Some(conv.input_zero),
            }
            for (have, need) in room.halo.iter_mut().zip(needed) {
                *have = need.max(*have);
            }
        }
        Ok(())
    }

    /// The rooms become the first buffers. Each reader's padding was checked by itself; a room has the widest border of
    /// all its readers on every side, and the channels of a whole concatenation.
    fn size_rooms(&mut self) -> Result<(), PlanError> {
        for room in &self.rooms {
            let [top, left, bottom, right] = room.halo;
            let padded = Shape::new(
                room.pixel,
                room.height + top + bottom,
                room.width + left + right,
            )?;
            self.buffers.push(Buffer {
                offset: 0,
                bytes: padded.len(),
                life: (usize::MAX, 0),
            });
        }
        Ok(())
    }

    fn map(&self, value: Value) -> Map {
        let (buffer, channel) = self.places[value.0];
        let room = self.rooms[buffer];
        let [top, left, _, right] = room.halo;
        let row = (room.width + left + right) * room.pixel;
        Map {
            buffer,
            shape: self.nodes[value.0].shape,
            pixel: room.pixel,
            row,
            first: top * row + left * room.pixel + channel,
        }
    }

    /// A buffer for something else than maps: so many of so many bytes each.
    fn scratch(&mut self, count: usize, each: usize) -> Result<usize, PlanError> {
        let mut alone = Held::default();
        alone.take(count, each)?;
        self.buffers.push(Buffer {
            offset: 0,
            bytes: alone.bytes,
            life: (usize::MAX, 0),
        });
        Ok(self.buffers.len() - 1)
    }

    /// Where the first channel of every cell of a map is.
    fn cell_offsets(&mut self, map: &Map) -> Result<Vec<u32>, PlanError> {
        self.held.take(map.shape.cells(), size_of::<u32>())?;
        (0..map.shape.height)
            .flat_map(|y| (0..map.shape.width).map(move |x| offset(map.at(y, x))))
            .collect()
    }

    fn push(&mut self, work: Work) {
        let now = self.steps.len();
        for buffer in used(&work) {
            let life = &mut self.buffers[buffer].life;
            *life = (life.0.min(now), life.1.max(now));
        }
        let mut halos = Vec::new();
        if let Some(buffer) = written(&work)
            && let Some(room) = self.rooms.get_mut(buffer)
            && !room.filled
        {
            room.filled = true;
            if let Some(zero) = room.fill {
                halos.push(Halo {
                    buffer,
                    pixel: room.pixel,
                    height: room.height,
                    width: room.width,
                    cells: room.halo,
                    fill: self.kernels.stored(zero),
                });
            }
        }
        self.steps.push(Step { halos, work });
    }

    fn emit(&mut self, at: usize) -> Result<(), PlanError> {
        let nodes = self.nodes;
        let value = Value(at);
        if self.fates[at] != Fate::Kept {
            return Ok(());
        }
        match &nodes[at].origin {
            Origin::Input {
                index,
                layout,
                number,
            } => {
                let to = self.map(value);
                self.push(Work::Read {
                    input: *index,
                    layout: *layout,
                    number: *number,
                    to,
                });
            }
            Origin::Conv { x, conv } => return self.convolve(at, *x, conv, value, None),
            Origin::Add { a, b, add } => {
                let fused = |v: &Value| self.fates[v.0] == Fate::FusedInto(at);
                let (sum, other) = if fused(a) {
                    (Some(*a), *b)
                } else if fused(b) {
                    (Some(*b), *a)
                } else {
                    (None, *b)
                };
                match sum.map(|v| (v, &nodes[v.0].origin)) {
                    Some((sum, Origin::Conv { x, conv })) => {
                        let map = self.map(other);
                        let residual = ResidualStep {
                            buffer: map.buffer,
                            offsets: self.cell_offsets(&map)?,
                            add: *add,
                            sum_is_first: sum == *a,
                        };
                        return self.convolve(sum.0, *x, conv, value, Some(residual));
                    }
                    _ => {
                        let (a, b, to) = (self.map(*a), self.map(*b), self.map(value));
                        self.push(Work::Add {
                            a,
                            b,
                            add: *add,
                            to,
                        });
                    }
                }
            }
            Origin::Correlate {
                templates,
                cells,
                template_zero,
                cell_zero,
                requantise,
            } => {
                return self.correlate(
                    value,
                    (*templates, *template_zero),
                    (*cells, *cell_zero),
                    *requantise,
                );
            }
            Origin::Concat { parts } => {
                let whole = self.map(value);
                let mut channel = 0;
                for part in parts {
                    let from = self.map(*part);
                    let to = Map {
                        shape: from.shape,
                        first: whole.first + channel,
                        ..whole
                    };
                    channel += from.shape.channels;
                    if (from.buffer, from.first) != (to.buffer, to.first) {
                        self.push(Work::Copy { from, to });
                    }
                }
            }
            Origin::Crop { x, top, left } => {
                let from = self.map(*x);
                let to = self.map(value);
                let from = Map {
                    shape: to.shape,
                    first: from.at(*top, *left),
                    ..from
                };
                self.push(Work::Copy { from, to });
            }
        }
        Ok(())
    }

    fn convolve(
        &mut self,
        at: usize,
        x: Value,
        conv: &Conv,
        to: Value,
        residual: Option<ResidualStep>,
    ) -> Result<(), PlanError> {
        let out = self.nodes[at].shape;
        let output = self.map(to);
        let input_shape = self.nodes[x.0].shape;
        let (stem, source) = match (self.fates[x.0], &self.nodes[x.0].origin) {
            (
                Fate::ReadBy(_),
                Origin::Input {
                    index,
                    number: Number::F32(params),
                    ..
                },
            ) => {
                let columns = conv.pads[1]
                    + input_shape
                        .width
                        .max((out.width - 1) * conv.strides[1] + conv.kernel[1]);
                let map = Map {
                    buffer: usize::MAX,
                    shape: input_shape,
                    pixel: 4,
                    row: columns * 4,
                    first: 0,
                };
                (Some((*index, *params)), map)
            }
            _ => (None, self.map(x)),
        };
        let packed = pack(
            &self.kernels,
            conv,
            input_shape.channels,
            &source,
            &mut self.held,
        )?;
        let window = |y: usize, x: usize| {
            let (dy, dx) = if stem.is_some() {
                (0, 0)
            } else {
                (conv.pads[0], conv.pads[1])
            };
            // The border of the map is at least as wide as the padding.
            source.first + y * conv.strides[0] * source.row + x * conv.strides[1] * source.pixel
                - dy * source.row
                - dx * source.pixel
        };
        let rows = if stem.is_some() {
            BAND_ROWS.min(out.height)
        } else {
            out.height
        };
        self.held.take(rows * out.width, size_of::<u32>())?;
        let input_offsets = (0..rows)
            .flat_map(|y| (0..out.width).map(move |x| (y, x)))
            .map(|(y, x)| offset(window(y, x)))
            .collect::<Result<_, _>>()?;
        self.held.take(packed.padded, size_of::<f32>())?;
        let mut step = ConvStep {
            input: source.buffer,
            input_offsets,
            runs: packed.runs,
            steps: packed.steps,
            weights: Operand::Owned(packed.weights),
            pairs_fit: !conv.weights.contains(&i8::MIN),
            block: packed.block,
            channels: out.channels,
            bias: Operand::Owned(packed.bias),
            cell_bias: None,
            multipliers: multipliers(&conv.requantise, out.channels, packed.block),
            requantise: conv.requantise.clone(),
            zero_point: conv.output_zero,
            residual,
            output: output.buffer,
            output_offsets: self.cell_offsets(&output)?,
            watch: None,
        };
        let observed = self.observed.iter().position(|(value, _)| value.0 == at);
        if let Some(index) = observed {
            let watch = Watch::new(index, &self.observed[index].1, conv, &mut step)?;
            self.held.take(watch.sample_bytes(), 1)?;
            step.watch = Some(Box::new(watch));
        }
        let Some((input, params)) = stem else {
            step.input = self.widened(x, source.buffer)?;
            self.push(Work::Conv(Box::new(step)));
            return Ok(());
        };
        let band_rows = (rows - 1) * conv.strides[0] + conv.kernel[0];
        let narrow = (band_rows * source.row + SLACK_BYTES).next_multiple_of(ALIGNMENT);
        let band_bytes = narrow + if self.kernels.wide { 2 * narrow } else { 0 };
        step.input = self.scratch(self.threads, band_bytes)?;
        let stem = Stem {
            input,
            params,
            shape: input_shape,
            pads: [conv.pads[0], conv.pads[1]],
            stride_rows: conv.strides[0],
            row: source.row,
            rows: band_rows,
            out: [out.height, out.width],
            fill: self.kernels.stored(conv.input_zero),
            bands: step.input,
            band_bytes,
            conv: step,
        };
        self.push(Work::Stem(Box::new(stem)));
        Ok(())
    }

    fn correlate(
        &mut self,
        to: Value,
        (templates, template_zero): (Value, u8),
        (cells, cell_zero): (Value, u8),
        requantise: Requantise,
    ) -> Result<(), PlanError> {
        let kernels = self.kernels;
        let (t, c) = (self.map(templates), self.map(cells));
        let channels = t.shape.cells();
        let depth = c.shape.channels.next_multiple_of(kernels.step);
        let block = (kernels.block)(channels);
        let padded = channels.next_multiple_of(block);
        let weights = self.scratch(padded, depth * kernels.input_bytes())?;
        let bias = self.scratch(padded, size_of::<i32>())?;
        self.push(Work::Pack(Pack {
            templates: t,
            zero: template_zero,
            seen_cell_zero: kernels.seen(cell_zero),
            block,
            weights,
            bias,
        }));
        // Weights are the templates' bytes less 128; what is left of the zero point goes with the sum of the cell.
        let factor = 128 - i32::from(template_zero);
        let cell_bias = match factor {
            0 => None,
            _ => Some(self.scratch(c.shape.cells(), size_of::<i32>())?),
        };
        if let Some(to) = cell_bias {
            self.push(Work::Sum {
                cells: c,
                factor,
                to,
            });
        }
        let input = self.widened(cells, c.buffer)?;
        let output = self.map(to);
        self.held.take(padded, size_of::<f32>())?;
        let input_offsets = self.cell_offsets(&c)?;
        let output_offsets = self.cell_offsets(&output)?;
        self.push(Work::Conv(Box::new(ConvStep {
            input,
            input_offsets,
            runs: vec![0],
            steps: depth / kernels.step,
            weights: Operand::Buffer(weights),
            pairs_fit: false,
            block,
            channels,
            bias: Operand::Buffer(bias),
            cell_bias,
            multipliers: multipliers(&[requantise], channels, block),
            requantise: vec![requantise],
            zero_point: requantise.zero_point(),
            residual: None,
            output: output.buffer,
            output_offsets,
            watch: None,
        })));
        Ok(())
    }

    /// The buffer that a convolution of this value reads: its own, or its copy with 16 bits a number.
    fn widened(&mut self, value: Value, buffer: usize) -> Result<usize, PlanError> {
        if !self.kernels.wide {
            return Ok(buffer);
        }
        if let Some(wide) = self.wide[value.0] {
            return Ok(wide);
        }
        let bytes = self.buffers[buffer].bytes;
        let wide = self.scratch(bytes, 2)?;
        self.wide[value.0] = Some(wide);
        self.push(Work::Widen {
            from: buffer,
            to: wide,
            bytes,
        });
        Ok(wide)
    }
}

/// Buffers that a step reads or writes.
fn used(work: &Work) -> Vec<usize> {
    let conv = |step: &ConvStep| {
        let mut all = vec![step.input, step.output];
        all.extend(step.cell_bias);
        all.extend(step.residual.as_ref().map(|r| r.buffer));
        for operand in [&step.weights, &step.bias] {
            if let Operand::Buffer(buffer) = operand {
                all.push(*buffer);
            }
        }
        all
    };
    match work {
        Work::Read { to, .. } => vec![to.buffer],
        Work::Stem(stem) => conv(&stem.conv),
        Work::Conv(step) => conv(step),
        Work::Widen { from, to, .. } => vec![*from, *to],
        Work::Pack(pack) => vec![pack.templates.buffer, pack.weights, pack.bias],
        Work::Sum { cells, to, .. } => vec![cells.buffer, *to],
        Work::Add { a, b, to, .. } => vec![a.buffer, b.buffer, to.buffer],
        Work::Copy { from, to } => vec![from.buffer, to.buffer],
        Work::Write { from, .. } => vec![from.buffer],
    }
}

/// The buffer whose border has to be there after this step.
fn written(work: &Work) -> Option<usize> {
    match work {
        Work::Read { to, .. } | Work::Add { to, .. } | Work::Copy { to, .. } => Some(to.buffer),
        Work::Stem(stem) => Some(stem.conv.output),
        Work::Conv(step) => Some(step.output),
        _ => None,
    }
}

/// A place in a buffer as kernels want it: cut off, it would be another place.
fn offset(at: usize) -> Result<u32, PlanError> {
    u32::try_from(at).map_err(|_| PlanError::Memory { bytes: at })
}

pub(super) fn multipliers(requantise: &[Requantise], channels: usize, block: usize) -> Vec<f32> {
    let last = requantise.len() - 1;
    let mut all: Vec<f32> = (0..channels)
        .map(|channel| requantise[channel.min(last)].multiplier())
        .collect();
    all.resize(channels.next_multiple_of(block), 0.0);
    all
}

/// Weights in the order in which a kernel reads them.
struct Packed {
    runs: Vec<u32>,
    steps: usize,
    block: usize,
    /// Output channels, rounded up to whole blocks.
    padded: usize,
    weights: Aligned,
    bias: Aligned,
}

fn pack(
    kernels: &Kernels,
    conv: &Conv,
    in_channels: usize,
    source: &Map,
    held: &mut Held,
) -> Result<Packed, PlanError> {
    let [kernel_rows, kernel_columns] = conv.kernel;
    let channels = conv.bias.len();
    // Neighbouring cells are neighbours in memory, but for a fourth byte beside three colours.
    let joined = conv.dilations[1] == 1
        && (source.pixel == in_channels || (source.pixel == 4 && in_channels == 3));
    let taps_in_run = if joined { kernel_columns } else { 1 };
    let run_bytes = ((taps_in_run - 1) * source.pixel + in_channels).next_multiple_of(kernels.step);
    let run_count = kernel_rows * (kernel_columns / taps_in_run);
    let block = (kernels.block)(channels);
    let padded = channels.next_multiple_of(block);
    // One weight can take a whole step in each channel of a block.
    held.take(run_count, size_of::<u32>())?;
    held.take(
        run_count.saturating_mul(run_bytes).saturating_mul(padded),
        kernels.input_bytes(),
    )?;
    held.take(padded, size_of::<i32>())?;
    let mut runs = Vec::with_capacity(run_count);
    for ky in 0..kernel_rows {
        for kx in (0..kernel_columns).step_by(taps_in_run) {
            let at = ky * conv.dilations[0] * source.row + kx * conv.dilations[1] * source.pixel;
            runs.push(offset(at)?);
        }
    }
    let depth = run_count * run_bytes;
    let mut weights = Aligned::zeros(padded * depth * kernels.input_bytes());
    let mut bias = Aligned::zeros(padded * 4);
    let taps = kernel_rows * kernel_columns;
    // A place is the sum of the channel's and of the weight's within its window: start-up is mostly this.
    let mut places = Vec::with_capacity(in_channels * taps);
    for in_channel in 0..in_channels {
        for tap in 0..taps {
            let in_run = tap % taps_in_run * source.pixel + in_channel;
            let byte = tap / taps_in_run * run_bytes + in_run;
            places.push(kernels.packed_at(block, depth, 0, byte));
        }
    }
    let to = weights.bytes_mut();
    for (channel, of_channel) in conv.weights.chunks_exact(in_channels * taps).enumerate() {
        let start = kernels.packed_at(block, depth, channel, 0);
        for (&weight, place) in of_channel.iter().zip(&places) {
            let at = start + place;
            if kernels.wide {
                to[2 * at..2 * at + 2].copy_from_slice(&i16::from(weight).to_le_bytes());
            } else {
                to[at] = weight.cast_unsigned();
            }
        }
        let total: i32 = of_channel.iter().map(|w| i32::from(*w)).sum();
        let start =
            conv.bias[channel].wrapping_sub(kernels.seen(conv.input_zero).wrapping_mul(total));
        bias.bytes_mut()[4 * channel..4 * channel + 4].copy_from_slice(&start.to_ne_bytes());
    }
    Ok(Packed {
        runs,
        steps: run_bytes / kernels.step,
        block,
        padded,
        weights,
        bias,
    })
}

/// Gives every buffer its place: the largest first, each as far to the front as those that live with it allow.
/// Returns the length of the arena, or that it is longer than a program may be.
fn allocate(buffers: &mut [Buffer]) -> Result<usize, PlanError> {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(buffers[i].bytes));
    let mut placed: Vec<usize> = Vec::with_capacity(buffers.len());
    let mut end = 0;
    let size = |bytes: usize| (bytes + SLACK_BYTES).next_multiple_of(ALIGNMENT);
    for index in order {
        let (first, last) = buffers[index].life;
        let length = size(buffers[index].bytes);
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .map(|&other| &buffers[other])
            .filter(|other| other.life.0 <= last && first <= other.life.1)
            .map(|other| (other.offset, other.offset + size(other.bytes)))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (from, to) in taken {
            if offset + length <= from {
                break;
            }
            offset = offset.max(to);
        }
        buffers[index].offset = offset;
        end = end.max(offset + length);
        // Checked here, so that no later sum can overflow: a buffer alone is no longer than a program.
        if end > MOST_BYTES {
            return Err(PlanError::Memory { bytes: end });
        }
        placed.push(index);
    }
    Ok(end)
}
