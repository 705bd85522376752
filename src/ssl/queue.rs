//! Teacher embeddings of earlier images, the oldest of which make room for new ones.

use std::collections::BTreeMap;

use super::{Begin, Memory};
use crate::config::QueueFill;
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::files::Named;
use crate::ops::queue_push;
use crate::rng::{Philox, Purpose};
use crate::tensor::{Shape, Tensor};

/// A queue and the row that is overwritten next.
pub struct Queue {
    /// Its name in checkpoints and dumps.
    name: &'static str,
    fill: QueueFill,
    /// [K, D], rows of unit length, of the embeddings' type.
    rows: Tensor,
    pointer: usize,
}

/// What a queue is to be.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Its name in checkpoints and dumps.
    pub name: &'static str,
    /// Rows K.
    pub rows: usize,
    /// Numbers D of a row.
    pub dim: usize,
    /// What it holds before the first step.
    pub fill: QueueFill,
    /// Its number among the queues of a method, for draws of its own.
    pub number: u64,
}

impl Queue {
    /// With random directions, or blank.
    pub fn new(cx: &Cx, layout: Layout, seed: u64, begin: Begin) -> Result<Self> {
        let Layout { name, rows, dim, fill, number } = layout;
        let shape = Shape::matrix(rows, dim);
        let rows = match begin {
            Begin::Seeded if !cx.is_plan() => {
                cx.upload(shape, cx.dtype(), &random_directions(seed, number, rows, dim))?
            }
            _ => cx.zeros(shape, cx.dtype())?,
        };
        Ok(Self { name, fill, rows, pointer: 0 })
    }

    /// Its rows [K, D].
    pub fn rows(&self) -> &Tensor {
        &self.rows
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.shape().n()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers that it holds.
    pub fn elems(&self) -> usize {
        self.rows.shape().elems()
    }

    /// Rows that embeddings of seeded images are to fill before the first step.
    pub fn rows_to_fill(&self) -> usize {
        match self.fill {
            QueueFill::Teacher => self.len(),
            QueueFill::Random => 0,
        }
    }

    /// Overwrites the oldest rows with `keys` [N, D].
    pub fn push(&mut self, cx: &Cx, keys: &Tensor) -> Result<()> {
        self.pointer = queue_push::push(cx, &mut self.rows, self.pointer, keys)?;
        Ok(())
    }

    /// Adds what checkpoints keep of it.
    pub fn save(&self, cx: &Cx, memory: &mut Memory) -> Result<()> {
        let shape = self.rows.shape();
        let dims = vec![shape.n(), shape.c()];
        memory.tensors.push((self.name.to_owned(), dims, cx.download(&self.rows)?));
        memory.pointers.insert(self.name.to_owned(), self.pointer as u64);
        Ok(())
    }

    /// Takes up what [`Queue::save`] gave.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where it is missing or of other dimensions.
    pub fn restore(
        &mut self,
        cx: &Cx,
        tensors: &Named,
        pointers: &BTreeMap<String, u64>,
    ) -> Result<()> {
        let (name, shape) = (self.name, self.rows.shape());
        match tensors.get(name) {
            Some((dims, values)) if *dims == [shape.n(), shape.c()] => {
                self.rows = cx.upload(shape, cx.dtype(), values)?;
                let pointer = pointers.get(name).copied().unwrap_or(0);
                self.pointer = pointer as usize % shape.n();
                Ok(())
            }
            found => Err(Error::data(format!(
                "the checkpoint's {name} has dimensions {:?}, expected [{}, {}]",
                found.map(|f| &f.0),
                shape.n(),
                shape.c()
            ))),
        }
    }
}

/// Rows of unit length, uniform over directions.
fn random_directions(seed: u64, number: u64, rows: usize, dim: usize) -> Vec<f32> {
    let mut rng = Philox::new(seed, Purpose::Queue, number, 0);
    let mut values: Vec<f32> = (0..rows * dim).map(|_| rng.normal()).collect();
    for row in values.chunks_exact_mut(dim) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
        row.iter_mut().for_each(|x| *x /= norm);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn a_queue_wraps_around() {
        let cx = Cx::for_tests();
        let layout = Layout { name: "queue", rows: 5, dim: 2, fill: QueueFill::Random, number: 0 };
        let mut queue = Queue::new(&cx, layout, 0, Begin::Seeded).unwrap();
        for step in 0..2 {
            let keys: Vec<f32> = (0..6).map(|i| (step * 10 + i) as f32).collect();
            let keys = cx.upload(Shape::matrix(3, 2), DType::F32, &keys).unwrap();
            queue.push(&cx, &keys).unwrap();
        }
        let saved = |queue: &Queue| {
            let mut memory = Memory::default();
            queue.save(&cx, &mut memory).unwrap();
            memory
        };
        let Memory { tensors, pointers } = saved(&queue);
        assert_eq!(pointers["queue"], 1);
        assert_eq!(tensors[0].2, [14.0, 15.0, 2.0, 3.0, 4.0, 5.0, 10.0, 11.0, 12.0, 13.0]);
        let named = tensors.into_iter().map(|(n, s, v)| (n, (s, v))).collect();
        let mut other = Queue::new(&cx, layout, 9, Begin::Seeded).unwrap();
        other.restore(&cx, &named, &pointers).unwrap();
        assert_eq!(saved(&other), saved(&queue));
        let other = Queue::new(&cx, Layout { number: 1, ..layout }, 0, Begin::Seeded).unwrap();
        let first = Queue::new(&cx, layout, 0, Begin::Seeded).unwrap();
        assert!(saved(&other) != saved(&first), "queues of a method begin alike");
    }
}
