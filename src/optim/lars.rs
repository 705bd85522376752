//! LARS (You, Gitman and Ginsburg, 2017), as BYOL's code has it: how long a parameter's step is in
//! proportion to the parameter.

use rayon::prelude::*;

use super::kernels;
use crate::cx::{Cx, Exec};
use crate::error::Result;
use crate::nn::{Gradients, Params};
use crate::ops::CHUNK;
use crate::tensor::{Real, Tensor};

/// Sums over the elements of a parameter w and its gradient g, in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Σw².
    pub weight: f64,
    /// Σw·g.
    pub product: f64,
    /// Σg².
    pub gradient: f64,
}

impl Sums {
    /// r = η‖w‖ / ‖g + λw‖ where both lengths exceed 0, else 1. The length of g + λw comes from the
    /// sums, without another pass.
    pub fn ratio(&self, trust: f64, decay: f64) -> f64 {
        let squares = self.gradient + decay * (2.0 * self.product + decay * self.weight);
        match self.weight > 0.0 && squares > 0.0 {
            true => trust * (self.weight / squares).sqrt(),
            false => 1.0,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            weight: self.weight + other.weight,
            product: self.product + other.product,
            gradient: self.gradient + other.gradient,
        }
    }
}

/// The sums of each parameter; zeros while planning. Their order depends on shapes alone.
pub(super) fn sums(cx: &Cx, params: &Params, grads: &Gradients) -> Result<Vec<Sums>> {
    match cx.exec("lars") {
        Exec::DryRun => Ok(vec![Sums::default(); params.values().len()]),
        Exec::Cpu => {
            let pairs: Vec<(&Tensor, &Tensor)> = params.values().iter().zip(grads.all()).collect();
            Ok(pairs.into_par_iter().map(|(w, g)| of_pair(w, g)).collect())
        }
        Exec::Device(launcher) => kernels::sums(cx, &launcher, params, grads),
    }
}

fn of_pair(w: &Tensor, g: &Tensor) -> Sums {
    crate::dispatch!(w.dtype(), T => {
        let chunks = w.host::<T>().par_chunks(CHUNK).zip(g.host::<T>().par_chunks(CHUNK));
        let sums: Vec<Sums> = chunks.map(|(w, g)| of_chunk(w, g)).collect();
        sums.into_iter().fold(Sums::default(), Sums::plus)
    })
}

/// Eight sums of each kind side by side, so that the compiler can use vectors.
fn of_chunk<T: Real>(w: &[T], g: &[T]) -> Sums {
    let mut sums = [[0.0; 8]; 3];
    let mut add = |k: usize, w: f64, g: f64| {
        sums[0][k] += w * w;
        sums[1][k] += w * g;
        sums[2][k] += g * g;
    };
    for (w, g) in w.chunks(8).zip(g.chunks(8)) {
        for (k, (w, g)) in w.iter().zip(g).enumerate() {
            add(k, w.f64(), g.f64());
        }
    }
    let [weight, product, gradient] = sums.map(|all| all.iter().sum());
    Sums { weight, product, gradient }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_share_of_its_weight() {
        let (w, g, decay): ([f64; 2], [f64; 2], f64) = ([3.0, -4.0], [0.5, 0.25], 0.1);
        let sums = of_chunk(&w, &g);
        assert_eq!(sums, Sums { weight: 25.0, product: 0.5, gradient: 0.3125 });
        let decayed = ((0.5f64 + 0.3).powi(2) + (0.25f64 - 0.4).powi(2)).sqrt();
        assert!((sums.ratio(0.001, decay) - 0.001 * 5.0 / decayed).abs() < 1e-15);
        for zero in [Sums { weight: 0.0, ..sums }, Sums { product: 0.0, gradient: 0.0, ..sums }] {
            assert_eq!(zero.ratio(0.001, 0.0), 1.0);
        }
    }
}
