//! Algorithm 1: the teacher's moving average, its passes, the students one after the other
//! (forward, then backward, so that only one's activations live at a time), one optimizer step,
//! and the method's state. Which method it is, only [`Method`] knows.

use std::ops::Range;

use super::checkpoint::Checkpoint;
use super::dump::Dump;
use super::health::Scatter;
use super::objective::{At, Embeddings, Objective, Report, Saved, Setup, StepBatch, micro_batches};
use super::plan::blank_batch;
use crate::config::TeacherArch;
use crate::cx::Cx;
use crate::data::Views;
use crate::error::Result;
use crate::nn::{BnMode, Feature, Gradients, Outputs, Params, Supernet};
use crate::ops::index_select;
use crate::optim::{self, Optimizer};
use crate::rng::{Philox, Purpose};
use crate::space::{Arch, Sampler};
use crate::ssl::{self, Method, Moment, Outlook, Recipe, Targets};
use crate::tape::{Tape, Var};
use crate::tensor::{DType, Shape, Tensor};

/// Parts of an iteration, in [`Report::parts`].
pub const MOVING_AVERAGE: &str = "moving average";
/// The teacher's forward passes.
pub const TEACHER: &str = "teacher";
/// Forward and backward passes: one entry a student.
pub const STUDENTS: &str = "students";
/// The gradient's norm, the update, and the end of the method's step.
pub const OPTIMIZER: &str = "optimizer";

/// Self-supervised training of a supernet: everything that it changes, and the settings that
/// decide how.
pub struct Pretrain {
    /// The net.
    pub net: Supernet,
    /// θs.
    pub student: Params,
    /// θt: the parameters that both have.
    pub teacher: Params,
    /// The optimizer and its momentum.
    pub optimizer: Optimizer,
    /// Criterion and its state.
    pub method: Box<dyn Method>,
    pub(super) grads: Gradients,
    views: Vec<Views>,
    sampler: Sampler,
    bn_group: usize,
    accum: usize,
    teacher_arch: TeacherArch,
    seed: u64,
}

/// The inputs of one iteration.
pub struct Step<'a> {
    /// Where the run stands.
    pub at: At,
    /// The students, the maximum first.
    pub archs: &'a [Arch],
    /// The views as the method arranged them, each [N, R, R, 3].
    pub views: &'a [Tensor],
}

impl Step<'_> {
    pub(super) fn moment(&self) -> Moment {
        Moment { step: self.at.step, steps: self.at.steps }
    }

    /// Rows of a batch.
    fn rows(&self) -> usize {
        self.views.first().map_or(0, |view| view.shape().n())
    }
}

/// A student's passes whose results were not looked at yet.
pub(super) struct Done {
    /// The pass, the images of each part, and its share of the loss.
    losses: Vec<(usize, Range<usize>, Tensor)>,
    /// Of each pass and each of its views, the embeddings [N, D], where the criterion reads them.
    z: Vec<Tensor>,
    /// Likewise the predictions.
    p: Vec<Tensor>,
}

impl Pretrain {
    /// As an [`Objective`] of the method that the configuration names.
    pub fn make(cx: &Cx, setup: &Setup) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Self::new(cx, setup)?))
    }

    /// Freshly initialised from the configuration's seed.
    pub fn new(cx: &Cx, setup: &Setup) -> Result<Self> {
        Self::with_recipe(cx, setup, ssl::recipe(setup.config))
    }

    /// The same with a method of the caller's.
    pub fn with_recipe(cx: &Cx, setup: &Setup, recipe: Recipe) -> Result<Self> {
        let Setup { config, space, begin, .. } = *setup;
        let net = Supernet::new(space, Some(&recipe.heads));
        let student = Params::init(cx, net.specs(), config.seed)?.ready(cx)?;
        let settings = config.train.sgd();
        Ok(Self {
            grads: Gradients::zeros(cx, net.specs())?,
            method: (recipe.build)(cx, begin)?,
            teacher: student.copy_first(cx, net.shared().len())?,
            optimizer: Optimizer::new(cx, settings, net.specs())?,
            net,
            student,
            views: recipe.views,
            sampler: Sampler::new(config.sampling.policy, space, config.seed)?,
            bn_group: config.train.bn_group,
            accum: config.train.accum,
            teacher_arch: config.teacher.arch,
            seed: config.seed,
        })
    }

    /// Images of a group of batch statistics.
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

    /// Multiply-accumulates of a step's convolutions for an image: the teacher's passes, and the
    /// students', each of which takes twice as much again for its gradients; the mean over a
    /// hundred draws of students.
    pub fn macs_per_image(&self) -> u64 {
        const DRAWS: u64 = 100;
        let space = self.net.space();
        let macs = |arch: &Arch| space.cost(arch).macs;
        let teacher_passes = self.method.teacher_views().len() as u64;
        let student_passes: usize = self.method.passes().iter().map(|views| views.len()).sum();
        let of_draw = |step: u64| {
            let archs = self.sampler.draw(step);
            let students: u64 = archs.iter().map(macs).sum();
            let teachers = match self.teacher_arch {
                TeacherArch::Max => macs(&space.max()),
                TeacherArch::Same => students,
            };
            teacher_passes * teachers + 3 * student_passes as u64 * students
        };
        (0..DRAWS).map(of_draw).sum::<u64>() / DRAWS
    }

    /// Runs one iteration; see [`Objective::step`].
    pub fn iterate(
        &mut self,
        cx: &Cx,
        s: &Step,
        mut dump: Option<&mut Dump>,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Report> {
        if let Some(dump) = &mut dump {
            dump.before(cx, self, s)?;
        }
        let ema = self.method.ema(s.moment());
        let mut report = Report { ema: Some(ema), archs: s.archs.to_vec(), ..Report::default() };
        report.record(cx, "")?;
        let targets = self.targets(cx, s, ema, &mut report)?;
        if let Some(dump) = &mut dump {
            dump.teacher(cx, &targets[0], self.method.as_ref())?;
        }
        report.record(cx, TEACHER)?;
        let mut students = Vec::with_capacity(s.archs.len());
        for (k, arch) in s.archs.iter().enumerate() {
            let _range = cx.range(&self.range_of(arch));
            let targets = targets.get(k).unwrap_or(&targets[0]);
            students.push(self.student_passes(cx, s, arch, targets)?);
            report.record(cx, STUDENTS)?;
        }
        meanwhile();
        let _range = cx.range("step/optimizer");
        for (k, (student, arch)) in students.iter().zip(s.archs).enumerate() {
            let targets = targets.get(k).unwrap_or(&targets[0]);
            let loss = self.read_loss(cx, s, arch, targets, student)?;
            if let Some(dump) = &mut dump {
                let compared = if student.p.is_empty() { &student.z } else { &student.p };
                dump.student(cx, k, compared, loss)?;
            }
            report.losses.push((arch.to_string(), loss));
        }
        report.loss = report.losses.iter().map(|(_, loss)| loss).sum();
        report.embeddings = self.embeddings(cx, students.first(), &targets[0])?;
        if !cx.is_plan() {
            report.signs = self.method.signs(cx, &targets[0])?;
        }
        drop(students);
        report.grad_norm = optim::grad_norm(cx, &self.grads)?;
        if !report.grad_norm.is_finite() {
            return Err(self.name_bad_gradient(cx, s, &targets)?);
        }
        if let Some(dump) = &mut dump {
            dump.gradients(cx, &self.grads, self.net.specs())?;
        }
        self.method.before_update(cx, s.moment(), &mut self.grads)?;
        self.optimizer.update(cx, &mut self.student, &mut self.grads, s.at.lr)?;
        self.method.finish_step(cx, &targets[0])?;
        report.record(cx, OPTIMIZER)?;
        if let Some(dump) = &mut dump {
            dump.after(cx, self)?;
        }
        Ok(report)
    }

    /// Moves the teacher; then what students are compared with, for all or for each.
    fn targets(
        &mut self,
        cx: &Cx,
        s: &Step,
        ema: f64,
        report: &mut Report,
    ) -> Result<Vec<Targets>> {
        let _range = cx.range("step/teacher");
        optim::ema(cx, &mut self.teacher, &self.student, ema)?;
        report.record(cx, MOVING_AVERAGE)?;
        let own = match self.teacher_arch {
            TeacherArch::Max => 1,
            TeacherArch::Same => s.archs.len(),
        };
        s.archs[..own].iter().map(|arch| self.targets_of(cx, s, arch, false)).collect()
    }

    /// What a student is compared with. With `checking`, fails at the first value of the teacher's
    /// that is not finite.
    pub(super) fn targets_of(
        &self,
        cx: &Cx,
        s: &Step,
        student: &Arch,
        checking: bool,
    ) -> Result<Targets> {
        let arch = match self.teacher_arch {
            TeacherArch::Max => self.net.space().max(),
            TeacherArch::Same => *student,
        };
        let views = self.method.teacher_views().iter().enumerate();
        let pass = |(b, view): (usize, &usize)| {
            self.teacher_pass(cx, s.at.step, b, &s.views[*view], &arch, checking)
        };
        self.method.prepare(cx, views.map(pass).collect::<Result<_>>()?)
    }

    /// The teacher's output for the whole batch, in its `index`th pass. Its images are permuted
    /// before the pass and put back after it (shuffled batch norm), so that an image's group tells
    /// nothing.
    fn teacher_pass(
        &self,
        cx: &Cx,
        step: u64,
        index: usize,
        view: &Tensor,
        arch: &Arch,
        checking: bool,
    ) -> Result<Vec<Tensor>> {
        let n = view.shape().n();
        let mut order: Vec<usize> = (0..n).collect();
        Philox::new(self.seed, Purpose::ShuffleBn, step, index as u16).shuffle(&mut order);
        let back = index_select::inverse(&order);
        let wanted = self.method.reads().teacher;
        let mut micro: Vec<Vec<Tensor>> = wanted.iter().map(|_| Vec::new()).collect();
        for rows in micro_batches(n, self.accum) {
            let micro_images = rows.len();
            let mut tape = Tape::inference(cx);
            if checking {
                tape = tape.checking();
            }
            let x = tape.constant(index_select::rows(cx, view, &order[rows])?);
            let mut norm = BnMode::Batch { group: self.bn_group };
            let mut out = self.net.forward(&mut tape, &self.teacher, x, arch, &mut norm, wanted)?;
            for (list, feature) in micro.iter_mut().zip(wanted) {
                list.push(by_image(out.take(*feature).into_value(), micro_images));
            }
        }
        micro.iter().map(|parts| index_select::rows_of(cx, parts, &back)).collect()
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

    /// One student: each pass forward, loss, backward.
    pub(super) fn student_passes(
        &mut self,
        cx: &Cx,
        s: &Step,
        arch: &Arch,
        targets: &Targets,
    ) -> Result<Done> {
        let n = s.rows();
        let reads = self.method.reads().student;
        let mut done = Done { losses: Vec::new(), z: Vec::new(), p: Vec::new() };
        for (pass, views) in self.method.passes().iter().enumerate() {
            let mut parts: [Vec<Vec<Tensor>>; 2] =
                std::array::from_fn(|_| vec![Vec::new(); views.len()]);
            for rows in micro_batches(n, self.accum) {
                let weight = rows.len() as f64 / n as f64;
                let mut tape = Tape::recording(cx);
                let (loss, out) =
                    self.student_forward(&mut tape, s, arch, targets, pass, rows.clone(), weight)?;
                done.losses.push((pass, rows, loss.value().clone()));
                for (parts, feature) in parts.iter_mut().zip([Feature::Z, Feature::P]) {
                    if reads.contains(&feature) {
                        let values = out.iter().map(|out| out.get(feature).value().clone());
                        parts.iter_mut().zip(values).for_each(|(parts, value)| parts.push(value));
                    }
                }
                drop(out);
                let one = cx.full(loss.value().shape(), DType::F32, 1.0)?;
                tape.backward(loss, one, self.grads.slots())?;
            }
            for (whole, parts) in [&mut done.z, &mut done.p].into_iter().zip(parts) {
                for mut parts in parts.into_iter().filter(|parts| !parts.is_empty()) {
                    whole.push(match parts.len() {
                        1 => parts.remove(0),
                        _ => index_select::rows_of(cx, &parts, &(0..n).collect::<Vec<_>>())?,
                    });
                }
            }
        }
        Ok(done)
    }

    /// A student's loss; an error that names the first value that is not finite where it is not.
    fn read_loss(
        &self,
        cx: &Cx,
        s: &Step,
        arch: &Arch,
        targets: &Targets,
        done: &Done,
    ) -> Result<f64> {
        let mut loss = 0.0;
        for (pass, rows, part) in &done.losses {
            let part = f64::from(cx.download(part)?[0]);
            if !part.is_finite() {
                return Err(self.name_bad_tensor(cx, s, arch, targets, *pass, rows.clone()));
            }
            loss += part;
        }
        Ok(loss)
    }

    /// Some images of a student's pass: the loss, and its outputs for each view of the pass.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn student_forward(
        &self,
        tape: &mut Tape,
        s: &Step,
        arch: &Arch,
        targets: &Targets,
        pass: usize,
        rows: Range<usize>,
        weight: f64,
    ) -> Result<(Var, Vec<Outputs>)> {
        let cx = tape.cx();
        let part = |t: &Tensor| index_select::range(cx, t, &rows);
        let mut out = Vec::new();
        for view in self.method.passes()[pass] {
            let x = tape.constant(part(&s.views[*view])?);
            let mut norm = BnMode::Batch { group: self.bn_group };
            let wanted = self.method.reads().student;
            out.push(self.net.forward(tape, &self.student, x, arch, &mut norm, wanted)?);
        }
        let targets: Targets = targets
            .iter()
            .map(|features| features.iter().map(part).collect::<Result<_>>())
            .collect::<Result<_>>()?;
        Ok((self.method.loss(tape, pass, &out, &targets, weight)?, out))
    }

    /// How embeddings of the first view lie; none while planning, and where the criterion reads
    /// none.
    fn embeddings(
        &self,
        cx: &Cx,
        student: Option<&Done>,
        targets: &Targets,
    ) -> Result<Option<Embeddings>> {
        let Some(z) = student.and_then(|student| student.z.first()) else { return Ok(None) };
        if cx.is_plan() {
            return Ok(None);
        }
        let scatter =
            |z: &Tensor| -> Result<Scatter> { Ok(Scatter::of(&cx.download(z)?, z.shape().c())) };
        let student = scatter(z)?;
        let of_teacher = self.method.reads().teacher.iter().position(|f| *f == Feature::Z);
        let of_teacher = of_teacher.and_then(|i| targets.first()?.get(i));
        // Without a teacher there is the student alone to judge.
        let teacher = of_teacher.map_or(Ok(student), scatter)?;
        Ok(Some(Embeddings { student, teacher }))
    }
}

impl Objective for Pretrain {
    fn views(&self) -> &[Views] {
        &self.views
    }

    fn labels(&self) -> bool {
        false
    }

    fn net(&self) -> &Supernet {
        &self.net
    }

    fn blank_batch(&self, cx: &Cx, n: usize) -> Result<StepBatch> {
        blank_batch(cx, self, n)
    }

    fn params(&self) -> &Params {
        &self.student
    }

    fn start_from(&mut self, cx: &Cx, params: Params) -> Result<()> {
        self.student = params.ready(cx)?;
        self.teacher = self.student.copy_first(cx, self.net.shared().len())?;
        Ok(())
    }

    fn state_elems(&self) -> usize {
        // Student, teacher and momentum; a method's state is its queue of embeddings.
        3 * self.student.elems() + self.method.state_elems()
    }

    fn warm_up_images(&self) -> usize {
        self.method.rows_to_fill()
    }

    /// Fills the method's state with the teacher's outputs of images of its own: a random queue
    /// holds directions that all images flee from together (`moco.queue_fill`).
    fn warm_up(&mut self, cx: &Cx, next: &mut dyn FnMut() -> Result<StepBatch>) -> Result<()> {
        let (mut left, max) = (self.method.rows_to_fill(), self.net.space().max());
        while left > 0 {
            let views = next()?.views;
            let n = views.first().map_or(1, |view| view.shape().n().max(1));
            let at = At { step: 0, steps: 1, lr: 0.0 };
            let step = Step { at, archs: &[], views: &views };
            let targets = self.targets_of(cx, &step, &max, false)?;
            self.method.finish_step(cx, &targets)?;
            left = left.saturating_sub(n);
        }
        Ok(())
    }

    fn step(
        &mut self,
        cx: &Cx,
        at: &At,
        batch: StepBatch,
        dump: Option<&mut Dump>,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Report> {
        let views = self.method.arrange(cx, batch.views)?;
        let archs = self.sampler.draw(at.step);
        self.iterate(cx, &Step { at: *at, archs: &archs, views: &views }, dump, meanwhile)
    }

    fn rehearse(&mut self, cx: &Cx, batch: StepBatch) -> Result<()> {
        let views = self.method.arrange(cx, batch.views)?;
        let archs = [self.net.space().max()];
        let at = At { step: 0, steps: 1, lr: 0.0 };
        self.iterate(cx, &Step { at, archs: &archs, views: &views }, None, &mut || {}).map(drop)
    }

    fn nets(&self) -> usize {
        self.sampler.draw(0).len()
    }

    fn outlook(&self, images: usize) -> Outlook {
        self.method.outlook(images)
    }

    fn state(&self, cx: &Cx) -> Result<Saved> {
        let memory = self.method.state(cx)?;
        let contents = vec![
            ("student", self.student.to_torch(cx)?),
            ("teacher", self.teacher.to_torch(cx)?),
            ("optimizer", self.optimizer.state(cx, self.net.specs())?),
            ("queue", memory.tensors),
        ];
        Ok(Saved { contents, pointers: memory.pointers })
    }

    fn restore(&mut self, cx: &Cx, checkpoint: &Checkpoint) -> Result<()> {
        self.student = checkpoint.student(cx, self.net.specs())?;
        self.teacher = checkpoint.teacher(cx, self.net.shared())?;
        let (optimizer, origin) = checkpoint.named("optimizer")?;
        self.optimizer.restore(cx, self.net.specs(), &optimizer, &origin)?;
        self.method.restore(cx, &checkpoint.tensors("queue")?, &checkpoint.state.pointers())
    }
}

/// A tensor whose first dimension is of images: rows of positions, those of each image together.
pub(crate) fn by_image(t: Tensor, images: usize) -> Tensor {
    let Shape([n, h, w, c]) = t.shape();
    match n == images {
        true => t,
        false => t.reshape(Shape([images, n / images * h, w, c])),
    }
}
