//! Rows of several feature maps, such as the scores of sampled anchors.

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_index, expect_inputs, remember_meta, remembered_meta};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{Meta, Shape, Tensor};

/// The op. Inputs: one or more maps `[N,H,W,A·width]`, read as rows of `width` values in the order
/// of memory (of an image, row, column, anchor), those of one map behind those of the map before;
/// then index `[K,1,1,1]` of I32, constant: different numbers of rows, counted through all maps.
/// Output: `[K,1,1,width]` of the maps' type. Its gradient is 0 in rows that were not taken. Saves
/// the index.
///
/// # Errors
/// [`Kind::Data`](crate::Kind::Data) on the CPU for an index that is no row or is there twice. A
/// device, for which the host does not wait, makes the output NaN where there is no such row, and
/// keeps one of the gradients of a row that was taken twice.
#[derive(Clone, Copy, Debug)]
pub struct GatherRows {
    /// Values of a row.
    pub width: usize,
}

/// Rows of maps before the first, the second, …, and of all.
fn starts(maps: impl Iterator<Item = Shape>, width: usize) -> Vec<usize> {
    let mut starts = vec![0];
    for map in maps {
        starts.push(starts[starts.len() - 1] + map.elems() / width);
    }
    starts
}

impl Op for GatherRows {
    const NAME: &'static str = "gather_rows";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        let width = self.width;
        let Some((index, maps)) = inputs.split_last().filter(|(_, maps)| !maps.is_empty()) else {
            let found = inputs.len();
            return Err(Error::usage(format!("expected maps and an index; found {found} inputs")));
        };
        expect_inputs(maps, &vec!["a map"; maps.len()])?;
        if let Some(map) = maps.iter().find(|m| width == 0 || !m.shape.c().is_multiple_of(width)) {
            return Err(Error::usage(format!(
                "expected maps whose channels are whole rows of {width}; found {}",
                map.shape
            )));
        }
        let rows = index.shape.n();
        expect_index("index", index, Shape::matrix(rows, 1))?;
        if rows == 0 {
            return Err(Error::usage("expected at least one index; found none"));
        }
        Ok(Meta::new(Shape::matrix(rows, width), maps[0].dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (maps, index) = inputs.split_at(inputs.len() - 1);
        let (index, width) = (index[0], self.width);
        let starts = starts(maps.iter().map(|m| m.shape()), width);
        let shape = Shape::matrix(index.shape().n(), width);
        let mut y = cx.alloc(Meta::new(shape, maps[0].dtype()))?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => {
                cpu::check(index.host(), starts[maps.len()])?;
                crate::dispatch!(y.dtype(), T => {
                    let maps: Vec<&[T]> = maps.iter().map(|m| m.host()).collect();
                    cpu::forward(width, &starts, &maps, index.host(), y.host_mut());
                });
            }
            Exec::Device(launcher) => kernels::forward(&launcher, &starts, maps, index, &mut y)?,
        }
        let mut saved = vec![index.clone()];
        for map in maps {
            saved.extend(remember_meta(cx, map)?);
        }
        Ok((y, saved))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let index = &saved[0];
        let maps: Vec<Meta> = saved[1..].chunks_exact(2).map(remembered_meta).collect();
        if grads[maps.len()].needed() {
            return Err(Error::usage("an index is a constant: no gradient"));
        }
        let starts = starts(maps.iter().map(|m| m.shape), self.width);
        for (i, (map, grad)) in maps.iter().zip(grads).enumerate() {
            grad.write(cx, *map, |gx, accumulate| {
                if !accumulate {
                    cx.clear(gx)?;
                }
                match cx.exec(Self::NAME) {
                    Exec::DryRun => {}
                    Exec::Cpu => crate::dispatch!(gx.dtype(), T => {
                        let (index, gy) = (index.host(), gy.host::<T>());
                        cpu::backward(self.width, starts[i], index, gy, gx.host_mut())
                    }),
                    Exec::Device(launcher) => {
                        kernels::backward(&launcher, &starts, i, [index, &gy], gx)?
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
