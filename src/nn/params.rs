//! Parameters: what they are called, how they are initialised, and where their values lie.

use std::collections::BTreeMap;

use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::files::Entry;
use crate::rng::{Philox, Purpose};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// What a parameter is, which decides its layout in files and whether weight decay is for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weight of a convolution, O×kh×kw×I here, [O, I, kh, kw] in files.
    Conv,
    /// Scale (γ) of a batch norm.
    NormScale,
    /// Shift (β) of a batch norm.
    NormShift,
    /// Weight of a linear layer, O×1×1×I here, [O, I] in files.
    Linear,
    /// Bias of a convolution or a linear layer.
    Bias,
}

/// Initial values. Fans are those of the full weight O×kh×kw×I.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// He normal of the outputs: deviation √(2 / (O·kh·kw)).
    HeFanOut,
    /// He normal of the inputs: deviation √(2 / (kh·kw·I)).
    HeFanIn,
    /// Uniform between ±√(3 / (kh·kw·I)): Caffe2's XavierFill, which detectron2 takes for FPN and
    /// linear layers.
    Uniform,
    /// Normal with mean 0 and this deviation.
    Normal(f32),
    /// The same everywhere.
    Constant(f32),
}

impl Init {
    /// Standard deviation of the values, or `Err` with the one value that all have.
    fn deviation(self, shape: Shape) -> std::result::Result<f32, f32> {
        let [o, kh, kw, i] = shape.0;
        match self {
            Init::HeFanOut => Ok((2.0 / (o * kh * kw) as f32).sqrt()),
            Init::HeFanIn => Ok((2.0 / (kh * kw * i) as f32).sqrt()),
            // That of ±a is a/√3.
            Init::Uniform => Ok((1.0 / (kh * kw * i) as f32).sqrt()),
            Init::Normal(deviation) => Ok(deviation),
            Init::Constant(value) => Err(value),
        }
    }
}

impl Role {
    /// Whether it is a matrix that activations are multiplied by.
    pub fn is_weight(self) -> bool {
        matches!(self, Role::Conv | Role::Linear)
    }
}

/// A parameter without its values.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// torchvision's name: `layer1.0.conv1.weight`.
    pub name: String,
    /// Maximum size.
    pub shape: Shape,
    /// What it is.
    pub role: Role,
    /// Its values before training.
    pub init: Init,
}

impl ParamSpec {
    /// Dimensions in files (PyTorch's layout).
    pub fn torch_shape(&self) -> Vec<usize> {
        let [o, kh, kw, i] = self.shape.0;
        match self.role {
            Role::Conv => vec![o, i, kh, kw],
            Role::Linear => vec![o, i],
            _ => vec![i],
        }
    }

    /// Values in our layout, reordered to PyTorch's.
    pub fn to_torch(&self, values: &[f32]) -> Vec<f32> {
        self.reorder(values, true)
    }

    /// Values in PyTorch's layout, reordered to ours.
    pub fn from_torch(&self, values: &[f32]) -> Vec<f32> {
        self.reorder(values, false)
    }

    fn reorder(&self, values: &[f32], to_torch: bool) -> Vec<f32> {
        let [o, kh, kw, i] = self.shape.0;
        let taps = kh * kw;
        if self.role != Role::Conv || taps == 1 {
            return values.to_vec();
        }
        let mut out = vec![0.0; values.len()];
        for o in 0..o {
            for tap in 0..taps {
                for c in 0..i {
                    let (ours, torch) = ((o * taps + tap) * i + c, (o * i + c) * taps + tap);
                    let (to, from) = if to_torch { (torch, ours) } else { (ours, torch) };
                    out[to] = values[from];
                }
            }
        }
        out
    }

    /// Sum of the squares of its initial values, as expected over all seeds.
    pub fn initial_energy(&self) -> f64 {
        let value = self.init.deviation(self.shape).unwrap_or_else(|value| value);
        self.shape.elems() as f64 * f64::from(value).powi(2)
    }

    /// Initial values of the parameter with this index.
    fn initial(&self, seed: u64, index: usize) -> Vec<f32> {
        let elems = self.shape.elems();
        match self.init.deviation(self.shape) {
            Err(value) => vec![value; elems],
            Ok(deviation) => {
                let mut rng = Philox::new(seed, Purpose::Init, index as u64, 0);
                let most = deviation * 3.0f32.sqrt();
                let draw = |_| match self.init {
                    Init::Uniform => rng.range(-most, most),
                    _ => deviation * rng.normal(),
                };
                (0..elems).map(draw).collect()
            }
        }
    }
}

/// The values of all parameters, at maximum size in f32, in the order of their specs; and, where
/// nets compute in bf16, copies of those that ops read in it.
pub struct Params {
    specs: Vec<ParamSpec>,
    values: Vec<Tensor>,
    copies: Vec<Option<Tensor>>,
}

impl Params {
    /// Freshly initialised from a seed.
    pub fn init(cx: &Cx, specs: &[ParamSpec], seed: u64) -> Result<Self> {
        let one = |(i, spec): (usize, &ParamSpec)| {
            if cx.is_plan() {
                return cx.zeros(spec.shape, DType::F32);
            }
            cx.upload(spec.shape, DType::F32, &spec.initial(seed, i))
        };
        let values = specs.iter().enumerate().map(one).collect::<Result<_>>()?;
        Ok(Self::without_copies(specs, values))
    }

    fn without_copies(specs: &[ParamSpec], values: Vec<Tensor>) -> Self {
        Self { specs: specs.to_vec(), copies: specs.iter().map(|_| None).collect(), values }
    }

    /// From named values in PyTorch's layout; every name must be there with the right shape.
    /// `origin` names the file in errors.
    pub fn from_torch(
        cx: &Cx,
        specs: &[ParamSpec],
        named: &BTreeMap<String, (Vec<usize>, Vec<f32>)>,
        origin: &str,
    ) -> Result<Self> {
        let mut values = Vec::with_capacity(specs.len());
        for spec in specs {
            let expected = spec.torch_shape();
            let Some((shape, data)) = named.get(&spec.name) else {
                return Err(Error::data(format!(
                    "{origin} has no tensor {:?} of shape {expected:?}; is it a file of another preset?",
                    spec.name
                )));
            };
            if *shape != expected {
                return Err(Error::data(format!(
                    "{origin}: tensor {:?} has shape {shape:?}, expected {expected:?}; is it a \
                     file of another preset?",
                    spec.name
                )));
            }
            values.push(cx.upload(spec.shape, DType::F32, &spec.from_torch(data))?);
        }
        Ok(Self::without_copies(specs, values))
    }

    /// Ready for nets that compute in the context's type: makes the copies that it takes,
    /// rounded to nearest even. Code that changes the values afterwards makes them again, as the
    /// optimizer does.
    pub fn ready(mut self, cx: &Cx) -> Result<Self> {
        for ((spec, value), copy) in self.specs.iter().zip(&self.values).zip(&mut self.copies) {
            let narrow_it = cx.dtype() == DType::BF16 && spec.role.is_weight();
            *copy = narrow_it.then(|| narrow(cx, value)).transpose()?;
        }
        Ok(self)
    }

    /// All values by name, in PyTorch's layout, in order.
    pub fn to_torch(&self, cx: &Cx) -> Result<Vec<Entry>> {
        let all = self.specs.iter().zip(&self.values);
        all.map(|(spec, t)| {
            Ok((spec.name.clone(), spec.torch_shape(), spec.to_torch(&cx.download(t)?)))
        })
        .collect()
    }

    /// A copy of the first `count` parameters in buffers of their own: the teacher at the start.
    pub fn copy_first(&self, cx: &Cx, count: usize) -> Result<Self> {
        let values = self.values[..count].iter().map(|t| cx.copy(t)).collect::<Result<_>>()?;
        let copy = |t: &Option<Tensor>| t.as_ref().map(|t| cx.copy(t)).transpose();
        let copies = self.copies[..count].iter().map(copy).collect::<Result<_>>()?;
        Ok(Self { specs: self.specs[..count].to_vec(), values, copies })
    }

    /// What the parameters are.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Their values.
    pub fn values(&self) -> &[Tensor] {
        &self.values
    }

    /// What ops read of parameter `i`: its value, or the copy of it.
    pub fn operand(&self, i: usize) -> &Tensor {
        self.copies[i].as_ref().unwrap_or(&self.values[i])
    }

    /// Values and copies, to write.
    pub fn values_and_copies(&mut self) -> (&mut [Tensor], &mut [Option<Tensor>]) {
        (&mut self.values, &mut self.copies)
    }

    /// Their values, to write; copies stay as they are.
    pub fn values_mut(&mut self) -> &mut [Tensor] {
        &mut self.values
    }

    /// Their values, out of the hands of the specs.
    pub fn into_values(self) -> Vec<Tensor> {
        self.values
    }

    /// Number of elements of all parameters.
    pub fn elems(&self) -> usize {
        self.specs.iter().map(|s| s.shape.elems()).sum()
    }
}

/// A tensor in bf16. While planning, memory for it.
fn narrow(cx: &Cx, t: &Tensor) -> Result<Tensor> {
    if cx.is_plan() {
        return cx.alloc(Meta::new(t.shape(), DType::BF16));
    }
    cx.upload(t.shape(), DType::BF16, &cx.download(t)?)
}

/// Sums of gradients, one per parameter, at maximum size; always there, so ops add in place. They
/// lie one behind the other in one piece of memory, in the order of the parameters, each at a
/// multiple of 256 bytes.
pub struct Gradients(Vec<Option<Tensor>>);

impl Gradients {
    /// Zeros.
    pub fn zeros(cx: &Cx, specs: &[ParamSpec]) -> Result<Self> {
        let shapes: Vec<Shape> = specs.iter().map(|spec| spec.shape).collect();
        let elems = Tensor::split_elems(&shapes, DType::F32);
        let all = cx.zeros(Shape::vector(elems), DType::F32)?;
        Ok(Self(all.split(&shapes).into_iter().map(Some).collect()))
    }

    /// Sets all to zero.
    pub fn clear(&mut self, cx: &Cx) -> Result<()> {
        self.0.iter_mut().flatten().try_for_each(|gradient| cx.clear(gradient))
    }

    /// The gradient of parameter `i`.
    pub fn get(&self, i: usize) -> &Tensor {
        self.0[i].as_ref().expect("gradients of parameters are always there")
    }

    /// The gradient of parameter `i`, to write.
    pub fn get_mut(&mut self, i: usize) -> &mut Tensor {
        self.0[i].as_mut().expect("gradients of parameters are always there")
    }

    /// All of them, in order.
    pub fn all(&self) -> impl Iterator<Item = &Tensor> {
        self.0.iter().flatten()
    }

    /// All of them, to write.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        self.0.iter_mut().flatten()
    }

    /// Where [`Tape::backward`](crate::tape::Tape::backward) adds to them.
    pub fn slots(&mut self) -> &mut [Option<Tensor>] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_round_trip() {
        let spec = ParamSpec {
            name: "c".into(),
            shape: Shape([2, 3, 3, 5]),
            role: Role::Conv,
            init: Init::HeFanOut,
        };
        let ours: Vec<f32> = (0..90).map(|x| x as f32).collect();
        let torch = spec.to_torch(&ours);
        assert_eq!(spec.torch_shape(), [2, 5, 3, 3]);
        // [o=1, i=2, kh=0, kw=1] is ours [1, 0, 1, 2].
        assert_eq!(torch[(5 + 2) * 9 + 1], ours[(9 + 1) * 5 + 2]);
        assert_eq!(spec.from_torch(&torch), ours);
    }

    #[test]
    fn initial_values_have_he_deviation() {
        let cx = Cx::for_tests();
        let spec = |shape, role, init| ParamSpec { name: "w".into(), shape, role, init };
        let conv = spec(Shape([64, 3, 3, 32]), Role::Conv, Init::HeFanOut);
        let last = spec(Shape::vector(64), Role::NormScale, Init::Constant(0.0));
        let p = Params::init(&cx, &[conv, last], 1).unwrap();
        let w = p.values()[0].to_f64();
        let var = w.iter().map(|x| x * x).sum::<f64>() / w.len() as f64;
        assert!((var / (2.0 / (64.0 * 9.0)) - 1.0).abs() < 0.05, "{var}");
        assert!(p.values()[1].to_f64().iter().all(|&x| x == 0.0));
    }
}
