//! Matrix products on the CPU: C = alpha · A·B + beta · C.
//!
//! Built as in BLIS (Van Zee and van de Geijn, 2015): a `kernel` that keeps a tile of C in
//! registers, `pack`ing into panels that it reads in order, and loops around them
//! (`blocked`) that keep panels in the caches. Convolution has loops of its own on the same
//! kernel. Every sum is taken in an order that depends on the shapes alone, so results are
//! the same for any number of threads.

pub(crate) mod blocked;
pub(crate) mod kernel;
pub(crate) mod narrow;
pub(crate) mod pack;
pub(crate) mod scratch;
mod simd;
pub(crate) mod target;

pub(crate) use blocked::Product;
pub(crate) use pack::Pack;
pub(crate) use target::Columns;

use half::bf16;
use narrow::{Lanes, Rows, Transposed};

use crate::tensor::Real;

/// A matrix to read: element (i, j) is `data[i · row_stride + j · col_stride]`.
#[derive(Clone, Copy)]
pub struct MatRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T: Real> MatRef<'a, T> {
    /// `rows` × `cols` elements with rows one after the other.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols, 1)
    }
    /// `rows` × `cols` elements at given strides, in elements. Panics where `data` is too
    /// short for them, a mistake of the caller.
    pub fn strided(
        data: &'a [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        check_span(data.len(), rows, cols, row_stride, col_stride);
        Self { data, rows, cols, row_stride, col_stride }
    }
    /// The transposed matrix, without a copy.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
    /// Some of its rows, without a copy. Panics where it has them not, a mistake of the
    /// caller.
    pub fn slice(self, rows: std::ops::Range<usize>) -> Self {
        let data = &self.data[rows.start * self.row_stride..];
        Self::strided(data, rows.len(), self.cols, self.row_stride, self.col_stride)
    }
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// A matrix to write: element (i, j) is `data[i · row_stride + j · col_stride]`.
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T: Real> MatMut<'a, T> {
    /// `rows` × `cols` elements with rows one after the other.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols, 1)
    }
    /// `rows` × `cols` elements at given strides, in elements. Panics where `data` is too
    /// short for them, or where two elements would share a place: mistakes of the caller.
    pub fn strided(
        data: &'a mut [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        check_span(data.len(), rows, cols, row_stride, col_stride);
        let (short, long, inner) = match col_stride <= row_stride {
            true => (col_stride, row_stride, cols),
            false => (row_stride, col_stride, rows),
        };
        let apart = rows * cols <= 1 || (short >= 1 && long >= short * inner.max(1));
        let vector = rows.min(cols) <= 1 && row_stride >= 1 && col_stride >= 1;
        assert!(apart || vector, "elements of a {rows}x{cols} matrix to write overlap");
        Self { data, rows, cols, row_stride, col_stride }
    }
    /// The transposed matrix, without a copy.
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// Names of the instruction sets that products of f32 and of operands rounded to bf16 use on this
/// machine, for reports.
pub fn instructions() -> [&'static str; 2] {
    [kernel::fastest::<f32>().name, narrow::fastest().name]
}

/// As [`gemm`], on the calling thread: for blocks of a few hundred rows and columns in an op
/// that makes its own tasks. C's rows must be contiguous, or it panics as [`gemm`] does.
pub(crate) fn gemm_alone<T: Real>(alpha: T, a: MatRef<T>, b: MatRef<T>, beta: T, c: MatMut<T>) {
    assert_eq!((a.rows, b.cols, c.col_stride), (c.rows, c.cols, 1), "shape of C");
    assert_eq!(a.cols, b.rows, "inner dimension");
    let columns = Columns { run: c.cols, run_stride: c.cols };
    let product = Product { m: c.rows, n: c.cols, k: a.cols, a: &a, b: &b.t(), alpha, beta };
    product.run_alone(c.data, c.row_stride, columns);
}

fn check_span(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) {
    if rows > 0 && cols > 0 {
        let last = (rows - 1) * row_stride + (cols - 1) * col_stride;
        assert!(last < len, "a {rows}x{cols} matrix does not lie within {len} elements");
    }
}

/// C = alpha · A·B + beta · C, on the threads of the current pool. At beta = 0 what is in C is
/// not read. Panics where the shapes do not fit, a mistake of the caller.
pub fn gemm<T: Real>(alpha: T, a: MatRef<T>, b: MatRef<T>, beta: T, c: MatMut<T>) {
    assert_eq!((a.rows, b.cols), (c.rows, c.cols), "shape of C");
    assert_eq!(a.cols, b.rows, "inner dimension");
    if c.col_stride > 1 && c.row_stride == 1 {
        return gemm(alpha, b.t(), a.t(), beta, c.t());
    }
    let columns = match c.col_stride {
        1 => Columns { run: c.cols, run_stride: c.cols },
        stride => Columns { run: 1, run_stride: stride },
    };
    let product = Product { m: c.rows, n: c.cols, k: a.cols, a: &a, b: &b.t(), alpha, beta };
    product.run(c.data, c.row_stride, columns);
}

/// As [`gemm`], with operands rounded to bf16. C's rows must be contiguous, and rows or columns
/// of A and of B, or it panics as [`gemm`] does.
pub(crate) fn gemm_narrow(alpha: f32, a: MatRef<f32>, b: MatRef<f32>, beta: f32, c: MatMut<f32>) {
    assert_eq!((a.rows, b.cols, c.col_stride), (c.rows, c.cols, 1), "shape of C");
    assert_eq!(a.cols, b.rows, "inner dimension");
    let b = b.t();
    let (a_rows, a_pairs) = (Rows(a), Transposed(Lanes(a)));
    let (b_rows, b_pairs) = (Transposed(Rows(b)), Lanes(b));
    let (m, n, k) = (c.rows, c.cols, a.cols);
    let a: &dyn Pack<bf16> = if a.col_stride == 1 { &a_rows } else { &a_pairs };
    let b: &dyn Pack<bf16> = if b.col_stride == 1 { &b_rows } else { &b_pairs };
    let product = Product { m, n, k, a, b, alpha, beta };
    product.run(c.data, c.row_stride, Columns { run: n, run_stride: n });
}

#[cfg(test)]
mod tests;
