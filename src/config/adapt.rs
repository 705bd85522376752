//! Defaults that follow the images, for the presets of small images: how many there are decides
//! the epochs, the queue and the warm-up, how alike they are decides the views. A key that the
//! user sets is never touched, and every value that differs from the preset's has its reason.
//! What was measured to choose these rules is in `docs/training.md`.

use toml::Value;

use super::resolve::Resolved;
use super::setting::Origin;
use crate::data::{CROPS, Likeness};
use crate::error::Result;

/// Crops are the strongest by which other images are mistaken for an image's own view in at most
/// this share of pairs.
const CONFUSED_CROPS: f64 = 0.1;
/// Images are mirrored where that makes them mistaken in at most this share of pairs.
const CONFUSED_FLIPS: f64 = 0.25;
/// Epochs of a large data set, at least.
const LEAST_EPOCHS: f64 = 10.0;
/// Share of a run over which the learning rate rises.
const WARMUP: f64 = 0.05;
/// Negatives, at least: what a batch of the smallest data sets is held against.
const LEAST_QUEUE: usize = 64;

/// The queues' sizes.
const QUEUES: [&str; 2] = ["moco.queue", "ressl.queue"];
/// What they become.
const HALF: &str = "at most half of the images, as a power of two, at least 64";

/// The keys that follow the images, and what they become.
pub(super) const FOLLOWING: [(&str, &str); 7] = [
    ("train.lr", "the preset's in proportion to train.batch"),
    (
        "train.epochs",
        "as many as show the images 200,000 times in all (cifar: 10 million), at least 10",
    ),
    ("train.warmup_epochs", "5 % of train.epochs"),
    ("moco.queue", HALF),
    ("ressl.queue", HALF),
    ("views.crop_min", "the smallest share with which crops find their own image again"),
    ("views.flip_p", "0 if images resemble others more than their own mirror image"),
];

/// Sets the keys that follow the images and that nobody has set. `likeness` is asked for only
/// where it decides something. Returns a line for each value that differs from the preset's.
///
/// # Errors
/// Those of `likeness`, and of values that do not go together with what the user set.
pub fn adapt(
    resolved: &mut Resolved,
    images: usize,
    likeness: impl FnOnce() -> Result<Likeness>,
) -> Result<Vec<String>> {
    let Some(budget) = budget(&resolved.config.preset.like) else { return Ok(Vec::new()) };
    let mut said = Vec::new();
    let mut set = |resolved: &mut Resolved, key, value: Value, reason: String| -> Result<()> {
        if let Some(line) = resolved.follow(key, value, &reason)? {
            said.push(line);
        }
        Ok(())
    };
    let defaults = super::Config::defaults(&resolved.config.preset, resolved.config.method);
    let batch = resolved.config.train.batch;
    if batch != defaults.train.batch {
        let lr = defaults.train.lr * batch as f64 / defaults.train.batch as f64;
        set(resolved, "train.lr", lr.into(), format!("in proportion to train.batch={batch}"))?;
    }
    // Fewer images than a batch are gone through again until it is full.
    let epochs = (budget / images.max(batch) as f64).round().max(LEAST_EPOCHS);
    let seen = thousands(epochs * images.max(batch) as f64);
    let reason = format!("so that {images} images are seen {seen} times in all");
    set(resolved, "train.epochs", epochs.into(), reason)?;
    let warmup = (resolved.config.train.epochs * WARMUP * 100.0).round() / 100.0;
    let reason =
        format!("{:.0} % of train.epochs={}", WARMUP * 100.0, resolved.config.train.epochs);
    set(resolved, "train.warmup_epochs", warmup.into(), reason)?;
    if let Some(key) = QUEUES.iter().find(|key| key.starts_with(resolved.config.method.section())) {
        let most = (images / 2).max(LEAST_QUEUE).min(defaults.queue());
        let queue = 1 << most.ilog2();
        let reason = match images / 2 < LEAST_QUEUE {
            true => format!("the least that serves, however few images there are ({images})"),
            false => {
                format!("at most half of the {images} images, so that an image rarely meets itself")
            }
        };
        set(resolved, key, Value::Integer(queue), reason)?;
    }
    if resolved.is_set("views.crop_min") && resolved.is_set("views.flip_p") {
        return Ok(said);
    }
    let likeness = likeness()?;
    let place = likeness.crops.iter().position(|c| *c <= CONFUSED_CROPS);
    let place = place.unwrap_or(CROPS.len() - 1);
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let reason = format!(
        "smaller crops resemble other images more than their own in over {} of pairs ({} at {}, {} \
         here)",
        percent(CONFUSED_CROPS),
        percent(likeness.crops[0]),
        CROPS[0],
        percent(likeness.crops[place]),
    );
    let crop_min = CROPS[place].min(resolved.config.views.crop_max);
    set(resolved, "views.crop_min", crop_min.into(), reason)?;
    if likeness.flip > CONFUSED_FLIPS {
        let flip = percent(likeness.flip);
        let reason =
            format!("images resemble others more than their mirror image in {flip} of pairs");
        set(resolved, "views.flip_p", 0.0.into(), reason)?;
    }
    resolved.config.validate()?;
    Ok(said)
}

/// Images that a run of a preset sees, in all, where there are not many more; none for presets
/// that keep the paper's settings.
fn budget(preset: &str) -> Option<f64> {
    match preset {
        // About ten minutes of two CPU cores.
        "tiny" => Some(200_000.0),
        // 200 epochs of CIFAR-10.
        "cifar" => Some(10_000_000.0),
        _ => None,
    }
}

fn thousands(n: f64) -> String {
    if n < 1e6 { format!("{:.0} thousand", n / 1e3) } else { format!("{:.1} million", n / 1e6) }
}

impl Resolved {
    /// Whether the user set a key, in a file or on the command line.
    pub fn is_set(&self, key: &str) -> bool {
        matches!(self.origin(key), Some(Origin::File(..) | Origin::CommandLine | Origin::Flag(_)))
    }

    /// Sets a key that the user has not set. Returns what to say of it where it changes.
    fn follow(&mut self, key: &'static str, value: Value, reason: &str) -> Result<Option<String>> {
        if self.is_set(key) {
            return Ok(None);
        }
        let before = self.value(key);
        self.replace(key, value, Origin::Images(reason.to_owned()))?;
        let after = self.value(key);
        Ok((after != before).then(|| format!("{key} = {after}, {reason}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{resolve, word};

    fn adapted(words: &[&str], images: usize, crops: f64, flip: f64) -> (Resolved, Vec<String>) {
        let words = words.iter().map(|w| word(w)).collect::<Result<Vec<_>>>().unwrap();
        let mut resolved = resolve(&words).unwrap();
        let mut likeness = Likeness { images: 256, crops: [0.0; CROPS.len()], flip };
        for (c, least) in likeness.crops.iter_mut().zip(CROPS) {
            *c = crops * (1.0 - least);
        }
        let said = adapt(&mut resolved, images, || Ok(likeness)).unwrap();
        (resolved, said)
    }

    #[test]
    fn few_images_that_look_alike() {
        let (resolved, said) = adapted(&["preset=tiny"], 300, 0.5, 0.5);
        let c = &resolved.config;
        assert_eq!((c.train.epochs, c.moco.queue), (667.0, 128));
        assert_eq!((c.views.crop_min, c.views.flip_p), (0.8, 0.0));
        assert!(
            said.iter().any(|l| l.starts_with("views.flip_p = 0.0, images resemble")),
            "{said:?}"
        );
        assert!(resolved.to_toml().contains("# follows the images: "), "{}", resolved.to_toml());
    }

    #[test]
    fn what_the_user_sets_stays() {
        let words = [
            "preset=tiny",
            "train.epochs=3",
            "moco.queue=77",
            "views.crop_min=0.2",
            "views.flip_p=0.5",
        ];
        let (resolved, said) = adapted(&words, 300, 0.5, 0.5);
        let c = &resolved.config;
        assert_eq!((c.train.epochs, c.moco.queue), (3.0, 77));
        assert_eq!((c.views.crop_min, c.views.flip_p, c.train.warmup_epochs), (0.2, 0.5, 0.15));
        assert!(said.iter().all(|l| !l.starts_with("views.")), "{said:?}");
    }

    #[test]
    fn what_follows_goes_together_with_what_the_user_sets() {
        let (resolved, _) = adapted(&["preset=tiny", "views.crop_max=0.5"], 300, 0.5, 0.5);
        assert_eq!(resolved.config.views.crop_min, 0.5);
        let (resolved, _) = adapted(&["preset=cifar", "train.epochs=2"], 300, 0.5, 0.5);
        assert_eq!(resolved.config.train.warmup_epochs, 0.1);
    }

    #[test]
    fn what_follows_is_on_the_list() {
        let (resolved, _) = adapted(&["preset=tiny", "train.batch=64"], 300, 0.5, 0.5);
        let follows = |key: &&str| matches!(resolved.origin(key), Some(Origin::Images(_)));
        let keys: Vec<&str> =
            crate::config::KEYS.iter().map(|key| key.name).filter(follows).collect();
        let mut listed = FOLLOWING.map(|(key, _)| key).to_vec();
        // That of another method.
        listed.retain(|key| *key != "ressl.queue");
        listed.sort_by_key(|key| keys.iter().position(|k| k == key));
        assert_eq!(keys, listed);
    }

    #[test]
    fn the_paper_keeps_its_settings() {
        let (resolved, said) = adapted(&["preset=data"], 300, 0.5, 0.5);
        assert_eq!(resolved.config, crate::config::Config::for_preset("data").unwrap());
        assert!(said.is_empty());
    }

    #[test]
    fn many_different_images_keep_strong_views() {
        let (resolved, _) = adapted(&["preset=tiny"], 50_000, 0.1, 0.1);
        let c = &resolved.config;
        assert_eq!((c.train.epochs, c.views.crop_min, c.views.flip_p), (10.0, 0.2, 0.5));
        let batch = adapted(&["preset=tiny", "train.batch=64"], 50_000, 0.1, 0.1).0;
        assert_eq!(batch.config.train.lr, 64.0 / c.train.batch as f64 * c.train.lr);
    }
}
