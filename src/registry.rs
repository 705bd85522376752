//! Everything that has kernels, each named once: the [ops](OPS), and the [families](FAMILIES) of
//! kernels that belong to no op. Checks, benchmarks and tests take what they run from here.

use crate::data::{ViewFormat, Views, augment};
use crate::eval::knn;
use crate::nn::ParamSpec;
pub use crate::ops::OPS;
use crate::ops::check::philox;
use crate::ops::work::Work;
use crate::ops::{
    self, Check, cut_mix, global_norm, index_select, matching, proposals, queue_mean, queue_push,
    relation, resize_bilinear,
};
use crate::optim;
use crate::tensor::{DType, Meta};

/// Kernels that belong together and to no op.
pub struct Family {
    /// Its name, with which the names of its checks begin.
    pub name: &'static str,
    /// Its checks, as (name, check).
    pub checks: fn() -> Vec<(String, Check)>,
    /// What of it is timed and counted.
    pub work: fn(&Workload) -> Vec<Work>,
}

/// A step of training, a search and an evaluation, as far as the families' work depends on them.
pub struct Workload<'a> {
    /// Images of a batch.
    pub images: Meta,
    /// How their views are made.
    pub views: &'a Views,
    /// Keys in the queue.
    pub queue: usize,
    /// Length of a key.
    pub dim: usize,
    /// The net's parameters.
    pub params: &'a [ParamSpec],
    /// Feature maps of a teacher, each with a student's.
    pub maps: &'a [(Meta, Meta)],
    /// Length of the features that neighbours are found by.
    pub feature: usize,
    /// Neighbours that are looked for.
    pub neighbours: usize,
}

impl Workload<'_> {
    fn batch(&self) -> usize {
        self.images.shape.n()
    }

    fn dtype(&self) -> DType {
        self.images.dtype
    }

    fn format(&self) -> ViewFormat {
        ViewFormat {
            side: self.images.shape.h(),
            channels: self.images.shape.c(),
            dtype: self.dtype(),
            normalise: self.views.normalise(),
        }
    }
}

/// Training images that queries are compared with: as many as a device takes at a time.
const KEYS: usize = 4096;

/// The kernels that belong to no op.
pub static FAMILIES: &[Family] = &[
    Family {
        name: "augment",
        checks: augment::checks,
        // The loader makes views of images that are not RGB.
        work: |w| match w.images.shape.c() {
            3 => vec![augment::work::work(w.views, w.batch(), w.format())],
            _ => Vec::new(),
        },
    },
    Family {
        name: "cut_mix",
        checks: cut_mix::checks::checks,
        work: |w| vec![cut_mix::work::work(w.images)],
    },
    // Timed among the optimizer's work, on the same gradients.
    Family { name: "global_norm", checks: global_norm::checks::checks, work: |_| Vec::new() },
    Family {
        name: "index_select",
        checks: index_select::checks::checks,
        work: |w| {
            let gather = |rows| index_select::work::gather(rows, w.dim, w.dtype());
            let rows = w.maps.last().map(|(teacher, _)| teacher.shape.rows());
            [index_select::work::work(w.images)].into_iter().chain(rows.map(gather)).collect()
        },
    },
    Family {
        name: "knn",
        checks: knn::checks::checks,
        work: |w| vec![knn::work::work([w.batch(), KEYS, w.feature, w.neighbours])],
    },
    Family {
        name: "matching",
        checks: matching::checks::checks,
        work: |w| w.maps.iter().map(|(t, s)| matching::work::work(*s, *t)).collect(),
    },
    // Draws are made inside of other kernels.
    Family { name: "philox", checks: philox::checks, work: |_| Vec::new() },
    Family {
        name: "proposals",
        checks: proposals::checks::checks,
        work: |w| vec![proposals::work::work(w.batch())],
    },
    Family {
        name: "queue_mean",
        checks: queue_mean::checks::checks,
        work: |w| vec![queue_mean::work::work(w.queue, w.batch(), w.dim, w.dtype())],
    },
    Family {
        name: "queue_push",
        checks: queue_push::checks::checks,
        work: |w| vec![queue_push::work::work(w.queue, w.batch(), w.dim, w.dtype())],
    },
    Family {
        name: "relation",
        checks: relation::checks::checks,
        work: |w| w.maps.iter().flat_map(|(t, s)| relation::work::work(*t, *s)).collect(),
    },
    Family {
        name: "resize_bilinear",
        checks: resize_bilinear::checks::checks,
        work: |w| w.maps.last().map(|(t, _)| resize_bilinear::work::work(*t)).into_iter().collect(),
    },
    Family { name: "sgd", checks: optim::checks, work: |w| optim::work(w.params) },
];

/// All checks of all ops and families, as (name, check).
pub fn checks() -> Vec<(String, Check)> {
    ops::checks().into_iter().chain(FAMILIES.iter().flat_map(|f| (f.checks)())).collect()
}
