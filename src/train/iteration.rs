//! One iteration of Algorithm 1: the teacher's moving average, one teacher pass, the students
//! one after the other (forward, then backward, so that only one's activations live at a
//! time), one optimizer step, one push of the queue.

use std::ops::Range;

use super::dump::Dump;
use super::health::Scatter;
use crate::config::{Config, TeacherArch};
use crate::device::{Cx, Mark};
use crate::error::Result;
use crate::nn::{Feature, Gradients, Norm, Outputs, Params, Supernet};
use crate::ops::gather;
use crate::optim::{self, Sgd};
use crate::rng::{Philox, Purpose};
use crate::space::{Arch, Space};
use crate::ssl::{self, Method};
use crate::tape::Tape;
use crate::tensor::{DType, Tensor};

/// Everything that training changes, and the settings that decide how.
pub struct Iteration {
    /// The net.
    pub net: Supernet,
    /// θs.
    pub student: Params,
    /// θt.
    pub teacher: Params,
    /// The optimizer's velocity.
    pub velocity: Vec<Tensor>,
    /// Criterion and queue.
    pub method: Box<dyn Method>,
    pub(super) grads: Gradients,
    sgd: Sgd,
    bn_group: usize,
    accum: usize,
    teacher_arch: TeacherArch,
    seed: u64,
}

/// The variable inputs of one iteration.
pub struct Step<'a> {
    /// Index of the step, from 0.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Learning rate.
    pub lr: f64,
    /// The students, the maximum first.
    pub archs: &'a [Arch],
    /// The students' view [N, R, R, 3].
    pub student_view: &'a Tensor,
    /// The teacher's view of the same pictures.
    pub teacher_view: &'a Tensor,
}

/// What one iteration found.
#[derive(Default)]
pub struct Report {
    /// Sum of the students' losses.
    pub loss: f64,
    /// Loss of each student.
    pub losses: Vec<f64>,
    /// Norm of the summed gradient, before weight decay.
    pub grad_norm: f64,
    /// How the first student's embeddings lie.
    pub student: Scatter,
    /// How the teacher's lie.
    pub teacher: Scatter,
    /// Moving-average momentum of the teacher.
    pub ema: f64,
    /// Between which its parts ran.
    marks: Vec<Mark>,
}

/// Milliseconds of the parts of an iteration, of the device's time.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Moving average and forward pass of the teacher.
    pub teacher_ms: f64,
    /// The moving average alone.
    pub ema_ms: f64,
    /// Forward and backward of each student.
    pub student_ms: Vec<f64>,
    /// Gradient norm, update, and push of the queue.
    pub optimizer_ms: f64,
}

impl Report {
    /// Where the time went. Waits until the iteration is done.
    pub fn parts(&self, cx: &Cx) -> Result<Parts> {
        let between = |pair: &[Mark]| cx.ms_between(&pair[0], &pair[1]);
        let mut ms = self.marks.windows(2).map(between).collect::<Result<Vec<f64>>>()?;
        let (ema_ms, forward_ms) = (ms.remove(0), ms.remove(0));
        let optimizer_ms = ms.pop().unwrap_or_default();
        Ok(Parts { teacher_ms: ema_ms + forward_ms, ema_ms, student_ms: ms, optimizer_ms })
    }
}

/// A student's pass whose results were not looked at yet.
pub(super) struct Pass {
    /// The pictures of each part, and its share of the loss.
    losses: Vec<(Range<usize>, Tensor)>,
    /// The embeddings [N, D].
    z: Tensor,
}

impl Iteration {
    /// Freshly initialised from the configuration's seed.
    pub fn new(cx: &Cx, config: &Config, space: &Space) -> Result<Self> {
        Self::with_method(cx, config, space, ssl::build)
    }

    /// The same, but that the method has a state of zeros: for timing alone.
    pub fn blank(cx: &Cx, config: &Config, space: &Space) -> Result<Self> {
        Self::with_method(cx, config, space, ssl::build_blank)
    }

    fn with_method(
        cx: &Cx,
        config: &Config,
        space: &Space,
        method: impl FnOnce(&Cx, &Config) -> Result<Box<dyn Method>>,
    ) -> Result<Self> {
        let net = Supernet::new(space, Some(&ssl::head(config)));
        let student = Params::init(cx, net.specs(), config.seed)?.ready(cx)?;
        let teacher = student.copy(cx)?;
        let zero = |t: &Tensor| cx.zeros(t.shape(), DType::F32);
        let velocity = student.values().iter().map(zero).collect::<Result<_>>()?;
        Ok(Self {
            grads: Gradients::zeros(cx, net.specs())?,
            method: method(cx, config)?,
            net,
            student,
            teacher,
            velocity,
            sgd: Sgd {
                momentum: config.train.momentum,
                weight_decay: config.train.weight_decay,
                decay_exempt: config.train.decay_exempt,
            },
            bn_group: config.train.bn_group,
            accum: config.train.accum,
            teacher_arch: config.teacher.arch,
            seed: config.seed,
        })
    }

    /// The optimizer's settings.
    pub fn sgd(&self) -> &Sgd {
        &self.sgd
    }

    /// Pictures of a group of batch statistics.
    pub fn bn_group(&self) -> usize {
        self.bn_group
    }

    /// Parts that a batch is worked off in.
    pub fn accum(&self) -> usize {
        self.accum
    }

    /// Seed of the permutation of the teacher's batch.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Runs the iteration. With `dump`, keeps what an outsider needs to replay it.
    ///
    /// On a device everything up to the gradients is queued without waiting; `meanwhile` is
    /// called while that is computed. Then losses and the gradient's norm are read, once, and the
    /// update is queued only where they are finite.
    pub fn run(
        &mut self,
        cx: &Cx,
        s: &Step,
        mut dump: Option<&mut Dump>,
        meanwhile: impl FnOnce(),
    ) -> Result<Report> {
        if let Some(dump) = &mut dump {
            dump.before(cx, self, s)?;
        }
        let mut report = Report { ema: self.method.ema(s.step, s.steps), ..Report::default() };
        report.marks.push(cx.mark()?);
        let targets = self.targets(cx, s, &mut report)?;
        if let Some(dump) = &mut dump {
            dump.teacher(cx, &targets[0], self.method.as_ref())?;
        }
        report.marks.push(cx.mark()?);
        let mut passes = Vec::with_capacity(s.archs.len());
        for (k, arch) in s.archs.iter().enumerate() {
            let _range = cx.range(&self.range_of(arch));
            let target = targets.get(k).unwrap_or(&targets[0]);
            passes.push(self.student_pass(cx, s, arch, target)?);
            report.marks.push(cx.mark()?);
        }
        meanwhile();
        let _range = cx.range("step/optimizer");
        for (k, pass) in passes.iter().enumerate() {
            let target = targets.get(k).unwrap_or(&targets[0]);
            let loss = self.read_loss(cx, s, &s.archs[k], target, pass)?;
            if let Some(dump) = &mut dump {
                dump.student(cx, k, &pass.z, loss)?;
            }
            report.losses.push(loss);
        }
        report.loss = report.losses.iter().sum();
        if let Some(pass) = passes.first() {
            report.student = scatter(cx, &pass.z)?;
        }
        let z = self.method.wanted().iter().position(|feature| *feature == Feature::Z);
        if let Some(z) = z.and_then(|i| targets[0].get(i)) {
            report.teacher = scatter(cx, z)?;
        }
        drop(passes);
        report.grad_norm = optim::grad_norm(cx, &self.grads)?;
        if !report.grad_norm.is_finite() {
            return Err(self.name_bad_gradient(cx, s, &targets)?);
        }
        if let Some(dump) = &mut dump {
            dump.gradients(cx, &self.grads, self.net.specs())?;
        }
        self.sgd.step(cx, &mut self.student, &mut self.grads, &mut self.velocity, s.lr)?;
        self.method.finish_step(cx, &targets[0])?;
        report.marks.push(cx.mark()?);
        if let Some(dump) = &mut dump {
            dump.after(cx, self)?;
        }
        Ok(report)
    }

    /// Moves the teacher; then its output, for all students or for each.
    fn targets(&mut self, cx: &Cx, s: &Step, report: &mut Report) -> Result<Vec<Vec<Tensor>>> {
        let _range = cx.range("step/teacher");
        optim::ema(cx, &mut self.teacher, &self.student, report.ema)?;
        report.marks.push(cx.mark()?);
        let own = match self.teacher_arch {
            TeacherArch::Max => 1,
            TeacherArch::Same => s.archs.len(),
        };
        s.archs[..own].iter().map(|arch| self.teacher_pass(cx, s, arch, false)).collect()
    }

    /// Fills the method's state with the teacher's outputs of images of its own before the first
    /// step: the views that `next` gives, until there are rows enough. MoCo's random queue holds
    /// directions that all images flee from together (`moco.queue_fill`).
    pub fn fill(&mut self, cx: &Cx, mut next: impl FnMut() -> Result<Tensor>) -> Result<()> {
        let (mut left, max) = (self.method.rows_to_fill(), self.net.space().max());
        while left > 0 {
            let view = next()?;
            let n = view.shape().n().max(1);
            let step = Step {
                step: 0,
                steps: 1,
                lr: 0.0,
                archs: &[],
                student_view: &view,
                teacher_view: &view,
            };
            let target = self.teacher_pass(cx, &step, &max, false)?;
            self.method.finish_step(cx, &target)?;
            left = left.saturating_sub(n);
        }
        Ok(())
    }

    /// A student's name on a profiler's time line.
    fn range_of(&self, arch: &Arch) -> String {
        let space = self.net.space();
        if *arch == space.max() {
            "step/max".into()
        } else if *arch == space.min() {
            "step/min".into()
        } else {
            format!("step/{arch}")
        }
    }

    /// The teacher's output for the whole batch. Its pictures are permuted before the pass and
    /// put back after it (shuffled batch norm), so that a picture's group tells nothing.
    /// With `checking`, fails at the first value that is not finite.
    pub(super) fn teacher_pass(
        &self,
        cx: &Cx,
        s: &Step,
        student: &Arch,
        checking: bool,
    ) -> Result<Vec<Tensor>> {
        let arch = match self.teacher_arch {
            TeacherArch::Max => self.net.space().max(),
            TeacherArch::Same => *student,
        };
        let n = s.teacher_view.shape().n();
        let mut order: Vec<usize> = (0..n).collect();
        Philox::new(self.seed, Purpose::ShuffleBn, s.step, 0).shuffle(&mut order);
        let back = gather::inverse(&order);
        let wanted = self.method.wanted();
        let mut micro: Vec<Vec<Tensor>> = wanted.iter().map(|_| Vec::new()).collect();
        for rows in micro_batches(n, self.accum) {
            let mut tape = Tape::inference(cx);
            if checking {
                tape = tape.checking();
            }
            let x = tape.constant(gather::rows(cx, s.teacher_view, &order[rows])?);
            let mut norm = Norm::Batch { group: self.bn_group };
            let mut out =
                self.net.forward(&mut tape, &self.teacher, x, &arch, &mut norm, wanted)?;
            for (list, feature) in micro.iter_mut().zip(wanted) {
                list.push(out.take(*feature).into_value());
            }
        }
        micro.iter().map(|parts| gather::rows_of(cx, parts, &back)).collect()
    }

    /// One student: forward, loss, backward.
    pub(super) fn student_pass(
        &mut self,
        cx: &Cx,
        s: &Step,
        arch: &Arch,
        target: &[Tensor],
    ) -> Result<Pass> {
        let n = s.student_view.shape().n();
        let (mut losses, mut embeddings) = (Vec::new(), Vec::new());
        for rows in micro_batches(n, self.accum) {
            let weight = rows.len() as f64 / n as f64;
            let mut tape = Tape::recording(cx);
            let (loss, out) =
                self.student_forward(&mut tape, s, arch, target, rows.clone(), weight)?;
            losses.push((rows, loss.value().clone()));
            embeddings.push(out.get(Feature::Z).value().clone());
            drop(out);
            let one = cx.full(loss.value().shape(), DType::F32, 1.0)?;
            tape.backward(loss, one, &mut self.grads.0)?;
        }
        let all: Vec<usize> = (0..n).collect();
        let z = match embeddings.len() {
            1 => embeddings.remove(0),
            _ => gather::rows_of(cx, &embeddings, &all)?,
        };
        Ok(Pass { losses, z })
    }

    /// A student's loss; an error that names the first value that is not finite where it is not.
    fn read_loss(
        &self,
        cx: &Cx,
        s: &Step,
        arch: &Arch,
        target: &[Tensor],
        pass: &Pass,
    ) -> Result<f64> {
        let mut loss = 0.0;
        for (rows, part) in &pass.losses {
            let part = f64::from(cx.download(part)?[0]);
            if !part.is_finite() {
                return Err(self.name_bad_tensor(cx, s, arch, target, rows.clone()));
            }
            loss += part;
        }
        Ok(loss)
    }

    pub(super) fn student_forward(
        &self,
        tape: &mut Tape,
        s: &Step,
        arch: &Arch,
        target: &[Tensor],
        rows: Range<usize>,
        weight: f64,
    ) -> Result<(crate::tape::Var, Outputs)> {
        let cx = tape.cx();
        let part = |t: &Tensor| -> Result<Tensor> {
            if rows.len() == t.shape().n() {
                return Ok(t.clone());
            }
            gather::rows(cx, t, &rows.clone().collect::<Vec<_>>())
        };
        let x = tape.constant(part(s.student_view)?);
        let target = target.iter().map(part).collect::<Result<Vec<_>>>()?;
        let mut norm = Norm::Batch { group: self.bn_group };
        let wanted = self.method.wanted();
        let out = self.net.forward(tape, &self.student, x, arch, &mut norm, wanted)?;
        Ok((self.method.loss(tape, &out, &target, weight)?, out))
    }
}

/// Splits a batch into `accum` parts of nearly equal size.
fn micro_batches(n: usize, accum: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = accum.clamp(1, n.max(1));
    (0..parts).map(move |i| i * n / parts..(i + 1) * n / parts)
}

/// How embeddings [N, D] lie; nothing while planning.
fn scatter(cx: &Cx, z: &Tensor) -> Result<Scatter> {
    match cx.is_plan() {
        true => Ok(Scatter::default()),
        false => Ok(Scatter::of(&cx.download(z)?, z.shape().c())),
    }
}
