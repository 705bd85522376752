//! What a quickstart found, and how it is told.

use std::path::PathBuf;

use serde::Serialize;

use super::domains::Domain;
use crate::program::output::fitting_table;
use crate::progress::human_duration;
use crate::search::{BudgetResult, Task, Teacher, Winners};
use crate::space::Arch;
use crate::space::budget::macs;
use crate::train::Health;

/// How training went.
#[derive(Serialize)]
pub(super) struct Trained {
    pub(super) preset: &'static str,
    pub(super) steps: u64,
    pub(super) images: usize,
    /// Spread of the embeddings in the last step.
    pub(super) spread: f64,
    /// Their rank.
    pub(super) rank: f64,
    /// The verdict on training.
    pub(super) health: Health,
    pub(super) seconds: f64,
}

/// The winner of a budget.
#[derive(Serialize)]
pub(super) struct Won {
    pub(super) domain: String,
    pub(super) task: Task,
    pub(super) budget: String,
    pub(super) arch: Arch,
    pub(super) macs: u64,
    pub(super) score: f64,
    pub(super) ci95: [f64; 2],
    /// Nets that were looked at.
    pub(super) candidates: usize,
    /// Other nets that the images do not tell from it.
    pub(super) ties: usize,
    /// Whether the search's teacher could rank anything.
    pub(super) teacher: Teacher,
}

impl Won {
    /// The best of a budget, if there is one.
    pub(super) fn of(
        domain: &Domain,
        task: Task,
        winners: &Winners,
        budget: &BudgetResult,
    ) -> Option<Self> {
        let best = &budget.winners.first()?.candidate;
        Some(Self {
            domain: domain.name.clone(),
            task,
            budget: budget.group.budget.clone(),
            arch: best.arch,
            macs: best.macs,
            score: best.score,
            ci95: best.ci95,
            candidates: budget.candidates,
            ties: budget.ties.len(),
            teacher: winners.teacher.clone(),
        })
    }
}

/// What a net's features are worth to its nearest neighbours.
#[derive(Serialize)]
pub(super) struct Accuracy {
    pub(super) domain: String,
    pub(super) arch: Arch,
    /// Training step; 0 is the untrained net.
    pub(super) step: u64,
    pub(super) accuracy: f64,
    /// Standard error of the accuracy.
    pub(super) stderr: f64,
    /// Accuracy of raw pixels, without a net.
    pub(super) pixels: Option<f64>,
    /// Accuracy of guessing.
    pub(super) chance: f64,
}

/// What was exported.
#[derive(Serialize)]
pub(super) struct Exported {
    pub(super) arch: Arch,
    pub(super) dir: PathBuf,
    /// Largest difference from the net inside the supernet, relative to the largest value.
    pub(super) max_rel: f64,
    /// Images that it was compared on.
    pub(super) images: usize,
}

/// All of it.
#[derive(Serialize)]
pub(super) struct Found {
    pub(super) out: PathBuf,
    pub(super) report: PathBuf,
    pub(super) domains: Vec<Domain>,
    pub(super) trained: Trained,
    pub(super) won: Vec<Won>,
    pub(super) accuracies: Vec<Accuracy>,
    pub(super) exported: Exported,
    pub(super) seconds: f64,
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

impl Found {
    /// The story for a reader.
    pub(super) fn text(&self) -> String {
        let parts = [
            self.training_text(),
            self.winners_text(),
            self.accuracy_text(),
            self.export_text(),
            self.next_text(),
        ];
        parts.join("\n")
    }

    fn training_text(&self) -> String {
        let t = &self.trained;
        format!(
            "Trained the supernet `{}` on {} images without labels: {} steps in {}.\n\
             Health: {} (spread of the embeddings {:.2}, rank {:.1}).\n",
            t.preset,
            t.images,
            t.steps,
            human_duration(t.seconds),
            t.health,
            t.spread,
            t.rank
        )
    }

    fn winners_text(&self) -> String {
        let head = ["images", "task", "budget", "winner", "compute", "score", "95 %", "of", "ties"];
        let mut rows = vec![row(head)];
        for w in &self.won {
            rows.push(vec![
                w.domain.clone(),
                w.task.to_string(),
                w.budget.clone(),
                w.arch.to_string(),
                macs(w.macs),
                format!("{:.4}", w.score),
                format!("{:.4} to {:.4}", w.ci95[0], w.ci95[1]),
                w.candidates.to_string(),
                w.ties.to_string(),
            ]);
        }
        let mut warnings: Vec<String> = Vec::new();
        for warning in self.won.iter().filter_map(|w| w.teacher.warning()) {
            let line = format!("warning: {warning}\n");
            if !warnings.contains(&line) {
                warnings.push(line);
            }
        }
        format!(
            "Winners, found without labels (most like the teacher; a tie cannot be told from the best):\n{}{}",
            fitting_table(&rows, &["95 %", "of", "ties", "score"]),
            warnings.concat()
        )
    }

    fn accuracy_text(&self) -> String {
        if self.accuracies.is_empty() {
            return "The images have no classes (a folder for each), so nothing was evaluated by \
                    labels.\n"
                .into();
        }
        let mut rows =
            vec![row(["images", "net", "untrained", "trained", "raw pixels", "guessing"])];
        for after in self.accuracies.iter().filter(|a| a.step > 0) {
            let same =
                |a: &&Accuracy| a.step == 0 && a.domain == after.domain && a.arch == after.arch;
            let before = self.accuracies.iter().find(same);
            rows.push(vec![
                after.domain.clone(),
                after.arch.to_string(),
                before.map_or_else(String::new, |b| percent(b.accuracy)),
                format!("{} ±{:.1}", percent(after.accuracy), 100.0 * after.stderr),
                after.pixels.map_or_else(String::new, percent),
                percent(after.chance),
            ]);
        }
        format!(
            "Test images that their 20 nearest neighbours classify correctly (the first two nets are the \
             largest and the smallest; ± is the standard error):\n{}",
            fitting_table(&rows, &["guessing", "untrained"])
        )
    }

    fn export_text(&self) -> String {
        let e = &self.exported;
        format!(
            "Exported {} to {}: read back, it differs from the net inside the supernet \
             by at most {:.0e} of the largest value, over {} images.\n\
             Report: {}   (whole time {})\n",
            e.arch,
            e.dir.display(),
            e.max_rel,
            e.images,
            self.report.display(),
            human_duration(self.seconds)
        )
    }

    fn next_text(&self) -> String {
        let (out, winner) = (self.out.display(), self.exported.dir.display());
        let data = &self.domains[0].train;
        // The one that was searched for detection, on annotated images that can be drawn.
        let detector = self.won.iter().rfind(|won| won.task == Task::DetFpn);
        let detector = detector.map_or(String::new(), |won| {
            format!(
                "  engine data shapes --out runs/shapes\n  \
                 engine finetune --task det-fpn --ckpt {out} --arch {} \\\n    \
                 --data 'runs/shapes#train' --val-data 'runs/shapes#test' --out runs/detector\n",
                won.arch
            )
        });
        format!(
            "Next:\n  \
             engine quickstart --data YOUR_IMAGES --out runs/yours\n  \
             engine train --preset tiny --data YOUR_IMAGES --out runs/longer --probe\n  \
             engine search --ckpt {out} --data '{data}' --task seg \\\n    --budget 5M..8M\n  \
             engine embed --model {winner} --data '{data}' --features pool \\\n    \
             --out features.safetensors\n\
             {detector}\
             In PyTorch, inside {winner}: from model import load; net = load(\".\")"
        )
    }
}
