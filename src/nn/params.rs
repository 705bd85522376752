//! Parameters: what they are called, how they are initialised, and where their values lie.

use std::collections::BTreeMap;

use crate::device::Cx;
use crate::error::{Error, Result};
use crate::files::Entry;
use crate::rng::{Philox, Purpose};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// What a parameter is, which decides its initial values and its layout in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weight of a convolution, O×kh×kw×I here, [O, I, kh, kw] in files.
    Conv,
    /// Scale (γ) of a batch norm.
    NormScale,
    /// Scale of the last batch norm of a block, which starts at 0 so that the block starts
    /// as the identity.
    LastNormScale,
    /// Shift (β) of a batch norm.
    NormShift,
    /// Weight of a linear layer, O×1×1×I here, [O, I] in files.
    Linear,
    /// Bias of a linear layer.
    Bias,
}

impl Role {
    /// Whether it is a matrix that activations are multiplied by.
    pub fn is_weight(self) -> bool {
        matches!(self, Role::Conv | Role::Linear)
    }

    /// Whether weight decay leaves it alone where `train.decay_exempt` asks for that.
    pub fn decay_exempt(self) -> bool {
        !self.is_weight()
    }
}

/// A parameter without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSpec {
    /// torchvision's name: `layer1.0.conv1.weight`.
    pub name: String,
    /// Maximum size.
    pub shape: Shape,
    /// What it is.
    pub role: Role,
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
        let [o, kh, kw, i] = self.shape.0.map(|n| n as f64);
        // As many values as the shape has, of variance 2 / fan.
        match self.role {
            Role::Conv => 2.0 * i,
            Role::Linear => 2.0 * o * kh * kw,
            Role::NormScale => i,
            Role::LastNormScale | Role::NormShift | Role::Bias => 0.0,
        }
    }

    /// Initial values: He normal with fan-out for convolutions and fan-in for linear layers
    /// (fans of the full weight), γ = 1 (0 for the last of a block), β and biases 0.
    fn initial(&self, seed: u64, index: usize) -> Vec<f32> {
        let [o, kh, kw, i] = self.shape.0;
        let fan = match self.role {
            Role::Conv => o * kh * kw,
            Role::Linear => i,
            Role::NormScale => return vec![1.0; i],
            Role::LastNormScale | Role::NormShift | Role::Bias => return vec![0.0; i],
        };
        let deviation = (2.0 / fan as f32).sqrt();
        let mut rng = Philox::new(seed, Purpose::Init, index as u64, 0);
        (0..self.shape.elems()).map(|_| deviation * rng.normal()).collect()
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
    /// rounded to nearest even. Whoever changes the values afterwards makes them anew, as the
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

    /// A copy in buffers of its own: the teacher at the start.
    pub fn copy(&self, cx: &Cx) -> Result<Self> {
        let values = self.values.iter().map(|t| cx.copy(t)).collect::<Result<_>>()?;
        let copy = |t: &Option<Tensor>| t.as_ref().map(|t| cx.copy(t)).transpose();
        let copies = self.copies.iter().map(copy).collect::<Result<_>>()?;
        Ok(Self { specs: self.specs.clone(), values, copies })
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

/// Sums of gradients, one per parameter, at maximum size; always there, so ops add in place.
pub struct Gradients(pub Vec<Option<Tensor>>);

impl Gradients {
    /// Zeros.
    pub fn zeros(cx: &Cx, specs: &[ParamSpec]) -> Result<Self> {
        let zero = |s: &ParamSpec| cx.zeros(s.shape, DType::F32).map(Some);
        Ok(Self(specs.iter().map(zero).collect::<Result<_>>()?))
    }

    /// The gradient of parameter `i`.
    pub fn get(&self, i: usize) -> &Tensor {
        self.0[i].as_ref().expect("gradients of parameters are always there")
    }

    /// The gradient of parameter `i`, to write.
    pub fn get_mut(&mut self, i: usize) -> &mut Tensor {
        self.0[i].as_mut().expect("gradients of parameters are always there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_round_trip() {
        let spec = ParamSpec { name: "c".into(), shape: Shape([2, 3, 3, 5]), role: Role::Conv };
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
        let spec = |shape, role| ParamSpec { name: "w".into(), shape, role };
        let conv = spec(Shape([64, 3, 3, 32]), Role::Conv);
        let last = spec(Shape::vector(64), Role::LastNormScale);
        let p = Params::init(&cx, &[conv, last], 1).unwrap();
        let w = p.values()[0].to_f64();
        let var = w.iter().map(|x| x * x).sum::<f64>() / w.len() as f64;
        assert!((var / (2.0 / (64.0 * 9.0)) - 1.0).abs() < 0.05, "{var}");
        assert!(p.values()[1].to_f64().iter().all(|&x| x == 0.0));
    }
}
