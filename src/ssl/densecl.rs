//! DenseCL (Wang et al., 2021): MoCo v2 for images, and the same for positions. A position's positive
//! is the teacher's position whose backbone features are most like its own.

use std::cell::RefCell;
use std::collections::HashSet;

use super::queue::{Layout, Queue};
use super::{Begin, Method, Moco, Moment, Outlook, Reads, Recipe, Sign, Targets};
use crate::config::{Config, DenseLevel, Densecl as Settings, Moco as MocoSettings};
use crate::cx::Cx;
use crate::error::Result;
use crate::nn::{DenseHead, Feature, Heads, Mlp, Outputs};
use crate::ops::add::Add;
use crate::ops::avg_pool::GlobalAvgPool;
use crate::ops::info_nce::InfoNCE;
use crate::ops::l2_normalise::L2Normalise;
use crate::ops::{index_select, matching};
use crate::tape::{Tape, Var};
use crate::tensor::{Shape, Tensor};

/// Share of different matches below which positions tell nothing apart.
const FEW: f64 = 0.05;

/// MoCo's criterion and queue, and those of positions.
pub struct DenseCl {
    moco: Moco,
    /// λ.
    weight: f64,
    tau: f64,
    level: DenseLevel,
    /// Negatives of positions.
    queue: Queue,
    /// What the first student's positions were matched with in the last step.
    matches: RefCell<Option<Tensor>>,
}

/// DenseCL as a configuration has it.
pub fn recipe(config: &Config) -> Recipe {
    let (moco, dense, seed) = (config.moco.clone(), config.densecl.clone(), config.seed);
    let MocoSettings { hidden, dim, head_norm, .. } = moco;
    let stage = match dense.level {
        DenseLevel::C4 => 2,
        DenseLevel::C5 => 3,
    };
    let layers = Mlp::moco(hidden, dim, false);
    Recipe {
        views: config.views().into(),
        heads: Heads {
            dense: Some(DenseHead { stage, layers }),
            ..Heads::projector(Mlp::moco(hidden, dim, head_norm))
        },
        build: Box::new(move |cx, begin| {
            Ok(Box::new(DenseCl::new(cx, &moco, &dense, seed, begin)?))
        }),
    }
}

impl DenseCl {
    /// With queues of random directions, or blank ones.
    pub fn new(
        cx: &Cx,
        moco: &MocoSettings,
        dense: &Settings,
        seed: u64,
        begin: Begin,
    ) -> Result<Self> {
        let MocoSettings { tau, queue: rows, dim, queue_fill: fill, .. } = *moco;
        let layout = Layout { name: "queue_dense", rows, dim, fill, number: 1 };
        Ok(Self {
            moco: Moco::new(cx, moco, seed, begin)?,
            weight: dense.weight,
            tau,
            level: dense.level,
            queue: Queue::new(cx, layout, seed, begin)?,
            matches: RefCell::new(None),
        })
    }

    fn level(&self) -> Feature {
        match self.level {
            DenseLevel::C4 => Feature::C4,
            DenseLevel::C5 => Feature::C5,
        }
    }

    /// λ · mean over positions of InfoNCE against the matched ones of the teacher.
    fn dense_loss(
        &self,
        tape: &mut Tape,
        student: &Outputs,
        targets: &[Tensor],
        weight: f64,
    ) -> Result<Var> {
        let [_, rows, _, map] = targets else { unreachable!("what prepare gives") };
        let cx = tape.cx();
        let matches = matching::nearest(cx, student.get(self.level()).value(), map)?;
        let Shape([n, positions, _, d]) = rows.shape();
        let rows = rows.clone().reshape(Shape::matrix(n * positions, d));
        let keys = index_select::gather(cx, &rows, &matches)?;
        self.matches.borrow_mut().get_or_insert(matches);
        let q = tape.apply(L2Normalise, &[student.get(Feature::Dense)])?;
        let (keys, queue) = (tape.constant(keys), tape.constant(self.queue.rows().clone()));
        let op = InfoNCE { tau: self.tau, weight: self.weight * weight, own: true };
        tape.apply(op, &[&q, &keys, &queue])
    }
}

impl Method for DenseCl {
    fn name(&self) -> &'static str {
        "densecl"
    }

    fn arrange(&self, cx: &Cx, views: Vec<Tensor>) -> Result<Vec<Tensor>> {
        self.moco.arrange(cx, views)
    }

    fn reads(&self) -> Reads {
        const OF_C4: &[Feature] = &[Feature::Z, Feature::Dense, Feature::C4];
        const OF_C5: &[Feature] = &[Feature::Z, Feature::Dense, Feature::C5];
        let all = match self.level {
            DenseLevel::C4 => OF_C4,
            DenseLevel::C5 => OF_C5,
        };
        Reads { student: all, teacher: all }
    }

    fn ema(&self, at: Moment) -> f64 {
        self.moco.ema(at)
    }

    /// Embeddings [N, D]; those of positions [N, P, 1, D], of unit length; their mean over positions
    /// before they have it, then normalised [N, D]; the map that positions are matched by.
    fn prepare(&self, cx: &Cx, mut seen: Targets) -> Result<Targets> {
        let map = seen[0].pop();
        let (dense, z) = (seen[0].pop(), seen[0].pop());
        let (Some(map), Some(dense), Some(z)) = (map, dense, z) else {
            unreachable!("what the teacher is read for")
        };
        let Shape([n, positions, _, d]) = dense.shape();
        let mut tape = Tape::inference(cx);
        let rows = dense.clone().reshape(Shape::matrix(n * positions, d));
        let rows = tape.constant(rows);
        let rows = tape.apply(L2Normalise, &[&rows])?.into_value();
        let dense = tape.constant(dense);
        let mean = tape.apply(GlobalAvgPool, &[&dense])?;
        let mean = tape.apply(L2Normalise, &[&mean])?.into_value();
        Ok(vec![vec![z, rows.reshape(Shape([n, positions, 1, d])), mean, map]])
    }

    fn loss(
        &self,
        tape: &mut Tape,
        pass: usize,
        student: &[Outputs],
        targets: &Targets,
        weight: f64,
    ) -> Result<Var> {
        let images = (1.0 - self.weight) * weight;
        let images = self.moco.loss(tape, pass, student, targets, images)?;
        let positions = self.dense_loss(tape, &student[0], &targets[0], weight)?;
        tape.apply(Add, &[&images, &positions])
    }

    fn finish_step(&mut self, cx: &Cx, targets: &Targets) -> Result<()> {
        self.matches.borrow_mut().take();
        self.moco.finish_step(cx, targets)?;
        self.queue.push(cx, &targets[0][2])
    }

    /// How many different positions of the teacher's the first student's are matched with, over all.
    fn signs(&self, cx: &Cx, _targets: &Targets) -> Result<Vec<Sign>> {
        let matches = self.matches.borrow();
        let Some(matches) = matches.as_ref() else { return Ok(Vec::new()) };
        let found = cx.download_i32(matches)?;
        let different: HashSet<&i32> = found.iter().collect();
        let value = different.len() as f64 / found.len().max(1) as f64;
        let warning = (value < FEW).then(|| {
            format!(
                "{:.0} % of the positions are matched by any: the positions of an image are alike; \
                 densecl.level=c4 has more of them, densecl.weight=0 leaves them out",
                100.0 * value
            )
        });
        Ok(vec![Sign { name: "matches", value, warning }])
    }

    fn outlook(&self, images: usize) -> Outlook {
        self.moco.outlook(images)
    }

    fn constants(&self) -> Vec<(&'static str, f64)> {
        let level = match self.level {
            DenseLevel::C4 => 4.0,
            DenseLevel::C5 => 5.0,
        };
        [self.moco.constants(), vec![("dense_weight", self.weight), ("dense_level", level)]]
            .concat()
    }

    fn queues(&self) -> Vec<&Queue> {
        [self.moco.queues(), vec![&self.queue]].concat()
    }

    fn queues_mut(&mut self) -> Vec<&mut Queue> {
        self.moco.queues_mut().into_iter().chain([&mut self.queue]).collect()
    }
}
