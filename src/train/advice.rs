//! What to change where embeddings do not spread, given the settings in force.

use std::collections::BTreeMap;

use crate::config::{Config, Method, word};
use crate::space::Space;

/// A queue should be filled with keys of the net's own at least so many times in a run.
const LEAST_REFILLS: f64 = 10.0;
/// Views are mild where crops take at least this share of an image.
const MILD_CROP: f64 = 0.8;
/// Blur suits images of more pixels a side than this.
const SMALL_SIDE: usize = 64;

/// What to change in a run of `steps` steps, each as `key=value` with its reason, the most
/// promising first. `settings` are a run's by key, as [`crate::config::Config::flat`] gives them;
/// what is not among them is not advised on, but for `moco.head_norm` and `moco.queue_fill`, which
/// MoCo runs from before these keys did without.
pub fn advice(settings: &BTreeMap<String, String>, steps: u64) -> Vec<String> {
    let all = [
        norms(settings),
        fill(settings),
        lower_rate(settings),
        warm_up(settings),
        mild_views(settings),
        queue(settings, steps),
    ];
    all.into_iter().flatten().collect()
}

fn number(settings: &BTreeMap<String, String>, key: &str) -> Option<f64> {
    settings.get(key)?.parse().ok()
}

/// With two significant digits at most.
fn rounded(x: f64) -> f64 {
    format!("{x:.1e}").parse().unwrap_or(x)
}

/// The method; MoCo where none is named.
/// The search space.
fn preset(settings: &BTreeMap<String, String>) -> Option<Space> {
    let text = settings.get("preset")?;
    word(&format!("preset={text}")).ok()?.value.try_into().ok()
}

fn method(settings: &BTreeMap<String, String>) -> Method {
    settings.get("method").and_then(|name| name.parse().ok()).unwrap_or(Method::Moco)
}

/// The name of a constant in the section of the method.
fn key_of(settings: &BTreeMap<String, String>, name: &str) -> String {
    format!("{}.{name}", method(settings).section())
}

/// Whether a constant of a method with a queue says so; none where there is no queue.
fn is(settings: &BTreeMap<String, String>, name: &str, value: &str) -> Option<bool> {
    settings.get(&key_of(settings, "queue"))?;
    Some(settings.get(&key_of(settings, name)).is_some_and(|found| found == value))
}

fn norms(settings: &BTreeMap<String, String>) -> Option<String> {
    let on = is(settings, "head_norm", "true")?;
    let key = key_of(settings, "head_norm");
    (!on).then(|| format!("{key}=true (it keeps embeddings apart)"))
}

fn fill(settings: &BTreeMap<String, String>) -> Option<String> {
    let by_teacher = is(settings, "queue_fill", "teacher")?;
    let key = key_of(settings, "queue_fill");
    (!by_teacher).then(|| format!("{key}=teacher (all embeddings flee random keys)"))
}

fn lower_rate(settings: &BTreeMap<String, String>) -> Option<String> {
    let lr = number(settings, "train.lr").filter(|lr| *lr > 0.0)?;
    let third = rounded(lr / 3.0);
    let usual = preset(settings).map(|space| Config::defaults(&space, method(settings)));
    Some(match usual.map(|usual| usual.train.lr).filter(|usual| *usual < third) {
        Some(usual) => format!("train.lr={usual} (the preset's)"),
        None => format!("train.lr={third} (a third)"),
    })
}

fn warm_up(settings: &BTreeMap<String, String>) -> Option<String> {
    let epochs = number(settings, "train.epochs")?;
    number(settings, "train.warmup_epochs").filter(|epochs| *epochs == 0.0)?;
    Some(format!("train.warmup_epochs={} (there is none)", rounded((epochs / 10.0).min(5.0))))
}

fn mild_views(settings: &BTreeMap<String, String>) -> Option<String> {
    let is = |key: &str, strong: &dyn Fn(f64) -> bool| number(settings, key).is_some_and(strong);
    let small = preset(settings).is_some_and(|space| space.resolution <= SMALL_SIDE);
    let mut words = Vec::new();
    if is("views.crop_min", &|share| share < MILD_CROP)
        && is("views.crop_max", &|share| share >= MILD_CROP)
    {
        words.push(format!("views.crop_min={MILD_CROP}"));
    }
    for key in ["views.flip_p", "views.blur_p"] {
        if is(key, &|p| p > 0.0) && (key != "views.blur_p" || small) {
            words.push(format!("{key}=0"));
        }
    }
    (!words.is_empty()).then(|| format!("{} (milder views)", words.join(" ")))
}

fn queue(settings: &BTreeMap<String, String>, steps: u64) -> Option<String> {
    let key = key_of(settings, "queue");
    let (rows, batch) = (number(settings, &key)?, number(settings, "train.batch")?);
    let views = if is(settings, "symmetric", "true")? { 2.0 } else { 1.0 };
    let seen = views * batch * steps as f64;
    if seen >= LEAST_REFILLS * rows {
        return None;
    }
    // A power of two that holds a few batches.
    let better = (seen / LEAST_REFILLS).max(4.0 * batch).max(1.0);
    let better = 2f64.powf(better.log2().floor());
    let refills = seen / rows;
    (better < rows).then(|| format!("{key}={better} (a run fills {rows} only {refills:.1} times)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{resolve, word};

    fn of(words: &[&str], steps: u64) -> String {
        let settings: Vec<_> = words.iter().map(|w| word(w).unwrap()).collect();
        advice(&resolve(&settings).unwrap().config.flat(), steps).join("; ")
    }

    #[test]
    fn only_what_applies_is_advised() {
        let harsh = ["preset=tiny", "train.lr=0.06", "train.epochs=10", "train.batch=128"];
        let views = ["views.crop_min=0.2", "views.blur_p=0.5", "views.flip_p=0.5"];
        let rest = [
            "moco.queue=4096",
            "train.warmup_epochs=0",
            "moco.head_norm=false",
            "moco.queue_fill=random",
            "moco.symmetric=false",
        ];
        let text = of(&[&harsh[..], &views, &rest].concat(), 100);
        assert_eq!(
            text,
            "moco.head_norm=true (it keeps embeddings apart); moco.queue_fill=teacher (all embeddings \
             flee random keys); train.lr=0.01 (the preset's); train.warmup_epochs=1 (there is none); \
             views.crop_min=0.8 views.flip_p=0 views.blur_p=0 (milder views); moco.queue=1024 (a run \
             fills 4096 only 3.1 times)"
        );
        let views = ["views.crop_min=0.9", "views.blur_p=0", "views.flip_p=0"];
        let rest = [
            "moco.queue=1024",
            "train.warmup_epochs=1",
            "moco.head_norm=true",
            "moco.queue_fill=teacher",
        ];
        assert_eq!(of(&[&harsh[..], &views, &rest].concat(), 100), "train.lr=0.01 (the preset's)");
        let rate = of(&["preset=tiny", "train.lr=10"], 1_000_000);
        let usual = Config::for_preset("tiny").unwrap().train.lr;
        assert!(rate.contains(&format!("train.lr={usual} (the preset's)")), "{rate}");
        // Blur suits large images.
        let large = of(&["preset=data", "views.blur_p=0.5", "views.crop_min=0.2"], 1_000_000);
        assert!(large.contains("views.crop_min=0.8") && !large.contains("blur"), "{large}");
        assert!(advice(&BTreeMap::new(), 100).is_empty());
    }
}
