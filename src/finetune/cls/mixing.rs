//! CutMix in a step's batch: images with windows of others, and the classes that they then have.

use std::ops::Range;

use crate::config::Config;
use crate::cx::Cx;
use crate::error::Result;
use crate::ops::cut_mix::{Window, cut_mix};
use crate::rng::{Philox, Purpose};
use crate::tensor::Tensor;

/// How batches are mixed.
pub(super) struct Mixing {
    /// Of Beta(α, α); 0: they are not.
    alpha: f64,
    seed: u64,
    side: usize,
}

/// A batch, mixed or not.
pub(super) struct Mixed {
    pub images: Tensor,
    /// Classes of the windows, and their share of the images.
    windows: Option<(f64, Vec<usize>)>,
}

impl Mixing {
    pub(super) fn of(config: &Config, side: usize) -> Self {
        Self { alpha: config.finetune.cutmix, seed: config.seed, side }
    }

    /// The batch of a step: a window for all, and for each image a partner of whom it is.
    pub(super) fn mix(
        &self,
        cx: &Cx,
        step: u64,
        images: &Tensor,
        classes: &[usize],
    ) -> Result<Mixed> {
        if self.alpha == 0.0 {
            return Ok(Mixed { images: images.clone(), windows: None });
        }
        let mut rng = Philox::new(self.seed, Purpose::CutMix, step, 0);
        let window = Window::draw(&mut rng, self.alpha, self.side);
        let mut partners: Vec<usize> = (0..classes.len()).collect();
        rng.shuffle(&mut partners);
        let share = window.area() as f64 / self.side.pow(2) as f64;
        let windows = Some((share, partners.iter().map(|&partner| classes[partner]).collect()));
        Ok(Mixed { images: cut_mix(cx, images, &partners, &window)?, windows })
    }
}

impl Mixed {
    /// Classes of some rows, each list with its share of the loss.
    pub(super) fn targets<'a>(
        &'a self,
        classes: &'a [usize],
        rows: &Range<usize>,
    ) -> Vec<(f64, &'a [usize])> {
        let own = &classes[rows.clone()];
        match &self.windows {
            Some((share, windows)) => vec![(1.0 - share, own), (*share, &windows[rows.clone()])],
            None => vec![(1.0, own)],
        }
    }
}
