//! Continuing a run: from which checkpoint, whether it is the same run, and what is carried over.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, State};
use super::extend;
use super::job::Tuned;
use super::options::Options;
use crate::config::{Config, Method, flag, resolve, word};
use crate::error::{Error, Kind, Result};
use crate::files::owned::{Existing, Owned};

/// Keys that may differ between a run and its continuation: they do not decide its weights, or,
/// as the precision, only their last digits, and a checkpoint may go on on another device. Epochs
/// may grow ([`extend`]).
const FREE_KEYS: [&str; 10] = [
    "train.precision",
    "data.workers",
    "data.max_corrupt",
    "ckpt.",
    "log.",
    "probe.",
    "guard.",
    "search.",
    "finetune.eval_every",
    extend::EPOCHS,
];

/// Keys that older checkpoints lack and whose default is not what was done without them.
const OLDER: [(&str, &str); 3] =
    [("moco.head_norm", "false"), ("moco.queue_fill", "random"), ("moco.symmetric", "false")];

/// The settings that a checkpoint's run began with, by key.
pub(super) fn began_with(checkpoint: &Checkpoint) -> BTreeMap<String, String> {
    let State { preset, config, .. } = &checkpoint.state;
    let mut settings = Config::defaults(preset, Method::Moco).flat();
    settings.extend(OLDER.map(|(key, value)| (key.to_owned(), value.to_owned())));
    settings.extend(config.clone());
    settings
}

/// The settings of a checkpoint's run.
///
/// # Errors
/// [`Kind::Data`] where they are not settings that this version knows.
pub(super) fn config_of(checkpoint: &Checkpoint) -> Result<Config> {
    let state = &checkpoint.state;
    // That of the settings: fine-tuning has no method of its own.
    let method = state.config.get("method").map_or("moco", String::as_str);
    let preset = flag("the checkpoint", "preset", &state.preset);
    let mut settings = word(&format!("method={method}"))
        .and_then(|method| resolve(&[preset, method]))
        .map_err(|e| Error::data(format!("{}: unknown settings: {e}", checkpoint.dir.display())))?;
    settings
        .inherit(&began_with(checkpoint))
        .map_err(|e| Error::data(format!("{}: unknown settings: {e}", checkpoint.dir.display())))?;
    Ok(settings.config)
}

/// Whether a run continues an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It does not.
    No,
    /// From the newest checkpoint where there is one, else from the start.
    Auto,
    /// From the newest checkpoint, which must be there.
    Must,
    /// From this checkpoint or run.
    From(PathBuf),
}

/// What may happen to a run that is in the output folder.
pub(crate) fn existing(options: &Options) -> Existing {
    match (&options.resume, options.overwrite) {
        (Resume::No, true) => Existing::Replace,
        (Resume::No, false) => Existing::Refuse,
        _ => Existing::Continue,
    }
}

/// The checkpoint to continue from, if any.
pub(super) fn find_checkpoint(options: &Options, owned: &Owned) -> Result<Option<Checkpoint>> {
    match &options.resume {
        Resume::No => Ok(None),
        Resume::From(path) => Checkpoint::open(path).map(Some),
        Resume::Must => Checkpoint::open(&options.out).map(Some).map_err(|e| {
            Error::new(Kind::Resume, format!("--resume must found nothing to continue: {e}"))
        }),
        Resume::Auto if owned.was_empty() => Ok(None),
        Resume::Auto => {
            let found = Checkpoint::newest(&options.out)?;
            if found.is_none() && options.out.join("config.toml").exists() {
                // It was killed before its first checkpoint.
                tracing::warn!("{} has no checkpoint: its run starts again", options.out.display());
            }
            Ok(found)
        }
    }
}

/// A setting that was changed on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Steps done when it was.
    pub step: u64,
    /// The setting.
    pub key: String,
    /// Its value until then.
    pub from: String,
    /// Its value from then on.
    pub to: String,
}

/// Whether a run may go on with another value of a key where its checkpoint is named: what advice
/// for a run that does not learn may name, and which every step reads again.
pub(super) fn may_change(key: &str) -> bool {
    const KEYS: [&str; 8] = [
        "train.lr",
        "train.warmup_epochs",
        "train.weight_decay",
        "moco.tau",
        "moco.ema",
        "byol.ema",
        "ressl.ema",
        "densecl.weight",
    ];
    const BEGINNINGS: [&str; 3] = ["views.", "views2.", "ressl.tau_"];
    KEYS.contains(&key) || BEGINNINGS.iter().any(|beginning| key.starts_with(beginning))
}

/// Refuses a continuation whose settings or images are not those of the checkpoint. Gives the
/// settings that change from here on, which is allowed where the checkpoint was `named`.
pub(super) fn check_same_run(
    checkpoint: &Checkpoint,
    now: &State,
    named: bool,
) -> Result<Vec<Changed>> {
    let then = &checkpoint.state;
    let mismatch = |what: &str, found: &str, expected: &str, advice: &str| {
        Err(Error::new(
            Kind::Resume,
            format!(
                "cannot continue {}: {what} is {found}, but the checkpoint was made with \
                 {expected}; {advice}, or start a new run with another --out (from these weights \
                 with --init)",
                checkpoint.dir.display()
            ),
        ))
    };
    if then.images != now.images {
        let count = |n: u64| format!("{n} images");
        let (found, expected) = (count(now.images), count(then.images));
        return mismatch("the data set", &found, &expected, "use the same images");
    }
    if let (Some(old), Some(new)) = (&then.data, &now.data)
        && old != new
    {
        let digest = |d: &str| format!("other images (digest {})", d.get(..12).unwrap_or(d));
        let expected = format!("as many of digest {}", old.get(..12).unwrap_or(old));
        return mismatch("the data set", &digest(new), &expected, "use the same images");
    }
    if then.tuned != now.tuned {
        let net = |tuned: &Option<Tuned>| match tuned {
            Some(t) => format!("{} with {} classes, labels {}", t.arch, t.classes.len(), t.labels),
            None => "no fine-tuned net".to_owned(),
        };
        let (found, expected) = (net(&now.tuned), net(&then.tuned));
        return mismatch("the net", &found, &expected, "name the same net, classes and labels");
    }
    let began = began_with(checkpoint);
    let mut changed = Vec::new();
    for (key, value) in &now.config {
        let free = FREE_KEYS.iter().any(|f| key == f || (f.ends_with('.') && key.starts_with(f)));
        match began.get(key) {
            _ if free => {}
            None if key.starts_with("finetune.") => {}
            Some(old) if old == value => {}
            Some(old) if named && may_change(key) => changed.push(Changed {
                step: then.step,
                key: key.clone(),
                from: old.clone(),
                to: value.clone(),
            }),
            old => {
                let old = old.map_or("no such key".to_owned(), |o| format!("{key} = {o}"));
                let advice = match may_change(key) {
                    true => format!(
                        "to change it from a step on, name the checkpoint: --resume {}",
                        checkpoint.dir.display()
                    ),
                    false => "use the same settings".to_owned(),
                };
                return mismatch(key, value, &old, &advice);
            }
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cx::Cx;
    use crate::device::emulator::Emulator;
    use crate::ops::Fill;
    use crate::ops::check::values;
    use crate::space::Space;
    use crate::ssl::Begin;
    use crate::tensor::{DType, Shape, Tensor};
    use crate::train::checkpoint::{self, tests::state};
    use crate::train::objective::{Objective, Setup};
    use crate::train::pretrain::Pretrain;

    fn pretrain(cx: &Cx, seed: u64) -> Pretrain {
        let mut config = Config::for_preset("tiny").unwrap();
        (config.seed, config.moco.hidden, config.moco.dim) = (seed, 16, 8);
        config.moco.queue = 10;
        let space = &Space::preset("tiny").unwrap();
        let setup = Setup { config: &config, space, classes: 0, begin: Begin::Seeded };
        Pretrain::new(cx, &setup).unwrap()
    }

    #[test]
    fn keys_that_decide_nothing_may_be_new_or_other() {
        let mut now = state(0);
        now.config = Config::for_preset("tiny").unwrap().flat();
        let then = |change: &dyn Fn(&mut State)| {
            let mut state = now.clone();
            change(&mut state);
            Checkpoint { dir: "step-00000000".into(), state }
        };
        let free = then(&|state| {
            state.config.remove("probe.every");
            state.config.insert("probe.images".into(), "7".into());
        });
        assert_eq!(check_same_run(&free, &now, false).unwrap(), []);
        // A key from before it was there did what its default does.
        let older = then(&|state| drop(state.config.remove("byol.ema")));
        assert_eq!(check_same_run(&older, &now, false).unwrap(), []);
        now.config.insert("byol.ema".into(), "0.5".into());
        let said = check_same_run(&older, &now, false).unwrap_err().to_string();
        assert!(said.contains("byol.ema is 0.5") && said.contains("byol.ema = 0.99"), "{said}");
    }

    #[test]
    fn constants_of_every_method_that_steps_read_again_may_change() {
        for key in ["moco.tau", "byol.ema", "ressl.tau_teacher", "densecl.weight", "views2.blur_p"]
        {
            assert!(may_change(key), "{key}");
        }
        for key in ["moco.queue", "byol.dim", "ressl.hidden", "densecl.level", "train.optimizer"] {
            assert!(!may_change(key), "{key}");
        }
    }

    #[test]
    fn what_advice_names_may_change_where_the_checkpoint_is_named() {
        let mut now = state(0);
        now.config = Config::for_preset("tiny").unwrap().flat();
        let mut then = state(7);
        then.config = now.config.clone();
        then.config.insert("train.lr".into(), "0.5".into());
        let checkpoint = Checkpoint { dir: "run/checkpoints/step-00000007".into(), state: then };
        let changed = check_same_run(&checkpoint, &now, true).unwrap();
        assert_eq!(changed.len(), 1);
        let Changed { step, key, from, to } = &changed[0];
        assert_eq!(
            (*step, key.as_str(), from.as_str(), to.as_str()),
            (7, "train.lr", "0.5", "0.01")
        );
        let said = check_same_run(&checkpoint, &now, false).unwrap_err().to_string();
        assert!(said.contains("--resume run/checkpoints/step-00000007"), "{said}");
    }

    /// Everything that a checkpoint holds, as bits.
    fn bits(cx: &Cx, it: &Pretrain) -> (Vec<Vec<u32>>, u64) {
        let saved = it.state(cx).unwrap();
        let entries = saved.contents.into_iter().flat_map(|(_, entries)| entries);
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
        (entries.map(|(_, _, values)| bits(values)).collect(), saved.pointers["queue"])
    }

    #[test]
    #[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
    fn a_checkpoint_goes_from_device_to_device_bit_for_bit() {
        let emulator = Cx::device(Arc::new(Emulator::new(1).unwrap()), 1).unwrap();
        let (cpu, narrow) = (Cx::for_tests(), emulator.computing_in(DType::BF16));
        moves(&emulator, &[&cpu, &emulator]);
        // The queue is kept in bf16, the weights are not.
        moves(&narrow, &[&cpu, &emulator, &narrow]);
    }

    /// A checkpoint that is written on one device is the same on others.
    fn moves(from: &Cx, to: &[&Cx]) {
        let mut it = pretrain(from, 1);
        for (i, v) in it.optimizer.velocity_mut().iter_mut().enumerate() {
            let values = values(v.shape(), Fill::Normal, i as u64);
            *v = from.upload(v.shape(), DType::F32, &values).unwrap();
        }
        // Subnormal numbers and a negative zero too.
        let keys = [[-0.0, 1e-42, 0.1, -3.5, f32::MIN_POSITIVE, 1.0, 2.0, 0.0]; 7].concat();
        let keys: Tensor = from.upload(Shape::matrix(7, 8), from.dtype(), &keys).unwrap();
        it.method.finish_step(from, &vec![vec![keys]]).unwrap();
        let expected = bits(from, &it);
        assert_eq!(expected.1, 7);

        let run = tempfile::tempdir().unwrap();
        let (mut state, saved) = (state(3), it.state(from).unwrap());
        state.set_pointers(saved.pointers);
        checkpoint::write(&run.path().join("checkpoints"), state, &saved.contents, 1).unwrap();
        let checkpoint = Checkpoint::open(run.path()).unwrap();
        for cx in to {
            let mut other = pretrain(cx, 2);
            assert_ne!(bits(cx, &other), expected);
            other.restore(cx, &checkpoint).unwrap();
            assert_eq!(bits(cx, &other), expected);
        }
    }
}
