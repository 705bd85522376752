//! Launches of `kernels/knn.cu`.

use bytemuck::NoUninit;

use super::{Neighbour, Pair};
use crate::cx::Cx;
use crate::device::{DevicePtr, Geometry, Launcher, size};
use crate::error::{Error, Result};
use crate::ops::{gemm_nt, vector};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Keys whose products are computed at a time, and queries: 64 MiB of products.
const KEYS: usize = 4096;
const QUERIES: usize = 4096;
/// Neighbours that shared memory holds: at least, and 32 KiB of them at most.
const LEAST_CAPACITY: u32 = 1024;
const CAPACITY: u32 = 4096;
/// Bytes of a neighbour in the kernel: product and index.
const NEIGHBOUR_BYTES: usize = 8;

/// `KnnProductsParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct ProductsParams {
    queries: u32,
    keys: u32,
    channels: u32,
    tiles: u32,
}

/// `KnnSelectParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct SelectParams {
    keys: u32,
    first: u32,
    most: u32,
    kept: u32,
    capacity: u32,
}

/// The nearest keys of each query, sorted. Keys go to the device a part after the other.
pub(super) fn nearest(cx: &Cx, launcher: &Launcher, pair: &Pair) -> Result<Vec<Vec<Neighbour>>> {
    let Pair { queries, keys, dim, most } = *pair;
    let matrix =
        |values: &[f32]| cx.upload(Shape::matrix(values.len() / dim, dim), DType::F32, values);
    let (rows, tests) = (keys.elems() / dim, queries.elems() / dim);
    size(rows)?;
    let queries = matrix(&queries.read(0..queries.elems())?)?;
    let mut search = Search::new(cx, queries, KEYS.min(rows), most)?;
    for part in keys.pieces(KEYS * dim) {
        search.add(launcher, &matrix(&part?)?)?;
    }
    let best: Vec<u64> = cx.download_bytes(&search.best, tests * most)?;
    Ok(best.chunks(most).map(|row| row.iter().copied().map(decode).collect()).collect())
}

/// Queries and the nearest keys so far, on a device.
pub(super) struct Search {
    queries: Tensor,
    products: Tensor,
    best: Tensor,
    select: SelectParams,
}

impl Search {
    /// For the `most` nearest of each row of `queries`, among keys that come at most `keys` at a
    /// time.
    pub(super) fn new(cx: &Cx, queries: Tensor, keys: usize, most: usize) -> Result<Self> {
        let rows = queries.shape().n();
        size(queries.shape().elems())?;
        let words = size(rows * most * NEIGHBOUR_BYTES / DType::F32.size_bytes())? as usize;
        let scratch = |shape| cx.scratch(Meta::new(shape, DType::F32));
        let most = size(most)?;
        let capacity = capacity(most)?;
        Ok(Self {
            products: scratch(Shape::matrix(rows.min(QUERIES), keys))?,
            best: scratch(Shape::vector(words))?,
            select: SelectParams { keys: 0, first: 0, most, kept: 0, capacity },
            queries,
        })
    }

    /// Compares the queries with more keys.
    pub(super) fn add(&mut self, launcher: &Launcher, keys: &Tensor) -> Result<()> {
        let Self { queries, products, best, select } = self;
        let (rows, dim) = (queries.shape().n(), queries.shape().c());
        select.keys = keys.shape().n() as u32;
        for start in (0..rows).step_by(QUERIES) {
            let n = QUERIES.min(rows - start) as u32;
            let from = queries.device().offset(start * dim * DType::F32.size_bytes());
            multiply(launcher, (from, n), keys, products)?;
            let best = best.device_mut().offset(start * select.most as usize * NEIGHBOUR_BYTES);
            let shared_bytes = select.capacity * NEIGHBOUR_BYTES as u32;
            let geometry = Geometry::linear(n, vector::THREADS).shared(shared_bytes);
            launcher.launch("knn_select_f32", geometry, &[products.device(), best], select)?;
        }
        select.first += select.keys;
        select.kept = select.most.min(select.first);
        Ok(())
    }

    /// What has been found.
    pub(super) fn into_best(self) -> Tensor {
        self.best
    }
}

/// Products of `n` queries from an address on with some keys.
fn multiply(
    launcher: &Launcher,
    (queries, n): (DevicePtr, u32),
    keys: &Tensor,
    products: &mut Tensor,
) -> Result<()> {
    let shape = keys.shape();
    let tiles = (shape.n() as u32).div_ceil(gemm_nt::TILE);
    let params =
        ProductsParams { queries: n, keys: shape.n() as u32, channels: shape.c() as u32, tiles };
    let name = match vector::row_width(shape.c(), DType::F32) {
        1 => "knn_products_scalar_f32",
        _ => "knn_products_f32",
    };
    let geometry = Geometry::linear(n.div_ceil(gemm_nt::TILE) * tiles, gemm_nt::THREADS);
    launcher.launch(name, geometry, &[queries, keys.device(), products.device_mut()], &params)
}

/// Neighbours that shared memory must hold to find so many: these, and as many again or a
/// block's threads.
fn capacity(most: u32) -> Result<u32> {
    if most > CAPACITY - vector::THREADS {
        return Err(Error::usage(format!(
            "knn: expected at most {} neighbours on a device, found {most}; use --device cpu",
            CAPACITY - vector::THREADS
        )));
    }
    Ok((most + most.max(vector::THREADS)).next_power_of_two().clamp(LEAST_CAPACITY, CAPACITY))
}

/// Similarity and index of what the kernel calls a neighbour.
fn decode(neighbour: u64) -> Neighbour {
    let (ordered, index) = ((neighbour >> 32) as u32, !(neighbour as u32));
    let bits = if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered };
    (f32::from_bits(bits), index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_block_beside_the_nearest() {
        for most in [1, 200, 256, 700, 2048, CAPACITY - vector::THREADS] {
            let capacity = capacity(most).unwrap();
            assert!(capacity.is_power_of_two() && capacity >= most + vector::THREADS);
        }
        assert!(capacity(CAPACITY).is_err());
    }
}
