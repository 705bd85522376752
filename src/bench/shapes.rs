//! What training runs: every pass of every op, found by running the program itself on a context
//! that only plans.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, PoisonError};

use crate::config::Config;
use crate::device::Cx;
use crate::error::{Error, Result};
use crate::nn::{Feature, Gradients, MlpHead, Norm, Params, Supernet};
use crate::ops::conv2d::Conv2d;
use crate::ops::linear::Linear;
use crate::ops::work::{Situation, Work, of_seen};
use crate::ops::{self, Op, relation};
use crate::optim;
use crate::rng::{Philox, Purpose};
use crate::space::{Arch, Space};
use crate::ssl;
use crate::tape::{Seen, Tape};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Work, and how often each architecture's training step does it.
pub struct Used {
    /// The work.
    pub work: Work,
    /// By architecture; of what is not part of a student's passes, empty.
    pub uses: BTreeMap<Arch, usize>,
}

impl Used {
    /// How often all architectures together do it.
    pub fn count(&self) -> Option<usize> {
        (!self.uses.is_empty()).then(|| self.uses.values().sum())
    }
}

/// Architectures by name: `max`, `min`, `r50` (ResNet-50), `random` (drawn with seed 0), or IDs.
pub fn archs(space: &Space, names: &[String]) -> Result<Vec<Arch>> {
    let one = |name: &String| -> Result<Arch> {
        let arch = match name.as_str() {
            "max" => space.max(),
            "min" => space.min(),
            "r50" => RESNET_50,
            "random" => space.uniform(&mut Philox::new(0, Purpose::Sampler, 0, 0)),
            id => {
                id.parse::<Arch>().map_err(|e| e.context("--archs (or max, min, r50, random)"))?
            }
        };
        space.check(&arch).map(|()| arch).map_err(|e| e.context(format!("--archs {name}")))
    };
    names.iter().map(one).collect()
}

/// The largest net, the smallest, ResNet-50 where the space has it, and a random one, by name.
pub fn usual(space: &Space) -> Result<Vec<(&'static str, Arch)>> {
    let all = ["max", "min", "r50", "random"].map(|name| (name, archs(space, &[name.to_owned()])));
    let fitting = all.into_iter().filter(|(name, found)| *name != "r50" || found.is_ok());
    fitting.map(|(name, found)| Ok((name, found?[0]))).collect()
}

const RESNET_50: Arch = Arch { stem: 64, widths: [64, 128, 256, 512], depths: [3, 4, 6, 3] };

/// All work of a step that trains `archs` on batches of `batch` pictures with values kept in
/// `dtypes`, each once; then the optimizer's, and that of ops which training does not need.
pub fn all(config: &Config, space: &Space, archs: &[Arch], dtypes: &[DType]) -> Result<Vec<Used>> {
    let mut found: Vec<Situation> = Vec::new();
    let mut uses: BTreeMap<String, BTreeMap<Arch, usize>> = BTreeMap::new();
    for &dtype in dtypes {
        for arch in archs {
            for situation in passes(config, space, arch, dtype)?.iter().flat_map(of_seen) {
                let name = situation.name();
                let of_arch = match uses.entry(name) {
                    Entry::Occupied(there) => there.into_mut(),
                    Entry::Vacant(free) => {
                        found.push(situation);
                        free.insert(BTreeMap::new())
                    }
                };
                *of_arch.entry(*arch).or_insert(0) += 1;
            }
        }
        found.extend(ops::other_work(dtype)?);
    }
    let mut works: Vec<Work> = found.into_iter().map(Situation::work).collect::<Result<_>>()?;
    for &dtype in dtypes {
        for arch in archs {
            let scores = scores(config, space, arch, dtype)?;
            let known = |work: &Work| works.iter().any(|w| w.name == work.name);
            let new: Vec<Work> = scores.into_iter().filter(|work| !known(work)).collect();
            works.extend(new);
        }
    }
    works.sort_by_key(|work| work.op);
    works.extend(optim::work(net(config, space).specs()));
    let used = |work: Work| Used { uses: uses.remove(&work.name).unwrap_or_default(), work };
    Ok(works.into_iter().map(used).collect())
}

/// The same, each with a context to time it on. On the CPU values are kept in f32 whatever the
/// operands of products are rounded to: in bf16 there is the work that has some, by that name.
pub fn by_context(
    cx: &Cx,
    config: &Config,
    space: &Space,
    archs: &[Arch],
    dtypes: &[DType],
) -> Result<Vec<(Cx, Vec<Used>)>> {
    if cx.is_device() {
        return Ok(vec![(cx.clone(), all(config, space, archs, dtypes)?)]);
    }
    let one = |&operands: &DType| {
        let mut all = all(config, space, archs, &[DType::F32])?;
        if operands == DType::BF16 {
            let rounds = |work: &Work| [Conv2d::NAME, Linear::NAME].contains(&work.op);
            all.retain(|used| rounds(&used.work) && used.work.flops > 0);
            for Used { work, .. } in &mut all {
                work.name = work.name.replace("/f32", "/bf16");
            }
        }
        Ok((cx.computing_in(operands), all))
    };
    dtypes.iter().map(one).collect()
}

fn net(config: &Config, space: &Space) -> Supernet {
    Supernet::new(space, Some(&MlpHead { hidden: config.moco.hidden, dim: config.moco.dim }))
}

/// What a student's forward and backward pass runs, in order.
fn passes(config: &Config, space: &Space, arch: &Arch, dtype: DType) -> Result<Vec<Seen>> {
    let (cx, seen) = (Cx::plan()?.computing_in(dtype), Mutex::new(Vec::new()));
    let net = net(config, space);
    let params = Params::init(&cx, net.specs(), config.seed)?.ready(&cx)?;
    let method = ssl::build(&cx, config)?;
    let mut tape = Tape::recording(&cx).watched(&seen);
    let x = tape.constant(cx.alloc(pictures(config, space, dtype))?);
    let mut norm = Norm::Batch { group: config.train.bn_group };
    let out = net.forward(&mut tape, &params, x, arch, &mut norm, method.wanted())?;
    let target = |f: &Feature| cx.alloc(out.get(*f).value().meta());
    let target = method.wanted().iter().map(target).collect::<Result<Vec<_>>>()?;
    let loss = method.loss(&mut tape, &out, &target, 1.0)?;
    drop(out);
    let one: Tensor = cx.full(loss.value().shape(), loss.value().dtype(), 1.0)?;
    tape.backward(loss, one, &mut Gradients::zeros(&cx, net.specs())?.0)?;
    Ok(seen.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn pictures(config: &Config, space: &Space, dtype: DType) -> Meta {
    let side = space.resolution;
    Meta::new(Shape::nhwc(config.train.batch, side, side, 3), dtype)
}

/// What a search compares of the largest net and of `arch`, level by level: each pair once.
fn scores(config: &Config, space: &Space, arch: &Arch, dtype: DType) -> Result<Vec<Work>> {
    let cx = Cx::plan()?.computing_in(dtype);
    let net = net(config, space);
    let params = Params::init(&cx, net.specs(), config.seed)?.ready(&cx)?;
    let levels = |arch: &Arch| -> Result<Vec<Meta>> {
        let mut tape = Tape::inference(&cx);
        let x = tape.constant(cx.alloc(pictures(config, space, dtype))?);
        let levels = [Feature::C2, Feature::C3, Feature::C4, Feature::C5];
        let mut norm = Norm::Batch { group: 0 };
        let out = net.forward(&mut tape, &params, x, arch, &mut norm, &levels)?;
        Ok(levels.iter().map(|f| out.get(*f).value().meta()).collect())
    };
    let pairs = levels(&space.max())?.into_iter().zip(levels(arch)?);
    Ok(pairs.flat_map(|(teacher, student)| relation::work::work(teacher, student)).collect())
}

/// Exit 2 where nothing is left.
pub fn filtered(all: Vec<Used>, wanted: impl Fn(&str) -> bool) -> Result<Vec<Used>> {
    let left: Vec<Used> = all.into_iter().filter(|u| wanted(&u.work.name)).collect();
    if left.is_empty() { Err(nothing_left()) } else { Ok(left) }
}

/// What is said where nothing is left.
pub fn nothing_left() -> Error {
    Error::usage("--filter matches no work")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The passes are those of the net: as many convolutions as ResNet-50 has, all of whose
    /// multiply-adds are those that the space's cost says, and no gradient of the pictures.
    #[test]
    fn passes_are_those_of_the_net() {
        let space = Space::preset("data").unwrap();
        let mut config = Config::for_preset("data").unwrap();
        config.train.batch = 2;
        let used = all(&config, &space, &[RESNET_50], &[DType::BF16]).unwrap();
        let of_pass = |pass: &str| {
            let end = format!("/{pass}/bf16");
            let is = |u: &&Used| {
                let name = u.work.name.replace(" added", "");
                u.work.op == "conv2d" && name.ends_with(&end)
            };
            let rows = used.iter().filter(is).map(|u| (u.uses[&RESNET_50], u.work.flops));
            rows.fold((0, 0), |(n, flops), (uses, f)| (n + uses, flops + uses as u64 * f))
        };
        let flops = 2 * 2 * space.cost(&RESNET_50).macs;
        assert_eq!(of_pass("fprop"), (53, flops));
        assert_eq!(of_pass("wgrad"), (53, flops));
        let stem = 2 * 2 * (112 * 112 * 64 * 7 * 7 * 3);
        assert_eq!(of_pass("dgrad"), (52, flops - stem));
    }

    /// A name stands for one op with its parameters, its inputs and what is done with gradients.
    #[test]
    fn names_tell_all_situations_apart() {
        let mut known = BTreeMap::new();
        for preset in ["data", "cifar", "tiny"] {
            let space = Space::preset(preset).unwrap();
            let config = Config::for_preset(preset).unwrap();
            for arch in [space.max(), space.min()] {
                for seen in passes(&config, &space, &arch, DType::F32).unwrap() {
                    let key = format!("{:?} {:?} {:?}", seen.op, seen.inputs, seen.gradients);
                    for situation in of_seen(&seen) {
                        let before = known.insert(situation.name(), key.clone());
                        assert!(before.is_none_or(|b| b == key), "{}: {key}", situation.name());
                    }
                }
            }
        }
        assert!(known.len() > 300, "{}", known.len());
    }
}
