//! An exported net as a graph of ONNX's operators, with batch norms folded into the convolutions.

use super::super::layers::{Block, ConvBn, Layers, Linear};
use super::messages::{
    Attribute, Dimension, FLOAT, Graph, INT, INTS, Node, Tensor, TensorShape, TensorType, Type,
    ValueInfo,
};
use super::{INPUT, Normalise};
use crate::error::{Error, Result};
use crate::files::Named;
use crate::ops::batch_norm::EPS;

/// The smallest norm that embeddings are divided by, as in PyTorch's `normalize`.
const LEAST_NORM: f32 = 1e-12;

/// The graph of these layers with the values of `named`; its input is normalised already, or is
/// normalised by the graph. Outputs: `c2` to `c5`, `pool`, with a head `z`, and with a classifier
/// `logits`.
///
/// # Errors
/// [`crate::Kind::Data`] where a tensor is missing or has the wrong shape.
pub(in crate::export) fn build(
    layers: &Layers,
    named: &Named,
    normalise: Option<&Normalise>,
) -> Result<Graph> {
    let mut builder = Builder { named, graph: Graph::default() };
    builder.graph.name = Some("resnet".into());
    let channels = size(builder.inputs(&layers.stem)?);
    builder.graph.input = vec![value(INPUT, [name("n"), channels, name("h"), name("w")])];
    let x = match normalise {
        Some(normalise) => builder.normalise(normalise),
        None => INPUT.to_owned(),
    };
    let mut stride = layers.stem.stride;
    let x = builder.conv(&layers.stem, &x)?;
    let mut x = builder.node("Relu", "relu", &[&x], Vec::new());
    if layers.maxpool {
        stride *= 2;
        let window = [("kernel_shape", 3, 2), ("strides", 2, 2), ("pads", 1, 4)];
        let attributes = window.map(|(name, value, n)| ints(name, vec![value; n])).to_vec();
        x = builder.node("MaxPool", "maxpool", &[&x], attributes);
    }
    for (s, stage) in layers.stages.iter().enumerate() {
        for (b, block) in stage.iter().enumerate() {
            let level = format!("c{}", s + 2);
            let out = if b + 1 == stage.len() { level } else { block.name.clone() };
            x = builder.block(block, &x, out)?;
            stride *= block.shortcut.as_ref().map_or(1, |shortcut| shortcut.stride);
        }
        let channels = size(builder.channels(stage.last())?);
        let side =
            |side: &str| name(&if stride == 1 { side.into() } else { format!("{side}{stride}") });
        builder.graph.output.push(value(&x, [name("n"), channels, side("h"), side("w")]));
    }
    builder.ends(layers, &x)?;
    Ok(builder.graph)
}

struct Builder<'a> {
    named: &'a Named,
    graph: Graph,
}

impl Builder<'_> {
    /// Pooled features and what is computed from them, for C5.
    fn ends(&mut self, layers: &Layers, c5: &str) -> Result<()> {
        let pooled = self.node("GlobalAveragePool", "average", &[c5], Vec::new());
        let pool = self.node("Flatten", "pool", &[&pooled], vec![int("axis", 1)]);
        let channels = self.channels(layers.stages.last().and_then(|stage| stage.last()))?;
        self.graph.output.push(value(&pool, [name("n"), size(channels)]));
        if !layers.head.is_empty() {
            let (mut x, mut dim) = (pool.clone(), 0);
            for (i, linear) in layers.head.iter().enumerate() {
                if i > 0 {
                    x = self.node("Relu", &format!("head.relu{i}"), &[&x], Vec::new());
                }
                (x, dim) = self.linear(linear, &x, linear.linear.clone())?;
            }
            let over = vec![ints("axes", vec![1]), int("keepdims", 1)];
            let norm = self.node("ReduceL2", "z.norm", &[&x], over);
            let least = self.constant("z.least", &[], &[LEAST_NORM]);
            let norm = self.node("Clip", "z.clipped", &[&norm, &least], Vec::new());
            let z = self.node("Div", "z", &[&x, &norm], Vec::new());
            self.graph.output.push(value(&z, [name("n"), size(dim)]));
        }
        if let Some(classifier) = &layers.classifier {
            let (logits, classes) = self.linear(classifier, &pool, "logits".into())?;
            self.graph.output.push(value(&logits, [name("n"), size(classes)]));
        }
        Ok(())
    }

    /// relu(convolutions(x) + shortcut(x)).
    fn block(&mut self, block: &Block, x: &str, out: String) -> Result<String> {
        let mut h = x.to_owned();
        for (i, conv) in block.convs.iter().enumerate() {
            if i > 0 {
                h = self.node("Relu", &format!("{}.relu{i}", block.name), &[&h], Vec::new());
            }
            h = self.conv(conv, &h)?;
        }
        let shortcut = match &block.shortcut {
            Some(shortcut) => self.conv(shortcut, x)?,
            None => x.to_owned(),
        };
        let sum = self.node("Add", &format!("{}.add", block.name), &[&h, &shortcut], Vec::new());
        Ok(self.node("Relu", &out, &[&sum], Vec::new()))
    }

    /// W' = W·γ/√(var+ε), b' = β − mean·γ/√(var+ε), computed in f64 and rounded once.
    fn conv(&mut self, layer: &ConvBn, x: &str) -> Result<String> {
        let ConvBn { conv, bn, stride } = layer;
        let (shape, weight) = self.tensor(&format!("{conv}.weight"))?;
        let (outputs, kernel) = match *shape {
            [outputs, _, kernel, width] if kernel == width => (outputs, kernel),
            _ => return Err(unlike(conv, shape, "four dimensions and a square kernel")),
        };
        let fold = self.fold(bn, outputs)?;
        let weight = fold.rows(weight);
        let shape = shape.to_vec();
        let weight = self.constant(&format!("{conv}.weight"), &shape, &weight);
        let bias = self.constant(&format!("{conv}.bias"), &[outputs], &fold.bias());
        let window = vec![
            ints("dilations", vec![1; 2]),
            int("group", 1),
            ints("kernel_shape", vec![kernel; 2]),
            ints("pads", vec![kernel / 2; 4]),
            ints("strides", vec![*stride; 2]),
        ];
        Ok(self.node("Conv", conv, &[x, &weight, &bias], window))
    }

    /// y = Wx + b, or without a bias of its own and with the batch norm behind it folded in. Gives
    /// the outputs, too.
    fn linear(&mut self, layer: &Linear, x: &str, out: String) -> Result<(String, usize)> {
        let Linear { linear, bn } = layer;
        let (shape, weight) = self.tensor(&format!("{linear}.weight"))?;
        let &[outputs, inputs] = shape else {
            return Err(unlike(linear, shape, "two dimensions"));
        };
        let (weight, bias) = match bn {
            Some(bn) => {
                let fold = self.fold(bn, outputs)?;
                (fold.rows(weight), fold.bias())
            }
            None if self.named.contains_key(&format!("{linear}.bias")) => {
                (weight.to_vec(), self.vector(&format!("{linear}.bias"), outputs)?.to_vec())
            }
            None => (weight.to_vec(), vec![0.0; outputs]),
        };
        let weight = self.constant(&format!("{linear}.weight"), &[outputs, inputs], &weight);
        let bias = self.constant(&format!("{linear}.bias"), &[outputs], &bias);
        Ok((self.node("Gemm", &out, &[x, &weight, &bias], vec![int("transB", 1)]), outputs))
    }

    /// A batch norm as scale and shift of its channels; one without γ and β has 1 and 0.
    fn fold(&self, bn: &str, channels: usize) -> Result<Fold> {
        let part = |what: &str| -> Result<Vec<f64>> {
            let values = self.vector(&format!("{bn}.{what}"), channels)?;
            Ok(values.iter().map(|&x| f64::from(x)).collect())
        };
        let affine = |what: &str, or: f64| match self.named.contains_key(&format!("{bn}.{what}")) {
            true => part(what),
            false => Ok(vec![or; channels]),
        };
        let (gamma, beta) = (affine("weight", 1.0)?, affine("bias", 0.0)?);
        let (mean, var) = (part("running_mean")?, part("running_var")?);
        let scale: Vec<f64> = gamma.iter().zip(&var).map(|(g, v)| g / (v + EPS).sqrt()).collect();
        let shift = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Ok(Fold { scale, shift })
    }

    /// (x − mean) / deviation, of values in 0..1.
    fn normalise(&mut self, normalise: &Normalise) -> String {
        let shape = [1, normalise.mean.len(), 1, 1];
        let mean = self.constant("mean", &shape, &normalise.mean);
        let over = normalise.std.iter().map(|&std| (1.0 / f64::from(std)) as f32);
        let over = self.constant("over_std", &shape, &over.collect::<Vec<f32>>());
        let x = self.node("Sub", "centred", &[INPUT, &mean], Vec::new());
        self.node("Mul", "normalised", &[&x, &over], Vec::new())
    }

    fn tensor(&self, name: &str) -> Result<(&[usize], &[f32])> {
        let (shape, values) = self.named.get(name).ok_or_else(|| {
            Error::data(format!("the export lacks the tensor {name:?}: export the subnet again"))
        })?;
        Ok((shape, values))
    }

    fn vector(&self, name: &str, len: usize) -> Result<&[f32]> {
        match self.tensor(name)? {
            (shape, values) if *shape == [len] => Ok(values),
            (shape, _) => Err(unlike(name, shape, &format!("[{len}]"))),
        }
    }

    /// Input channels of a convolution.
    fn inputs(&self, layer: &ConvBn) -> Result<usize> {
        let name = format!("{}.weight", layer.conv);
        match self.tensor(&name)? {
            ([_, inputs, _, _], _) => Ok(*inputs),
            (shape, _) => Err(unlike(&name, shape, "four dimensions")),
        }
    }

    /// Output channels of a block.
    fn channels(&self, block: Option<&Block>) -> Result<usize> {
        let Some(last) = block.and_then(|block| block.convs.last()) else {
            return Err(Error::data("a stage has no block, expected at least 1"));
        };
        let (shape, _) = self.tensor(&format!("{}.weight", last.conv))?;
        Ok(shape[0])
    }

    /// Adds an initializer and gives its name.
    fn constant(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.graph.initializer.push(Tensor {
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: Some(FLOAT),
            name: Some(name.to_owned()),
            raw_data: Some(values.iter().flat_map(|x| x.to_le_bytes()).collect()),
        });
        name.to_owned()
    }

    /// Adds a node with one output, which is named as the node is, and gives this name.
    fn node(&mut self, op: &str, name: &str, inputs: &[&str], attribute: Vec<Attribute>) -> String {
        self.graph.node.push(Node {
            input: inputs.iter().map(|x| (*x).to_owned()).collect(),
            output: vec![name.to_owned()],
            name: Some(name.to_owned()),
            op_type: Some(op.to_owned()),
            attribute,
        });
        name.to_owned()
    }
}

/// y = scale·x + shift, for each channel.
struct Fold {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Fold {
    /// A weight whose first dimension is the channels, scaled.
    fn rows(&self, weight: &[f32]) -> Vec<f32> {
        let len = (weight.len() / self.scale.len().max(1)).max(1);
        let rows = weight.chunks_exact(len).zip(&self.scale);
        rows.flat_map(|(row, scale)| row.iter().map(move |&w| (f64::from(w) * scale) as f32))
            .collect()
    }

    fn bias(&self) -> Vec<f32> {
        self.shift.iter().map(|&b| b as f32).collect()
    }
}

fn unlike(name: &str, shape: &[usize], expected: &str) -> Error {
    Error::data(format!("{name} has shape {shape:?}, expected {expected}; export the subnet again"))
}

fn int(name: &str, i: i64) -> Attribute {
    Attribute { name: Some(name.into()), i: Some(i), ints: Vec::new(), kind: Some(INT) }
}

fn ints(name: &str, values: Vec<usize>) -> Attribute {
    let ints = values.into_iter().map(|x| x as i64).collect();
    Attribute { name: Some(name.into()), i: None, ints, kind: Some(INTS) }
}

fn size(n: usize) -> Dimension {
    Dimension { dim_value: Some(n as i64), dim_param: None }
}

fn name(name: &str) -> Dimension {
    Dimension { dim_value: None, dim_param: Some(name.into()) }
}

fn value(name: &str, dims: impl IntoIterator<Item = Dimension>) -> ValueInfo {
    let shape = Some(TensorShape { dim: dims.into_iter().collect() });
    let tensor_type = Some(TensorType { elem_type: Some(FLOAT), shape });
    ValueInfo { name: Some(name.into()), kind: Some(Type { tensor_type }) }
}
