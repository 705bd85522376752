//! Nearest neighbours on a device against the CPU.

use super::{Neighbour, Pair, cpu, kernels};
use crate::cx::{Cx, Exec};
use crate::eval::store::Store;
use crate::ops::check::{on_schedules, values};
use crate::ops::{Check, Fill, Outcome};
use crate::tensor::Shape;

/// Queries, keys, length and neighbours wanted. The products of small whole numbers are exact,
/// and equal ones many: they must come by index.
const SIZES: [(&str, [usize; 4]); 6] = [
    ("one of one", [1, 1, 1, 1]),
    ("all of few", [3, 5, 7, 5]),
    ("several tiles", [70, 130, 36, 20]),
    ("more than a sort holds", [3, 3000, 4, 200]),
    ("several parts", [2, 4500, 4, 33]),
    ("many neighbours", [1, 2500, 8, 1500]),
];

/// All checks, as (name, check). They skip the CPU, which they compare with.
pub fn checks() -> Vec<(String, Check)> {
    let check = |(name, sizes): (&str, [usize; 4])| -> (String, Check) {
        (format!("knn/{name}"), Box::new(move |cx| against_cpu(cx, sizes)))
    };
    SIZES.into_iter().map(check).collect()
}

fn against_cpu(cx: &Cx, [n, m, dim, most]: [usize; 4]) -> Result<Outcome, String> {
    let whole = Fill::Integers { lo: -2, hi: 2 };
    let [queries, keys]: [Store; 2] =
        [n, m].map(|rows| values(Shape::matrix(rows, dim), whole, rows as u64).into());
    let pair = Pair { queries: &queries, keys: &keys, dim, most };
    let Exec::Device(launcher) = cx.exec("knn") else { return Ok(Outcome::Skipped) };
    let expected = cpu::nearest(&pair).map_err(|e| e.to_string())?;
    on_schedules(cx, |cx| -> Result<Vec<Vec<Neighbour>>, String> {
        let found = kernels::nearest(cx, &launcher, &pair).map_err(|e| e.to_string())?;
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            if let Some(at) = (0..most).find(|at| found.get(*at) != expected.get(*at)) {
                let [found, expected] = [found, expected].map(|x| x.get(at));
                let message = format!("query {i}, neighbour {at}: {found:?}");
                return Err(format!("{message}, expected {expected:?}"));
            }
        }
        if found.len() != expected.len() {
            return Err(format!("{} queries of {}", found.len(), expected.len()));
        }
        Ok(found)
    })
}
