//! How much of everything a quickstart takes.

/// Numbers of images, steps and nets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Drawn images of a domain to train on, and to test on.
    pub(super) drawn: [usize; 2],
    /// Most of the user's own images that are taken.
    pub(super) own: usize,
    /// Steps of training.
    pub(super) steps: usize,
    /// Images of a step.
    pub(super) batch: usize,
    /// Candidates of a budget.
    pub(super) samples: usize,
    /// Images that candidates are compared on, and batch norms recalibrated on.
    pub(super) images: usize,
    /// Images of the export's batch norms.
    pub(super) export_images: usize,
}

impl Sizes {
    /// A share of what two cores do in a few minutes; never less than shows that all works.
    pub(super) fn new(share: f64) -> Self {
        let of = |whole: usize, least: usize| ((whole as f64 * share) as usize).max(least);
        Self {
            drawn: [of(2048, 24), of(512, 8)],
            own: of(4000, 24),
            steps: of(1536, 2),
            batch: 16,
            samples: of(24, 2),
            images: of(256, 8),
            export_images: of(crate::export::BN_IMAGES, 8),
        }
    }
}
