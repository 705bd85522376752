//! CutMix (Yun et al., 2019): a window of each image of a batch is another image's.

pub mod checks;
mod kernels;
pub mod work;

use super::expect_float;
use super::passes::chunks_mut;
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::rng::Philox;
use crate::tensor::Tensor;

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first row.
    pub top: usize,
    /// Its first column.
    pub left: usize,
    /// The row behind its last.
    pub bottom: usize,
    /// The column behind its last.
    pub right: usize,
}

impl Window {
    /// One that takes the share 1 − λ of a square image for λ ~ Beta(α, α), before it is cut at the
    /// borders: its centre is uniform over the image. α is above 0, at most 1.
    pub fn draw(rng: &mut Philox, alpha: f64, side: usize) -> Self {
        let half = side as f64 * (1.0 - beta(rng, alpha)).sqrt() / 2.0;
        let mut span = || {
            let centre = rng.below(side) as f64;
            let [from, to] = [centre - half, centre + half].map(|x| x.round_ties_even().max(0.0));
            [from as usize, (to as usize).min(side)]
        };
        let ([top, bottom], [left, right]) = (span(), span());
        Self { top, left, bottom, right }
    }

    /// Pixels in it.
    pub fn area(&self) -> usize {
        (self.bottom - self.top) * (self.right - self.left)
    }
}

/// A number of Beta(α, α), by Jöhnk's method: for α up to 1 at least half of the tries serve.
fn beta(rng: &mut Philox, alpha: f64) -> f64 {
    loop {
        let mut power = || f64::from(rng.uniform()).powf(1.0 / alpha);
        let (x, y) = (power(), power());
        if x + y > 0.0 && x + y <= 1.0 {
            return x / (x + y);
        }
    }
}

/// Image n of the result is image n of x `[N,H,W,C]`, but inside the window image `partners[n]`.
///
/// # Errors
/// [`crate::Kind::Usage`] for a window outside the images, or partners that are not N images.
pub fn cut_mix(cx: &Cx, x: &Tensor, partners: &[usize], window: &Window) -> Result<Tensor> {
    expect_float("x", &x.meta())?;
    let [n, h, w, c] = x.shape().0;
    let Window { top, left, bottom, right } = *window;
    if top > bottom || bottom > h || left > right || right > w {
        return Err(Error::usage(format!(
            "cut_mix: expected a window inside {h}x{w} pixels; found {window:?}"
        )));
    }
    if partners.len() != n || partners.iter().any(|partner| *partner >= n) {
        return Err(Error::usage(format!(
            "cut_mix: expected {n} partners below {n}; found {partners:?}"
        )));
    }
    let mut y = cx.alloc(x.meta())?;
    match cx.exec("cut_mix") {
        _ if y.shape().elems() == 0 => {}
        Exec::DryRun => {}
        Exec::Cpu => crate::dispatch!(x.dtype(), T => {
            let (image, x) = (h * w * c, x.host::<T>());
            chunks_mut(n * image, y.host_mut::<T>(), image, |i, y| {
                y.copy_from_slice(&x[i * image..][..image]);
                for row in top..bottom {
                    let span = (row * w + left) * c..(row * w + right) * c;
                    y[span.clone()].copy_from_slice(&x[partners[i] * image..][span]);
                }
            });
        }),
        Exec::Device(launcher) => kernels::cut_mix(cx, &launcher, x, partners, window, &mut y)?,
    }
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn windows_take_the_share_that_was_drawn() {
        let side = 64;
        for alpha in [0.1, 1.0] {
            let mut rng = Philox::new(3, Purpose::Check, 0, 0);
            let draws: Vec<f64> = (0..4000).map(|_| beta(&mut rng, alpha)).collect();
            let mean = draws.iter().sum::<f64>() / 4000.0;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4000.0;
            // Of Beta(α, α): 1/2, and 1/(4(2α + 1)).
            assert!((mean - 0.5).abs() < 0.03, "{mean}");
            assert!((variance - 0.25 / (2.0 * alpha + 1.0)).abs() < 0.01, "{variance}");
            let windows = (0..4000).map(|_| Window::draw(&mut rng, alpha, side));
            for Window { top, left, bottom, right } in windows {
                assert!(top <= bottom && bottom <= side && left <= right && right <= side);
            }
        }
    }
}
