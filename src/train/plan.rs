//! Before a run: does it fit into memory?

use super::objective::{Make, Objective, Setup, StepBatch};
use crate::config::Config;
use crate::cx::Cx;
use crate::data::{Batch, Targets};
use crate::device::Layout;
use crate::device::host::{self, Available};
use crate::error::{Error, Kind, Result};
use crate::progress::human_bytes;
use crate::tensor::{Meta, Shape, Tensor};

/// Batches of views that the loader holds: two ready or in the making, one in use.
const LOADED_BATCHES: usize = 3;

/// What a run needs of memory.
struct Needs {
    /// Buffers of tensors, where nets compute.
    layout: Layout,
    /// Memory of the host beside them.
    host_bytes: usize,
}

/// What there is.
struct Room {
    /// Bytes for tensors, those included that are taken already; none where nobody tells.
    tensor_bytes: Option<usize>,
    /// What the host has.
    host: Option<Available>,
    /// Whether tensors lie in the host's memory too.
    is_shared: bool,
    device: String,
}

impl Room {
    fn of(cx: &Cx) -> Result<Self> {
        let taken = cx.memory().reserved_bytes;
        let (is_shared, host) = (!cx.is_device(), host::available());
        Ok(Self {
            tensor_bytes: cx.available_bytes()?.map(|bytes| bytes + taken),
            host: host.map(|a| match is_shared {
                true => Available { bytes: a.bytes + taken, ..a },
                false => a,
            }),
            is_shared,
            device: cx.name(),
        })
    }

    /// What does not fit, in words; none where all does.
    fn lacks(&self, needs: &Needs) -> Option<String> {
        let (tensors, host) = (needs.layout.bytes(), needs.host_bytes);
        let beside = format!("{} for images and checkpoints", human_bytes(host));
        let of_host = |needed: usize, what: String| {
            let room = self.host.as_ref().filter(|room| needed > room.bytes)?;
            let (found, bound) = (human_bytes(room.bytes), &room.bound);
            Some(format!("{what} are needed, {found} are available, bounded by {bound}"))
        };
        if self.is_shared {
            let needed = tensors.saturating_add(host);
            let what =
                format!("{} ({} for tensors, {beside})", human_bytes(needed), human_bytes(tensors));
            return of_host(needed, what);
        }
        match self.tensor_bytes {
            Some(room) if tensors > room => Some(format!(
                "{} are needed, {} are available on {}",
                human_bytes(tensors),
                human_bytes(room),
                self.device
            )),
            _ => of_host(host, beside),
        }
    }
}

/// Runs the step of a run that takes most memory, on a context that plans. Gives the objective's
/// numbers in a checkpoint and what a batch takes.
pub fn rehearsal(cx: &Cx, setup: &Setup, make: &Make) -> Result<Rehearsed> {
    let mut objective = make(cx, setup)?;
    let batch = objective.blank_batch(cx, setup.config.train.batch)?;
    let shapes = batch.views.iter().map(Tensor::shape);
    let (view_elems, channels) =
        shapes.fold((0, 3), |(elems, _), shape| (elems + shape.elems(), shape.c()));
    objective.rehearse(cx, batch)?;
    Ok(Rehearsed { state_elems: objective.state_elems(), view_elems, channels })
}

/// What a rehearsal found beside the memory that it took.
pub struct Rehearsed {
    /// Numbers that a checkpoint holds.
    pub state_elems: usize,
    /// Numbers of a batch of views.
    pub view_elems: usize,
    /// Channels of images.
    pub channels: usize,
}

/// A batch of images without values.
pub fn blank_batch(cx: &Cx, objective: &dyn Objective, n: usize) -> Result<StepBatch> {
    let input = objective.net().space().input();
    let shape = Shape::nhwc(n, input.side, input.side, input.channels());
    let view = |_| cx.alloc(Meta::new(shape, cx.dtype()));
    Ok(Batch {
        step: 0,
        epoch: 0,
        indices: (0..n).collect(),
        targets: objective.labels().then(|| Targets::Classes(vec![0; n])),
        views: objective.views().iter().map(view).collect::<Result<_>>()?,
        wait_ms: 0.0,
    })
}

/// Takes the memory of a run's largest step on a context that plans.
pub type Rehearse<'a> = dyn Fn(&Cx, &Config) -> Result<Rehearsed> + 'a;

/// Plans the memory of a run, and of smaller ones where it does not fit.
pub struct Planner<'a> {
    /// Where it is to run.
    pub cx: &'a Cx,
    /// Its settings.
    pub config: &'a Config,
    /// Its largest step.
    pub rehearse: &'a Rehearse<'a>,
}

/// What beside the step is planned.
#[derive(Clone, Copy)]
struct Beside {
    /// Bytes of decoded images on the device.
    decoded_bytes: usize,
    /// Whether the loader's memory is to be found, as it has not started.
    with_loader: bool,
}

impl Planner<'_> {
    /// Fails where the plan of a run's memory does not fit, before anything is done. Gives the
    /// planned bytes, of tensors and of the host beside them.
    ///
    /// # Errors
    /// [`Kind::Memory`], with the largest batch that fits.
    pub fn check(&self) -> Result<usize> {
        let needs = self.fit(Beside { decoded_bytes: 0, with_loader: true }, |_| Ok(()))?;
        Ok(needs.layout.bytes().saturating_add(needs.host_bytes))
    }

    /// Plans the memory of a run and takes what of it is not taken yet; `decoded_bytes` are those of
    /// decoded images on the device. Gives the planned bytes of tensors.
    ///
    /// # Errors
    /// [`Kind::Memory`], with the largest batch that fits, where they do not.
    pub fn reserve(&self, decoded_bytes: usize) -> Result<usize> {
        // The loader has started: what it holds is not available any more.
        let beside = Beside { decoded_bytes, with_loader: false };
        self.fit(beside, |layout| self.cx.reserve(layout)).map(|needs| needs.layout.bytes())
    }

    /// Plans the run and does with the plan what `take` says. Exit 5 with the largest batch that
    /// fits where either fails for want of memory.
    fn fit(&self, beside: Beside, take: impl FnOnce(&Layout) -> Result<()>) -> Result<Needs> {
        let mut room = Room::of(self.cx)?;
        let attempt = || -> Result<Needs> {
            let needs = self.plan(self.config.train.batch, beside)?;
            if let Some(lacking) = room.lacks(&needs) {
                return Err(Error::memory(format!("out of memory: {lacking}")));
            }
            take(&needs.layout).inspect_err(|_| {
                // What was said to be there is not to be had, in pieces of these sizes at least.
                let most = needs.layout.bytes() / 4 * 3;
                room.tensor_bytes = Some(most);
                room.host = room.host.take().map(|a| Available { bytes: a.bytes.min(most), ..a });
            })?;
            Ok(needs)
        };
        attempt().map_err(|e| match e.kind() {
            Kind::Memory => {
                let advice = self.largest_batch(&room, beside);
                Error::memory(format!("train.batch={}: {e}; {advice}", self.config.train.batch))
            }
            _ => e,
        })
    }

    /// What a run needs with another batch: the buffers that its largest step takes beside decoded
    /// images, found by running it on a context that only counts; and the host's memory for a
    /// checkpoint and for images that are made ahead.
    fn plan(&self, batch: usize, beside: Beside) -> Result<Needs> {
        let share = batch as f64 / self.config.train.batch as f64;
        let decoded_bytes = (beside.decoded_bytes as f64 * share) as usize;
        let mut config = self.config.clone();
        config.train.batch = batch;
        let plan = self.cx.planning();
        let _decoded = (decoded_bytes > 0).then(|| plan.staging_slot(decoded_bytes)).transpose()?;
        let Rehearsed { state_elems, view_elems, channels } = (self.rehearse)(&plan, &config)?;
        let renders = !self.cx.is_device() || channels != 3;
        let loader = match beside.with_loader && renders {
            true => LOADED_BATCHES * view_elems,
            // For a device images are decoded alone, of sizes that nobody knows yet.
            false => 0,
        };
        // A checkpoint is copied before it is written.
        let host_bytes = state_elems.saturating_add(loader).saturating_mul(size_of::<f32>());
        Ok(Needs { layout: plan.layout(), host_bytes })
    }

    /// Says which batch is the largest that fits.
    fn largest_batch(&self, room: &Room, beside: Beside) -> String {
        let Config { train, method, .. } = self.config;
        // A batch is cut into equal parts of two images or more.
        let parts = train.accum;
        let fits = |images: usize| {
            self.plan(images * parts, beside).is_ok_and(|needs| room.lacks(&needs).is_none())
        };
        let (mut low, mut high) = (1, train.batch / parts);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if fits(middle) { low = middle } else { high = middle }
        }
        match low {
            1 => {
                let section = method.section();
                let queue = match self.config.queue() {
                    0 => String::new(),
                    rows => format!("{section}.queue ({rows}), "),
                };
                format!(
                    "no batch fits: use a smaller preset, or lower {queue}{section}.dim ({}) or \
                     train.accum ({parts})",
                    self.config.dim()
                )
            }
            images => format!(
                "the largest that fits is train.batch={}; or raise train.accum",
                images * parts
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::objective::At;
    use super::super::pretrain::Pretrain;
    use super::*;
    use crate::device::emulator::Emulator;
    use crate::space::Space;
    use crate::ssl::Begin;
    use crate::tensor::DType;

    #[test]
    #[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
    fn what_the_largest_net_takes_is_enough_for_all() {
        let emulator = Cx::device(Arc::new(Emulator::new(1).unwrap()), 1).unwrap();
        let devices = [Cx::for_tests(), emulator.computing_in(DType::BF16), emulator];
        for cx in &devices {
            for preset in ["tiny", "cifar", "data"] {
                let space = Space::preset(preset).unwrap();
                let config = Config::for_preset(preset).unwrap();
                let setup =
                    Setup { config: &config, space: &space, classes: 0, begin: Begin::Blank };
                let rehearse = |cx: &Cx, config: &Config| {
                    rehearsal(cx, &Setup { config, ..setup }, &Pretrain::make)
                };
                let planner = Planner { cx, config: &config, rehearse: &rehearse };
                let beside = Beside { decoded_bytes: 0, with_loader: false };
                let layout = planner.plan(config.train.batch, beside).unwrap().layout;
                let cx = cx.planning();
                cx.reserve(&layout).unwrap();
                let reserved = cx.memory();
                let mut objective = Pretrain::make(&cx, &setup).unwrap();
                for step in 0..100 {
                    let batch = blank_batch(&cx, objective.as_ref(), config.train.batch).unwrap();
                    let at = At { step, steps: 100, lr: 0.0 };
                    objective.step(&cx, &at, batch, None, &mut || {}).unwrap();
                }
                let after = cx.memory();
                assert_eq!(after.allocations, reserved.allocations, "{preset}, {}", cx.name());
                assert!(after.peak_bytes <= layout.bytes());
            }
        }
    }
}
