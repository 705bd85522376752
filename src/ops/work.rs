//! Work to be timed or counted: the passes of every op on its [`Op::benches`].

use std::sync::Arc;

use super::check::values;
use super::{Case, Input, Op};
use crate::device::Cx;
use crate::error::Result;
use crate::tape::Grad;
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Feature maps of ResNet-50 on two pictures of 224×224: what passes over memory are counted
/// and timed on.
pub const STEM: Shape = Shape([2, 112, 112, 64]);
/// After the first stage.
pub const STAGE_1: Shape = Shape([2, 56, 56, 256]);
/// After the last stage.
pub const STAGE_4: Shape = Shape([2, 7, 7, 2048]);

/// Runs once, on the context that it was prepared on.
pub type Run = Box<dyn FnOnce(&Cx) -> Result<()>>;

/// Puts everything in place that is not part of the work.
pub type Prepare = Box<dyn Fn(&Cx) -> Result<Run> + Send + Sync>;

/// A pass of an op, or another piece of work of a training step.
pub struct Work {
    /// `op/situation/pass/type`.
    pub name: String,
    /// The op.
    pub op: &'static str,
    /// Its inputs' dimensions.
    pub shape: String,
    /// What must be read and written at least: what is used of each input, saved value and output
    /// once.
    pub bytes_floor: u64,
    /// Floating-point operations.
    pub flops: u64,
    /// Gets it ready to run.
    pub prepare: Prepare,
}

/// Adds both passes of an op's situations, with values kept in `dtype`.
pub fn add_work<O: Op>(all: &mut Vec<Work>, dtype: DType) -> Result<()> {
    for case in O::benches() {
        let case = Arc::new(case);
        let metas: Vec<Meta> =
            case.inputs.iter().map(|i| Meta::new(i.shape, i.dtype(dtype))).collect();
        let y = case.op.infer(&metas)?;
        let used = case.op.used(&metas);
        let shapes: Vec<String> = metas.iter().map(|m| m.shape.to_string()).collect();
        let kind = format!("{dtype:?}").to_lowercase();
        let flops = case.op.flops(&metas);
        let mut add = |pass: &str, bytes_floor, flops, prepare: Prepare| {
            let name = format!("{}/{}/{pass}/{kind}", O::NAME, case.name);
            all.push(Work {
                name,
                op: O::NAME,
                shape: shapes.join(" "),
                bytes_floor,
                flops,
                prepare,
            });
        };
        let this = case.clone();
        let prepare = Box::new(move |cx: &Cx| forward(this.clone(), cx, dtype));
        let read: usize = metas.iter().zip(&used).map(|(m, n)| n * m.dtype.size_bytes()).sum();
        add("forward", (read + y.size_bytes()) as u64, flops, prepare);
        let wanted = case.inputs.iter().zip(&used).filter(|(input, _)| input.grad);
        let written: Vec<usize> =
            wanted.map(|(input, n)| n * input.grad_dtype(dtype).size_bytes()).collect();
        if !written.is_empty() {
            let least = y.size_bytes() + saved_bytes(&case, &used, dtype)?;
            let least = least + written.iter().sum::<usize>();
            let this = case.clone();
            let prepare = Box::new(move |cx: &Cx| backward(this.clone(), cx, dtype));
            // Conv2d's and Linear's: one product for each of input and weight.
            add("backward", least as u64, flops * written.len().min(2) as u64, prepare);
        }
    }
    Ok(())
}

/// Bytes of what forward saves: of an input, as much as is used.
fn saved_bytes<O: Op>(case: &Case<O>, used: &[usize], dtype: DType) -> Result<usize> {
    let cx = Cx::plan()?;
    let inputs = inputs(case, &cx, dtype)?;
    let (_, saved) = case.op.forward(&cx, &inputs.iter().collect::<Vec<_>>())?;
    let bytes = |t: &Tensor| {
        let input = inputs.iter().position(|input| input.shares_with(t));
        input.map_or(t.meta().size_bytes(), |i| used[i] * t.dtype().size_bytes())
    };
    Ok(saved.iter().map(bytes).sum())
}

fn inputs<O: Op>(case: &Case<O>, cx: &Cx, dtype: DType) -> Result<Vec<Tensor>> {
    let one = |(i, input): (usize, &Input)| {
        cx.upload(input.shape, input.dtype(dtype), &values(input.shape, input.fill, i as u64))
    };
    case.inputs.iter().enumerate().map(one).collect()
}

fn forward<O: Op>(case: Arc<Case<O>>, cx: &Cx, dtype: DType) -> Result<Run> {
    let inputs = inputs(&case, cx, dtype)?;
    Ok(Box::new(move |cx| case.op.forward(cx, &inputs.iter().collect::<Vec<_>>()).map(drop)))
}

fn backward<O: Op>(case: Arc<Case<O>>, cx: &Cx, dtype: DType) -> Result<Run> {
    let inputs = inputs(&case, cx, dtype)?;
    let (y, saved) = case.op.forward(cx, &inputs.iter().collect::<Vec<_>>())?;
    let gy = cx.upload(y.shape(), y.dtype(), &values(y.shape(), super::Fill::Normal, 1000))?;
    let slot = |input: &Input| if input.grad { Grad::wanted(None) } else { Grad::unwanted() };
    let mut slots: Vec<Grad> = case.inputs.iter().map(slot).collect();
    Ok(Box::new(move |cx| {
        // Alive, as in a step, where others hold them.
        let _held = (inputs, y);
        case.op.backward(cx, saved, gy, &mut slots)
    }))
}
