//! How much of everything a study takes.

use serde::{Deserialize, Serialize};

use super::cells::Source;
use crate::error::{Error, Result};
use crate::space::{Arch, Space};

crate::choice! {
    /// How large a study is.
    pub enum Scale("scale") {
        /// A minute: shows that all works, and measures nothing.
        Smoke = "smoke",
        /// Hours on two cores: preset tiny.
        Small = "small",
        /// The paper's settings, for GPUs: preset data.
        Full = "full",
    }
}

/// Share of MAX's compute that the reference net has at most, as ResNet-50 in the paper's space.
const REFERENCE_SHARE: f64 = 0.27;
/// Images of a class that have labels at least, however few there are.
const LEAST_LABELS: usize = 4;
/// Share of MAX's compute that winners have at most: 8 of 15.5 GMACs in the paper.
const WINNERS_SHARE: f64 = 0.52;

/// Numbers of images, steps and nets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// Search space and defaults.
    pub preset: String,
    /// Images that pre-training sees in all; null for the preset's epochs.
    pub images: Option<u64>,
    /// Steps of every pre-training, where `--time` chose them.
    pub steps: Option<u64>,
    /// Nets of the ranking (T2), from groups of equal size.
    pub ranked: usize,
    /// Groups that these come from.
    pub rank_groups: usize,
    /// Budgets that have a winner each.
    pub budgets: usize,
    /// Candidates of such a budget.
    pub candidates: usize,
    /// Nets that are compared over domains (T10).
    pub compared: usize,
    /// Images that candidates are compared on.
    pub search_images: usize,
    /// Images that batch norms' statistics are computed from.
    pub bn_images: usize,
    /// Steps of fine-tuning; null for the recipe's.
    pub tune_steps: Option<usize>,
    /// Recipe of fine-tuning.
    pub recipe: String,
    /// Steps of fine-tuning for dense tasks, by the recipe small; null for the paper's recipes with
    /// their own steps.
    pub dense_steps: Option<usize>,
    /// Sides, in pixels, of images of dense tasks in batches of two; null for the recipe's.
    pub dense_side: Option<usize>,
    /// Seeds of fine-tuning where a table takes several.
    pub tune_seeds: u64,
    /// Epochs of linear classifiers.
    pub linear_epochs: usize,
    /// Training images of linear classifiers and neighbours; null for all.
    pub probe_images: Option<usize>,
    /// Whether collapse ends nothing: so few steps say nothing of it.
    pub lenient: bool,
}

impl Sizes {
    /// Those of a scale.
    pub fn new(scale: Scale) -> Self {
        let small = Self {
            preset: "tiny".into(),
            images: Some(100_000),
            steps: None,
            ranked: 30,
            rank_groups: 5,
            budgets: 4,
            candidates: 100,
            compared: 20,
            search_images: 1024,
            bn_images: 1024,
            tune_steps: Some(1000),
            recipe: "small".into(),
            dense_steps: Some(500),
            dense_side: None,
            tune_seeds: 3,
            linear_epochs: 100,
            probe_images: Some(20_000),
            lenient: false,
        };
        match scale {
            Scale::Small => small,
            Scale::Smoke => Self {
                images: Some(32 * 12),
                ranked: 4,
                rank_groups: 2,
                budgets: 2,
                candidates: 2,
                compared: 3,
                search_images: 16,
                bn_images: 16,
                tune_steps: Some(2),
                dense_steps: Some(2),
                dense_side: Some(32),
                tune_seeds: 1,
                linear_epochs: 2,
                lenient: true,
                ..small
            },
            Scale::Full => Self {
                preset: "data".into(),
                images: None,
                ranked: 50,
                budgets: 7,
                bn_images: 2048,
                tune_steps: None,
                dense_steps: None,
                recipe: "semi".into(),
                probe_images: None,
                ..small
            },
        }
    }

    /// The groups of nets that are ranked, which cover the space.
    pub fn ranked_groups(&self, space: &Space) -> String {
        groups(space, 1.0, self.rank_groups)
    }

    /// Budgets that have a winner each.
    pub fn winners_groups(&self, space: &Space) -> String {
        match self.preset.as_str() {
            // The paper's own.
            "data" => "1G..8G:1G".into(),
            _ => groups(space, WINNERS_SHARE, self.budgets),
        }
    }
}

/// `lo..hi:step`, round, from the smallest net to a share of the largest one's compute.
fn groups(space: &Space, share: f64, count: usize) -> String {
    let macs = |arch: Arch| space.cost(&arch).macs as f64;
    let unit = 10f64.powf((macs(space.max()) / count as f64).log10().floor() - 1.0);
    let lo = (macs(space.min()) / unit).floor() * unit;
    let step = ((macs(space.max()) * share - lo) / count as f64 / unit).ceil() * unit;
    let number = |macs: f64| format!("{}M", (macs / 1e3).round() / 1e3);
    format!("{}..{}:{}", number(lo), number(lo + step * count as f64), number(step))
}

/// The net that tables compare with: that which has most compute, up to about a quarter of MAX's.
///
/// # Errors
/// Exit 2 for a space without such a net.
pub fn reference(space: &Space) -> Result<Arch> {
    let most = space.cost(&space.max()).macs as f64 * REFERENCE_SHARE;
    let costs = space.enumerate().map(|arch| (space.cost(&arch).macs, arch));
    let fitting = costs.filter(|(macs, _)| *macs as f64 <= most);
    // The first of equals.
    let best = fitting.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, arch)| arch).ok_or_else(|| {
        Error::usage(format!(
            "space {} has no net below {REFERENCE_SHARE} of its largest one's compute: name the net to \
             compare with by --reference",
            space.name
        ))
    })
}

/// The shares of labels that stand for 1 % and 10 %: more where a class would have fewer than four
/// images. None where the images have no labels.
pub fn label_shares(train: &Source) -> Option<[f64; 2]> {
    let least = train.classes * LEAST_LABELS;
    let share = |wanted: f64| {
        let needed = least as f64 / train.images as f64;
        // So that rounding down gives no class fewer.
        if needed <= wanted { wanted } else { ((needed * 1e4).ceil() / 1e4).min(1.0) }
    };
    let few = share(0.01);
    (train.classes > 1).then(|| [few, share(0.1).max((4.0 * few).min(1.0))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_round_and_cover_what_they_should() {
        let of = |name: &str| Space::preset(name).unwrap();
        assert_eq!(groups(&of("tiny"), 1.0, 5), "2M..17.5M:3.1M");
        assert_eq!(groups(&of("data"), 1.0, 5), "1600M..15600M:2800M");
        for (name, share, count) in [("tiny", 0.52, 4), ("cifar", 1.0, 5), ("cifar", 0.52, 4)] {
            let budgets = crate::space::Budget::parse_groups(
                &groups(&of(name), share, count),
                crate::space::Metric::Macs,
            );
            assert_eq!(budgets.unwrap().len(), count);
        }
    }

    #[test]
    fn the_reference_has_about_a_quarter_of_the_compute() {
        let space = Space::preset("tiny").unwrap();
        let macs =
            |arch: &Arch| space.cost(arch).macs as f64 / space.cost(&space.max()).macs as f64;
        assert!((0.26..=0.27).contains(&macs(&reference(&space).unwrap())));
    }

    #[test]
    fn small_sets_have_larger_shares_of_labels() {
        let source = |images, classes| Source {
            name: "a".into(),
            paths: Vec::new(),
            digest: String::new(),
            images,
            classes,
        };
        assert_eq!(label_shares(&source(50_000, 10)), Some([0.01, 0.1]));
        assert_eq!(label_shares(&source(160, 8)), Some([0.2, 0.8]));
        assert_eq!(label_shares(&source(160, 0)), None);
    }
}
