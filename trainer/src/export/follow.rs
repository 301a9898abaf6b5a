//! The follow model as two ONNX graphs: `template.onnx` (crop to features and identity) and `search.onnx` (crop and
//! two sets of template features to score, box, presence and identity at every cell).
//!
//! Batch normalisation is folded; the sigmoids, the exponential and the unit norm are part of the graphs, so that
//! whoever runs them gets probabilities and pixels. Layout is NCHW, batch 1.

use super::onnx::{Attribute, GraphBuilder};
use crate::model::layers::FoldedConv;
use crate::model::net::{
    BOX_LOG_RANGE, BOX_UNIT_PX, EMBEDDING_EPSILON, FoldedBlock, FoldedNet, central_half,
};

/// Names of the inputs and outputs, as the manifest repeats them.
pub mod names {
    /// Template crop.
    pub const TEMPLATE: &str = "template";
    /// Template features.
    pub const FEATURES: &str = "features";
    /// Identity, of the template or of every cell.
    pub const EMBEDDING: &str = "embedding";
    /// Search crop.
    pub const SEARCH: &str = "search";
    /// Features of the first template.
    pub const FIRST: &str = "template_first";
    /// Features of the latest trusted template.
    pub const LATEST: &str = "template_latest";
    /// Probability that the object's centre lies in a cell.
    pub const SCORE: &str = "score";
    /// Distances left, top, right, bottom.
    pub const BOX: &str = "box";
    /// Probability that the target is in the crop.
    pub const PRESENCE: &str = "presence";
}

/// Bytes of `template.onnx`.
pub fn template_graph(net: &FoldedNet, metadata: &[(&str, &str)]) -> Vec<u8> {
    let config = &net.config;
    let (px, cells, channels) = (
        config.template_px,
        config.template_cells(),
        config.feature_channels,
    );
    let g = &mut GraphBuilder::new("template");
    g.input(names::TEMPLATE, &[1, 3, px, px]);
    let features = backbone(g, net, names::TEMPLATE);
    g.output(names::FEATURES, &features, &[1, channels, cells, cells]);
    let (from, count) = central_half(cells);
    let (from, to) = (from as i64, (from + count) as i64);
    let starts = g.ints(&[from, from]);
    let ends = g.ints(&[to, to]);
    let axes = g.ints(&[2, 3]);
    let centre = g.node("Slice", &[&features, &starts, &ends, &axes], vec![]);
    let each = embed(g, net, &centre);
    let mean = g.node(
        "ReduceMean",
        &[&each],
        vec![
            Attribute::Ints("axes", &[2, 3]),
            Attribute::Int("keepdims", 1),
        ],
    );
    let unit = unit_norm(g, &mean);
    let shape = g.ints(&[1, config.embedding as i64]);
    let embedding = g.node("Reshape", &[&unit, &shape], vec![]);
    g.output(names::EMBEDDING, &embedding, &[1, config.embedding]);
    std::mem::replace(g, GraphBuilder::new("")).finish(metadata)
}

/// Bytes of `search.onnx`.
pub fn search_graph(net: &FoldedNet, metadata: &[(&str, &str)]) -> Vec<u8> {
    let config = &net.config;
    let (px, cells, channels) = (
        config.search_px,
        config.search_cells(),
        config.feature_channels,
    );
    let template_cells = config.template_cells();
    let template_area = template_cells * template_cells;
    let g = &mut GraphBuilder::new("search");
    g.input(names::SEARCH, &[1, 3, px, px]);
    g.input(names::FIRST, &[1, channels, template_cells, template_cells]);
    g.input(
        names::LATEST,
        &[1, channels, template_cells, template_cells],
    );

    let features = backbone(g, net, names::SEARCH);
    let weight = g.floats(&[1, channels, 1, 1], &net.latest_weight);
    let change = g.node("Sub", &[names::LATEST, names::FIRST], vec![]);
    let change = g.node("Mul", &[&change, &weight], vec![]);
    let mixed = g.node("Add", &[names::FIRST, &change], vec![]);

    // Every template cell is a 1x1 kernel: [64, C] x [C, 256].
    let kernel_shape = g.ints(&[channels as i64, template_area as i64]);
    let kernels = g.node("Reshape", &[&mixed, &kernel_shape], vec![]);
    let kernels = g.node(
        "Transpose",
        &[&kernels],
        vec![Attribute::Ints("perm", &[1, 0])],
    );
    let cell_shape = g.ints(&[channels as i64, (cells * cells) as i64]);
    let columns = g.node("Reshape", &[&features, &cell_shape], vec![]);
    let product = g.node("MatMul", &[&kernels, &columns], vec![]);
    let map_shape = g.ints(&[1, template_area as i64, cells as i64, cells as i64]);
    let correlation = g.node("Reshape", &[&product, &map_shape], vec![]);
    let scale = g.floats(&[1, template_area, 1, 1], &net.correlation_affine.0);
    let shift = g.floats(&[1, template_area, 1, 1], &net.correlation_affine.1);
    let correlation = g.node("Mul", &[&correlation, &scale], vec![]);
    let correlation = g.node("Add", &[&correlation, &shift], vec![]);

    let mut x = g.node(
        "Concat",
        &[&correlation, &features],
        vec![Attribute::Int("axis", 1)],
    );
    x = conv(g, &x, &net.mix);
    for layer in &net.trunk {
        x = conv(g, &x, layer);
    }
    let score = conv(g, &x, &net.score);
    let score = g.node("Sigmoid", &[&score], vec![]);
    g.output(names::SCORE, &score, &[1, 1, cells, cells]);

    let logs = conv(g, &x, &net.boxes);
    let low = g.floats(&[], &[BOX_LOG_RANGE.0 as f32]);
    let high = g.floats(&[], &[BOX_LOG_RANGE.1 as f32]);
    let logs = g.node("Clip", &[&logs, &low, &high], vec![]);
    let distances = g.node("Exp", &[&logs], vec![]);
    let unit = g.floats(&[], &[BOX_UNIT_PX as f32]);
    let distances = g.node("Mul", &[&distances, &unit], vec![]);
    g.output(names::BOX, &distances, &[1, 4, cells, cells]);

    let over_map = || {
        vec![
            Attribute::Ints("axes", &[2, 3]),
            Attribute::Int("keepdims", 1),
        ]
    };
    let highest = g.node("ReduceMax", &[&x], over_map());
    let mean = g.node("ReduceMean", &[&x], over_map());
    let pooled = g.node(
        "Concat",
        &[&highest, &mean],
        vec![Attribute::Int("axis", 1)],
    );
    let presence = conv(g, &pooled, &net.presence);
    let presence = g.node("Sigmoid", &[&presence], vec![]);
    let flat = g.ints(&[1, 1]);
    let presence = g.node("Reshape", &[&presence, &flat], vec![]);
    g.output(names::PRESENCE, &presence, &[1, 1]);

    let embedding = embed(g, net, &features);
    g.output(
        names::EMBEDDING,
        &embedding,
        &[1, config.embedding, cells, cells],
    );
    std::mem::replace(g, GraphBuilder::new("")).finish(metadata)
}

fn backbone(g: &mut GraphBuilder, net: &FoldedNet, input: &str) -> String {
    backbone_blocks(g, &net.backbone, input)
}

/// Steps of a backbone, one after another.
pub(super) fn backbone_blocks(g: &mut GraphBuilder, blocks: &[FoldedBlock], input: &str) -> String {
    let mut x = input.to_owned();
    for block in blocks {
        x = match block {
            FoldedBlock::Conv(layer) => conv(g, &x, layer),
            FoldedBlock::Residual([first, second]) => {
                let inner = conv(g, &x, first);
                let inner = linear(g, &inner, second);
                let sum = g.node("Add", &[&inner, &x], vec![]);
                g.node("Relu", &[&sum], vec![])
            }
        };
    }
    x
}

/// Identity of every cell: `[1, C, h, w]` to `[1, embedding, h, w]`, unit norm over channels.
fn embed(g: &mut GraphBuilder, net: &FoldedNet, features: &str) -> String {
    let hidden = conv(g, features, &net.embed_hidden);
    let raw = conv(g, &hidden, &net.embed);
    unit_norm(g, &raw)
}

/// Divides by the length over axis 1.
pub(crate) fn unit_norm(g: &mut GraphBuilder, x: &str) -> String {
    let squares = g.node("Mul", &[x, x], vec![]);
    let axes = g.ints(&[1]);
    let sum = g.node(
        "ReduceSum",
        &[&squares, &axes],
        vec![Attribute::Int("keepdims", 1)],
    );
    let epsilon = g.floats(&[], &[EMBEDDING_EPSILON as f32]);
    let sum = g.node("Add", &[&sum, &epsilon], vec![]);
    let length = g.node("Sqrt", &[&sum], vec![]);
    g.node("Div", &[x, &length], vec![])
}

/// A convolution with its ReLU, where it has one.
pub(crate) fn conv(g: &mut GraphBuilder, x: &str, layer: &FoldedConv) -> String {
    let y = linear(g, x, layer);
    if layer.relu {
        g.node("Relu", &[&y], vec![])
    } else {
        y
    }
}

fn linear(g: &mut GraphBuilder, x: &str, layer: &FoldedConv) -> String {
    let s = layer.shape;
    let weight = g.floats(&[s.output, s.input, s.kernel, s.kernel], &layer.weight_oihw);
    let bias = g.floats(&[s.output], &layer.bias);
    let (kernel, stride, pad) = (s.kernel as i64, s.stride as i64, (s.kernel / 2) as i64);
    g.node(
        "Conv",
        &[x, &weight, &bias],
        vec![
            Attribute::Ints("dilations", &[1, 1]),
            Attribute::Int("group", 1),
            Attribute::Ints("kernel_shape", &[kernel, kernel]),
            Attribute::Ints("pads", &[pad; 4]),
            Attribute::Ints("strides", &[stride, stride]),
        ],
    )
}
