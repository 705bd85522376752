//! The least time that work can take on a GPU: by its memory's bandwidth, and by its rate.

use super::machine;
use crate::cx::Cx;
use crate::device::peaks::Peaks;
use crate::error::{Error, Result};
use crate::ops::work::Work;

/// Flags that say what the device could do at best.
#[derive(clap::Args, Debug)]
pub(super) struct PeakArgs {
    /// The device's bandwidth in GB/s, for the floors [default: the data sheet's of a known GPU].
    #[arg(long, value_name = "GB/s", value_parser = positive)]
    peak_gbs: Option<f64>,
    /// Its rate in TFLOP/s, for the floors [default: the data sheet's of a known GPU].
    #[arg(long, value_name = "TFLOP/s", value_parser = positive)]
    peak_tflops: Option<f64>,
}

/// A number above 0.
fn positive(s: &str) -> Result<f64> {
    let number = s.parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0);
    number.ok_or_else(|| Error::usage(format!("{s:?} is not a number above 0")))
}

impl PeakArgs {
    /// What was given, else what is known of the device.
    pub(super) fn of(&self, cx: &Cx) -> Peaks {
        let known = Peaks::of(machine::hardware(cx).name.as_deref());
        Peaks {
            gbs: self.peak_gbs.or(known.gbs),
            tflops_bf16: self.peak_tflops.or(known.tflops_bf16),
            tflops_fp32: self.peak_tflops.or(known.tflops_fp32),
        }
    }
}

/// The least time of some work, and what sets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// Milliseconds.
    pub ms: f64,
    /// `memory`, or `tensor`: the rate of arithmetic in the work's precision.
    pub bound: &'static str,
}

impl Peaks {
    /// max(least bytes / bandwidth, operations / rate); none where neither is known.
    pub fn floor(&self, work: &Work) -> Option<Floor> {
        let bf16 = work.name.ends_with("/bf16");
        let rate = if bf16 { self.tflops_bf16 } else { self.tflops_fp32 };
        let memory = self
            .gbs
            .map(|gbs| Floor { ms: work.bytes_floor as f64 / (gbs * 1e6), bound: "memory" });
        let tensor = rate.map(|tflops| Floor {
            ms: work.flops as f64 / (tflops * 1e9),
            bound: if bf16 { "tensor" } else { "fp32" },
        });
        memory.into_iter().chain(tensor).max_by(|a, b| a.ms.total_cmp(&b.ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_the_larger_of_two() {
        let work = |kind: &str, bytes_floor, flops| Work {
            name: format!("conv2d/x/fprop/{kind}"),
            op: "conv2d",
            shape: String::new(),
            bytes_floor,
            flops,
            prepare: Box::new(|_, _| Err(crate::Error::usage("not run"))),
        };
        let h100 = Peaks::of(Some("NVIDIA H100 80GB HBM3"));
        // 3.35 GB in a millisecond; 989.5 GFLOP in bf16, 67 in fp32.
        let floor = |kind, bytes, flops| h100.floor(&work(kind, bytes, flops)).unwrap();
        let [memory, tensor] = ["memory", "tensor"].map(|bound| Floor { ms: 1.0, bound });
        assert_eq!(floor("bf16", 3_350_000_000, 989_000_000_000), memory);
        assert_eq!(floor("bf16", 3_340_000_000, 989_500_000_000), tensor);
        assert_eq!(floor("f32", 0, 67_000_000_000).bound, "fp32");
        assert_eq!(Peaks::of(Some("NVIDIA H100 80GB HBM3 MIG 1g.10gb")), Peaks::default());
        assert_eq!(Peaks::default().floor(&work("f32", 1, 1)), None);
    }
}
