//! Continuing a run: from which checkpoint, whether it is the same run, and what is carried over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, Contents, State};
use super::extend;
use super::iteration::Iteration;
use super::run::Options;
use crate::device::Cx;
use crate::error::{Error, Kind, Result};
use crate::nn::{ParamSpec, Params};

/// Keys that may differ between a run and its continuation: they do not decide its weights, or,
/// as the precision, only their last digits, and a checkpoint may go on on another device. Epochs
/// may grow ([`extend`]).
const FREE_KEYS: [&str; 9] = [
    "train.precision",
    "data.workers",
    "data.max_corrupt",
    "ckpt.",
    "log.",
    "probe.",
    "guard.",
    "search.",
    extend::EPOCHS,
];

/// Keys that older checkpoints lack, and what they did without them.
const OLDER: [(&str, &str); 3] =
    [("moco.head_norm", "false"), ("moco.queue_fill", "random"), ("moco.symmetric", "false")];

/// The settings that a checkpoint's run began with, by key.
pub(super) fn began_with(checkpoint: &Checkpoint) -> BTreeMap<String, String> {
    let older = OLDER.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut settings = BTreeMap::from(older);
    settings.extend(checkpoint.state.config.clone());
    settings
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

/// The checkpoint to continue from, if any.
pub(super) fn find_checkpoint(options: &Options) -> Result<Option<Checkpoint>> {
    match &options.resume {
        Resume::No => Ok(None),
        Resume::From(path) => Checkpoint::open(path).map(Some),
        Resume::Must => Checkpoint::open(&options.out).map(Some).map_err(|e| {
            Error::new(Kind::Resume, format!("--resume must found nothing to continue: {e}"))
        }),
        Resume::Auto if !options.out.join("metrics.jsonl").exists() => Ok(None),
        Resume::Auto => match Checkpoint::newest(&options.out)? {
            // A run that was killed before its first checkpoint starts again.
            None => {
                tracing::warn!("{} has no checkpoint: its run begins anew", options.out.display());
                Ok(None)
            }
            found => Ok(found),
        },
    }
}

/// Refuses an output folder that holds something, unless it is a run that may be deleted.
pub(super) fn expect_replaceable(out: &Path, overwrite: bool) -> Result<()> {
    if !is_occupied(out) {
        return Ok(());
    }
    if !overwrite {
        return Err(Error::usage(format!(
            "{} exists; give --resume to continue the run in it, --overwrite to delete it, or \
             another --out",
            out.display()
        )));
    }
    if !out.join("config.toml").exists() {
        return Err(Error::usage(format!(
            "{} does not look like a run's folder (no config.toml), so --overwrite will not \
             delete it; give another --out",
            out.display()
        )));
    }
    Ok(())
}

/// Deletes the run in an output folder, if there is one: when all that a new one needs is there.
pub(super) fn clear_out(out: &Path) -> Result<()> {
    match is_occupied(out) {
        true => fs::remove_dir_all(out).map_err(|e| Error::write(out, e)),
        false => Ok(()),
    }
}

fn is_occupied(out: &Path) -> bool {
    fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some())
}

/// Refuses a continuation whose settings or pictures are not those of the checkpoint.
pub(super) fn check_same_run(checkpoint: &Checkpoint, now: &State) -> Result<()> {
    let then = &checkpoint.state;
    let mismatch = |what: &str, found: String, expected: String| {
        Err(Error::new(
            Kind::Resume,
            format!(
                "cannot continue {}: {what} is {found}, but the checkpoint was made with \
                 {expected}; use the same settings, or start anew with another --out",
                checkpoint.dir.display()
            ),
        ))
    };
    if then.pictures != now.pictures {
        let count = |n: u64| format!("{n} pictures");
        return mismatch("the data set", count(now.pictures), count(then.pictures));
    }
    let began = began_with(checkpoint);
    for (key, value) in &now.config {
        let free = FREE_KEYS.iter().any(|f| key == f || (f.ends_with('.') && key.starts_with(f)));
        match began.get(key) {
            _ if free => {}
            Some(old) if old == value => {}
            old => {
                let old = old.map_or("no such key".to_owned(), |o| format!("{key} = {o}"));
                return mismatch(key, value.clone(), old);
            }
        }
    }
    Ok(())
}

/// Everything that a checkpoint holds beside its state.
pub(super) fn contents(cx: &Cx, it: &Iteration, state: &mut State) -> Result<Contents> {
    let (queue, pointer) = it.method.state(cx)?;
    state.queue_pointer = pointer;
    let velocity = it.student.specs().iter().zip(&it.velocity).map(|(spec, v)| {
        Ok((format!("momentum.{}", spec.name), spec.torch_shape(), spec.to_torch(&cx.download(v)?)))
    });
    Ok(vec![
        ("student", it.student.to_torch(cx)?),
        ("teacher", it.teacher.to_torch(cx)?),
        ("optimizer", velocity.collect::<Result<_>>()?),
        ("queue", queue),
    ])
}

pub(super) fn restore(cx: &Cx, it: &mut Iteration, checkpoint: &Checkpoint) -> Result<()> {
    let specs = it.net.specs().to_vec();
    it.student = checkpoint.student(cx, &specs)?;
    it.teacher = checkpoint.teacher(cx, &specs)?;
    let prefixed: Vec<_> = specs
        .iter()
        .map(|s| ParamSpec { name: format!("momentum.{}", s.name), ..s.clone() })
        .collect();
    let optimizer = checkpoint.tensors("optimizer")?;
    let origin = checkpoint.dir.join("optimizer.safetensors").display().to_string();
    it.velocity = Params::from_torch(cx, &prefixed, &optimizer, &origin)?.into_values();
    it.method.restore(cx, &checkpoint.tensors("queue")?, checkpoint.state.queue_pointer)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::device::emulator::Emulator;
    use crate::ops::Fill;
    use crate::ops::check::values;
    use crate::space::Space;
    use crate::tensor::{DType, Shape, Tensor};
    use crate::train::checkpoint::{self, tests::state};

    fn iteration(cx: &Cx, seed: u64) -> Iteration {
        let mut config = Config::for_preset("tiny").unwrap();
        (config.seed, config.moco.hidden, config.moco.dim) = (seed, 16, 8);
        config.moco.queue = 10;
        Iteration::new(cx, &config, &Space::preset("tiny").unwrap()).unwrap()
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
        check_same_run(&free, &now).unwrap();
        let missing = then(&|state| drop(state.config.remove("train.lr")));
        let said = check_same_run(&missing, &now).unwrap_err().to_string();
        assert!(said.contains("train.lr") && said.contains("no such key"), "{said}");
    }

    /// Everything that a checkpoint holds, as bits.
    fn bits(cx: &Cx, it: &Iteration) -> (Vec<Vec<u32>>, u64) {
        let mut state = state(3);
        let contents = contents(cx, it, &mut state).unwrap();
        let entries = contents.into_iter().flat_map(|(_, entries)| entries);
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
        (entries.map(|(_, _, values)| bits(values)).collect(), state.queue_pointer)
    }

    #[test]
    fn a_checkpoint_goes_from_device_to_device_bit_for_bit() {
        let emulator = Cx::device(Arc::new(Emulator::new(1).unwrap()), 1).unwrap();
        let (cpu, narrow) = (Cx::for_tests(), emulator.computing_in(DType::BF16));
        moves(&emulator, &[&cpu, &emulator]);
        // The queue is kept in bf16, the weights are not.
        moves(&narrow, &[&cpu, &emulator, &narrow]);
    }

    /// A checkpoint that is written on one device is the same on others.
    fn moves(from: &Cx, to: &[&Cx]) {
        let mut it = iteration(from, 1);
        for (i, v) in it.velocity.iter_mut().enumerate() {
            let values = values(v.shape(), Fill::Normal, i as u64);
            *v = from.upload(v.shape(), DType::F32, &values).unwrap();
        }
        // Subnormal numbers and a negative zero too.
        let keys = [[-0.0, 1e-42, 0.1, -3.5, f32::MIN_POSITIVE, 1.0, 2.0, 0.0]; 7].concat();
        let keys: Tensor = from.upload(Shape::matrix(7, 8), from.dtype(), &keys).unwrap();
        it.method.finish_step(from, &[keys]).unwrap();
        let expected = bits(from, &it);
        assert_eq!(expected.1, 7);

        let run = tempfile::tempdir().unwrap();
        let mut state = state(3);
        let written = contents(from, &it, &mut state).unwrap();
        checkpoint::write(&run.path().join("checkpoints"), state, &written, 1).unwrap();
        let checkpoint = Checkpoint::open(run.path()).unwrap();
        for cx in to {
            let mut other = iteration(cx, 2);
            assert_ne!(bits(cx, &other), expected);
            restore(cx, &mut other, &checkpoint).unwrap();
            assert_eq!(bits(cx, &other), expected);
        }
    }
}
