//! MoCo v2 (Chen et al., 2020): a student's embedding of one view must find the teacher's
//! embedding of the other among a queue of the teacher's earlier ones, by InfoNCE.

use super::Method;
use crate::config::{Moco as Settings, QueueFill};
use crate::device::Cx;
use crate::error::{Error, Result};
use crate::files::{Entry, Named};
use crate::nn::{Feature, Outputs};
use crate::ops::info_nce::InfoNCE;
use crate::ops::queue_push;
use crate::rng::{Philox, Purpose};
use crate::tape::{Tape, Var};
use crate::tensor::{Shape, Tensor};

/// MoCo v2's criterion and queue.
pub struct Moco {
    tau: f64,
    ema: f64,
    fill: QueueFill,
    /// Negatives [K, D], rows of unit length, of the embeddings' type.
    queue: Tensor,
    /// Row that is overwritten next.
    pointer: usize,
}

impl Moco {
    /// With a queue of random directions.
    pub fn new(cx: &Cx, settings: &Settings, seed: u64) -> Result<Self> {
        if cx.is_plan() {
            return Self::blank(cx, settings);
        }
        let (rows, dim) = (settings.queue, settings.dim);
        let drawn = random_directions(seed, rows, dim);
        let queue = cx.upload(Shape::matrix(rows, dim), cx.dtype(), &drawn)?;
        Ok(Self::with(settings, queue))
    }

    /// With a queue of zeros, for runs whose losses nobody reads: to draw the largest queues takes
    /// minutes.
    pub fn blank(cx: &Cx, settings: &Settings) -> Result<Self> {
        let queue = cx.zeros(Shape::matrix(settings.queue, settings.dim), cx.dtype())?;
        Ok(Self::with(settings, queue))
    }

    fn with(settings: &Settings, queue: Tensor) -> Self {
        let Settings { tau, ema, queue_fill: fill, .. } = *settings;
        Self { tau, ema, fill, queue, pointer: 0 }
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

    fn wanted(&self) -> &'static [Feature] {
        &[Feature::Z]
    }

    fn ema(&self, _step: u64, _steps: u64) -> f64 {
        self.ema
    }

    fn tau(&self) -> f64 {
        self.tau
    }

    fn chance_loss(&self) -> f64 {
        ((1 + self.queue.shape().n()) as f64).ln()
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
        student: &Outputs,
        target: &[Tensor],
        weight: f64,
    ) -> Result<Var> {
        let (key, queue) = (tape.constant(target[0].clone()), tape.constant(self.queue.clone()));
        let op = InfoNCE { tau: self.tau, weight };
        tape.apply(op, &[student.get(Feature::Z), &key, &queue])
    }

    fn finish_step(&mut self, cx: &Cx, target: &[Tensor]) -> Result<()> {
        self.pointer = queue_push::push(cx, &mut self.queue, self.pointer, &target[0])?;
        Ok(())
    }

    fn state(&self, cx: &Cx) -> Result<(Vec<Entry>, u64)> {
        let shape = self.queue.shape();
        let queue = ("queue".to_owned(), vec![shape.n(), shape.c()], cx.download(&self.queue)?);
        Ok((vec![queue], self.pointer as u64))
    }

    fn restore(&mut self, cx: &Cx, tensors: &Named, pointer: u64) -> Result<()> {
        let shape = self.queue.shape();
        match tensors.get("queue") {
            Some((dims, values)) if *dims == [shape.n(), shape.c()] => {
                self.queue = cx.upload(shape, cx.dtype(), values)?;
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
        let mut moco = Moco::new(&cx, &settings, 0).unwrap();
        for step in 0..2 {
            let keys: Vec<f32> = (0..6).map(|i| (step * 10 + i) as f32).collect();
            let keys = cx.upload(Shape::matrix(3, 2), DType::F32, &keys).unwrap();
            moco.finish_step(&cx, &[keys]).unwrap();
        }
        let (state, pointer) = moco.state(&cx).unwrap();
        assert_eq!(pointer, 1);
        assert_eq!(state[0].2, [14.0, 15.0, 2.0, 3.0, 4.0, 5.0, 10.0, 11.0, 12.0, 13.0]);
        let named = state.into_iter().map(|(n, s, v)| (n, (s, v))).collect();
        let mut other = Moco::new(&cx, &settings, 9).unwrap();
        other.restore(&cx, &named, pointer).unwrap();
        assert_eq!(other.state(&cx).unwrap().0[0].2, moco.state(&cx).unwrap().0[0].2);
    }
}
