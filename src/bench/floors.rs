//! The least time of a step's parts: the sum of the floors of all that `bench kernels` has of them.

use super::shapes::Used;
use crate::device::peaks::Peaks;
use crate::ops::work::Work;
use crate::space::Arch;

/// All work of a step on a device with these peaks.
pub(super) struct Floors<'a> {
    /// Must hold that of each architecture that is asked for.
    pub work: &'a [Used],
    /// Where nothing is known of the device, no floor is.
    pub peaks: Peaks,
}

impl Floors<'_> {
    /// Milliseconds of all work, each as often as `uses` says.
    fn sum(&self, uses: impl Fn(&Used) -> usize) -> Option<f64> {
        let used = self.work.iter().map(|u| (u, uses(u))).filter(|(_, n)| *n > 0);
        used.map(|(u, n)| self.peaks.floor(&u.work).map(|floor| n as f64 * floor.ms)).sum()
    }

    fn of_op(&self, wanted: impl Fn(&Work) -> bool) -> Option<f64> {
        self.sum(|u| usize::from(wanted(&u.work)))
    }

    /// A student's forward and backward pass.
    pub(super) fn student(&self, arch: &Arch) -> Option<f64> {
        self.sum(|u| u.uses.get(arch).copied().unwrap_or(0))
    }

    /// The teacher's forward pass, which has no loss.
    pub(super) fn teacher(&self, arch: &Arch) -> Option<f64> {
        let forward = |u: &Used| matches!(pass(&u.work), "forward" | "fprop") && !is_loss(&u.work);
        self.sum(|u| if forward(u) { u.uses.get(arch).copied().unwrap_or(0) } else { 0 })
    }

    /// The teacher's moving average.
    pub(super) fn ema(&self) -> Option<f64> {
        self.of_op(|work| work.op == "ema")
    }

    /// The gradient's norm and the update.
    pub(super) fn optimizer(&self) -> Option<f64> {
        self.of_op(|work| work.op == "global_norm" || work.op == "sgd" && pass(work) == "update")
    }
}

/// Whether it belongs to the criterion.
pub(super) fn is_loss(work: &Work) -> bool {
    ["info_nce", "cosine"].contains(&work.op)
}

/// The pass in `op/situation/pass/type`.
pub(super) fn pass(work: &Work) -> &str {
    work.name.rsplit('/').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::shapes;
    use crate::config::Config;
    use crate::space::Space;
    use crate::tensor::DType;

    /// By operations alone a student's floor is three times a forward pass, but for the stem's
    /// gradient of the images; larger nets have larger floors.
    #[test]
    fn floors_are_those_of_the_parts() {
        let space = Space::preset("data").unwrap();
        let mut config = Config::for_preset("data").unwrap();
        config.train.batch = 2;
        let archs = [space.max(), space.min()];
        let work = shapes::all(&config, &space, &archs, &[DType::BF16]).unwrap();
        let peaks = Peaks { tflops_bf16: Some(1.0), tflops_fp32: Some(1.0), gbs: None };
        let floors = Floors { work: &work, peaks };
        for arch in archs {
            let forward_ms = floors.teacher(&arch).unwrap();
            let convolutions_ms = 2.0 * 2.0 * space.cost(&arch).macs as f64 / 1e9;
            assert!(forward_ms > convolutions_ms && forward_ms < 1.1 * convolutions_ms);
            let ratio = floors.student(&arch).unwrap() / forward_ms;
            assert!((2.8..3.3).contains(&ratio), "{ratio}");
        }
        assert!(floors.student(&archs[0]) > floors.student(&archs[1]));
        let elems = |each: f64| floors.optimizer().map(|ms| ms / each);
        // A norm takes two operations for each element, an update six, a moving average three.
        assert_eq!(elems(8.0), floors.ema().map(|ms| ms / 3.0));
        let unknown = Floors { work: &work, peaks: Peaks::default() };
        assert_eq!((unknown.student(&archs[0]), unknown.optimizer()), (None, None));
    }
}
