//! The tables: which cells each asks for, and its rows.

mod budgets;
mod compared;
mod ranking;

use super::cells::{Made, Source};
use super::lab::{Found, Lab, Pretrained, Query};
use super::sizes::label_shares;
use super::table::Table;
use crate::config::Method;
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
        /// A share of the labels.
        T4 = "t4",
        /// Transfer to other images.
        F4 = "f4",
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

/// Flags of the search for classification.
const CLS: &str = "--task cls";

impl Which {
    /// What it needs and a study has not; none where nothing is missing.
    pub fn missing(self, lab: &Lab) -> Option<&'static str> {
        let labelled = lab.train.classes > 1;
        match self {
            Self::T10 if lab.domains.is_empty() => Some("--domain NAME=PATH"),
            Self::T10 => None,
            _ if !labelled => Some("class folders in --data"),
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
            Self::F4 => compared::transfer(lab),
            Self::T7 => compared::methods(lab),
            Self::T8 => compared::teachers(lab),
            Self::T9 => compared::features(lab),
            Self::T10 => ranking::domains(lab),
        }
    }
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

    /// Winners for classification of all budgets.
    fn winners(&self, run: &Made) -> Result<Found> {
        self.search(run, &self.query(CLS, self.train, self.sizes.winners_groups(self.space)))
    }

    fn query<'q>(&self, features: &'q str, images: &'q Source, groups: String) -> Query<'q> {
        Query { features, images, groups, samples: self.sizes.candidates }
    }

    /// The budget in which nets are compared with the reference: from three quarters of its compute up
    /// to all of it.
    fn budget(&self) -> String {
        let macs = self.macs(&self.reference);
        format!("{}..{}:{macs}", macs - macs / 4, macs + 1)
    }

    fn shares(&self) -> Result<[f64; 2]> {
        label_shares(self.train).ok_or_else(|| Error::data("the images of --data have no classes"))
    }

    fn own(&self) -> (&Source, &Source) {
        (self.train, self.test)
    }

    /// Fine-tunes with a share of the labels, once for each run and seed. Runs are those of the seeds.
    fn tuned(&self, runs: &[Made], arch: &Arch, labels: f64, seeds: u64) -> Result<Vec<Made>> {
        let mut all = Vec::new();
        for run in runs {
            for i in 0..seeds {
                all.push(self.finetune(Some(run), arch, self.own(), labels, self.seed() + i)?);
            }
        }
        Ok(all)
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

const TOP1: (&str, &[&str]) = ("top1", &["top1"]);
const TOP5: (&str, &[&str]) = ("top5", &["top5"]);
const LINEAR: (&str, &[&str]) = ("top1", &["accuracy", "linear"]);
const LINEAR5: (&str, &[&str]) = ("top5", &["accuracy", "linear_top5"]);
