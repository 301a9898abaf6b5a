//! ONNX, as much of it as an exporter writes: messages (IR version 8) and a graph builder for opset 17.
//!
//! In: operators, tensors, names. Out: the bytes of a `ModelProto`. The field numbers are those of `onnx.proto3`
//! (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>); keeping this subset by hand spares every build
//! the protobuf compiler.
//!
//! ```
//! use roadhound_trainer::export::onnx::{Attribute, GraphBuilder};
//! let mut graph = GraphBuilder::new("relu");
//! graph.input("x", &[1, 4]);
//! let y = graph.node("Relu", &["x"], vec![]);
//! graph.output("y", &y, &[1, 4]);
//! let bytes = graph.finish(&[("license", "none")]);
//! assert!(!bytes.is_empty());
//! ```
#![allow(
    missing_docs,
    reason = "the messages mirror onnx.proto3 field by field"
)]

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// Who defines the operator; empty for ONNX itself.
    #[prost(string, tag = "7")]
    pub domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, tag = "2")]
    pub f: f32,
    #[prost(int64, tag = "3")]
    pub i: i64,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    /// 1 float, 2 integer, 7 integers.
    #[prost(int32, tag = "20")]
    pub r#type: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// 1 is f32, 2 u8, 3 i8, 6 i32, 7 i64.
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    #[prost(oneof = "DimensionValue", tags = "1")]
    pub value: Option<DimensionValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum DimensionValue {
    #[prost(int64, tag = "1")]
    Size(i64),
}

/// ONNX numbers of the types that occur.
pub mod types {
    /// f32.
    pub const FLOAT: i32 = 1;
    /// u8.
    pub const UINT8: i32 = 2;
    /// i8.
    pub const INT8: i32 = 3;
    /// i32.
    pub const INT32: i32 = 6;
    /// i64.
    pub const INT64: i32 = 7;
}
use types::{FLOAT, INT8, INT32, INT64, UINT8};

/// Domain of ONNX Runtime's own operators.
pub const MICROSOFT: &str = "com.microsoft";
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// An attribute of a node.
pub enum Attribute<'a> {
    /// One integer.
    Int(&'a str, i64),
    /// A list of integers.
    Ints(&'a str, &'a [i64]),
}

/// Builds one graph, node by node; values are referred to by the names that are handed back.
pub struct GraphBuilder {
    graph: GraphProto,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self {
            graph: GraphProto {
                name: name.to_owned(),
                ..GraphProto::default()
            },
        }
    }

    /// Declares an f32 input.
    pub fn input(&mut self, name: &str, shape: &[usize]) {
        self.graph.input.push(value_info(name, shape));
    }

    /// Declares that the value `from` leaves the graph as `name`.
    pub fn output(&mut self, name: &str, from: &str, shape: &[usize]) {
        self.graph.node.push(NodeProto {
            input: vec![from.to_owned()],
            output: vec![name.to_owned()],
            name: format!("{name}.out"),
            op_type: "Identity".to_owned(),
            ..NodeProto::default()
        });
        self.graph.output.push(value_info(name, shape));
    }

    /// A constant f32 tensor; `values` fill `shape` in row-major order.
    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> String {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        self.constant(
            shape,
            FLOAT,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    /// A constant list of integers.
    pub fn ints(&mut self, values: &[i64]) -> String {
        self.constant(
            &[values.len()],
            INT64,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    /// A constant u8 tensor.
    pub fn bytes(&mut self, shape: &[usize], values: &[u8]) -> String {
        self.constant(shape, UINT8, values.to_vec())
    }

    /// A constant i8 tensor.
    pub fn signed_bytes(&mut self, shape: &[usize], values: &[i8]) -> String {
        self.constant(
            shape,
            INT8,
            values.iter().map(|v| v.cast_unsigned()).collect(),
        )
    }

    /// A constant i32 tensor.
    pub fn int32s(&mut self, shape: &[usize], values: &[i32]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes());
        self.constant(shape, INT32, bytes.collect())
    }

    fn constant(&mut self, shape: &[usize], data_type: i32, raw_data: Vec<u8>) -> String {
        let name = format!("c{}", self.graph.initializer.len());
        let dims = shape.iter().map(|d| *d as i64).collect();
        self.graph.initializer.push(TensorProto {
            dims,
            data_type,
            name: name.clone(),
            raw_data,
        });
        name
    }

    /// Adds an operator with one output, whose name is returned.
    pub fn node(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        attributes: Vec<Attribute<'_>>,
    ) -> String {
        let name = format!("{}{}", op_type.to_lowercase(), self.graph.node.len());
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op_type.to_owned(),
            attribute: attributes.into_iter().map(attribute).collect(),
            domain: String::new(),
        });
        name
    }

    /// Adds a node as it is; its outputs keep their names.
    pub fn push(&mut self, node: NodeProto) {
        self.graph.node.push(node);
    }

    /// Takes a constant of another graph over; returns its name here.
    pub fn keep(&mut self, tensor: &TensorProto) -> String {
        let name = format!("c{}", self.graph.initializer.len());
        self.graph.initializer.push(TensorProto {
            name: name.clone(),
            ..tensor.clone()
        });
        name
    }

    /// Declares the inputs and outputs of another graph.
    pub fn declare(&mut self, inputs: &[ValueInfoProto], outputs: &[ValueInfoProto]) {
        self.graph.input.extend_from_slice(inputs);
        self.graph.output.extend_from_slice(outputs);
    }

    /// The graph as it is so far.
    pub fn into_graph(self) -> GraphProto {
        self.graph
    }

    /// The bytes of the model, with `metadata` attached.
    pub fn finish(self, metadata: &[(&str, &str)]) -> Vec<u8> {
        model(self.graph, metadata)
    }
}

/// The bytes of a model of one graph, with `metadata` attached.
pub fn model(graph: GraphProto, metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut opset_import = vec![OperatorSetIdProto {
        domain: String::new(),
        version: OPSET,
    }];
    if graph.node.iter().any(|n| n.domain == MICROSOFT) {
        opset_import.push(OperatorSetIdProto {
            domain: MICROSOFT.to_owned(),
            version: 1,
        });
    }
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    ModelProto {
        ir_version: IR_VERSION,
        opset_import,
        producer_name: "roadhound-train".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        metadata_props: metadata.iter().map(entry).collect(),
    }
    .encode_to_vec()
}

/// As the file holds it.
pub fn attribute(attribute: Attribute<'_>) -> AttributeProto {
    match attribute {
        Attribute::Int(name, i) => AttributeProto {
            name: name.to_owned(),
            r#type: 2,
            i,
            ..AttributeProto::default()
        },
        Attribute::Ints(name, ints) => AttributeProto {
            name: name.to_owned(),
            r#type: 7,
            ints: ints.to_vec(),
            ..AttributeProto::default()
        },
    }
}

fn value_info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|d| Dimension {
            value: Some(DimensionValue::Size(*d as i64)),
        })
        .collect();
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorType {
                elem_type: FLOAT,
                shape: Some(TensorShapeProto { dim }),
            }),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut graph = GraphBuilder::new("g");
        graph.input("x", &[1, 2]);
        let c = graph.floats(&[2], &[1.0, -2.5]);
        let y = graph.node("Mul", &["x", &c], vec![]);
        graph.output("y", &y, &[1, 2]);
        let model = ModelProto::decode(graph.finish(&[("k", "v")]).as_slice()).unwrap();
        assert_eq!((model.ir_version, model.opset_import[0].version), (8, 17));
        let graph = model.graph.unwrap();
        assert_eq!(graph.initializer[0].raw_data[4..], (-2.5f32).to_le_bytes());
        assert_eq!(
            graph
                .node
                .iter()
                .map(|n| n.op_type.as_str())
                .collect::<Vec<_>>(),
            ["Mul", "Identity"]
        );
    }
}
