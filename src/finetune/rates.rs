//! Learning rates: those of body and head, those that are tried, and how they fall.

use crate::config::{Body, Config, Falls, Select};
use crate::nn::ParamSpec;
use crate::optim::{Decay, Schedule};
use crate::train::Course;
use crate::train::job::steps_of_epochs;

/// Learning rates of linear classifiers that are trained at once, from those that suit MoCo's
/// features (30) to those that suit SwAV's (0.3) and below.
pub const LINEAR: [f64; 7] = [30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03];

/// Learning rates of the body that the grid tries, each with each of [`TIMES`] as that of the head.
pub const GRID: [f64; 3] = [0.1, 0.01, 0.001];
/// The head's learning rate over the body's.
pub const TIMES: [f64; 3] = [1.0, 10.0, 100.0];

/// Length and learning rate of fine-tuning.
pub const COURSE: Course = Course {
    steps: |config, per_epoch| match config.finetune.steps {
        0 => steps_of_epochs(config, per_epoch).max(config.finetune.least_steps as u64),
        steps => steps as u64,
    },
    schedule: |config, _, steps| schedule(config, steps),
};

/// Whether classifiers with all of [`LINEAR`] are trained.
pub fn tries_many(config: &Config) -> bool {
    config.finetune.body == Body::Frozen && config.finetune.select != Select::Off
}

/// Learning rates of the classifiers.
pub(crate) fn of_heads(config: &Config) -> Vec<f64> {
    match tries_many(config) {
        true => LINEAR.to_vec(),
        false => vec![config.finetune.lr_head],
    }
}

/// The largest rate, which the others are shares of.
fn base(config: &Config) -> f64 {
    of_heads(config).into_iter().fold(config.train.lr, f64::max)
}

/// The learning rate of each parameter as a share of the run's; `rate` says what it is.
pub(crate) fn factors(
    config: &Config,
    specs: &[ParamSpec],
    rate: impl Fn(&ParamSpec) -> f64,
) -> Vec<f64> {
    let base = base(config);
    specs.iter().map(|spec| if base > 0.0 { rate(spec) / base } else { 1.0 }).collect()
}

fn schedule(config: &Config, steps: u64) -> Schedule {
    let at = |shares: &[f64]| Decay::Steps {
        at: shares.iter().map(|share| (share * steps as f64).round() as u64).collect(),
        gamma: config.finetune.drop,
    };
    let decay = match config.finetune.falls {
        Falls::Cosine => Decay::Cosine,
        Falls::Late => at(&[0.6, 0.8]),
        Falls::Thirds => at(&[0.3, 0.6, 0.9]),
        Falls::Voc => at(&[18.0 / 24.0, 22.0 / 24.0]),
        Falls::Coco => at(&[6.0 / 9.0, 8.0 / 9.0]),
        Falls::Poly => {
            Decay::Poly { power: config.finetune.poly_power, least: config.finetune.least_lr }
        }
        Falls::Constant => Decay::Constant,
    };
    let warmup = (config.finetune.warmup * steps as f64).round() as u64;
    Schedule { lr: base(config), warmup, decay }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Recipe, Task, resolve};

    #[test]
    fn recipes_fall_where_their_sources_say() {
        let rates = |recipe: Recipe, per_epoch, at: &[u64]| -> Vec<f64> {
            let config = resolve(&recipe.settings(Task::Cls, 0.01).unwrap()).unwrap().config;
            let steps = (COURSE.steps)(&config, per_epoch);
            let rate = |&step: &u64| COURSE.rate(&config, step, steps, per_epoch);
            at.iter().map(rate).collect()
        };
        let close = |found: Vec<f64>, expected: &[f64]| {
            let far = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-9 * b;
            assert!(!found.iter().zip(expected).any(far), "{found:?} {expected:?}");
        };
        // 20 epochs of 10 steps; the head's rate is the larger one.
        close(rates(Recipe::Semi, 10, &[0, 119, 120, 160]), &[0.1, 0.1, 0.02, 0.004]);
        close(rates(Recipe::Swav, 10, &[0, 199]), &[5.0, 0.2]);
        close(rates(Recipe::Linear, 2, &[0, 120, 160]), &[30.0, 3.0, 0.3]);
        let vtab = rates(Recipe::Vtab1k, 15, &[39, 79, 300, 600, 900]);
        close(vtab, &[0.005, 0.01, 1e-3, 1e-4, 1e-5]);
        close(rates(Recipe::VtabFull, 15, &[0, 2999, 3000, 9000]), &[0.03, 0.03, 3e-3, 3e-5]);
    }
}
