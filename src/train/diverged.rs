//! Where a number went wrong: what a step that diverged says. The step is run again, looking at
//! every value on the way.

use std::ops::Range;

use super::checkpoint::Contents;
use super::pretrain::{Pretrain, Step};
use crate::config::Config;
use crate::cx::Cx;
use crate::error::{Error, Kind, Result};
use crate::nn::ParamSpec;
use crate::ops::global_norm::all_finite;
use crate::space::Arch;
use crate::ssl::Targets;
use crate::tape::Tape;
use crate::tensor::Tensor;

impl Pretrain {
    /// Repeats a student's forward pass, looking at every value, and says where the first one
    /// that is not finite appears.
    pub(super) fn name_bad_tensor(
        &self,
        cx: &Cx,
        s: &Step,
        arch: &Arch,
        targets: &Targets,
        pass: usize,
        rows: Range<usize>,
    ) -> Error {
        match self.bad_place(cx, s, arch, targets, pass, rows) {
            Ok(place) => diverged(s.at.step, &arch.to_string(), &place),
            Err(e) => e,
        }
    }

    /// Where the first value that is not finite appears.
    fn bad_place(
        &self,
        cx: &Cx,
        s: &Step,
        arch: &Arch,
        targets: &Targets,
        pass: usize,
        rows: Range<usize>,
    ) -> Result<String> {
        let first_bad = |tensors: &[Tensor]| -> Result<Option<usize>> {
            for (i, t) in tensors.iter().enumerate() {
                if !all_finite(cx, t)? {
                    return Ok(Some(i));
                }
            }
            Ok(None)
        };
        for view in self.method.passes()[pass] {
            if !all_finite(cx, &s.views[*view])? {
                return Ok(format!("the images (view {view}, of the students)"));
            }
        }
        if let Some(i) = first_bad(self.student.values())? {
            return Ok(format!("the parameter {}", self.net.specs()[i].name));
        }
        for features in targets {
            if first_bad(features)?.is_some() {
                return Ok(match self.targets_of(cx, s, arch, true) {
                    Err(e) => format!("the teacher: {e}"),
                    Ok(_) => "the teacher's output".to_owned(),
                });
            }
        }
        let mut tape = Tape::inference(cx).checking();
        Ok(match self.student_forward(&mut tape, s, arch, targets, pass, rows, 1.0) {
            Err(e) => e.to_string(),
            Ok(_) => "the loss".to_owned(),
        })
    }

    /// Repeats the students one by one to find whose gradient is not finite, and where.
    pub(super) fn name_bad_gradient(
        &mut self,
        cx: &Cx,
        s: &Step,
        targets: &[Targets],
    ) -> Result<Error> {
        for (k, arch) in s.archs.iter().enumerate() {
            self.grads.clear(cx)?;
            self.student_passes(cx, s, arch, targets.get(k).unwrap_or(&targets[0]))?;
            for (i, spec) in self.net.specs().iter().enumerate() {
                if !all_finite(cx, self.grads.get(i))? {
                    let place = format!("the gradient of {}", spec.name);
                    return Ok(diverged(s.at.step, &arch.to_string(), &place));
                }
            }
        }
        Ok(diverged(s.at.step, "the sum over all students", "the norm of the gradient"))
    }
}

/// Weights whose norm is so many times that of fresh ones have blown up: those of runs that learn
/// grow to 2 or 3 times it, those of runs whose steps throw them about to hundreds.
const BLOWN_UP: f64 = 30.0;

/// Exit 4 where what a checkpoint would keep is no net any more: a value is not finite, or, unless
/// `guard.collapse` is off, the student's weights have blown up. The embeddings' spread and rank
/// do not show that, as they have unit length, nor need the loss, as batch norms take away any
/// scale.
pub(super) fn expect_sound(
    contents: &Contents,
    specs: &[ParamSpec],
    step: u64,
    config: &Config,
) -> Result<()> {
    let error = |what: String| {
        let lr = config.train.lr;
        Err(Error::new(
            Kind::Diverged,
            format!(
                "training diverged by step {step}: {what}; this state was not kept; start again \
                 with a lower train.lr than {lr} or with train.warmup_epochs"
            ),
        ))
    };
    for (stem, tensors) in contents {
        for (name, _, values) in tensors {
            if let Some(value) = values.iter().find(|v| !v.is_finite()) {
                let what = "expected finite values, found";
                return error(format!("{what} {value} in {name} of {stem}.safetensors"));
            }
        }
    }
    let student = contents.iter().filter(|(stem, _)| *stem == "student").flat_map(|(_, t)| t);
    let square = |x: &f32| f64::from(*x).powi(2);
    let energies = student.map(|(name, _, v)| (name.as_str(), v.iter().map(square).sum::<f64>()));
    let energies: Vec<(&str, f64)> = energies.collect();
    let norm = energies.iter().map(|(_, energy)| energy).sum::<f64>().sqrt();
    let (most, _) = energies.iter().max_by(|a, b| a.1.total_cmp(&b.1)).copied().unwrap_or_default();
    let fresh = specs.iter().map(ParamSpec::initial_energy).sum::<f64>().sqrt();
    if config.guard.collapse && step > 0 && norm > BLOWN_UP * fresh {
        return error(format!(
            "the student's weights have a norm of {norm:.3e}, most of it in {most}, expected less \
             than {BLOWN_UP} times that of fresh ones ({fresh:.3e}); guard.collapse=false goes on anyway"
        ));
    }
    Ok(())
}

fn diverged(step: u64, arch: &str, place: &str) -> Error {
    Error::new(
        Kind::Diverged,
        format!(
            "training diverged in step {step}, architecture {arch}: the first value that is not \
             finite is in {place}; start again with a lower train.lr, or with train.warmup_epochs"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Params, Supernet};
    use crate::space::Space;
    use crate::ssl;

    #[test]
    fn fresh_weights_are_sound_and_those_that_blew_up_are_not() {
        let cx = Cx::for_tests();
        let mut config = Config::for_preset("tiny").unwrap();
        let net = Supernet::new(&Space::preset("tiny").unwrap(), Some(&ssl::heads(&config)));
        let student = Params::init(&cx, net.specs(), 3).unwrap().to_torch(&cx).unwrap();
        let scaled = |by: f32| -> Contents {
            let scale = |v: Vec<f32>| v.into_iter().map(|x| x * by).collect();
            let all = student.iter().cloned();
            vec![("student", all.map(|(name, shape, v)| (name, shape, scale(v))).collect())]
        };
        let check = |contents: &Contents, config: &Config| {
            expect_sound(contents, net.specs(), 7, config).map_err(|e| (e.kind(), e.to_string()))
        };
        // A fresh net has the norm that is expected of one, up to its draws.
        check(&scaled(0.95 * BLOWN_UP as f32), &config).unwrap();
        let (kind, said) = check(&scaled(1.05 * BLOWN_UP as f32), &config).unwrap_err();
        assert!(kind == Kind::Diverged && said.contains("step 7"), "{said}");
        let mut broken = scaled(1.0);
        broken[0].1[2].2[0] = f32::NAN;
        config.guard.collapse = false;
        check(&scaled(1e6), &config).unwrap();
        let (kind, said) = check(&broken, &config).unwrap_err();
        assert!(kind == Kind::Diverged && said.contains(&broken[0].1[2].0), "{said}");
    }
}
