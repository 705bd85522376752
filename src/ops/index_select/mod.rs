//! Images of a batch in another order, and rows by indices that a device has.

pub mod checks;
mod kernels;
pub mod work;

use std::ops::Range;

use super::passes::chunks_mut;
use super::{expect_index, expect_inputs, expect_shape};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{Meta, Shape, Tensor};

/// Image i of the result is image `order[i]` of x `[N,H,W,C]`: `[order.len(),H,W,C]`.
/// Fails where an index is not below N. With a permutation it shuffles a batch; with the
/// inverse permutation it puts it back.
pub fn rows(cx: &Cx, x: &Tensor, order: &[usize]) -> Result<Tensor> {
    rows_of(cx, std::slice::from_ref(x), order)
}

/// The images of a range, which are x itself where they are all.
pub fn range(cx: &Cx, x: &Tensor, images: &Range<usize>) -> Result<Tensor> {
    match images.len() == x.shape().n() {
        true => Ok(x.clone()),
        false => rows(cx, x, &images.clone().collect::<Vec<_>>()),
    }
}

/// As [`rows`], of the images of several tensors `[Nᵢ,H,W,C]` counted on from one to the next.
pub fn rows_of(cx: &Cx, parts: &[Tensor], order: &[usize]) -> Result<Tensor> {
    let Some(first) = parts.first().map(Tensor::meta) else {
        return Err(Error::usage("index_select: expected at least one tensor"));
    };
    let [_, h, w, c] = first.shape.0;
    if let Some(other) = parts.iter().find(|t| t.shape().0[1..] != [h, w, c]) {
        let (a, b) = (first.shape, other.shape());
        return Err(Error::usage(format!(
            "index_select: expected images of one size; found {a}, {b}"
        )));
    }
    let places: Vec<(usize, usize)> = (0..parts.len())
        .flat_map(|part| (0..parts[part].shape().n()).map(move |i| (part, i)))
        .collect();
    if let Some(i) = order.iter().find(|i| **i >= places.len()) {
        let n = places.len();
        return Err(Error::usage(format!("index_select: expected indices below {n}; found {i}")));
    }
    let mut y = cx.alloc(Meta::new(Shape::nhwc(order.len(), h, w, c), first.dtype))?;
    let sources: Vec<(usize, usize)> = order.iter().map(|i| places[*i]).collect();
    let image = h * w * c;
    match cx.exec("index_select") {
        _ if y.shape().elems() == 0 => {}
        Exec::DryRun => {}
        Exec::Cpu => crate::dispatch_element!(first.dtype, T => {
            let parts: Vec<&[T]> = parts.iter().map(Tensor::host).collect();
            chunks_mut(y.shape().elems(), y.host_mut::<T>(), image, |i, y| {
                let (part, row) = sources[i];
                y.copy_from_slice(&parts[part][row * image..][..image]);
            });
        }),
        Exec::Device(launcher) => kernels::rows_of(cx, &launcher, parts, &sources, &mut y)?,
    }
    Ok(y)
}

/// Row i of the result is row `index[i]` of x `[M,1,1,D]`, for indices `[N,1,1,1]` of
/// [`DType::I32`](crate::tensor::DType::I32) which stay where they are: `[N,1,1,D]`. An index that is
/// no row is an error in native code; a kernel, for which the host does not wait, makes its row NaN.
pub fn gather(cx: &Cx, x: &Tensor, index: &Tensor) -> Result<Tensor> {
    expect_inputs(&[x.meta()], &["x"])?;
    let (m, d, n) = (x.shape().n(), x.shape().c(), index.shape().n());
    expect_shape("x", x.shape(), Shape::matrix(m, d))?;
    expect_index("index", &index.meta(), Shape::matrix(n, 1))?;
    let mut y = cx.alloc(Meta::new(Shape::matrix(n, d), x.dtype()))?;
    match cx.exec("index_select") {
        _ if n == 0 => {}
        Exec::DryRun => {}
        Exec::Cpu => {
            let index = index.host::<i32>();
            if let Some(i) = index.iter().find(|i| usize::try_from(**i).map_or(true, |i| i >= m)) {
                return Err(Error::data(format!(
                    "index_select: expected indices from 0 to below {m}; found {i}"
                )));
            }
            crate::dispatch!(x.dtype(), T => {
                let x = x.host::<T>();
                chunks_mut(n * d, y.host_mut::<T>(), d, |i, y| {
                    y.copy_from_slice(&x[index[i] as usize * d..][..d]);
                });
            });
        }
        Exec::Device(launcher) => kernels::gather(&launcher, x, index, &mut y)?,
    }
    Ok(y)
}

/// The permutation that undoes `order`.
pub fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, &o)| inverse[o] = i);
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn a_permutation_and_its_inverse() {
        let cx = Cx::for_tests();
        let values: Vec<f32> = (0..5 * 6).map(|i| i as f32).collect();
        let x = cx.upload(Shape::nhwc(5, 1, 2, 3), DType::F32, &values).unwrap();
        let order = [3, 0, 4, 1, 2];
        let y = rows(&cx, &x, &order).unwrap();
        assert_eq!(&y.host::<f32>()[..6], &values[18..24]);
        let back = rows(&cx, &y, &inverse(&order)).unwrap();
        assert_eq!(back.host::<f32>(), values);
        assert_eq!(rows(&cx, &x, &[2, 2]).unwrap().shape(), Shape::nhwc(2, 1, 2, 3));
        assert!(rows(&cx, &x, &[5]).is_err());
    }
}
