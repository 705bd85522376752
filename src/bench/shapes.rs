//! What training runs: every pass of every op, found by running the program itself on a context
//! that only plans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::filter::Filter;
use crate::config::Config;
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::eval::evaluate::NEIGHBOURS;
use crate::nn::{BnMode, Feature, Gradients, Params, Supernet, recalibrate};
use crate::ops::conv2d::Conv2d;
use crate::ops::linear::Linear;
use crate::ops::work::{BenchCase, Work, kind, of_traced};
use crate::ops::{Op, Trace, TraceEntry};
use crate::registry::{FAMILIES, OPS, Workload};
use crate::rng::{Philox, Purpose};
use crate::space::{Arch, Named, Space};
use crate::ssl::{self, Begin};
use crate::tape::Tape;
use crate::tensor::{DType, Meta, Shape, Tensor};
use crate::train::pretrain::by_image;

/// Work, and how often each architecture's training step does it.
pub(super) struct Used {
    /// The work.
    pub work: Work,
    /// By architecture; of what is not part of a student's passes, empty.
    pub uses: BTreeMap<Arch, usize>,
}

impl Used {
    /// How often all architectures together do it.
    pub(super) fn count(&self) -> Option<usize> {
        (!self.uses.is_empty()).then(|| self.uses.values().sum())
    }
}

/// Architectures by name: `max`, `min`, `r50` (ResNet-50), `random` (drawn with seed 0), or IDs.
pub(super) fn archs(space: &Space, names: &[String]) -> Result<Vec<Arch>> {
    let one = |name: &String| -> Result<Arch> {
        if name == "random" {
            return Ok(space.uniform(&mut Philox::new(0, Purpose::Sampler, 0, 0)));
        }
        let no_run =
            || Err(Error::usage("no run is benched: expected max, min, r50, random or an ID"));
        let named = name.parse::<Named>().and_then(|named| named.within(space, no_run));
        named.map_err(|e| e.context("--archs"))
    };
    names.iter().map(one).collect()
}

/// The largest net, the smallest, ResNet-50 where the space has it, and a random one, by name.
pub(super) fn usual(space: &Space) -> Result<Vec<(&'static str, Arch)>> {
    let all = ["max", "min", "r50", "random"].map(|name| (name, archs(space, &[name.to_owned()])));
    let fitting = all.into_iter().filter(|(name, found)| *name != "r50" || found.is_ok());
    fitting.map(|(name, found)| Ok((name, found?[0]))).collect()
}

/// All work of a step that trains `archs` on batches of `batch` images with values kept in
/// `dtypes`, of their frozen passes and scores in a search, of evaluation by neighbours, and that of ops
/// which none of these needs; each once.
pub(super) fn all(
    config: &Config,
    space: &Space,
    archs: &[Arch],
    dtypes: &[DType],
) -> Result<Vec<Used>> {
    let mut works = Works::default();
    let mut uses: BTreeMap<String, BTreeMap<Arch, usize>> = BTreeMap::new();
    for &dtype in dtypes {
        for arch in archs {
            for case in passes(config, space, arch, dtype)?.iter().flat_map(of_traced) {
                *uses.entry(case.name()).or_default().entry(*arch).or_insert(0) += 1;
                works.add_case(case)?;
            }
        }
        let teacher = frozen(config, space, &space.max(), dtype)?;
        let mut maps = Vec::new();
        for arch in archs {
            let student = frozen(config, space, arch, dtype)?;
            for case in student.trace.iter().flat_map(of_traced) {
                works.add_case(case)?;
            }
            maps.extend(teacher.levels.iter().copied().zip(student.levels));
        }
        for case in OPS.iter().flat_map(|op| (op.benches)(dtype)) {
            works.add_case(case)?;
        }
        let net = net(config, space);
        let [views, _] = config.views();
        let workload = Workload {
            images: images(config, space, dtype),
            views: &views,
            queue: config.queue(),
            dim: config.dim(),
            params: net.specs(),
            maps: &maps,
            feature: 4 * space.max().widths[3],
            neighbours: NEIGHBOURS[1],
        };
        for family in FAMILIES {
            (family.work)(&workload).into_iter().for_each(|work| works.add(work));
        }
    }
    let mut works = works.all;
    // Updates are the same for all architectures: they stand behind the passes.
    let rank = |work: &Work| UPDATES.iter().position(|op| *op == work.op).map_or(0, |at| 1 + at);
    works.sort_by_key(|work| (rank(work), work.op));
    let used = |work: Work| Used { uses: uses.remove(&work.name).unwrap_or_default(), work };
    Ok(works.into_iter().map(used).collect())
}

/// What follows the passes of a step, in this order.
const UPDATES: [&str; 3] = ["sgd", "ema", "global_norm"];

/// What is timed or counted.
pub(super) struct Wanted<'a> {
    /// Settings of the step, its batch among them.
    pub config: &'a Config,
    /// The supernet's space.
    pub space: &'a Space,
    /// Its nets.
    pub archs: &'a [Arch],
    /// Side of the matrices of a product besides.
    pub product: Option<usize>,
    /// Which work, by its name.
    pub filter: &'a Filter,
}

impl Wanted<'_> {
    /// The work in each of `dtypes`, with a context to run it on. On the CPU values are kept in
    /// f32 whatever the operands of products are rounded to: in bf16 there is the work that has
    /// some, by that name. Exit 2 where the filter leaves nothing.
    pub(super) fn work(&self, cx: &Cx, dtypes: &[DType]) -> Result<Vec<(Cx, Vec<Used>)>> {
        let on_cpu = |&operands: &DType| {
            let mut all = self.all(&[DType::F32])?;
            if operands == DType::BF16 {
                let rounds = |work: &Work| [Conv2d::NAME, Linear::NAME, PRODUCT].contains(&work.op);
                all.retain(|used| rounds(&used.work) && used.work.flops > 0);
                for Used { work, .. } in &mut all {
                    work.name = work.name.replace("/f32", "/bf16");
                }
            }
            Ok((cx.computing_in(operands), all))
        };
        let mut work = if cx.is_device() {
            vec![(cx.clone(), self.all(dtypes)?)]
        } else {
            dtypes.iter().map(on_cpu).collect::<Result<_>>()?
        };
        for (_, all) in &mut work {
            all.retain(|used| self.filter.matches(&used.work.name));
        }
        match work.iter().all(|(_, all)| all.is_empty()) {
            true => Err(Error::usage("--filter matches no work")),
            false => Ok(work),
        }
    }

    fn all(&self, dtypes: &[DType]) -> Result<Vec<Used>> {
        let mut all = all(self.config, self.space, self.archs, dtypes)?;
        if let Some(n) = self.product {
            let products = dtypes.iter().map(|dtype| product(n, *dtype));
            all.extend(products.collect::<Result<Vec<_>>>()?);
        }
        Ok(all)
    }
}

const PRODUCT: &str = "product";

/// A product of matrices of `n` × `n` by what linear layers run: nothing but its main loop counts.
fn product(n: usize, dtype: DType) -> Result<Used> {
    let matrix = Meta::new(Shape::matrix(n, n), dtype);
    let inputs = vec![matrix, matrix, Meta::new(Shape::vector(n), dtype.accumulation())];
    let entry = TraceEntry { op: Arc::new(Linear::new(n)), inputs, gradients: None };
    let Some(case) = of_traced(&entry).into_iter().next() else {
        return Err(Error::usage("a linear layer has no forward pass"));
    };
    let name = format!("{PRODUCT}/{n}x{n}x{n}/forward/{}", kind(dtype));
    let work = Work { name, op: PRODUCT, ..case.work()? };
    Ok(Used { work, uses: BTreeMap::new() })
}

/// Work, each once.
#[derive(Default)]
struct Works {
    all: Vec<Work>,
    known: BTreeSet<String>,
}

impl Works {
    fn add_case(&mut self, case: BenchCase) -> Result<()> {
        if self.known.insert(case.name()) {
            self.all.push(case.work()?);
        }
        Ok(())
    }

    fn add(&mut self, work: Work) {
        if self.known.insert(work.name.clone()) {
            self.all.push(work);
        }
    }
}

fn net(config: &Config, space: &Space) -> Supernet {
    Supernet::new(space, Some(&ssl::heads(config)))
}

/// What a student's forward and backward passes run, in order.
fn passes(config: &Config, space: &Space, arch: &Arch, dtype: DType) -> Result<Vec<TraceEntry>> {
    let (cx, trace) = (Cx::plan()?.computing_in(dtype), Trace::default());
    let net = net(config, space);
    let params = Params::init(&cx, net.specs(), config.seed)?.ready(&cx)?;
    let method = (ssl::recipe(config).build)(&cx, Begin::Blank)?;
    let wanted = method.reads().student;
    for (pass, views) in method.passes().iter().enumerate() {
        let mut tape = Tape::recording(&cx).traced(&trace);
        let mut out = Vec::new();
        for _view in *views {
            let x = tape.constant(cx.alloc(images(config, space, dtype))?);
            let mut norm = BnMode::Batch { group: config.train.bn_group };
            out.push(net.forward(&mut tape, &params, x, arch, &mut norm, wanted)?);
        }
        let like = |f: &Feature| -> Result<Tensor> {
            let like = cx.alloc(out[0].get(*f).value().meta())?;
            Ok(by_image(like, config.train.batch))
        };
        let target = method.reads().teacher.iter().map(like).collect::<Result<Vec<_>>>()?;
        let targets = method.prepare(&cx, vec![target; method.teacher_views().len()])?;
        let loss = method.loss(&mut tape, pass, &out, &targets, 1.0)?;
        drop(out);
        let one: Tensor = cx.full(loss.value().shape(), loss.value().dtype(), 1.0)?;
        tape.backward(loss, one, Gradients::zeros(&cx, net.specs())?.slots())?;
    }
    Ok(trace.into_entries())
}

fn images(config: &Config, space: &Space, dtype: DType) -> Meta {
    let side = space.resolution;
    Meta::new(Shape::nhwc(config.train.batch, side, side, space.channels()), dtype)
}

/// What computing a search's features of a frozen subnet runs, and what it makes.
struct Frozen {
    trace: Vec<TraceEntry>,
    /// Stages 1 to 4.
    levels: Vec<Meta>,
}

fn frozen(config: &Config, space: &Space, arch: &Arch, dtype: DType) -> Result<Frozen> {
    let (cx, trace) = (Cx::plan()?.computing_in(dtype), Trace::default());
    let net = net(config, space);
    let params = Params::init(&cx, net.specs(), config.seed)?.ready(&cx)?;
    let x = || cx.alloc(images(config, space, dtype));
    let stats = recalibrate(&cx, &net, &params, arch, [x()])?;
    let mut tape = Tape::inference(&cx).traced(&trace);
    let x = tape.constant(x()?);
    let levels = [Feature::C2, Feature::C3, Feature::C4, Feature::C5];
    let out = net.forward(&mut tape, &params, x, arch, &mut BnMode::Frozen(&stats), &levels)?;
    let levels = levels.iter().map(|f| out.get(*f).value().meta()).collect();
    drop((out, tape));
    Ok(Frozen { trace: trace.into_entries(), levels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::emulator::Emulator;
    use crate::device::launches;
    use crate::space::named::RESNET_50;

    /// The passes are those of the net: as many convolutions as ResNet-50 has, all of whose
    /// multiply-adds are those that the space's cost says, and no gradient of the images.
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

    /// Blocks of the smallest GPUs have 99 KiB of shared memory, of the largest 227.
    #[test]
    #[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
    fn launches_fit_the_shared_memory_of_any_gpu() {
        let emulator = Arc::new(Emulator::new(1).unwrap());
        for preset in ["data", "cifar", "tiny"] {
            let space = Space::preset(preset).unwrap();
            let mut config = Config::for_preset(preset).unwrap();
            config.train.batch = 8;
            let archs = [space.max(), space.min()];
            let mut works = all(&config, &space, &archs, &[DType::F32, DType::BF16]).unwrap();
            // Updates launch the same for all nets, and take long to prepare for large ones.
            works.retain(|u| {
                preset == "tiny" || !["sgd", "ema", "global_norm"].contains(&u.work.op)
            });
            for kib in [99, 163, 227] {
                emulator.limit_shared(kib << 10);
                let cx = Cx::device(emulator.clone(), 1).unwrap().planning();
                let launched = launches();
                for Used { work, .. } in &works {
                    let run = || (work.prepare)(&cx, 0)?(&cx)?(&cx);
                    if let Err(e) = run() {
                        panic!("{preset} with {kib} KiB, {}: {e}", work.name);
                    }
                }
                assert!(launches() - launched >= works.len() as u64);
            }
        }
    }

    /// A name stands for one op with its parameters, its inputs and what is done with gradients.
    #[test]
    fn names_tell_all_situations_apart() {
        let mut known = BTreeMap::new();
        for preset in ["data", "cifar", "tiny"] {
            let space = Space::preset(preset).unwrap();
            let config = Config::for_preset(preset).unwrap();
            for arch in [space.max(), space.min()] {
                for entry in passes(&config, &space, &arch, DType::F32).unwrap() {
                    let key = format!("{:?} {:?} {:?}", entry.op, entry.inputs, entry.gradients);
                    for case in of_traced(&entry) {
                        let before = known.insert(case.name(), key.clone());
                        assert!(before.is_none_or(|b| b == key), "{}: {key}", case.name());
                    }
                }
            }
        }
        assert!(known.len() > 300, "{}", known.len());
    }
}
