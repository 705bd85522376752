//! The tables: which cells each asks for, and its rows.

mod budgets;
mod compared;
mod dense;
mod domains;
mod ranking;
mod test;
#[cfg(test)]
mod tests;

use super::cells::{Made, Source};
use super::lab::{Column, Found, Lab, Pretrained, Query};
use super::sizes::label_shares;
use super::table::Table;
use crate::config::{Method, Task};
use crate::error::{Error, Result};
use crate::space::Arch;
use crate::space::budget::macs;

crate::choice! {
    /// A table or figure of the paper.
    pub enum Which("table") {
        /// Ranking: scores against accuracy.
        T2 = "t2",
        /// Linear evaluation by compute.
        F3 = "f3",
        /// Boxes and masks by budget.
        T3 = "t3",
        /// A share of the labels.
        T4 = "t4",
        /// Transfer to other images.
        F4 = "f4",
        /// Boxes.
        T5 = "t5",
        /// Classes of pixels.
        T6 = "t6",
        /// Other methods.
        T7 = "t7",
        /// The teacher's architecture.
        T8 = "t8",
        /// Features that are compared.
        T9 = "t9",
        /// Domains that are searched on.
        T10 = "t10",
    }
}

/// What the tables of classification need.
pub(super) const CLASSES: &str = "class folders in --data and --test-data";
/// What the tables of boxes need.
const BOXES: &str = "--boxes NAME=TRAIN,TEST";
/// What the tables of label images need.
const PIXELS: &str = "--pixels NAME=TRAIN,TEST";

impl Which {
    /// What it needs and a study has not; none where nothing is missing.
    pub fn missing(self, lab: &Lab) -> Option<&'static str> {
        match self {
            Self::T10 if lab.domains.is_empty() && lab.annotated.is_empty() => {
                Some("--domain NAME=PATH (or --boxes or --pixels NAME=TRAIN,TEST)")
            }
            Self::T3 | Self::T5 if lab.targets_of(Task::DetC4).is_empty() => Some(BOXES),
            Self::T6 if lab.targets_of(Task::Seg).is_empty() => Some(PIXELS),
            Self::T3 | Self::T5 | Self::T6 | Self::T10 => None,
            // Rows of dense tasks stand without those of classification.
            Self::T2 | Self::T7 | Self::T9 if !lab.annotated.is_empty() => None,
            _ if lab.own().is_err() => Some(CLASSES),
            Self::F4 if lab.transfers.is_empty() => Some("--transfer NAME=TRAIN,TEST"),
            _ => None,
        }
    }

    /// Makes its cells and its rows.
    ///
    /// # Errors
    /// Those of making cells.
    pub fn make(self, lab: &Lab) -> Result<Table> {
        match self {
            Self::T2 => ranking::ranking(lab),
            Self::F3 => budgets::linear(lab),
            Self::T4 => budgets::few_labels(lab),
            Self::T3 => dense::by_budget(lab),
            Self::F4 => compared::transfer(lab),
            Self::T5 => dense::boxes(lab),
            Self::T6 => dense::pixels(lab),
            Self::T7 => compared::methods(lab),
            Self::T8 => compared::teachers(lab),
            Self::T9 => compared::features(lab),
            Self::T10 => domains::domains(lab),
        }
    }
}

fn expected_classes() -> Error {
    Error::data(format!("expected {CLASSES}"))
}

impl Lab<'_> {
    /// The supernet that most tables share.
    fn moco(&self, seed: u64) -> Result<Made> {
        self.pretrain(&Pretrained::supernet(Method::Moco, seed))
    }

    /// The reference net, trained by itself.
    fn alone(&self, method: Method, seed: u64, lr_factor: f64) -> Result<Made> {
        let what = Pretrained::supernet(method, seed);
        self.pretrain(&Pretrained { alone: Some(self.reference), lr_factor, ..what })
    }

    /// Winners of all budgets for a task.
    fn winners(&self, run: &Made, task: Task, images: &Source) -> Result<Found> {
        let groups = self.sizes.winners_groups(self.space);
        self.search(run, &Query { task, images, groups, samples: self.sizes.candidates })
    }

    /// The winner in the reference's budget, of each seed's run.
    fn winners_like_reference(
        &self,
        runs: &[Made],
        task: Task,
        images: &Source,
    ) -> Result<Vec<(Made, Arch)>> {
        let mut all = Vec::new();
        for run in runs {
            let (groups, samples) = (self.budget(), self.sizes.candidates);
            let found = self.search(run, &Query { task, images, groups, samples })?;
            match found.winners().first() {
                Some((_, arch)) => all.push((run.clone(), *arch)),
                // Its failure is the cell's.
                None => all.push((found.made, self.reference)),
            }
        }
        Ok(all)
    }

    /// Nets that are compared with labels, and how many of each budget.
    fn ranked<'q>(&self, task: Task, images: &'q Source) -> Query<'q> {
        let groups = self.sizes.ranked_groups(self.space);
        Query { task, images, groups, samples: self.sizes.ranked / self.sizes.rank_groups }
    }

    /// The reference net, pre-trained alone by each seed.
    fn alone_of_each_seed(&self, method: Method, lr_factor: f64) -> Result<Vec<(Made, Arch)>> {
        let runs = self.each_seed(|seed| self.alone(method, seed, lr_factor))?;
        Ok(runs.into_iter().map(|run| (run, self.reference)).collect())
    }

    /// The budget in which nets are compared with the reference: from three quarters of its compute up
    /// to all of it.
    fn budget(&self) -> String {
        let macs = self.macs(&self.reference);
        format!("{}..{}:{macs}", macs - macs / 4, macs + 1)
    }

    /// The shares of labels that stand for 1 % and 10 %.
    fn shares(&self) -> Result<[f64; 2]> {
        self.own()?;
        label_shares(self.train).ok_or_else(expected_classes)
    }

    /// The smaller share, where the study's own images have classes.
    fn few(&self) -> Option<f64> {
        self.shares().ok().map(|[few, _]| few)
    }

    /// Images with classes to learn from and to test on.
    pub(super) fn own(&self) -> Result<(&Source, &Source)> {
        let test = self.test.filter(|test| self.train.classes > 1 && test.classes > 1);
        Ok((self.train, test.ok_or_else(expected_classes)?))
    }

    /// Fine-tunes with a share of the labels, once for each seed.
    fn tuned(&self, run: &Made, arch: &Arch, labels: f64, seeds: u64) -> Result<Vec<Made>> {
        let seeds = (0..seeds).map(|i| self.seed() + i);
        let own = self.own()?;
        seeds.map(|seed| self.finetune(Some(run), arch, own, labels, seed)).collect()
    }

    fn each_seed(&self, make: impl Fn(u64) -> Result<Made>) -> Result<Vec<Made>> {
        self.seeds.iter().map(|&seed| make(seed)).collect()
    }

    /// `49 %`.
    fn in_percent(share: f64) -> String {
        format!("{} %", (share * 1e4).round() / 1e2)
    }

    fn named(&self, what: &str, arch: &Arch) -> String {
        format!("{what} {arch} ({})", macs(self.macs(arch)))
    }
}

const TOP1: Column = ("top1", &["top1"]);
const TOP5: Column = ("top5", &["top5"]);
const LINEAR: Column = ("top1", &["accuracy", "linear"]);
const LINEAR5: Column = ("top5", &["accuracy", "linear_top5"]);
