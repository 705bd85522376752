//! ReSSL (Zheng et al., 2021): a strongly augmented view must have the relations to a queue of
//! embeddings that the teacher finds for a weakly augmented one. Nothing is a negative.
//!
//! With P the softmax of the teacher's logits and l the student's, the cross-entropy −Σ Pⱼ log softmax(l)ⱼ
//! is log Σⱼ exp(lⱼ) − Σⱼ Pⱼlⱼ, and l is linear in q: Σⱼ Pⱼlⱼ = q·μ/τs with μ = Σⱼ Pⱼnⱼ. μ is made once a
//! step for all students.

use super::queue::{Layout, Queue};
use super::{Begin, Even, Method, Moment, Outlook, Recipe, Sign, Targets, even, meets_itself};
use crate::config::{self, Config, Ressl as Settings};
use crate::cx::Cx;
use crate::error::Result;
use crate::nn::{Feature, Heads, Mlp, Outputs};
use crate::ops::info_nce::InfoNCE;
use crate::ops::queue_mean;
use crate::tape::{Tape, Var};

/// Share of the greatest entropy from which on the teacher's relations tell no images apart.
const EVEN: f64 = 0.99;
/// Entropy below which each image has one relation only.
const SHARP: f64 = 0.01;

/// ReSSL's criterion and queue.
pub struct ReSsl {
    tau_teacher: f64,
    tau_student: f64,
    ema: f64,
    queue: Queue,
}

/// ReSSL as a configuration has it.
pub fn recipe(config: &Config) -> Recipe {
    let (settings, seed) = (config.ressl.clone(), config.seed);
    Recipe {
        views: config.views().into(),
        heads: Heads::projector(Mlp::moco(settings.hidden, settings.dim, settings.head_norm)),
        build: Box::new(move |cx, begin| Ok(Box::new(ReSsl::new(cx, &settings, seed, begin)?))),
    }
}

impl ReSsl {
    /// With a queue of random directions, or a blank one.
    pub fn new(cx: &Cx, settings: &Settings, seed: u64, begin: Begin) -> Result<Self> {
        let Settings { tau_teacher, tau_student, ema, queue: rows, dim, queue_fill: fill, .. } =
            *settings;
        let layout = Layout { name: "queue", rows, dim, fill, number: 0 };
        let queue = Queue::new(cx, layout, seed, begin)?;
        Ok(Self { tau_teacher, tau_student, ema, queue })
    }
}

impl Method for ReSsl {
    fn name(&self) -> &'static str {
        "ressl"
    }

    fn ema(&self, _at: Moment) -> f64 {
        self.ema
    }

    /// The teacher's embeddings k, μ, and log Σⱼ exp(k·nⱼ/τt).
    fn prepare(&self, cx: &Cx, mut seen: Targets) -> Result<Targets> {
        let (mean, log_sum) =
            queue_mean::mean(cx, &seen[0][0], self.queue.rows(), self.tau_teacher)?;
        seen[0].extend([mean, log_sum]);
        Ok(seen)
    }

    fn loss(
        &self,
        tape: &mut Tape,
        _pass: usize,
        student: &[Outputs],
        targets: &Targets,
        weight: f64,
    ) -> Result<Var> {
        let mean = tape.constant(targets[0][1].clone());
        let queue = tape.constant(self.queue.rows().clone());
        let op = InfoNCE { tau: self.tau_student, weight, own: false };
        tape.apply(op, &[student[0].get(Feature::Z), &mean, &queue])
    }

    fn finish_step(&mut self, cx: &Cx, targets: &Targets) -> Result<()> {
        self.queue.push(cx, &targets[0][0])
    }

    /// The mean entropy of the teacher's relations, log Σⱼ exp(k·nⱼ/τt) − k·μ/τt.
    fn signs(&self, cx: &Cx, targets: &Targets) -> Result<Vec<Sign>> {
        let [k, mean, log_sum] = [0, 1, 2].map(|i| cx.download(&targets[0][i]));
        let (k, mean, log_sum) = (k?, mean?, log_sum?);
        let dot: f64 = k.iter().zip(&mean).map(|(k, m)| f64::from(*k) * f64::from(*m)).sum();
        let sum: f64 = log_sum.iter().map(|x| f64::from(*x)).sum();
        let value = (sum - dot / self.tau_teacher) / log_sum.len().max(1) as f64;
        let most = (self.queue.len() as f64).ln();
        let warning = if value > EVEN * most {
            Some(format!(
                "the teacher relates every image to all others alike (entropy {value:.2} of at most \
                 ln K = {most:.2}): lower ressl.tau_teacher ({})",
                self.tau_teacher
            ))
        } else if value < SHARP {
            Some(format!(
                "the teacher relates every image to one other alone (entropy {value:.4}): raise \
                 ressl.tau_teacher ({})",
                self.tau_teacher
            ))
        } else {
            None
        };
        Ok(vec![Sign { name: "entropy", value, warning }])
    }

    fn outlook(&self, images: usize) -> Outlook {
        let rows = self.queue.len();
        let Even { loss: even_loss, what: even, .. } = even(config::Method::Ressl, rows);
        let mut lines = vec![format!(
            "spread (1: images lie apart, 0: one point) and rank (directions in use) of the embeddings \
             show whether it learns, and the entropy of the teacher's relations, at most ln(queue) = \
             {even_loss:.2}; the loss does not: it is never below that entropy, which training changes"
        )];
        lines.extend(meets_itself("ressl", rows, images));
        Outlook { even_loss, even, lines }
    }

    fn constants(&self) -> Vec<(&'static str, f64)> {
        vec![("tau_teacher", self.tau_teacher), ("tau_student", self.tau_student)]
    }

    fn queues(&self) -> Vec<&Queue> {
        vec![&self.queue]
    }

    fn queues_mut(&mut self) -> Vec<&mut Queue> {
        vec![&mut self.queue]
    }
}
