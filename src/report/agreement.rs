//! What labels say of a search: its candidates are looked for among the run's evaluations.
//! `agreement.json` in the search's folder holds the same as the page.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::numbers;
use super::run::{files_with, json};
use super::worth::{Ways, ways};
use crate::error::{Error, Result};
use crate::eval::answers::from_digits;
use crate::eval::evaluate::NEIGHBOURS;
use crate::eval::record::Split;
use crate::files;
use crate::search::agreement::{Correlation, Within, Worth};
use crate::search::{Agreement, BudgetResult, Candidate, Choosing, Judged, agreement, worth};
use crate::space::Arch;

const FILE: &str = "agreement.json";

/// How nets were evaluated; only alike evaluations are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Protocol {
    protocol: String,
    features: String,
    step: u64,
    #[serde(default = "student")]
    weights: String,
    train: Split,
    test: Split,
}

fn student() -> String {
    "student".into()
}

/// A file of `RUN/eval`, of one net or of several, as far as it counts here.
#[derive(Deserialize)]
struct Evaluation {
    #[serde(flatten)]
    protocol: Protocol,
    arch: Option<Arch>,
    #[serde(default)]
    accuracy: BTreeMap<String, f64>,
    #[serde(default)]
    correct: String,
    #[serde(default)]
    subnets: Vec<Net>,
}

#[derive(Deserialize)]
struct Net {
    arch: Arch,
    accuracy: f64,
    /// Evaluations of earlier versions lack these.
    #[serde(default)]
    correct: String,
    naswot: Option<f64>,
}

impl Evaluation {
    /// Its nets with their accuracies: of several neighbours the first number of them, as
    /// `engine eval --archs-from` takes it.
    fn nets(&self) -> impl Iterator<Item = (Arch, Judged)> + '_ {
        let key = match self.protocol.protocol.as_str() {
            "knn" => format!("k{}", NEIGHBOURS[0]),
            other => other.to_owned(),
        };
        let judged = |accuracy: f64, correct: &str, naswot: Option<f64>| {
            let correct = from_digits(correct, self.protocol.test.images).unwrap_or_default();
            Judged { accuracy, correct, naswot }
        };
        let one = self.arch.zip(self.accuracy.get(&key).copied());
        let one = one.map(|(arch, accuracy)| (arch, judged(accuracy, &self.correct, None)));
        let many = self.subnets.iter();
        let many = many.map(move |n| (n.arch, judged(n.accuracy, &n.correct, n.naswot)));
        one.into_iter().chain(many)
    }
}

/// A search held against one kind of evaluation.
#[derive(Serialize)]
pub(super) struct Held {
    #[serde(flatten)]
    protocol: Protocol,
    #[serde(flatten)]
    agreement: Agreement,
    conclusion: &'static str,
    worth: Option<Choosing>,
}

/// Holds the search in `dir`, which may lie in a run's folder, against the run's evaluations of
/// the same step, and writes `agreement.json` where there are enough.
pub(super) fn update(
    dir: &Path,
    candidates: &[Candidate],
    budgets: &[BudgetResult],
) -> Result<Vec<Held>> {
    let run = dir.canonicalize().ok().and_then(|d| Some(d.parent()?.parent()?.to_path_buf()));
    let step = candidates.first().map(|c| c.teacher_step);
    let mut known: BTreeMap<Protocol, BTreeMap<Arch, Judged>> = BTreeMap::new();
    for path in run.map_or(Ok(Vec::new()), |run| files_with(&run.join("eval"), "json"))? {
        // Files of other kinds, such as baselines, hold no net of a search.
        let Ok(found) = serde_json::from_value::<Evaluation>(json(&path)?) else { continue };
        if Some(found.protocol.step) == step && found.protocol.weights == "student" {
            let nets = known.entry(found.protocol.clone()).or_default();
            for (arch, judged) in found.nets() {
                // Of two evaluations of a net the one that says more counts.
                if judged.naswot.is_some() || !nets.contains_key(&arch) {
                    nets.insert(arch, judged);
                }
            }
        }
    }
    let held: Vec<Held> = known
        .into_iter()
        .filter_map(|(protocol, judged)| {
            let accuracy = judged.iter().map(|(arch, judged)| (*arch, judged.accuracy)).collect();
            let found = agreement(candidates, budgets, &accuracy, protocol.test.images as u64)?;
            let worth = worth(candidates, budgets, &judged, 0);
            Some(Held { conclusion: found.conclusion(), agreement: found, protocol, worth })
        })
        .collect();
    let path = dir.join(FILE);
    if !held.is_empty() {
        files::write_json(&path, &held)?;
    } else if path.exists() {
        fs::remove_file(&path).map_err(|e| Error::write(&path, e))?;
    }
    Ok(held)
}

/// A budget's row.
#[derive(Serialize)]
struct Row {
    budget: String,
    evaluated: String,
    winner: Cell,
    mean: Cell,
    best: Cell,
    largest: Cell,
    verdict: &'static str,
}

/// An accuracy, and the net that has it.
#[derive(Serialize)]
struct Cell {
    share: String,
    net: Option<String>,
}

/// As the page shows it.
#[derive(Serialize)]
pub(super) struct Card {
    title: String,
    nets: usize,
    /// What was ranked by, and how well.
    ranks: Vec<(&'static str, String)>,
    rows: Vec<Row>,
    conclusion: &'static str,
    worth: Option<Ways>,
}

impl Held {
    pub(super) fn card(&self) -> Card {
        let Protocol { protocol, features, test, .. } = &self.protocol;
        let found = &self.agreement;
        let rank = |c: &Correlation| c.words().replace('-', "−");
        Card {
            title: format!(
                "What labels say: {protocol} on {features}, {} test images of {}",
                numbers::count(test.images as u64),
                test.data.join(" ")
            ),
            nets: found.nets,
            ranks: vec![
                ("score", rank(&found.score)),
                ("MACs alone", rank(&found.macs)),
                ("score given MACs", rank(&found.score_given_macs)),
            ],
            rows: found.budgets.iter().map(row).collect(),
            conclusion: self.conclusion,
            worth: self.worth.as_ref().map(|worth| ways(protocol, worth)),
        }
    }
}

fn row(within: &Within) -> Row {
    let net = |w: &Worth| Cell { share: w.words(), net: w.arch.map(|arch| arch.to_string()) };
    let none = || Cell { share: "not evaluated".into(), net: None };
    Row {
        budget: within.budget.clone(),
        evaluated: format!(
            "{} of {}",
            numbers::count(within.evaluated as u64),
            numbers::count(within.candidates as u64)
        ),
        winner: within.winner.as_ref().map_or_else(none, net),
        mean: net(&within.mean),
        best: net(&within.best),
        largest: net(&within.largest),
        verdict: within.verdict(),
    }
}
