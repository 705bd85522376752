//! Work to be timed or counted: a pass of an op, or another piece of a training step.

use std::sync::{Arc, OnceLock};

use super::check::{upload, values};
use super::{Case, Fill, Grad, Op, TraceEntry, Wanted};
use crate::cx::Cx;
use crate::device::Backend;
use crate::error::Result;
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Runs once; returns what it made, which must be held until others have run that should not
/// get its memory.
pub type Run = Box<dyn FnOnce(&Cx) -> Result<Vec<Tensor>>>;

/// Makes what a run uses up.
pub type Ready = Box<dyn Fn(&Cx) -> Result<Run>>;

/// Puts in place what runs share; another number gives other values.
pub type Prepare = Box<dyn Fn(&Cx, u64) -> Result<Ready> + Send + Sync>;

/// A pass of an op, or another piece of work of a training step.
pub struct Work {
    /// `op/case/pass/type`.
    pub name: String,
    /// The op.
    pub op: &'static str,
    /// Its inputs' dimensions.
    pub shape: String,
    /// What must be read and written at least: what is used of each input and saved value, and all
    /// of an output, once; a gradient that is added to something twice.
    pub bytes_floor: u64,
    /// Floating-point operations.
    pub flops: u64,
    /// Gets it ready to run.
    pub prepare: Prepare,
}

/// What is ready to run as often as one likes, since a run uses nothing up.
pub fn repeat(run: impl Fn(&Cx) -> Result<Vec<Tensor>> + Clone + 'static) -> Ready {
    Box::new(move |_| Ok(Box::new(run.clone())))
}

/// The end of a work's name.
pub fn kind(dtype: DType) -> String {
    format!("{dtype:?}").to_lowercase()
}

/// An op, its inputs, and the pass that is run: forward, or backward for some gradients.
#[derive(Clone)]
pub struct BenchCase {
    entry: TraceEntry,
    fills: Vec<Fill>,
    pass: &'static str,
}

/// The passes of one that a tape ran: itself, or one for each gradient of an op such as a
/// convolution.
pub fn of_traced(entry: &TraceEntry) -> Vec<BenchCase> {
    split(entry, &entry.op.fills(&entry.inputs))
}

/// All passes of a case, with values kept in `dtype`.
pub fn of_case<O: Op>(case: Case<O>, dtype: DType) -> Vec<BenchCase> {
    let wanted = |grad| if grad { Wanted::New } else { Wanted::No };
    let forward = TraceEntry {
        op: Arc::new(case.op),
        inputs: case.inputs.iter().map(|i| Meta::new(i.shape, i.dtype(dtype))).collect(),
        gradients: None,
    };
    let gradients = Some(case.inputs.iter().map(|i| wanted(i.grad)).collect());
    let backward = TraceEntry { gradients, ..forward.clone() };
    let fills: Vec<Fill> = case.inputs.iter().map(|i| i.fill).collect();
    [forward, backward].iter().flat_map(|entry| split(entry, &fills)).collect()
}

fn split(entry: &TraceEntry, fills: &[Fill]) -> Vec<BenchCase> {
    let passes = entry.op.passes();
    let one = |pass, gradients: Option<Vec<Wanted>>| BenchCase {
        entry: TraceEntry { gradients, ..entry.clone() },
        fills: fills.to_vec(),
        pass,
    };
    match &entry.gradients {
        None => vec![one(passes.forward, None)],
        Some(all) if passes.gradients.is_empty() => vec![one("backward", Some(all.clone()))],
        Some(all) => {
            let alone = |i: usize| {
                let mut wanted = vec![Wanted::No; all.len()];
                wanted[i] = all[i];
                wanted
            };
            // An op may do without its last input.
            let wanted = |i: usize| all.get(i).is_some_and(|wanted| *wanted != Wanted::No);
            let each = passes.gradients.iter().enumerate().filter(|(i, _)| wanted(*i));
            each.map(|(i, (pass, _))| one(pass, Some(alone(i)))).collect()
        }
    }
}

impl BenchCase {
    /// `op/case/pass/type`; the pass is `… added` where an activation's gradient is added to
    /// that of another use of it.
    pub fn name(&self) -> String {
        let TraceEntry { op, inputs, gradients } = &self.entry;
        let added = gradients.iter().flatten().any(|wanted| *wanted == Wanted::Added);
        let added = if added { " added" } else { "" };
        let kind = kind(inputs[0].dtype);
        format!("{}/{}/{}{added}/{kind}", op.name(), op.label(inputs), self.pass)
    }

    /// The pass as work. Errors where the inputs do not fit the op.
    pub fn work(self) -> Result<Work> {
        let TraceEntry { op, inputs, gradients } = &self.entry;
        let shapes: Vec<String> = inputs.iter().map(|m| m.shape.to_string()).collect();
        let products = match gradients {
            None => 1,
            Some(all) => {
                let each = op.passes().gradients.iter().zip(all);
                each.filter(|((_, reads), w)| reads.is_some() && **w != Wanted::No).count() as u64
            }
        };
        Ok(Work {
            name: self.name(),
            op: op.name(),
            shape: shapes.join(" "),
            bytes_floor: self.bytes_floor()?,
            flops: op.flops(inputs) * products,
            prepare: Box::new(move |cx, seed| self.prepare(cx, seed)),
        })
    }

    fn bytes_floor(&self) -> Result<u64> {
        let TraceEntry { op, inputs, gradients } = &self.entry;
        let (y, used) = (op.infer(inputs)?.size_bytes(), op.used(inputs));
        let bytes = |i: usize| used[i] * inputs[i].dtype.size_bytes();
        let Some(gradients) = gradients else {
            return Ok((y + (0..inputs.len()).map(bytes).sum::<usize>()) as u64);
        };
        let passes = op.passes().gradients;
        let read = if passes.is_empty() {
            self.saved_bytes(&used)?
        } else {
            let wanted = passes.iter().zip(gradients).filter(|(_, w)| **w != Wanted::No);
            wanted.filter_map(|((_, reads), _)| reads.map(bytes)).sum()
        };
        let written = gradients.iter().enumerate().map(|(i, wanted)| match wanted {
            Wanted::No => 0,
            Wanted::New => inputs[i].size_bytes(),
            Wanted::Added => 2 * inputs[i].size_bytes(),
            Wanted::Parameter => 2 * used[i] * inputs[i].dtype.accumulation().size_bytes(),
        });
        Ok((y + read + written.sum::<usize>()) as u64)
    }

    /// Bytes of what forward saves: of an input, as much as is used.
    fn saved_bytes(&self, used: &[usize]) -> Result<usize> {
        let cx = Cx::plan()?;
        let inputs: Vec<Tensor> =
            self.entry.inputs.iter().map(|m| cx.alloc(*m)).collect::<Result<_>>()?;
        let (_, saved) = self.entry.op.forward(&cx, &inputs.iter().collect::<Vec<_>>())?;
        let bytes = |t: &Tensor| {
            let input = inputs.iter().position(|input| input.shares_with(t));
            input.map_or(t.meta().size_bytes(), |i| used[i] * t.dtype().size_bytes())
        };
        Ok(saved.iter().map(bytes).sum())
    }

    fn prepare(&self, cx: &Cx, seed: u64) -> Result<Ready> {
        let TraceEntry { op, inputs, gradients } = self.entry.clone();
        let fill = |(i, meta): (usize, &Meta)| {
            random(cx, *meta, self.fills[i], seed.wrapping_mul(101) + i as u64)
        };
        let values: Vec<Tensor> = inputs.iter().enumerate().map(fill).collect::<Result<_>>()?;
        let Some(gradients) = gradients else {
            let values = Arc::new(values);
            return Ok(Box::new(move |_| {
                let (op, values) = (op.clone(), values.clone());
                Ok(Box::new(move |cx| {
                    let (y, mut saved) = op.forward(cx, &values.iter().collect::<Vec<_>>())?;
                    saved.push(y);
                    Ok(saved)
                }))
            }));
        };
        let (y, saved) = op.forward(cx, &values.iter().collect::<Vec<_>>())?;
        let gy = random(cx, y.meta(), Fill::Normal, seed.wrapping_mul(101) + 100)?;
        Ok(Box::new(move |cx| {
            let slot = |(i, wanted): (usize, &Wanted)| {
                let there = |dtype| cx.zeros(inputs[i].shape, dtype).map(|t| Grad::wanted(Some(t)));
                match wanted {
                    Wanted::No => Ok(Grad::unwanted()),
                    Wanted::New => Ok(Grad::wanted(None)),
                    Wanted::Added => there(inputs[i].dtype),
                    Wanted::Parameter => there(inputs[i].dtype.accumulation()),
                }
            };
            let mut slots: Vec<Grad> =
                gradients.iter().enumerate().map(slot).collect::<Result<_>>()?;
            let (op, saved, gy) = (op.clone(), saved.clone(), cx.copy(&gy)?);
            // Alive, as in a step, where others hold them.
            let held = (values.clone(), y.clone());
            Ok(Box::new(move |cx| {
                op.backward(cx, saved, gy, &mut slots)?;
                drop(held);
                Ok(slots.into_iter().filter_map(Grad::into_value).collect())
            }))
        }))
    }
}

/// Normal values that are drawn once.
fn normal() -> &'static [f32] {
    static VALUES: OnceLock<Vec<f32>> = OnceLock::new();
    VALUES.get_or_init(|| values(Shape::vector(2 * STRETCH), Fill::Normal, 0))
}

/// Of large tensors so many values are drawn, and then repeated.
const STRETCH: usize = 1 << 20;

/// A tensor of random values. Another seed gives other ones.
pub fn random(cx: &Cx, meta: Meta, fill: Fill, seed: u64) -> Result<Tensor> {
    let elems = meta.shape.elems();
    if cx.is_plan() {
        return cx.alloc(meta);
    }
    if fill != Fill::Normal {
        return upload(cx, meta, &values(meta.shape, fill, seed));
    }
    let start = seed.wrapping_mul(0x9e37_79b9) as usize % STRETCH;
    let stretch = &normal()[start..start + elems.min(STRETCH)];
    match cx.backend() {
        Backend::Driver(driver) if elems > STRETCH => {
            let first = cx.upload(Shape::vector(STRETCH), meta.dtype, stretch)?;
            let mut all = cx.alloc(meta)?;
            let (to, size) = (all.device_mut(), meta.dtype.size_bytes());
            driver.copy(to, first.device(), STRETCH * size)?;
            let mut done = STRETCH;
            while done < elems {
                let more = done.min(elems - done);
                driver.copy(to.offset(done * size), to, more * size)?;
                done += more;
            }
            Ok(all)
        }
        _ => {
            let values: Vec<f32> = stretch.iter().copied().cycle().take(elems).collect();
            cx.upload(meta.shape, meta.dtype, &values)
        }
    }
}
