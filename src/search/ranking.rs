//! Whether scores rank nets as labels do: what `eval/correlation-*.json` says of some of a
//! search's candidates that were evaluated.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{
    Agreement, BudgetResult, Candidate, Choosing, Judged, agreement, kendall, read_candidates,
    spearman, winners, worth,
};
use crate::error::Result;
use crate::eval::evaluate::standard_error;
use crate::eval::record::Setup;
use crate::eval::{Baselines, RawBaselines, answers};
use crate::space::Arch;

/// At most `limit` of a search's candidates, by the path of its `candidates.jsonl`: the winners of
/// its budgets, and others spread evenly over the file.
///
/// # Errors
/// Those of reading the search's files.
pub fn sample(file: &Path, limit: Option<usize>) -> Result<Vec<Candidate>> {
    let all = read_candidates(file)?;
    let Some(limit) = limit.filter(|&limit| limit < all.len()) else { return Ok(all) };
    let budgets = read_winners(file)?;
    let won: Vec<Arch> =
        budgets.iter().filter_map(|b| b.winners.first()).map(|w| w.candidate.arch).collect();
    let (mut chosen, others): (Vec<usize>, Vec<usize>) =
        (0..all.len()).partition(|&i| won.contains(&all[i].arch));
    chosen.truncate(limit);
    let rest = limit - chosen.len();
    chosen.extend((0..rest).map(|i| others[i * others.len() / rest]));
    chosen.sort_unstable();
    Ok(chosen.into_iter().map(|i| all[i].clone()).collect())
}

/// The budgets beside a `candidates.jsonl`; none while the search has not finished.
fn read_winners(file: &Path) -> Result<Vec<BudgetResult>> {
    let dir = file.parent().unwrap_or(Path::new("."));
    Ok(winners::read(dir)?.unwrap_or_default())
}

/// Candidates of a search with their accuracies.
pub struct Ranking<'a> {
    /// The `candidates.jsonl` that they are from.
    pub file: &'a Path,
    /// Those that were evaluated.
    pub candidates: &'a [Candidate],
    /// What each is worth.
    pub judged: &'a [Judged],
    /// Seed of resamples.
    pub seed: u64,
    /// How they were evaluated.
    pub setup: Setup,
    /// What pixels and colours are worth, where that was asked for.
    pub raw: Option<RawBaselines>,
    /// Training step of the weights.
    pub step: u64,
    /// `student` or `teacher`.
    pub weights: &'a str,
}

impl Ranking<'_> {
    /// Rank correlations of accuracy with score (`spearman`, `kendall`) and with compute alone
    /// (`spearman_macs`); null where one side is constant.
    pub fn correlation(&self) -> Value {
        let scores: Vec<f64> = self.candidates.iter().map(|c| c.score).collect();
        let macs: Vec<f64> = self.candidates.iter().map(|c| c.macs as f64).collect();
        let accuracies: Vec<f64> = self.judged.iter().map(|j| j.accuracy).collect();
        json!({
            "spearman": spearman(&scores, &accuracies),
            "kendall": kendall(&scores, &accuracies),
            "spearman_macs": spearman(&macs, &accuracies),
        })
    }

    /// The whole search held against these accuracies; none where there are too few.
    ///
    /// # Errors
    /// Those of reading the search's files.
    pub fn agreement(&self) -> Result<Option<Agreement>> {
        let archs = self.candidates.iter().map(|c| c.arch);
        let accuracy = archs.zip(self.judged.iter().map(|j| j.accuracy)).collect();
        let budgets = read_winners(self.file)?;
        let all = read_candidates(self.file)?;
        let tests = self.setup.test.images as u64;
        Ok(agreement(&all, &budgets, &accuracy, tests))
    }

    /// What choosing by the score is worth, and by what needs no search; none where there are too few.
    ///
    /// # Errors
    /// Those of reading the search's files.
    pub fn worth(&self) -> Result<Option<Choosing>> {
        let archs = self.candidates.iter().map(|c| c.arch);
        let judged = archs.zip(self.judged.iter().cloned()).collect();
        let budgets = read_winners(self.file)?;
        Ok(worth(&read_candidates(self.file)?, &budgets, &judged, self.seed))
    }

    /// As it is written.
    ///
    /// # Errors
    /// Those of [`Ranking::agreement`].
    pub fn to_json(&self) -> Result<Map<String, Value>> {
        let subnet = |(c, j): (&Candidate, &Judged)| {
            let stderr = standard_error(j.accuracy, self.setup.test.images);
            json!({
                "arch": c.arch, "macs": c.macs, "params": c.params, "score": c.score,
                "naswot": j.naswot, "accuracy": j.accuracy, "stderr": stderr,
                "correct": answers::to_digits(&j.correct),
            })
        };
        let subnets: Vec<Value> = self.candidates.iter().zip(self.judged).map(subnet).collect();
        let mut all = self.setup.to_json();
        if let Some(raw) = &self.raw {
            let absent = "not computed for each of many nets: evaluate one with --arch ID".into();
            let baselines = Baselines::new(Err(absent), raw.clone(), &self.setup);
            all.insert("baselines".into(), Value::Object(baselines.to_json()));
        }
        all.insert("candidates".into(), json!(self.file.display().to_string()));
        all.insert("step".into(), json!(self.step));
        all.insert("correlation".into(), self.correlation());
        all.insert("subnets".into(), json!(subnets));
        all.insert("weights".into(), json!(self.weights));
        all.insert("agreement".into(), json!(self.agreement()?));
        all.insert("worth".into(), json!(self.worth()?));
        Ok(all)
    }
}
