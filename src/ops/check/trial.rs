//! A case with values, run forward and backward.

use super::*;
use crate::ops::Grad;
use crate::tensor::Tensor;

/// Values of an input, the same in f32 and f64: a function of `seed`.
pub fn values(shape: Shape, fill: Fill, seed: u64) -> Vec<f32> {
    let mut rng = Philox::new(seed, Purpose::Check, 0, 0);
    let n = shape.elems();
    match fill {
        Fill::Normal => (0..n).map(|_| rng.normal()).collect(),
        Fill::Uniform { lo, hi } => (0..n).map(|_| rng.range(lo as f32, hi as f32)).collect(),
        Fill::Integers { lo, hi } => {
            let width = (i64::from(hi) - i64::from(lo) + 1) as usize;
            (0..n).map(|_| lo as f32 + rng.below(width) as f32).collect()
        }
        Fill::Distinct => {
            let mut x: Vec<f32> = (1..=n)
                .map(|i| i as f32 * 4.0 / n as f32 * if rng.chance(0.5) { 1.0 } else { -1.0 })
                .collect();
            rng.shuffle(&mut x);
            x
        }
        Fill::UnitRows => {
            let mut x: Vec<f32> = (0..n).map(|_| rng.normal()).collect();
            for row in x.chunks_mut(shape.c().max(1)) {
                let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                row.iter_mut().for_each(|x| *x /= norm);
            }
            x
        }
        Fill::Permutation { end } => {
            let order = rng.sample(end, n);
            order.iter().cycle().take(n).map(|i| *i as f32).collect()
        }
        Fill::Rois { images, levels, side } => rois(&mut rng, n, [images, levels], side),
    }
}

/// `n` values of [`Fill::Rois`], the last row of which may not be whole. Coordinates are whole
/// numbers of eighths of a pixel.
fn rois(rng: &mut Philox, n: usize, [images, levels]: [usize; 2], side: usize) -> Vec<f32> {
    let rows = n.div_ceil(6);
    let mut groups: Vec<usize> = (0..rows).map(|_| rng.below(images * levels)).collect();
    groups.sort_unstable();
    let mut corners = || {
        let mut corner = || (rng.below(10 * side) as f32 - side as f32) / 8.0;
        let (a, b) = (corner(), corner());
        [a.min(b), a.max(b)]
    };
    let row = |(i, group): (usize, &usize)| {
        let [[x1, x2], [y1, y2]] = [corners(), corners()];
        let [x2, y2] = if i == 0 { [x1, y1] } else { [x2, y2] };
        [(group / levels) as f32, (group % levels) as f32, x1, y1, x2, y2]
    };
    groups.iter().enumerate().flat_map(row).take(n).collect()
}

/// A tensor with the values of a slice in its type; those of integers are whole.
pub fn upload(cx: &Cx, meta: Meta, values: &[f32]) -> crate::Result<Tensor> {
    match meta.dtype {
        DType::I32 => {
            let values: Vec<i32> = values.iter().map(|x| *x as i32).collect();
            cx.upload_i32(meta.shape, &values)
        }
        dtype => cx.upload(meta.shape, dtype, values),
    }
}

/// An op with inputs to run it on: a case, or one changed.
pub(super) struct Trial<'a, O> {
    pub(super) op: &'a O,
    pub(super) inputs: Vec<Input>,
    pub(super) values: Vec<Vec<f32>>,
    /// Weights of the output in the scalar that is differentiated; `None`: random.
    pub(super) weights: Option<Vec<f32>>,
}

/// An output and the gradients of the inputs that have one.
pub(super) struct Run {
    pub(super) y: Vec<f64>,
    pub(super) weights: Vec<f32>,
    pub(super) grads: Vec<Option<Vec<f64>>>,
}

impl<'a, O: Op> Trial<'a, O> {
    pub(super) fn new(case: &'a Case<O>) -> Self {
        Self::with(&case.op, case.inputs.clone())
    }

    pub(super) fn with(op: &'a O, inputs: Vec<Input>) -> Self {
        let value = |(i, input): (usize, &Input)| values(input.shape, input.fill, i as u64);
        let values = inputs.iter().enumerate().map(value).collect();
        Self { op, inputs, values, weights: None }
    }

    /// Whether sums are exact in f32.
    pub(super) fn is_whole(&self) -> bool {
        let whole = |fill| matches!(fill, Fill::Integers { .. } | Fill::Permutation { .. });
        self.inputs.iter().all(|i| whole(i.fill))
    }

    /// Rounds all values to what a type holds, so that all types start from the same.
    pub(super) fn round_to(&mut self, dtype: DType) -> crate::Result<()> {
        let y = self.announced(DType::F64)?;
        let mut weights = self.weights(y.shape);
        weights.iter_mut().for_each(|x| *x = round(f64::from(*x), dtype) as f32);
        self.weights = Some(weights);
        for (values, input) in self.values.iter_mut().zip(&self.inputs) {
            let dtype = input.dtype(dtype);
            values.iter_mut().for_each(|x| *x = round(f64::from(*x), dtype) as f32);
        }
        Ok(())
    }

    fn weights(&self, y: Shape) -> Vec<f32> {
        let whole = Fill::Integers { lo: -3, hi: 3 };
        let fill = if self.is_whole() { whole } else { Fill::Normal };
        self.weights.clone().unwrap_or_else(|| values(y, fill, 1000))
    }

    /// What gradient `i` is added to, where it is added to something.
    pub(super) fn prefill(&self, i: usize) -> Vec<f32> {
        values(self.inputs[i].shape, Fill::Integers { lo: -9, hi: 9 }, 2000 + i as u64)
    }

    /// Runs forward and backward. Gradients start from nothing or from [`Trial::prefill`].
    pub(super) fn run(&self, cx: &Cx, dtype: DType, prefill: bool) -> Result<Run> {
        cx.install(|| self.run_inside(cx, dtype, prefill)).map_err(|e| e.to_string())
    }

    pub(super) fn run_inside(&self, cx: &Cx, dtype: DType, prefill: bool) -> crate::Result<Run> {
        let uploaded = |(x, input): (&Vec<f32>, &Input)| {
            upload(cx, Meta::new(input.shape, input.dtype(dtype)), x)
        };
        let tensors: Vec<Tensor> =
            self.values.iter().zip(&self.inputs).map(uploaded).collect::<crate::Result<_>>()?;
        let announced = self.announced(dtype)?;
        spoil(cx, tensors.iter().map(Tensor::meta).chain([announced]))?;
        let (y, saved) = self.op.forward(cx, &tensors.iter().collect::<Vec<_>>())?;
        expect(y.meta() == announced, || format!("made {:?}, announced {announced:?}", y.meta()))?;
        let values = read(cx, &y)?;
        let weights = self.weights(y.shape());
        let gy = cx.upload(y.shape(), y.dtype(), &weights)?;
        drop(y);
        let slot = |(i, input): (usize, &Input)| {
            Ok(match (input.grad, prefill) {
                (false, _) => Grad::unwanted(),
                (true, false) => Grad::wanted(None),
                (true, true) => {
                    let before = self.prefill(i);
                    Grad::wanted(Some(cx.upload(input.shape, input.grad_dtype(dtype), &before)?))
                }
            })
        };
        let mut slots: Vec<Grad> =
            self.inputs.iter().enumerate().map(slot).collect::<crate::Result<_>>()?;
        self.op.backward(cx, saved, gy, &mut slots)?;
        let mut grads = Vec::new();
        for (i, (slot, input)) in slots.into_iter().zip(&self.inputs).enumerate() {
            let grad = slot.into_value();
            let found = grad.as_ref().map(Tensor::meta);
            let wanted = input.grad.then(|| Meta::new(input.shape, input.grad_dtype(dtype)));
            expect(found == wanted, || format!("gradient {i} is {found:?}, wanted {wanted:?}"))?;
            grads.push(grad.map(|g| read(cx, &g)).transpose()?);
        }
        Ok(Run { y: values, weights, grads })
    }

    /// Shape and type of the output.
    pub(super) fn announced(&self, dtype: DType) -> crate::Result<Meta> {
        let metas: Vec<Meta> =
            self.inputs.iter().map(|i| Meta::new(i.shape, i.dtype(dtype))).collect();
        self.op.infer(&metas)
    }

    /// The output in f64 with input `i` moved by `step` times a direction.
    pub(super) fn moved(
        &self,
        cx: &Cx,
        i: usize,
        direction: &[f64],
        step: f64,
    ) -> Result<Vec<f64>> {
        let forward = || {
            let mut tensors = Vec::new();
            for (j, input) in self.inputs.iter().enumerate() {
                let meta = Meta::new(input.shape, input.dtype(DType::F64));
                let mut t = upload(cx, meta, &self.values[j])?;
                if i == j {
                    let pairs = t.host_mut::<f64>().iter_mut().zip(direction);
                    pairs.for_each(|(x, d)| *x += step * d);
                }
                tensors.push(t);
            }
            let (y, _) = self.op.forward(cx, &tensors.iter().collect::<Vec<_>>())?;
            read(cx, &y)
        };
        cx.install(forward).map_err(|e: crate::Error| e.to_string())
    }
}

/// An error unless `ok`.
fn expect(ok: bool, message: impl FnOnce() -> String) -> crate::Result<()> {
    if ok { Ok(()) } else { Err(crate::Error::usage(message())) }
}

/// Leaves NaN in the buffers that the pool will hand out next, so that what an op reads
/// without having written it shows.
fn spoil(cx: &Cx, metas: impl Iterator<Item = Meta>) -> crate::Result<()> {
    let fill = |m: Meta| Ok([0, 1].map(|_| cx.full(m.shape, m.dtype, f64::NAN)));
    metas.filter(|m| m.dtype != DType::I32).map(fill).collect::<crate::Result<Vec<_>>>().map(drop)
}

/// All values of a tensor.
fn read(cx: &Cx, t: &Tensor) -> crate::Result<Vec<f64>> {
    match t.dtype() {
        DType::F64 if !cx.is_plan() => Ok(t.to_f64()),
        _ => Ok(cx.download(t)?.into_iter().map(f64::from).collect()),
    }
}
