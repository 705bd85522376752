//! Who won: the best candidates of every budget, and how sure that is.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::bootstrap::{interval95, resample};
use super::journal::{self, Candidate, Scored};
use super::plan::Group;
use crate::error::{Error, Result};
use crate::files;
use crate::space::{Arch, Metric, Named};
use crate::train::Checkpoint;

/// One of a budget's best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Winner {
    /// 1 is the best.
    pub rank: usize,
    /// What is known of it.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// The share of bootstrap resamples of the search images in which its score is the highest
    /// of its budget. It says how much the choice of search images matters, and nothing about
    /// accuracy or about the noise of training. None where all images gave the same score, so that
    /// resamples cannot differ.
    pub p_best: Option<f64>,
    /// Whether the images do not tell it from the best: the 95 % confidence interval of
    /// the difference (of the same images) holds 0. Of the best: whether there is such another.
    pub tied: bool,
}

/// What was found within a budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BudgetResult {
    /// The budget.
    #[serde(flatten)]
    pub group: Group,
    /// How many were looked at.
    pub candidates: usize,
    /// The best, best first.
    pub winners: Vec<Winner>,
    /// All architectures that the images do not tell from the best, in order of rank, the
    /// best left out.
    pub ties: Vec<String>,
}

impl BudgetResult {
    /// How many nets were looked at: `100 of 8,597 in 3G..4G`; of latencies nobody knows how many
    /// there are, only how many were timed.
    pub fn looked_at(&self) -> String {
        let Group { budget, metric, population, .. } = &self.group;
        let all = match metric {
            Metric::Latency => format!("the {population} that were timed"),
            _ => population.to_string(),
        };
        format!("{} of {all} in {budget}", self.candidates)
    }
}

/// The budgets of a search's `winners.json`; none while the search has not finished.
pub fn read(dir: &Path) -> Result<Option<Vec<BudgetResult>>> {
    /// As much of the file as counts here.
    #[derive(Deserialize)]
    struct Winners {
        budgets: Vec<BudgetResult>,
    }
    let path = dir.join(journal::WINNERS);
    match path.exists() {
        true => Ok(Some(files::read_json::<Winners>(&path)?.budgets)),
        false => Ok(None),
    }
}

/// The architecture that won the searches in a run's folder.
///
/// # Errors
/// [`crate::Kind::Usage`] where no search has finished, or where they have several winners.
pub fn of_run(run: &Path) -> Result<Arch> {
    let root = run.join("search");
    let mut dirs: Vec<_> = match root.is_dir() {
        true => fs::read_dir(&root)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(|e| Error::read(&root, e))?,
        false => Vec::new(),
    };
    dirs.sort();
    let mut found: Vec<(Arch, String)> = Vec::new();
    for dir in &dirs {
        let tag = dir.file_name().unwrap_or_default().to_string_lossy();
        for budget in read(dir)?.unwrap_or_default() {
            if let Some(best) = budget.winners.first() {
                found.push((best.candidate.arch, format!("{} of {tag}", budget.group.budget)));
            }
        }
    }
    match found.first() {
        None => Err(Error::usage(format!(
            "expected a finished search in {}, found none: run `engine search --ckpt` first, or name \
             an architecture by its ID",
            root.display()
        ))),
        Some((first, _)) if found.iter().all(|(arch, _)| arch == first) => Ok(*first),
        Some(_) => {
            let all: Vec<String> =
                found.iter().take(8).map(|(arch, of)| format!("{arch} ({of})")).collect();
            let more = if found.len() > all.len() { ", …" } else { "" };
            Err(Error::usage(format!(
                "the searches in {} have several winners: name one by its ID: {}{more}",
                root.display(),
                all.join(", ")
            )))
        }
    }
}

/// Scores of images that lie closer together than this are the same but for rounding.
const SAME: f64 = 1e-6;

/// Whether a candidate's scores differ from image to image.
fn varies(scores: &[f64]) -> bool {
    let (lo, hi) = scores.iter().fold((f64::MAX, f64::MIN), |(lo, hi), s| (lo.min(*s), hi.max(*s)));
    hi - lo > SAME * hi.abs().max(1.0)
}

/// What is to be said where the images of a search do not differ; none where they do.
pub fn warning(budgets: &[BudgetResult], images: usize) -> Option<String> {
    let mut winners = budgets.iter().flat_map(|b| &b.winners);
    winners.any(|w| w.p_best.is_none()).then(|| {
        format!(
            "all {images} images that were compared give every net the same score, as copies of \
             one image do: expected images that differ; the intervals and the share of resamples \
             say nothing, and the ranking is that of one image; search with other --data"
        )
    })
}

/// Ranks the candidates of a group; equal scores in the order of the candidates. `seed`
/// selects the resamples, the same for all groups.
pub fn rank(group: &Group, scored: &[&Scored], top: usize, seed: u64) -> BudgetResult {
    let mut order: Vec<&Scored> = scored.to_vec();
    order.sort_by(|a, b| b.candidate.score.total_cmp(&a.candidate.score));
    let scores: Vec<&[f64]> = order.iter().map(|s| s.scores.as_slice()).collect();
    let means = resample(seed, &scores);
    let varied = order.iter().any(|s| varies(&s.scores));
    let mut best = vec![0usize; order.len()];
    for resample in &means {
        let champion =
            (0..order.len()).max_by(|&a, &b| resample[a].total_cmp(&resample[b]).then(b.cmp(&a)));
        champion.into_iter().for_each(|i| best[i] += 1);
    }
    let tied: Vec<bool> = (0..order.len())
        .map(|i| {
            let [lo, hi] = interval95(means.iter().map(|m| m[0] - m[i]).collect());
            lo <= 0.0 && 0.0 <= hi
        })
        .collect();
    let winner = |i: usize| Winner {
        rank: i + 1,
        candidate: order[i].candidate.clone(),
        p_best: varied.then(|| best[i] as f64 / means.len() as f64),
        tied: if i == 0 { tied[1..].contains(&true) } else { tied[i] },
    };
    let others = (1..order.len()).filter(|&i| tied[i]);
    BudgetResult {
        group: group.clone(),
        candidates: order.len(),
        winners: (0..order.len().min(top)).map(winner).collect(),
        ties: others.map(|i| order[i].candidate.arch.to_string()).collect(),
    }
}

/// The architecture that `--arch` names in a checkpoint's space and run; the log says which one
/// it is, if it was not named by its ID.
///
/// # Errors
/// Exit 2 where it does not fit in the space, or the run has no one winner.
pub fn find_arch(named: Named, checkpoint: &Checkpoint) -> Result<Arch> {
    let winner = || match checkpoint.run_dir() {
        Some(run) => of_run(&run),
        None => Err(Error::usage(format!(
            "{} lies in no run's folder, so it has no search: name an architecture by its ID",
            checkpoint.dir.display()
        ))),
    };
    let arch = named.within(&checkpoint.space()?, winner).map_err(|e| e.context("--arch"))?;
    if !matches!(named, Named::Id(_)) {
        tracing::info!("--arch {named} is {arch}");
    }
    Ok(arch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};

    fn scored(stem: usize, scores: Vec<f64>) -> Scored {
        let candidate = Candidate {
            arch: Arch { stem, widths: [1; 4], depths: [1; 4] },
            macs: 1,
            params: 1,
            latency_ms: None,
            score: scores.iter().sum::<f64>() / scores.len() as f64,
            levels: Default::default(),
            ci95: [0.0, 0.0],
            images: scores.len(),
            bn_images: 0,
            teacher_step: 0,
        };
        Scored { candidate, scores }
    }

    #[test]
    fn ties_are_told_from_clear_losers() {
        let mut rng = Philox::new(2, Purpose::Check, 0, 0);
        let base: Vec<f64> = (0..300).map(|_| f64::from(rng.normal())).collect();
        // 0.1 up and down by turns: a mean difference of 0.001 cannot be seen, one of 0.1 can,
        // although the images' own scores vary by 1.
        let like = |shift: f64, swing: f64| -> Vec<f64> {
            let turn = |i: usize| if i.is_multiple_of(2) { swing } else { -swing };
            base.iter().enumerate().map(|(i, b)| b + shift + turn(i)).collect()
        };
        let all =
            [scored(3, like(-0.1, 0.1)), scored(2, like(0.001, -0.1)), scored(1, like(0.0, 0.1))];
        let refs: Vec<&Scored> = all.iter().collect();
        let group = Group {
            budget: "given".into(),
            metric: Metric::Macs,
            population: 3,
            archs: Vec::new(),
        };
        let result = rank(&group, &refs, 3, 1);
        let last = &result.winners[2];
        assert_eq!((last.candidate.arch.stem, last.tied, last.p_best), (3, false, Some(0.0)));
        assert_eq!(result.ties, [result.winners[1].candidate.arch.to_string()]);
        assert!((result.winners.iter().filter_map(|w| w.p_best).sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(rank(&group, &refs, 1, 1).winners.len(), 1);
    }

    #[test]
    fn images_that_are_all_the_same_make_nobody_sure() {
        let group = Group {
            budget: "given".into(),
            metric: Metric::Macs,
            population: 2,
            archs: Vec::new(),
        };
        let rounded = |score: f64| (0..50).map(|i| score + 1e-8 * f64::from(i % 3)).collect();
        let all = [scored(1, rounded(0.5)), scored(2, rounded(0.7))];
        let result = rank(&group, &all.iter().collect::<Vec<_>>(), 2, 1);
        assert_eq!(result.winners[0].candidate.arch.stem, 2);
        assert!(result.winners.iter().all(|w| w.p_best.is_none()));
        assert!(warning(&[result], 50).unwrap().contains("all 50 images"));
        // One net that tells the images apart is enough.
        let mut scores: Vec<f64> = rounded(0.6);
        scores[7] = 0.61;
        let all = [scored(1, rounded(0.5)), scored(2, scores)];
        let result = rank(&group, &all.iter().collect::<Vec<_>>(), 2, 1);
        assert_eq!(result.winners[0].p_best, Some(1.0));
        assert_eq!(warning(&[result], 50), None);
    }
}
