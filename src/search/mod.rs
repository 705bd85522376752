//! Search without labels (paper, section 3.3): of the candidates within a budget, the one
//! whose features on the target images are most like the teacher's, the largest net with
//! averaged weights. Which features count depends on the task.

pub mod agreement;
pub mod bootstrap;
pub mod consistency;
pub mod correlation;
#[cfg(test)]
mod fixture;
pub mod gaps;
pub mod journal;
pub mod latency;
pub mod naswot;
pub mod plan;
mod ranking;
mod request;
pub mod score;
pub mod teacher;
pub mod winners;
pub mod worth;

use std::sync::Arc;

use serde::Serialize;

pub use agreement::{Agreement, agreement};
pub use correlation::{kendall, spearman};
pub use journal::{Candidate, Scored, read_candidates};
pub use plan::{Group, Selection};
pub use ranking::{Ranking, sample};
pub use request::{Bn, Request, Settings, Task};
pub use teacher::Teacher;
pub use winners::{BudgetResult, Winner};
pub use worth::{Choosing, Judged, worth};

use crate::cx::Cx;
use crate::data::{Dataset, Input};
use crate::error::{Error, Kind, Result};
use crate::eval::images::{self, Images};
use crate::eval::progress::Progress;
use crate::files::owned::{Existing, MARK, Owned};
use crate::nn::{Feature, Params, Subnet, Supernet};
use crate::signals::Signals;
use crate::space::{Arch, Metric};
use crate::train::Checkpoint;
use journal::Journal;
use latency::Times;
use score::{Criterion, Target};

/// What a search found: `winners.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Winners {
    /// What the subnets are for; null where only features were named.
    pub task: Option<Task>,
    /// The features that were compared.
    pub features: Vec<Feature>,
    /// The target's images.
    pub data: Vec<String>,
    /// Name of the space.
    pub preset: String,
    /// Training step of the checkpoint.
    pub teacher_step: u64,
    /// Batch norm statistics.
    pub bn: Bn,
    /// Seed.
    pub seed: u64,
    /// Images that were compared.
    pub images: usize,
    /// Whether the teacher could rank anything.
    pub teacher: Teacher,
    /// The winners of every budget.
    pub budgets: Vec<BudgetResult>,
}

/// Makes a search on a checkpoint's weights and a target's images, and returns what it
/// found, which is also in `request.out`. A signal ends it after the candidate in work.
///
/// # Errors
/// [`Kind::Usage`] for impossible budgets or features, [`Kind::Data`] for fewer than two
/// images, [`Kind::Diverged`] where the teacher has collapsed (unless `request.force`),
/// [`Kind::Resume`] where the folder holds another search, [`Kind::Stopped`] or
/// [`Kind::Interrupted`] after a signal.
pub fn run(
    cx: &Cx,
    checkpoint: &Checkpoint,
    dataset: Arc<Dataset>,
    request: &Request,
    signals: &Signals,
) -> Result<Winners> {
    let (owned, resume) = claim(request)?;
    let net = checkpoint.supernet()?;
    let student = checkpoint.student(cx, net.specs())?;
    let (groups, times) = groups(cx, &net, &student, request, resume)?;
    let settings = Settings::new(checkpoint, &dataset, request, &groups)?;
    let (earlier, mut done, known) = if resume {
        let (journal, done) = Journal::resume(&request.out, &settings)?;
        (Some(journal), done, Teacher::read(&request.out)?)
    } else {
        (None, Vec::new(), None)
    };
    let todo: Vec<Arch> = groups.iter().flat_map(|g| g.archs.iter().copied()).collect();
    check_order(&request.out, &done, &todo)?;
    if let (Some(journal), Some(known)) = (&earlier, &known)
        && done.len() == todo.len()
    {
        known.admit(request.force)?;
        return finish(journal, request, &settings, &groups, &done, known.clone());
    }
    let images = take_images(cx, net.space().input(), dataset, request, &settings)?;
    let params = checkpoint.teacher(cx, net.specs())?;
    let work = Work { cx, net, student, images, settings: &settings, times: times.as_ref() };
    let subnet = work.subnet(&params, work.net.space().max())?;
    let verdict = match known {
        Some(known) => known,
        None => work.judge(&subnet, checkpoint.state.is_trained())?,
    };
    verdict.admit(request.force)?;
    let mut journal = match earlier {
        Some(journal) => journal,
        None => {
            owned.clear()?;
            times.iter().try_for_each(|times| times.write(&request.out))?;
            Journal::create(&request.out, &settings)?
        }
    };
    verdict.write(&request.out)?;
    work.score_all(&subnet, &todo, &mut journal, &mut done, request, signals)?;
    finish(&journal, request, &settings, &groups, &done, verdict)
}

/// Takes the search's folder. Whether there is a search in it to go on with: one that was killed
/// before it wrote anything begins again.
fn claim(request: &Request) -> Result<(Owned, bool)> {
    let existing = match (request.resume, request.overwrite) {
        (true, _) => Existing::Continue,
        (false, true) => Existing::Replace,
        (false, false) => Existing::Refuse,
    };
    let was_marked = request.out.join(MARK).exists();
    let owned = Owned::claim(&request.out, &journal::SEARCH, existing)?;
    let resume = request.resume && !(was_marked && owned.was_empty());
    Ok((owned, resume))
}

/// The candidates by budget, and what was timed to find them.
fn groups(
    cx: &Cx,
    net: &Supernet,
    student: &Params,
    request: &Request,
    resume: bool,
) -> Result<(Vec<Group>, Option<Times>)> {
    match &request.selection {
        Selection::Budgets { budgets, metric: Metric::Latency, samples } if !budgets.is_empty() => {
            let known = resume.then_some(request.out.as_path());
            let (seed, samples) = (request.seed, *samples);
            let (groups, times) = latency::groups(cx, net, student, budgets, samples, seed, known)?;
            Ok((groups, Some(times)))
        }
        other => Ok((other.groups(net.space(), request.seed)?, None)),
    }
}

/// The images, the same for all candidates: the first `images` of one seeded order are
/// compared, the first `bn_images` give the statistics.
fn take_images(
    cx: &Cx,
    input: Input,
    dataset: Arc<Dataset>,
    request: &Request,
    settings: &Settings,
) -> Result<Images> {
    let count = settings.images.max(settings.bn_images);
    let indices = images::draw(dataset.len(), Some(count), settings.seed);
    Images::new(dataset, indices, input, request.workers).cached_for(cx, &request.out)
}

/// What candidates are scored with.
struct Work<'a> {
    cx: &'a Cx,
    net: Supernet,
    student: Params,
    images: Images,
    settings: &'a Settings,
    times: Option<&'a Times>,
}

impl Work<'_> {
    /// Whether the teacher, as it is scored against, can rank anything.
    fn judge(&self, teacher: &Subnet, trained: bool) -> Result<Teacher> {
        Teacher::judge(self.cx, teacher, &self.images, self.settings.images, trained)
    }

    /// Scores what is left of `todo`, in order, and writes each candidate down at once.
    fn score_all(
        &self,
        teacher: &Subnet,
        todo: &[Arch],
        journal: &mut Journal,
        done: &mut Vec<Scored>,
        request: &Request,
        signals: &Signals,
    ) -> Result<()> {
        if done.len() == todo.len() {
            return Ok(());
        }
        let Settings { features, images, tau, .. } = self.settings;
        let criterion = Criterion { features, images: *images, tau: *tau };
        let target = Target::new(self.cx, teacher, &self.images, criterion, &request.out)?;
        let mut progress = Progress::new("candidates", todo.len(), done.len());
        for arch in &todo[done.len()..] {
            if let Some(kind) = signals.stop() {
                return Err(stopped(kind, done.len(), todo.len(), request));
            }
            let student = self.subnet(&self.student, *arch)?;
            let scored = self.describe(arch, &target.score(self.cx, &student)?);
            journal.append(&scored)?;
            progress.advance(1, || format!("{arch} {:.4}", scored.candidate.score));
            done.push(scored);
        }
        Ok(())
    }

    /// A subnet with its batch norms settled as the search wants them.
    fn subnet<'a>(&'a self, params: &'a Params, arch: Arch) -> Result<Subnet<'a>> {
        match self.settings.bn {
            Bn::Batch => Ok(Subnet::batch_normalised(&self.net, params, arch)),
            Bn::Recalibrate => {
                let batches = self.images.tensors(self.cx, self.settings.bn_images)?;
                Subnet::recalibrated(self.cx, &self.net, params, arch, batches)
            }
        }
    }

    /// The candidate's line, from its scores as [level][image].
    fn describe(&self, arch: &Arch, levels: &[Vec<f64>]) -> Scored {
        let settings = self.settings;
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let scores: Vec<f64> =
            (0..settings.images).map(|i| levels.iter().map(|level| level[i]).sum()).collect();
        let named = settings.features.iter().zip(levels);
        let cost = self.net.space().cost(arch);
        let candidate = Candidate {
            arch: *arch,
            macs: cost.macs,
            params: cost.params,
            latency_ms: self.times.and_then(|times| times.ms_of(arch)),
            score: mean(&scores),
            levels: named.map(|(f, level)| (f.name().to_owned(), mean(level))).collect(),
            ci95: bootstrap::mean_interval(settings.seed, &scores),
            images: settings.images,
            bn_images: settings.bn_images,
            teacher_step: settings.step,
        };
        Scored { candidate, scores }
    }
}

/// Names the winners of every budget and writes them down.
fn finish(
    journal: &Journal,
    request: &Request,
    settings: &Settings,
    groups: &[Group],
    done: &[Scored],
    teacher: Teacher,
) -> Result<Winners> {
    let mut rest = done;
    let mut budgets = Vec::with_capacity(groups.len());
    for group in groups {
        let (own, others) = rest.split_at(group.archs.len());
        rest = others;
        let own: Vec<&Scored> = own.iter().collect();
        budgets.push(winners::rank(group, &own, request.top, settings.seed));
    }
    let winners = Winners {
        task: settings.task,
        features: settings.features.clone(),
        data: settings.data.clone(),
        preset: settings.preset.name.clone(),
        teacher_step: settings.step,
        bn: settings.bn,
        seed: settings.seed,
        images: settings.images,
        teacher,
        budgets,
    };
    journal.finish(&winners)?;
    if let Some(warning) = winners::warning(&winners.budgets, winners.images) {
        tracing::warn!("{warning}");
    }
    Ok(winners)
}

/// Exit 6 unless what was done is the beginning of what is to do.
fn check_order(out: &std::path::Path, done: &[Scored], todo: &[Arch]) -> Result<()> {
    let wrong = done.iter().enumerate().find(|(i, s)| todo.get(*i) != Some(&s.candidate.arch));
    match wrong {
        None => Ok(()),
        Some((i, s)) => Err(Error::new(
            Kind::Resume,
            format!(
                "line {} of {}/candidates.jsonl is {}, which this search does not have there; \
                 search again with --overwrite",
                i + 1,
                out.display(),
                s.candidate.arch
            ),
        )),
    }
}

fn stopped(kind: Kind, done: usize, all: usize, request: &Request) -> Error {
    Error::new(
        kind,
        format!(
            "stopped after {done} of {all} candidates, which are kept in {}; go on with the same \
             command and --resume",
            request.out.display()
        ),
    )
}
