//! A planned graph, run: numbers in, numbers out, nothing allocated.

use std::ops::Range;

use roadhound_shared::adapt::{Adjustment, SAMPLE_ZERO};

use super::graph::{Layout, MOST_ENDS, Number, PlanError, counted};
use super::kernel::{Convolve, Kernels, Residual};
use super::path::Path;
use super::plan::{Aligned, Buffer, ConvStep, Halo, Map, Operand, Pack, Stem, Step, Work};
use super::pool::{Barrier, Pool};

/// What goes into a program.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Numbers, quantised on the way.
    F32(&'a [f32]),
    /// Bytes.
    U8(&'a [u8]),
}

/// Where the results go.
#[derive(Debug)]
pub enum Sink<'a> {
    /// Numbers, dequantised on the way.
    F32(&'a mut [f32]),
    /// Bytes.
    U8(&'a mut [u8]),
}

/// Type and length of an input or output.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    bytes: bool,
    len: usize,
}

impl End {
    pub(super) fn new(number: Number, len: usize) -> Self {
        Self {
            bytes: number == Number::U8,
            len,
        }
    }

    fn check(&self, role: &'static str, index: usize, found: End) -> Result<(), PlanError> {
        let say = |end: &End| format!("{} {}", end.len, if end.bytes { "bytes" } else { "f32" });
        if (found.bytes, found.len) == (self.bytes, self.len) {
            return Ok(());
        }
        Err(PlanError::End {
            role,
            index,
            found: say(&found),
            expected: say(self),
        })
    }
}

/// A graph, laid out for one processor. Holds its arena, its packed weights and its threads.
pub struct Program {
    pub(super) kernels: Kernels,
    pub(super) steps: Vec<Step>,
    pub(super) buffers: Vec<Buffer>,
    pub(super) arena: Aligned,
    pub(super) inputs: Vec<End>,
    pub(super) outputs: Vec<End>,
    pub(super) pool: Pool,
    pub(super) barrier: Barrier,
    /// Of every observed convolution, what the last run saw.
    pub(super) samples: Vec<Aligned>,
    /// Runs so far.
    pub(super) runs: u64,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("path", &self.kernels.path)
            .field("steps", &self.steps.len())
            .finish_non_exhaustive()
    }
}

/// Where a sink's numbers go, so that threads can share it: each writes other numbers.
#[derive(Clone, Copy)]
enum To {
    F32(*mut f32),
    U8(*mut u8),
}

/// What the threads share during a run.
struct Run<'a> {
    kernels: &'a Kernels,
    buffers: &'a [Buffer],
    arena: *mut u8,
    inputs: &'a [Source<'a>],
    outputs: [To; MOST_ENDS],
    /// Where samples go.
    samples: [*mut u8; MOST_ENDS],
    workers: usize,
}

// SAFETY: the pointers are to the arena, the sinks and the samples, which outlive the run; a step's threads write disjoint bytes, and
// a barrier stands between a write and a read by another thread. One read is not so ordered: where parts of a
// concatenation lie side by side, what a kernel loads behind a run (see `kernel`) can be a byte that another thread is
// writing. It meets a weight of zero, so that whatever was loaded does not matter.
#[expect(unsafe_code, reason = "threads share the arena as planned")]
unsafe impl Sync for Run<'_> {}

impl Program {
    /// The path that was planned for.
    pub fn path(&self) -> Path {
        self.kernels.path
    }

    /// Bytes of the arena.
    pub fn arena_bytes(&self) -> usize {
        self.buffers
            .iter()
            .map(|b| b.offset + b.bytes)
            .max()
            .unwrap_or(0)
    }

    /// Computes the outputs. Allocates nothing.
    ///
    /// # Errors
    /// Inputs or outputs of another number, type or length than planned.
    pub fn run(
        &mut self,
        inputs: &[Source<'_>],
        outputs: &mut [Sink<'_>],
    ) -> Result<(), PlanError> {
        counted("inputs", inputs.len(), self.inputs.len())?;
        counted("outputs", outputs.len(), self.outputs.len())?;
        for (index, (input, end)) in inputs.iter().zip(&self.inputs).enumerate() {
            let (bytes, len) = match input {
                Source::F32(numbers) => (false, numbers.len()),
                Source::U8(numbers) => (true, numbers.len()),
            };
            end.check("input", index, End { bytes, len })?;
        }
        let mut to = [To::U8(std::ptr::null_mut()); MOST_ENDS];
        for (index, (output, end)) in outputs.iter_mut().zip(&self.outputs).enumerate() {
            let (bytes, len) = match output {
                Sink::F32(numbers) => {
                    to[index] = To::F32(numbers.as_mut_ptr());
                    (false, numbers.len())
                }
                Sink::U8(numbers) => {
                    to[index] = To::U8(numbers.as_mut_ptr());
                    (true, numbers.len())
                }
            };
            end.check("output", index, End { bytes, len })?;
        }
        self.choose_cells();
        let mut samples = [std::ptr::null_mut(); MOST_ENDS];
        for (to, buffer) in samples.iter_mut().zip(&mut self.samples) {
            *to = buffer.as_mut_ptr();
        }
        let run = Run {
            samples,
            kernels: &self.kernels,
            buffers: &self.buffers,
            arena: self.arena.as_mut_ptr(),
            inputs,
            outputs: to,
            workers: self.pool.len(),
        };
        let (steps, barrier) = (&self.steps, &self.barrier);
        self.pool.run(&|worker| {
            let _here = barrier.attend();
            for step in steps {
                // SAFETY: the plan is for this arena, these inputs and these outputs, as checked above.
                #[expect(unsafe_code, reason = "the plan's promises hold from here on")]
                unsafe {
                    run.step(step, worker);
                }
                barrier.wait();
            }
        });
        let flip = self.kernels.flip();
        if flip != 0 {
            for bytes in &mut self.samples {
                bytes.bytes_mut().iter_mut().for_each(|byte| *byte ^= flip);
            }
        }
        Ok(())
    }

    /// How many convolutions are observed.
    pub fn observed(&self) -> usize {
        self.samples.len()
    }

    /// What the last run saw of the `index`-th observed convolution: cell by cell, a byte a channel, as
    /// [`SAMPLE_ZERO`](roadhound_shared::adapt::SAMPLE_ZERO) says. Empty where there is no such convolution.
    pub fn samples(&mut self, index: usize) -> &[u8] {
        let mut watches = self.steps.iter().filter_map(Step::watch);
        let len = watches.find(|watch| watch.index == index);
        match (len, self.samples.get_mut(index)) {
            (Some(watch), Some(bytes)) => &bytes.bytes_mut()[..watch.sample_bytes()],
            _ => &[],
        }
    }

    /// Puts the `index`-th observed convolution right from the next run on; [`Adjustment::NONE`] everywhere makes it what
    /// it was planned as, to the bit.
    ///
    /// # Errors
    /// Another number of adjustments than channels; a scale that no multiplier can have.
    pub fn adjust(&mut self, index: usize, adjustments: &[Adjustment]) -> Result<(), PlanError> {
        let mut convs = self.steps.iter_mut().filter_map(Step::conv_mut);
        let found = convs.find(|c| c.watch.as_ref().is_some_and(|w| w.index == index));
        found.map_or(Ok(()), |conv| conv.adjust(adjustments))
    }

    /// Which cells the next run samples.
    fn choose_cells(&mut self) {
        self.runs += 1;
        let run = self.runs;
        for step in &mut self.steps {
            match &mut step.work {
                Work::Conv(conv) => {
                    if let Some(watch) = &mut conv.watch {
                        let cells = conv.input_offsets.len();
                        watch.choose(run, &conv.input_offsets, 1, cells);
                    }
                }
                Work::Stem(stem) => {
                    let [rows, columns] = stem.out;
                    let conv = &mut stem.conv;
                    if let Some(watch) = &mut conv.watch {
                        let band_rows = conv.input_offsets.len() / columns;
                        let bands = rows.div_ceil(band_rows);
                        let last = (rows - (bands - 1) * band_rows) * columns;
                        watch.choose(run, &conv.input_offsets, bands, last);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The share of one of `workers` in `total` things, in multiples of `unit`.
fn share(total: usize, unit: usize, worker: usize, workers: usize) -> Range<usize> {
    let units = total.div_ceil(unit);
    let at = |worker: usize| (units * worker / workers * unit).min(total);
    at(worker)..at(worker + 1)
}

/// The methods below are `unsafe` for one reason: they believe the plan. Every offset that it holds lies in its buffer,
/// every buffer in the arena, and no two threads of a step write the same byte.
#[expect(unsafe_code, reason = "reads and writes the arena as planned")]
impl<'a> Run<'a> {
    unsafe fn buffer(&self, index: usize) -> *mut u8 {
        // SAFETY: a buffer lies in the arena.
        unsafe { self.arena.add(self.buffers[index].offset) }
    }

    /// `len` bytes of a row of a map.
    unsafe fn row(&self, map: &Map, y: usize, x: usize, len: usize) -> &'a [u8] {
        // SAFETY: the row lies in the map, and nobody writes it during this step.
        unsafe { std::slice::from_raw_parts(self.buffer(map.buffer).add(map.at(y, x)), len) }
    }

    /// As [`Self::row`], to write to.
    unsafe fn row_mut(&self, map: &Map, y: usize, x: usize, len: usize) -> &'a mut [u8] {
        // SAFETY: the row lies in the map, and this thread alone touches it during this step.
        unsafe { std::slice::from_raw_parts_mut(self.buffer(map.buffer).add(map.at(y, x)), len) }
    }

    fn rows(&self, map: &Map, worker: usize) -> Range<usize> {
        share(map.shape.height, 1, worker, self.workers)
    }

    unsafe fn step(&self, step: &Step, worker: usize) {
        // SAFETY: as promised to this function.
        unsafe {
            if worker == 0 {
                for halo in &step.halos {
                    self.fill(halo);
                }
            }
            match &step.work {
                Work::Read {
                    input,
                    layout,
                    number,
                    to,
                } => self.read(*input, *layout, *number, to, worker),
                Work::Stem(stem) => self.stem(stem, worker),
                Work::Widen { from, to, bytes } => {
                    let part = share(*bytes, 64, worker, self.workers);
                    let source = self.buffer(*from).add(part.start);
                    let source = std::slice::from_raw_parts(source, part.len());
                    let target = self.buffer(*to).add(2 * part.start);
                    let target = std::slice::from_raw_parts_mut(target, 2 * part.len());
                    (self.kernels.maps.widen)(source, target);
                }
                Work::Conv(conv) => {
                    let total = conv.output_offsets.len();
                    let cells = share(total, self.kernels.cells, worker, self.workers);
                    let input = self.buffer(conv.input);
                    (self.kernels.convolve)(&self.job(conv, input, 0..total), cells);
                    if worker == 0 {
                        self.sample(conv, input);
                    }
                }
                Work::Pack(pack) => {
                    if worker == 0 {
                        self.pack(pack);
                    }
                }
                Work::Sum { cells, factor, to } => {
                    let sums = self.buffer(*to).cast::<i32>();
                    for y in self.rows(cells, worker) {
                        for x in 0..cells.shape.width {
                            let cell = self.row(cells, y, x, cells.shape.channels);
                            let sum = (self.kernels.maps.sum)(cell, self.kernels.signed);
                            *sums.add(y * cells.shape.width + x) = sum.wrapping_mul(*factor);
                        }
                    }
                }
                Work::Add { a, b, add, to } => {
                    let flip = self.kernels.flip();
                    for y in self.rows(to, worker) {
                        let dense = [a, b, to].iter().all(|m| m.pixel == m.shape.channels);
                        let (times, cells) = if dense {
                            (1, to.shape.width)
                        } else {
                            (to.shape.width, 1)
                        };
                        let len = cells * to.shape.channels;
                        for x in 0..times {
                            let (a, b) = (self.row(a, y, x, len), self.row(b, y, x, len));
                            (self.kernels.maps.add)(a, b, *add, flip, self.row_mut(to, y, x, len));
                        }
                    }
                }
                Work::Copy { from, to } => {
                    for y in self.rows(to, worker) {
                        for x in 0..to.shape.width {
                            let len = to.shape.channels;
                            self.row_mut(to, y, x, len)
                                .copy_from_slice(self.row(from, y, x, len));
                        }
                    }
                }
                Work::Write {
                    from,
                    output,
                    layout,
                    number,
                } => self.write(from, *output, *layout, *number, worker),
            }
        }
    }

    unsafe fn fill(&self, halo: &Halo) {
        let [top, left, bottom, right] = halo.cells;
        let pixel = halo.pixel;
        let row = (left + halo.width + right) * pixel;
        // SAFETY: the border surrounds the map inside of its buffer.
        unsafe {
            let start = self.buffer(halo.buffer);
            // The border right of a row and left of the next are one.
            start.write_bytes(halo.fill, top * row + left * pixel);
            for y in 0..halo.height {
                let end = start.add((top + y + 1) * row - right * pixel);
                let next = if y + 1 < halo.height { left } else { 0 };
                end.write_bytes(halo.fill, (right + next) * pixel);
            }
            start
                .add((top + halo.height) * row)
                .write_bytes(halo.fill, bottom * row);
        }
    }

    unsafe fn job<'s>(
        &'s self,
        conv: &'s ConvStep,
        input: *const u8,
        outputs: Range<usize>,
    ) -> Convolve<'s> {
        // SAFETY: operands and maps lie where the plan says.
        unsafe {
            let operand = |operand: &Operand| match operand {
                Operand::Owned(bytes) => bytes.as_ptr(),
                Operand::Buffer(buffer) => self.buffer(*buffer).cast_const(),
            };
            Convolve {
                input,
                input_offsets: &conv.input_offsets,
                runs: &conv.runs,
                steps: conv.steps,
                weights: operand(&conv.weights),
                pairs_fit: conv.pairs_fit,
                block: conv.block,
                channels: conv.channels,
                bias: operand(&conv.bias).cast(),
                cell_bias: conv
                    .cell_bias
                    .map_or(std::ptr::null(), |b| self.buffer(b).cast_const().cast()),
                multipliers: conv.multipliers.as_ptr(),
                requantise: &conv.requantise,
                zero_point: conv.zero_point,
                residual: conv.residual.as_ref().map(|r| Residual {
                    input: self.buffer(r.buffer),
                    offsets: &r.offsets[outputs.clone()],
                    add: r.add,
                    sum_is_first: r.sum_is_first,
                }),
                output: self.buffer(conv.output),
                output_offsets: &conv.output_offsets[outputs],
            }
        }
    }

    /// The sums of this run's cells, where somebody looks into the convolution: the same job with the watch's operands.
    unsafe fn sample(&self, conv: &ConvStep, input: *const u8) {
        let Some(watch) = &conv.watch else {
            return;
        };
        let cells = watch.input_offsets.len();
        // SAFETY: the cells are some of the convolution's own, biases and multipliers are as many, and the samples have
        // room for the cells; one thread alone writes them.
        unsafe {
            let job = Convolve {
                input_offsets: &watch.input_offsets,
                bias: watch.bias.as_ptr().cast(),
                multipliers: watch.multipliers.as_ptr(),
                requantise: &watch.requantise,
                zero_point: SAMPLE_ZERO,
                residual: None,
                output: self.samples[watch.index],
                output_offsets: &watch.output_offsets,
                ..self.job(conv, input, 0..0)
            };
            (self.kernels.convolve)(&job, 0..cells);
        }
    }

    unsafe fn stem(&self, stem: &Stem, worker: usize) {
        let [out_rows, out_columns] = stem.out;
        let band_cells = stem.conv.input_offsets.len();
        let band_rows = band_cells / out_columns;
        let maps = &self.kernels.maps;
        let Source::F32(numbers) = self.inputs[stem.input] else {
            return;
        };
        let (height, width) = (stem.shape.height, stem.shape.width);
        let len = stem.rows * stem.row;
        // SAFETY: every thread has a band of its own, with its wide copy behind it.
        unsafe {
            let start = self.buffer(stem.bands).add(worker * stem.band_bytes);
            let band = std::slice::from_raw_parts_mut(start, len);
            for index in share(out_rows.div_ceil(band_rows), 1, worker, self.workers) {
                let first = index * band_rows;
                let rows = band_rows.min(out_rows - first);
                for (r, row) in band.chunks_exact_mut(stem.row).enumerate() {
                    let y = (first * stem.stride_rows + r).wrapping_sub(stem.pads[0]);
                    if y >= height {
                        row.fill(stem.fill);
                        continue;
                    }
                    let (left, rest) = row.split_at_mut(stem.pads[1] * 4);
                    let (inside, right) = rest.split_at_mut(width * 4);
                    left.fill(stem.fill);
                    right.fill(stem.fill);
                    let planes = std::array::from_fn(|c| {
                        let at = (c * height + y) * width;
                        &numbers[at..at + width]
                    });
                    (maps.quantise_rgb)(planes, stem.params, self.kernels.flip(), inside);
                }
                let mut input = start;
                if self.kernels.wide {
                    input = start.add(stem.band_bytes / 3);
                    (maps.widen)(band, std::slice::from_raw_parts_mut(input, 2 * len));
                }
                let outputs = first * out_columns..(first + rows) * out_columns;
                let cells = outputs.len();
                let job = self.job(&stem.conv, input, outputs);
                (self.kernels.convolve)(&job, 0..cells);
                if stem.conv.watch.as_ref().is_some_and(|w| w.band == index) {
                    self.sample(&stem.conv, input);
                }
            }
        }
    }

    unsafe fn pack(&self, pack: &Pack) {
        let kernels = self.kernels;
        let shape = pack.templates.shape;
        let depth = shape.channels.next_multiple_of(kernels.step);
        let padded = shape.cells().next_multiple_of(pack.block);
        let left = 128 - i32::from(pack.zero);
        // SAFETY: both buffers are as long as the padded weights and biases.
        unsafe {
            let to = self.buffer(pack.weights);
            to.write_bytes(0, padded * depth * kernels.input_bytes());
            let bias = self.buffer(pack.bias).cast::<i32>();
            bias.write_bytes(0, padded);
            for cell in 0..shape.cells() {
                let (y, x) = (cell / shape.width, cell % shape.width);
                let row = self.row(&pack.templates, y, x, shape.channels);
                let mut total = 0;
                for (index, group) in row.chunks(kernels.group).enumerate() {
                    let at = kernels.packed_at(pack.block, depth, cell, index * kernels.group);
                    for (i, byte) in group.iter().enumerate() {
                        let weight = (byte ^ kernels.flip() ^ 0x80).cast_signed();
                        total += i32::from(weight);
                        if kernels.wide {
                            to.cast::<i16>().add(at + i).write(weight.into());
                        } else {
                            to.cast::<i8>().add(at + i).write(weight);
                        }
                    }
                }
                *bias.add(cell) = -pack.seen_cell_zero * (total + shape.channels as i32 * left);
            }
        }
    }

    unsafe fn read(&self, input: usize, layout: Layout, number: Number, to: &Map, worker: usize) {
        let (width, channels) = (to.shape.width, to.shape.channels);
        let flip = self.kernels.flip();
        let maps = &self.kernels.maps;
        let plane = to.shape.cells();
        for y in self.rows(to, worker) {
            // SAFETY: rows of the map are this thread's; the input has as many numbers as the map.
            unsafe {
                match (layout, number, self.inputs[input]) {
                    (Layout::Planar, Number::F32(params), Source::F32(from))
                        if channels == 3 && to.pixel == 4 =>
                    {
                        let planes = std::array::from_fn(|c| {
                            &from[c * plane + y * width..c * plane + (y + 1) * width]
                        });
                        let row = self.row_mut(to, y, 0, width * 4);
                        (maps.quantise_rgb)(planes, params, flip, row);
                    }
                    (Layout::Planar, Number::F32(params), Source::F32(from)) => {
                        for c in 0..channels {
                            let from = &from[c * plane + y * width..c * plane + (y + 1) * width];
                            for (x, part) in from.chunks(64).enumerate() {
                                let mut bytes = [0; 64];
                                (maps.quantise)(part, params, flip, &mut bytes);
                                for (i, byte) in bytes[..part.len()].iter().enumerate() {
                                    self.row_mut(to, y, x * 64 + i, channels)[c] = *byte;
                                }
                            }
                        }
                    }
                    (Layout::Cells, Number::F32(params), Source::F32(from)) => {
                        for x in 0..width {
                            let at = (y * width + x) * channels;
                            let row = self.row_mut(to, y, x, channels);
                            (maps.quantise)(&from[at..at + channels], params, flip, row);
                        }
                    }
                    (layout, _, Source::U8(from)) => {
                        for x in 0..width {
                            for (c, to) in self.row_mut(to, y, x, channels).iter_mut().enumerate() {
                                let at = match layout {
                                    Layout::Planar => c * plane + y * width + x,
                                    Layout::Cells => (y * width + x) * channels + c,
                                };
                                *to = from[at] ^ flip;
                            }
                        }
                    }
                    (_, Number::U8, Source::F32(_)) => {}
                }
            }
        }
    }

    unsafe fn write(
        &self,
        from: &Map,
        output: usize,
        layout: Layout,
        number: Number,
        worker: usize,
    ) {
        let (width, channels) = (from.shape.width, from.shape.channels);
        let plane = from.shape.cells();
        let flip = self.kernels.flip();
        let maps = &self.kernels.maps;
        for y in self.rows(from, worker) {
            // SAFETY: the sink has as many numbers as the map; every row goes to other numbers of it.
            unsafe {
                match (layout, number, self.outputs[output]) {
                    (Layout::Planar, Number::F32(params), To::F32(to)) => {
                        let to = |c: usize, x: usize, len: usize| {
                            let at = c * plane + y * width + x;
                            std::slice::from_raw_parts_mut(to.add(at), len)
                        };
                        let mut x = 0;
                        while x < width {
                            let here = 8.min(width - x);
                            let bytes = self.row(from, y, x, (here - 1) * from.pixel + channels);
                            let whole = if here == 8 { channels / 8 * 8 } else { 0 };
                            for c in (0..whole).step_by(8) {
                                let rows = std::array::from_fn(|i| to(c + i, x, 8));
                                (maps.dequantise_8x8)(&bytes[c..], from.pixel, params, flip, rows);
                            }
                            for c in whole..channels {
                                for (i, to) in to(c, x, here).iter_mut().enumerate() {
                                    *to = params.dequantise(bytes[i * from.pixel + c] ^ flip);
                                }
                            }
                            x += 8;
                        }
                    }
                    (Layout::Cells, Number::F32(params), To::F32(to)) => {
                        for x in 0..width {
                            let to = to.add((y * width + x) * channels);
                            let to = std::slice::from_raw_parts_mut(to, channels);
                            (maps.dequantise)(self.row(from, y, x, channels), params, flip, to);
                        }
                    }
                    (layout, Number::U8, To::U8(to)) => {
                        for x in 0..width {
                            for (c, byte) in self.row(from, y, x, channels).iter().enumerate() {
                                let at = match layout {
                                    Layout::Planar => c * plane + y * width + x,
                                    Layout::Cells => (y * width + x) * channels + c,
                                };
                                *to.add(at) = byte ^ flip;
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
