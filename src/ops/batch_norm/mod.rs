//! Batch normalisation (Ioffe and Szegedy, 2015), fused with what follows it in a residual
//! net: y = relu?(γ·(x − mean)/√(var + ε) + β (+ residual)), per channel.

mod cases;
mod cpu;
mod kernels;
mod layout;
mod running;

pub use running::Running;

use super::{
    Case, Fill, Grad, Op, Saved, add_to_front, expect_inputs, expect_mixed, expect_shape, unshared,
};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{Meta, Shape, Tensor};

/// Where mean and variance come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stats {
    /// From the batch: mean and biased variance over groups of consecutive images.
    Batch {
        /// Images of a group; 0 = the whole batch. The last group may be smaller.
        group: usize,
    },
    /// They are an input, a constant, see [`given_statistics`].
    Given,
}

/// The op. Inputs: x `[N,H,W,C]`; γ, β `[1,1,1,≥C]`, of which the first C are used; the
/// residual `[N,H,W,C]` if `add`; mean and 1/√(var + ε) as `[2,1,1,C]` if [`Stats::Given`].
/// Output: `[N,H,W,C]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Where mean and variance come from.
    pub stats: Stats,
    /// Whether a residual is added before the ReLU.
    pub add: bool,
    /// Whether y = max(·, 0).
    pub relu: bool,
}

/// Values of γ and of a variance that ops are checked and timed with.
const POSITIVE: Fill = Fill::Uniform { lo: 0.5, hi: 1.5 };

/// ε, which is added to variances: PyTorch's.
pub const EPS: f64 = 1e-5;

impl BatchNorm {
    /// Training: statistics of groups of `group` images (0 = the whole batch).
    pub fn batch(group: usize) -> Self {
        Self { stats: Stats::Batch { group }, add: false, relu: false }
    }
    /// Evaluation: statistics are given.
    pub fn given() -> Self {
        Self { stats: Stats::Given, ..Self::batch(0) }
    }
    /// With a ReLU after it.
    pub fn relu(self) -> Self {
        Self { relu: true, ..self }
    }
    /// With a residual added to it.
    pub fn add(self) -> Self {
        Self { add: true, ..self }
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names = vec!["x", "gamma", "beta"];
        if self.add {
            names.push("residual");
        }
        if self.stats == Stats::Given {
            names.push("statistics");
        }
        names
    }

    /// Images of a group.
    fn group(&self, n: usize) -> usize {
        match self.stats {
            Stats::Batch { group } if group > 0 => group.min(n),
            _ => n,
        }
    }

    /// Mean and 1/√(var + ε) of x in each group: rows 2g and 2g + 1 of `[2·groups,1,1,C]`. Adds
    /// to `running` those of a single group.
    fn batch_statistics(
        &self,
        cx: &Cx,
        x: &Tensor,
        running: Option<&mut Running>,
    ) -> Result<Tensor> {
        let groups = x.shape().n().div_ceil(self.group(x.shape().n()));
        let meta = Meta::new(Shape::matrix(2 * groups, x.shape().c()), x.dtype().accumulation());
        let mut stats = cx.alloc(meta)?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(x.dtype(), T => {
                cpu::statistics::<T>(self, x, &mut stats, running)
            }),
            Exec::Device(launcher) => {
                kernels::statistics(self, cx, &launcher, x, &mut stats, running)?;
            }
        }
        Ok(stats)
    }

    /// The sums over the gradient; adds those that are the gradients of γ and β. With a
    /// residual and a ReLU, `gy` is masked on the way.
    fn gradient_sums(
        &self,
        cx: &Cx,
        saved: &[Tensor],
        gy: &mut Tensor,
        grads: &mut [Grad],
    ) -> Result<Sums> {
        let sums = match cx.exec(Self::NAME) {
            Exec::DryRun => cpu::Sums::default(),
            Exec::Cpu => {
                crate::dispatch!(gy.dtype(), T => cpu::gradient_sums::<T>(self, saved, gy))
            }
            Exec::Device(launcher) => {
                let terms = kernels::gradient_sums(self, cx, &launcher, saved, gy, grads)?;
                return Ok(Sums::OnDevice(terms));
            }
        };
        add_to_front(cx, &mut grads[1], saved[1].meta(), &sums.gamma)?;
        add_to_front(cx, &mut grads[2], saved[2].meta(), &sums.beta)?;
        Ok(Sums::OnHost(sums))
    }

    /// The gradient of x, from that of y in `gy`, or in `gx` where that is `None`.
    fn input_gradient(
        &self,
        cx: &Cx,
        saved: &[Tensor],
        sums: &Sums,
        gy: Option<&Tensor>,
        gx: &mut Tensor,
    ) -> Result<()> {
        match (cx.exec(Self::NAME), sums) {
            (Exec::Cpu, Sums::OnHost(sums)) => crate::dispatch!(gx.dtype(), T => {
                cpu::input_gradient::<T>(self, saved, sums, gy, gx)
            }),
            (Exec::Device(launcher), Sums::OnDevice(terms)) => {
                kernels::input_gradient(self, &launcher, saved, terms, gy, gx)?;
            }
            (Exec::DryRun, _) => {}
            _ => unreachable!("the sums are where the op runs"),
        }
        Ok(())
    }
}

/// What the gradient of x needs of all rows.
enum Sums {
    OnHost(cpu::Sums),
    OnDevice(kernels::Terms),
}

impl Op for BatchNorm {
    const NAME: &'static str = "batch_norm";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        let names = self.names();
        expect_mixed(inputs, &names, &["gamma", "beta", "statistics"])?;
        let x = inputs[0];
        for (name, meta) in names.iter().zip(inputs).skip(1) {
            let fits = match *name {
                "residual" => meta.shape == x.shape,
                "statistics" => meta.shape == Shape::matrix(2, x.shape.c()),
                _ => meta.shape.rows() == 1 && meta.shape.c() >= x.shape.c(),
            };
            if !fits {
                return Err(Error::usage(format!(
                    "{name} has shape {}, which does not fit x of shape {}",
                    meta.shape, x.shape
                )));
            }
        }
        Ok(x)
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let x = inputs[0];
        let stats = match self.stats {
            Stats::Given => inputs[inputs.len() - 1].clone(),
            Stats::Batch { .. } => self.batch_statistics(cx, x, None)?,
        };
        let residual = self.add.then(|| inputs[3]);
        let [gamma, beta] = [inputs[1], inputs[2]];
        let mut y = cx.alloc(x.meta())?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(x.dtype(), T => {
                cpu::normalise::<T>(self, x, [gamma, beta, &stats], residual, &mut y)
            }),
            Exec::Device(launcher) => {
                kernels::normalise(self, &launcher, x, [gamma, beta, &stats], residual, &mut y)?;
            }
        }
        let mut saved = vec![x.clone(), gamma.clone(), beta.clone(), stats];
        if self.add && self.relu {
            saved.push(y.clone());
        }
        Ok((y, saved))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        if self.stats == Stats::Given && grads.last().is_some_and(|g| g.needed()) {
            return Err(Error::usage("given statistics are constants: no gradient"));
        }
        let x = &saved[0];
        let mut gy = unshared(cx, gy)?;
        let sums = self.gradient_sums(cx, &saved, &mut gy, grads)?;
        // The masked gradient is the residual's; where nobody wants it, it becomes that of x.
        let keep = self.add && grads[3].needed();
        if grads[0].needed() {
            let (residual, mut gx) =
                if keep { (Some(gy), cx.alloc(x.meta())?) } else { (None, gy) };
            self.input_gradient(cx, &saved, &sums, residual.as_ref(), &mut gx)?;
            grads[0].put(cx, gx)?;
            residual.map_or(Ok(()), |gy| grads[3].put(cx, gy))
        } else if keep {
            grads[3].put(cx, gy)
        } else {
            Ok(())
        }
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}

/// The input of [`Stats::Given`], `[2,1,1,C]`, from mean and variance `[1,1,1,C]`.
pub fn given_statistics(cx: &Cx, mean: &Tensor, var: &Tensor) -> Result<Tensor> {
    expect_inputs(&[mean.meta(), var.meta()], &["mean", "var"])?;
    expect_shape("var", var.shape(), mean.shape())?;
    expect_shape("mean", mean.shape(), Shape::vector(mean.shape().c()))?;
    let mut stats = cx.alloc(Meta::new(Shape::matrix(2, mean.shape().c()), mean.dtype()))?;
    match cx.exec(BatchNorm::NAME) {
        Exec::DryRun => {}
        Exec::Cpu => crate::dispatch!(mean.dtype(), T => {
            cpu::given_statistics::<T>(mean.host(), var.host(), stats.host_mut());
        }),
        Exec::Device(launcher) => kernels::given_statistics(&launcher, mean, var, &mut stats)?,
    }
    Ok(stats)
}
