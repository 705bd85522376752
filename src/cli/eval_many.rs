//! `engine eval --archs-from`: many subnets of a search. Do its scores rank them as their accuracies
//! do?

use std::path::Path;

use serde_json::{Map, Value};

use super::Globals;
use super::eval::{Evaluation, baseline_cache, file_name, keep, percent, printed};
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::eval::evaluate::{Beside, evaluate_all};
use crate::eval::progress::Progress;
use crate::eval::{BaselineCache, Splits};
use crate::export::LoadedModel;
use crate::program::output::fitting_table;
use crate::program::{print, print_json};
use crate::search::{self, Judged, Ranking, naswot};
use crate::space::Metric;
use crate::tensor::Tensor;

/// Evaluates the candidates in `file`.
pub(super) fn run(
    cx: &Cx,
    how: &Evaluation,
    globals: &Globals,
    model: &LoadedModel,
    file: &Path,
) -> Result<()> {
    let args = how.args;
    let candidates = search::sample(file, args.limit)?;
    if candidates.len() < 2 {
        return Err(Error::data(format!(
            "{} holds {} candidate(s): expected at least 2 to rank",
            file.display(),
            candidates.len()
        )));
    }
    let options = how.options(globals, model)?;
    let spill = std::env::temp_dir();
    let sets = args.sets(globals, model, cx.threads())?.cached(&spill)?;
    let mut judged = Vec::new();
    let batch = sets.bn.tensors(cx, naswot::IMAGES)?.next().transpose()?;
    let kept = baseline_cache(cx, model, &sets, &options, !args.no_baselines)?;
    let mut raw = kept.as_ref().and_then(BaselineCache::read);
    let mut progress = Progress::new("subnets", candidates.len(), 0);
    for candidate in &candidates {
        let subnet = model.subnet(cx, candidate.arch, &sets.bn)?;
        let wanted = !args.no_baselines && raw.is_none();
        let beside = Beside { raw: wanted, details: false };
        let mut done = evaluate_all(cx, &[&subnet], &sets, &options, beside)?;
        if let (Some(kept), Some(found)) = (&kept, &done.raw) {
            kept.write(found);
        }
        raw = raw.or(done.raw);
        let accuracy = done.nets.remove(0).accuracy();
        progress.advance(1, || format!("{} {:.2} %", candidate.arch, 100.0 * accuracy));
        let untrained = |x: &Tensor| {
            naswot::naswot(cx, model.space(), &candidate.arch, x.clone(), options.seed)
        };
        let naswot = batch.as_ref().map(untrained).transpose()?.flatten();
        judged.push(Judged { accuracy, correct: done.correct.remove(0), naswot });
    }
    drop(progress);
    let ranking = Ranking {
        file,
        candidates: &candidates,
        judged: &judged,
        seed: options.seed,
        setup: how.setup(&options, &sets),
        raw,
        step: model.step,
        weights: model.weights,
    };
    let result = ranking.to_json()?;
    show(&ranking, &result, &sets, globals)?;
    let tag = file.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    let name = format!("correlation-{}-{}", how.protocol, tag.unwrap_or_default());
    keep(model, &file_name(&name, model), &result).map_err(printed)
}

/// Prints what was found.
fn show(
    ranking: &Ranking,
    result: &Map<String, Value>,
    sets: &Splits,
    globals: &Globals,
) -> Result<()> {
    if globals.json {
        return print_json(result);
    }
    let mut text = text(ranking)?;
    if let Some(raw) = &ranking.raw {
        text += &format!(
            "\nWithout a net: raw pixels {}, colour histogram {}, guessing the largest class {}",
            percent(raw.pixels.accuracy()),
            percent(raw.histogram.accuracy()),
            percent(sets.chance())
        );
    }
    print(&text)
}

fn text(ranking: &Ranking) -> Result<String> {
    let mut rows = vec![["architecture", "macs", "score", "accuracy"].map(String::from).to_vec()];
    for (c, judged) in ranking.candidates.iter().zip(ranking.judged) {
        rows.push(vec![
            c.arch.to_string(),
            Metric::Macs.show(c.macs),
            format!("{:.4}", c.score),
            format!("{:.2} %", 100.0 * judged.accuracy),
        ]);
    }
    let correlation = ranking.correlation();
    let show =
        |key: &str| correlation[key].as_f64().map_or("undefined".into(), |r| format!("{r:.3}"));
    let held = match ranking.agreement()? {
        Some(agreement) => {
            let worth = ranking.worth()?.map_or(String::new(), |worth| worth.text());
            format!("{}\n{worth}", agreement.text())
        }
        None => format!("Spearman {}: too few nets to say more.", show("spearman")),
    };
    Ok(format!(
        "{}\nRank correlation of score and accuracy over {} subnets: Kendall {}\n{held}",
        fitting_table(&rows, &["macs"]),
        ranking.candidates.len(),
        show("kendall"),
    ))
}
