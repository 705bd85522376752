//! MoCo v2 (Chen et al., 2020): a student's embedding of one view must find the teacher's
//! embedding of the other among a queue of the teacher's earlier ones, by InfoNCE.

use std::collections::BTreeMap;

use super::{Begin, Memory, Method, Moment, Outlook, Reads, Recipe, Targets};
use crate::config::{Config, Moco as Settings, QueueFill};
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::files::Named;
use crate::nn::{Feature, Heads, Mlp, Outputs};
use crate::ops::info_nce::InfoNCE;
use crate::ops::{index_select, queue_push};
use crate::rng::{Philox, Purpose};
use crate::tape::{Tape, Var};
use crate::tensor::{Shape, Tensor};

/// Name of the queue in checkpoints.
const QUEUE: &str = "queue";

/// MoCo v2's criterion and queue.
pub struct Moco {
    tau: f64,
    ema: f64,
    fill: QueueFill,
    symmetric: bool,
    /// Negatives [K, D], rows of unit length, of the embeddings' type.
    queue: Tensor,
    /// Row that is overwritten next.
    pointer: usize,
}

/// MoCo v2 as a configuration has it.
pub fn recipe(config: &Config) -> Recipe {
    let (settings, seed) = (config.moco.clone(), config.seed);
    Recipe {
        views: config.views.pair().into(),
        heads: Heads::projector(Mlp::moco(settings.hidden, settings.dim, settings.head_norm)),
        build: Box::new(move |cx, begin| Ok(Box::new(Moco::new(cx, &settings, seed, begin)?))),
    }
}

impl Moco {
    /// With a queue of random directions, or a blank one.
    pub fn new(cx: &Cx, settings: &Settings, seed: u64, begin: Begin) -> Result<Self> {
        let shape = Shape::matrix(settings.queue, settings.dim);
        let queue = match begin {
            Begin::Seeded if !cx.is_plan() => {
                let drawn = random_directions(seed, settings.queue, settings.dim);
                cx.upload(shape, cx.dtype(), &drawn)?
            }
            _ => cx.zeros(shape, cx.dtype())?,
        };
        Ok(Self::with(settings, queue))
    }

    fn with(settings: &Settings, queue: Tensor) -> Self {
        let Settings { tau, ema, queue_fill: fill, symmetric, .. } = *settings;
        Self { tau, ema, fill, symmetric, queue, pointer: 0 }
    }

    /// The negatives [K, D].
    pub fn queue(&self) -> &Tensor {
        &self.queue
    }
}

/// Rows of unit length, uniform over directions.
fn random_directions(seed: u64, rows: usize, dim: usize) -> Vec<f32> {
    let mut rng = Philox::new(seed, Purpose::Queue, 0, 0);
    let mut values: Vec<f32> = (0..rows * dim).map(|_| rng.normal()).collect();
    for row in values.chunks_exact_mut(dim) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
        row.iter_mut().for_each(|x| *x /= norm);
    }
    values
}

impl Method for Moco {
    fn name(&self) -> &'static str {
        "moco"
    }

    /// Symmetric: both views one after the other for the students, and in the other order for the
    /// teacher, [2N, R, R, 3], so that every view is once the student's and once the teacher's.
    fn arrange(&self, cx: &Cx, views: Vec<Tensor>) -> Result<Vec<Tensor>> {
        if !self.symmetric {
            return Ok(views);
        }
        let n = views[0].shape().n();
        let both: Vec<usize> = (0..2 * n).collect();
        let swapped: Vec<usize> = (n..2 * n).chain(0..n).collect();
        Ok(vec![
            index_select::rows_of(cx, &views, &both)?,
            index_select::rows_of(cx, &views, &swapped)?,
        ])
    }

    fn teacher_views(&self) -> &'static [usize] {
        &[1]
    }

    fn passes(&self) -> &'static [&'static [usize]] {
        &[&[0]]
    }

    fn reads(&self) -> Reads {
        Reads { student: &[Feature::Z], teacher: &[Feature::Z] }
    }

    fn ema(&self, _at: Moment) -> f64 {
        self.ema
    }

    fn rows_to_fill(&self) -> usize {
        match self.fill {
            QueueFill::Teacher => self.queue.shape().n(),
            QueueFill::Random => 0,
        }
    }

    fn loss(
        &self,
        tape: &mut Tape,
        _pass: usize,
        student: &[Outputs],
        targets: &Targets,
        weight: f64,
    ) -> Result<Var> {
        let key = tape.constant(targets[0][0].clone());
        let queue = tape.constant(self.queue.clone());
        let op = InfoNCE { tau: self.tau, weight, own: true };
        tape.apply(op, &[student[0].get(Feature::Z), &key, &queue])
    }

    fn finish_step(&mut self, cx: &Cx, targets: &Targets) -> Result<()> {
        self.pointer = queue_push::push(cx, &mut self.queue, self.pointer, &targets[0][0])?;
        Ok(())
    }

    fn outlook(&self, images: usize) -> Outlook {
        let rows = self.queue.shape().n();
        let even_loss = ((1 + rows) as f64).ln();
        let mut lines = vec![format!(
            "spread (1: images lie apart, 0: one point) and rank (directions in use) of the \
             embeddings show whether it learns; the loss does not: equal embeddings have \
             ln(1+queue) = {even_loss:.2} a student, nets that learn can have more and nets that do \
             not can have less"
        )];
        if rows >= images {
            lines.push(format!(
                "warning: the queue ({rows}) is not smaller than the data set ({images}): an image \
                 meets itself among its negatives; lower moco.queue"
            ));
        }
        Outlook { even_loss, even: "equal embeddings", lines }
    }

    fn constants(&self) -> Vec<(&'static str, f64)> {
        vec![("tau", self.tau)]
    }

    fn state_elems(&self) -> usize {
        self.queue.shape().elems()
    }

    fn state(&self, cx: &Cx) -> Result<Memory> {
        let shape = self.queue.shape();
        let queue = (QUEUE.to_owned(), vec![shape.n(), shape.c()], cx.download(&self.queue)?);
        let pointers = BTreeMap::from([(QUEUE.to_owned(), self.pointer as u64)]);
        Ok(Memory { tensors: vec![queue], pointers })
    }

    fn restore(
        &mut self,
        cx: &Cx,
        tensors: &Named,
        pointers: &BTreeMap<String, u64>,
    ) -> Result<()> {
        let shape = self.queue.shape();
        match tensors.get(QUEUE) {
            Some((dims, values)) if *dims == [shape.n(), shape.c()] => {
                self.queue = cx.upload(shape, cx.dtype(), values)?;
                let pointer = pointers.get(QUEUE).copied().unwrap_or(0);
                self.pointer = pointer as usize % shape.n();
                Ok(())
            }
            found => Err(Error::data(format!(
                "the checkpoint's queue has dimensions {:?}, expected [{}, {}]",
                found.map(|f| &f.0),
                shape.n(),
                shape.c()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn the_queue_wraps_around() {
        let cx = Cx::for_tests();
        let tiny = crate::config::Config::for_preset("tiny").unwrap().moco;
        let settings = Settings { queue: 5, dim: 2, hidden: 4, ..tiny };
        let mut moco = Moco::new(&cx, &settings, 0, Begin::Seeded).unwrap();
        for step in 0..2 {
            let keys: Vec<f32> = (0..6).map(|i| (step * 10 + i) as f32).collect();
            let keys = cx.upload(Shape::matrix(3, 2), DType::F32, &keys).unwrap();
            moco.finish_step(&cx, &vec![vec![keys]]).unwrap();
        }
        let Memory { tensors, pointers } = moco.state(&cx).unwrap();
        assert_eq!(pointers[QUEUE], 1);
        assert_eq!(tensors[0].2, [14.0, 15.0, 2.0, 3.0, 4.0, 5.0, 10.0, 11.0, 12.0, 13.0]);
        let named = tensors.into_iter().map(|(n, s, v)| (n, (s, v))).collect();
        let mut other = Moco::new(&cx, &settings, 9, Begin::Seeded).unwrap();
        other.restore(&cx, &named, &pointers).unwrap();
        assert_eq!(other.state(&cx).unwrap(), moco.state(&cx).unwrap());
    }
}
