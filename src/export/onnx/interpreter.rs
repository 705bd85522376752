//! Walks the nodes of a graph in their order, for the proof of parity. It knows of a net only what its
//! graph says.

use std::collections::{BTreeMap, HashMap};

use super::arithmetic::{Conv, Map, Op, Window};
use super::messages::{FLOAT, Graph, Node, Tensor};
use crate::error::{Error, Result};

/// A graph whose nodes can be walked.
pub(in crate::export) struct Interpreter {
    steps: Vec<Step>,
    input: String,
    outputs: Vec<String>,
}

struct Step {
    op: Op,
    /// Names of what it reads; weights are in the operator.
    inputs: Vec<String>,
    output: String,
}

impl Interpreter {
    /// # Errors
    /// [`crate::Kind::Data`] where the graph has an operator, an attribute or a weight that exports
    /// do not have.
    pub(in crate::export) fn new(graph: &Graph) -> Result<Self> {
        let named = graph.initializer.iter().map(|t| (t.name(), t));
        let constants: HashMap<&str, &Tensor> = named.collect();
        let steps = graph.node.iter().map(|node| {
            let wrong =
                |what: String| Error::data(format!("node {:?} of the graph: {what}", node.name()));
            let op = At { node, constants: &constants }.op().map_err(wrong)?;
            let is_value = |name: &&String| !constants.contains_key(name.as_str());
            let inputs = node.input.iter().filter(is_value).cloned().collect();
            match &node.output[..] {
                [output] => Ok(Step { op, inputs, output: output.clone() }),
                more => Err(wrong(format!("expected one output, found {}", more.len()))),
            }
        });
        let steps = steps.collect::<Result<_>>()?;
        let [input] = &graph.input[..] else {
            let found = graph.input.len();
            return Err(Error::data(format!("the graph has {found} inputs, expected one")));
        };
        let outputs = graph.output.iter().map(|o| o.name().to_owned()).collect();
        Ok(Self { steps, input: input.name().to_owned(), outputs })
    }

    /// All outputs, H×W×C each, for one image, H×W×3.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where the graph does not fit together.
    pub(in crate::export) fn run(
        &self,
        image: Vec<f64>,
        height: usize,
        width: usize,
    ) -> Result<BTreeMap<String, Vec<f64>>> {
        let channels = image.len() / (height * width).max(1);
        let x = Map { values: image, height, width, channels };
        let mut last = HashMap::new();
        for (i, step) in self.steps.iter().enumerate() {
            last.extend(step.inputs.iter().map(|name| (name.as_str(), i)));
        }
        let mut maps = HashMap::from([(self.input.as_str(), x)]);
        let mut outputs = BTreeMap::new();
        for (i, step) in self.steps.iter().enumerate() {
            let inputs = step.inputs.iter().map(|name| {
                let map = match last[name.as_str()] == i {
                    true => maps.remove(name.as_str()),
                    false => maps.get(name.as_str()).cloned(),
                };
                map.ok_or_else(|| format!("{name:?} is used before it is computed"))
            });
            let wrong =
                |what: String| Error::data(format!("{:?} of the graph: {what}", step.output));
            let inputs = inputs.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
            let made = step.op.apply(inputs).map_err(wrong)?;
            if self.outputs.contains(&step.output) {
                outputs.insert(step.output.clone(), made.values.clone());
            }
            maps.insert(&step.output, made);
        }
        match self.outputs.iter().find(|name| !outputs.contains_key(*name)) {
            Some(name) => Err(Error::data(format!("no node of the graph makes output {name:?}"))),
            None => Ok(outputs),
        }
    }
}

/// A node beside the weights of its graph.
struct At<'a> {
    node: &'a Node,
    constants: &'a HashMap<&'a str, &'a Tensor>,
}

impl At<'_> {
    fn op(&self) -> Result<Op, String> {
        Ok(match self.node.op_type() {
            "Conv" => {
                self.expect_ints("dilations", 1)?;
                self.expect_int("group", 1, 1)?;
                Op::Conv(self.conv()?)
            }
            "Relu" => Op::Relu,
            "Add" => Op::Add,
            "MaxPool" => Op::MaxPool(self.window()?),
            "GlobalAveragePool" => Op::GlobalAveragePool,
            "Flatten" => {
                self.expect_int("axis", 1, 1)?;
                Op::Flatten
            }
            "Gemm" => {
                self.expect_int("transB", 0, 1)?;
                Op::Gemm { weight: self.constant(1)?.1, bias: self.constant(2)?.1 }
            }
            "ReduceL2" => {
                self.expect_ints("axes", 1)?;
                self.expect_int("keepdims", 1, 1)?;
                Op::ReduceL2
            }
            "Clip" => match &self.constant(1)?.1[..] {
                [least] => Op::Clip(*least),
                more => return Err(format!("expected one bound, found {}", more.len())),
            },
            "Div" => Op::Div,
            "Sub" => Op::Sub(self.constant(1)?.1),
            "Mul" => Op::Mul(self.constant(1)?.1),
            other => return Err(format!("operator {other:?} is none of an export's")),
        })
    }

    fn conv(&self) -> Result<Conv, String> {
        let window = self.window()?;
        let (dims, values) = self.constant(1)?;
        let (outputs, inputs) = match dims[..] {
            [outputs, inputs, h, w]
                if outputs * inputs > 0 && (h, w) == (window.kernel, window.kernel) =>
            {
                (outputs, inputs)
            }
            _ => return Err(format!("a weight {dims:?} for a window of {}²", window.kernel)),
        };
        let taps = window.kernel * window.kernel;
        let mut weight = vec![0.0; values.len()];
        for (from, value) in values.into_iter().enumerate() {
            let (o, i, tap) = (from / (inputs * taps), from / taps % inputs, from % taps);
            weight[(tap * inputs + i) * outputs + o] = value;
        }
        let (dims, bias) = self.constant(2)?;
        match dims == [outputs] {
            true => Ok(Conv { weight, bias, inputs, window }),
            false => Err(format!("a bias {dims:?} for {outputs} channels")),
        }
    }

    /// A square window with the same padding on all sides.
    fn window(&self) -> Result<Window, String> {
        let [kernel, stride, pad] = ["kernel_shape", "strides", "pads"].map(|name| {
            let ints = self.ints(name);
            match ints.first() {
                Some(&first) if ints.iter().all(|&x| x == first) => {
                    usize::try_from(first).map_err(|e| format!("{name}: {e}"))
                }
                _ => Err(format!("{name} is {ints:?}, expected numbers that are the same")),
            }
        });
        Ok(Window { kernel: kernel?.max(1), stride: stride?.max(1), pad: pad? })
    }

    fn ints(&self, name: &str) -> &[i64] {
        let found = self.node.attribute.iter().find(|a| a.name() == name);
        found.map_or(&[], |a| &a.ints)
    }

    fn expect_ints(&self, name: &str, expected: i64) -> Result<(), String> {
        let ints = self.ints(name);
        match !ints.is_empty() && ints.iter().all(|&x| x == expected) {
            true => Ok(()),
            false => Err(format!("{name} is {ints:?}, expected {expected}")),
        }
    }

    /// `or`: ONNX's default.
    fn expect_int(&self, name: &str, or: i64, expected: i64) -> Result<(), String> {
        let found = self.node.attribute.iter().find(|a| a.name() == name).map_or(or, |a| a.i());
        match found == expected {
            true => Ok(()),
            false => Err(format!("{name} is {found}, expected {expected}")),
        }
    }

    /// Dimensions and values of the weight that is the input `i`.
    fn constant(&self, i: usize) -> Result<(Vec<usize>, Vec<f64>), String> {
        let name = self.node.input.get(i).map_or("", String::as_str);
        let tensor = self.constants.get(name).ok_or(format!("there is no weight {name:?}"))?;
        let dims: Option<Vec<usize>> =
            tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
        let bytes = |dims: &Vec<usize>| dims.iter().try_fold(4_usize, |n, &d| n.checked_mul(d));
        let raw = tensor.raw_data();
        match dims {
            Some(dims) if tensor.data_type() == FLOAT && bytes(&dims) == Some(raw.len()) => {
                let number = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                Ok((dims, raw.chunks_exact(4).map(number).collect()))
            }
            _ => Err(format!("weight {name:?} has {} bytes for {:?}", raw.len(), tensor.dims)),
        }
    }
}
