//! The part of ONNX's messages that an export needs. Numbers and names are those of `onnx.proto`,
//! which is proto2: repeated integers are not packed.

/// A file.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::export) struct Model {
    /// Version of the format.
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    /// The program that wrote it.
    #[prost(string, optional, tag = "2")]
    pub producer_name: Option<String>,
    /// Its version.
    #[prost(string, optional, tag = "3")]
    pub producer_version: Option<String>,
    /// The net.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// Versions of the operators.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<Opset>,
    /// What else there is to say.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<Entry>,
}

/// Nodes in an order in which they can run.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::export) struct Graph {
    /// The computation.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Its name.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// Weights.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// What a caller gives.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// What a caller gets.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

/// One operator.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::export) struct Node {
    /// Names of what it reads.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of what it makes.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Its name.
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    /// The operator.
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    /// Its attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
}

/// An attribute of a node: an integer or a list of them.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::export) struct Attribute {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// The integer.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// The list.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// [`INT`] or [`INTS`].
    #[prost(int32, optional, tag = "20")]
    pub kind: Option<i32>,
}

/// Kind of an attribute that is an integer.
pub(in crate::export) const INT: i32 = 2;
/// Kind of an attribute that is a list of integers.
pub(in crate::export) const INTS: i32 = 7;

/// Values.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::export) struct Tensor {
    /// Dimensions; none of a scalar.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// [`FLOAT`].
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    /// Its name.
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    /// The values, little-endian.
    #[prost(bytes = "vec", optional, tag = "9")]
    pub raw_data: Option<Vec<u8>>,
}

/// Type of f32 values.
pub(in crate::export) const FLOAT: i32 = 1;

/// An input or an output.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::export) struct ValueInfo {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub kind: Option<Type>,
}

/// The type of a value.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::export) struct Type {
    /// That of a tensor.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

/// The type of a tensor.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::export) struct TensorType {
    /// [`FLOAT`].
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    /// Its dimensions.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
}

/// Dimensions of a tensor.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::export) struct TensorShape {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// A dimension: a number, or a name for one that is known only later.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::export) struct Dimension {
    /// The number.
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    /// The name.
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}

/// A set of operators.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::export) struct Opset {
    /// Whose; empty: ONNX's own.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// Its version.
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// A name and what it stands for.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::export) struct Entry {
    /// The name.
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    /// What it stands for.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}
