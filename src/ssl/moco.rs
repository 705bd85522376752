//! MoCo v2 (Chen et al., 2020): a student's embedding of one view must find the teacher's
//! embedding of the other among a queue of the teacher's earlier ones, by InfoNCE.

use super::queue::{Layout, Queue};
use super::{Begin, Even, Method, Moment, Outlook, Recipe, Targets, even, meets_itself};
use crate::config::{self, Config, Moco as Settings};
use crate::cx::Cx;
use crate::error::Result;
use crate::nn::{Feature, Heads, Mlp, Outputs};
use crate::ops::index_select;
use crate::ops::info_nce::InfoNCE;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// MoCo v2's criterion and queue.
pub struct Moco {
    tau: f64,
    ema: f64,
    symmetric: bool,
    /// Negatives.
    queue: Queue,
}

/// MoCo v2 as a configuration has it.
pub fn recipe(config: &Config) -> Recipe {
    let (settings, seed) = (config.moco.clone(), config.seed);
    Recipe {
        views: config.views().into(),
        heads: Heads::projector(Mlp::moco(settings.hidden, settings.dim, settings.head_norm)),
        build: Box::new(move |cx, begin| Ok(Box::new(Moco::new(cx, &settings, seed, begin)?))),
    }
}

impl Moco {
    /// With a queue of random directions, or a blank one.
    pub fn new(cx: &Cx, settings: &Settings, seed: u64, begin: Begin) -> Result<Self> {
        let Settings { tau, ema, symmetric, queue: rows, dim, queue_fill: fill, .. } = *settings;
        let layout = Layout { name: "queue", rows, dim, fill, number: 0 };
        Ok(Self { tau, ema, symmetric, queue: Queue::new(cx, layout, seed, begin)? })
    }
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

    fn ema(&self, _at: Moment) -> f64 {
        self.ema
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
        let queue = tape.constant(self.queue.rows().clone());
        let op = InfoNCE { tau: self.tau, weight, own: true };
        tape.apply(op, &[student[0].get(Feature::Z), &key, &queue])
    }

    fn finish_step(&mut self, cx: &Cx, targets: &Targets) -> Result<()> {
        self.queue.push(cx, &targets[0][0])
    }

    fn outlook(&self, images: usize) -> Outlook {
        let rows = self.queue.len();
        let Even { loss: even_loss, what: even, .. } = even(config::Method::Moco, rows);
        let mut lines = vec![format!(
            "spread (1: images lie apart, 0: one point) and rank (directions in use) of the \
             embeddings show whether it learns; the loss does not: equal embeddings have \
             ln(1+queue) = {even_loss:.2} a student, nets that learn can have more and nets that do \
             not can have less"
        )];
        lines.extend(meets_itself("moco", rows, images));
        Outlook { even_loss, even, lines }
    }

    fn constants(&self) -> Vec<(&'static str, f64)> {
        vec![("tau", self.tau)]
    }

    fn queues(&self) -> Vec<&Queue> {
        vec![&self.queue]
    }

    fn queues_mut(&mut self) -> Vec<&mut Queue> {
        vec![&mut self.queue]
    }
}
