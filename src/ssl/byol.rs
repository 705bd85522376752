//! BYOL (Grill et al., 2020): a student predicts the teacher's embedding of the other view, both
//! ways, without negatives. What keeps embeddings apart is the predictor, which only students have,
//! and a teacher that follows slowly.

use std::f64::consts::PI;

use super::{Even, Method, Moment, Outlook, Reads, Recipe, Targets, even};
use crate::config::{self, Byol as Settings, Config};
use crate::cx::Cx;
use crate::error::Result;
use crate::nn::{Feature, Heads, Mlp, Outputs};
use crate::ops::cosine::Cosine;
use crate::tape::{Tape, Var};

/// BYOL's criterion, which has no state.
pub struct Byol {
    /// m₀.
    ema: f64,
}

/// BYOL as a configuration has it.
pub fn recipe(config: &Config) -> Recipe {
    let Settings { ema, dim, hidden } = config.byol;
    let head = Mlp::byol(hidden, dim);
    Recipe {
        views: config.views().into(),
        heads: Heads { predictor: Some(head.clone()), ..Heads::projector(head) },
        build: Box::new(move |_, _| Ok(Box::new(Byol { ema }))),
    }
}

impl Method for Byol {
    fn name(&self) -> &'static str {
        "byol"
    }

    fn teacher_views(&self) -> &'static [usize] {
        &[0, 1]
    }

    fn passes(&self) -> &'static [&'static [usize]] {
        &[&[0], &[1]]
    }

    fn reads(&self) -> Reads {
        Reads { student: &[Feature::Z, Feature::P], teacher: &[Feature::Z] }
    }

    /// m = 1 − (1 − m₀)(1 + cos πs/T)/2 after the update of step s, which here is before the next
    /// step's pass.
    fn ema(&self, at: Moment) -> f64 {
        let done = at.step.saturating_sub(1) as f64 / at.steps.max(1) as f64;
        1.0 - (1.0 - self.ema) * (1.0 + (PI * done).cos()) / 2.0
    }

    fn loss(
        &self,
        tape: &mut Tape,
        pass: usize,
        student: &[Outputs],
        targets: &Targets,
        weight: f64,
    ) -> Result<Var> {
        let other = tape.constant(targets[1 - pass][0].clone());
        tape.apply(Cosine { weight }, &[student[0].get(Feature::P), &other])
    }

    fn finish_step(&mut self, _cx: &Cx, _targets: &Targets) -> Result<()> {
        Ok(())
    }

    fn outlook(&self, _images: usize) -> Outlook {
        let Even { loss: even_loss, what: even, .. } = even(config::Method::Byol, 0);
        let line = "spread (1: images lie apart, 0: one point) and rank (directions in use) of the \
                    embeddings show whether it learns; the loss does not: it is 0 where all embeddings \
                    are equal, as it would be if every prediction were right";
        Outlook { even_loss, even, lines: vec![line.into()] }
    }

    fn constants(&self) -> Vec<(&'static str, f64)> {
        vec![("ema_base", self.ema)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_teacher_slows_down_along_half_a_cosine() {
        let byol = Byol { ema: 0.9 };
        let at = |step| byol.ema(Moment { step, steps: 100 });
        assert_eq!([0, 1].map(at), [0.9, 0.9]);
        assert!((at(51) - 0.95).abs() < 1e-12);
        assert!(at(100) > 0.9999 && at(100) < 1.0);
    }
}
