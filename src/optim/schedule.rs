//! The learning rate's schedule.

/// How the rate falls after the warm-up.
#[derive(Clone, Debug, PartialEq)]
pub enum Decay {
    /// It does not.
    Constant,
    /// To 0 along half a cosine: lr/2·(1 + cos(π·t)), t being the share of the steps after the
    /// warm-up that are done.
    Cosine,
    /// By the factor `gamma` at each of these steps.
    Steps {
        /// Steps, counted from the start of the run.
        at: Vec<u64>,
        /// Factor.
        gamma: f64,
    },
    /// To `least`: (lr − least)·(1 − t)^power + least, t being the share of all steps.
    Poly {
        /// Exponent.
        power: f64,
        /// Rate at the end.
        least: f64,
    },
}

/// Learning rate by step.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Rate after the warm-up.
    pub lr: f64,
    /// Steps over which it rises linearly from 0.
    pub warmup: u64,
    /// What follows.
    pub decay: Decay,
}

impl Schedule {
    /// Half a cosine after a warm-up.
    pub fn cosine(lr: f64, warmup: u64) -> Self {
        Self { lr, warmup, decay: Decay::Cosine }
    }

    /// The rate of a step of a run of so many steps.
    pub fn at(&self, step: u64, steps: u64) -> f64 {
        let Self { lr, warmup, decay } = self;
        if step < *warmup {
            return lr * (step + 1) as f64 / *warmup as f64;
        }
        match decay {
            Decay::Constant => *lr,
            Decay::Cosine => {
                let part = (step - warmup) as f64 / (steps.saturating_sub(*warmup)).max(1) as f64;
                0.5 * lr * (1.0 + (std::f64::consts::PI * part.min(1.0)).cos())
            }
            Decay::Steps { at, gamma } => {
                lr * gamma.powi(at.iter().filter(|at| **at <= step).count() as i32)
            }
            Decay::Poly { power, least } => {
                let part = (step as f64 / steps.max(1) as f64).min(1.0);
                (lr - least) * (1.0 - part).powf(*power) + least
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_have_the_right_ends() {
        let rate = |step, warmup| Schedule::cosine(1.0, warmup).at(step, 100);
        assert_eq!(rate(0, 0), 1.0);
        assert!((rate(50, 0) - 0.5).abs() < 1e-12);
        assert!(rate(99, 0) < 3e-4);
        assert_eq!([rate(0, 10), rate(9, 10), rate(10, 10)], [0.1, 1.0, 1.0]);
    }

    #[test]
    fn others_fall_where_they_should() {
        let rate = |decay: &Decay, step| {
            Schedule { lr: 2.0, warmup: 2, decay: decay.clone() }.at(step, 10)
        };
        let steps = Decay::Steps { at: vec![4, 8], gamma: 0.5 };
        assert_eq!(
            [0, 1, 3, 4, 7, 8].map(|step| rate(&steps, step)),
            [1.0, 2.0, 2.0, 1.0, 1.0, 0.5]
        );
        let poly = Decay::Poly { power: 2.0, least: 0.5 };
        assert_eq!([5, 10].map(|step| rate(&poly, step)), [1.5 * 0.25 + 0.5, 0.5]);
        assert_eq!(rate(&Decay::Constant, 9), 2.0);
    }
}
