//! Working memory of the compute threads: kept by each thread and reused, so that a steady
//! step allocates nothing.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use bytemuck::Pod;

/// A cache line.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

thread_local! {
    /// Buffers that no caller of this thread holds.
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// The smallest free buffer that is large enough, or else the largest.
fn take(lines: usize) -> Vec<Line> {
    FREE.with_borrow_mut(|free| {
        let fits = (0..free.len()).filter(|&i| free[i].len() >= lines);
        let best = fits
            .min_by_key(|&i| free[i].len())
            .or_else(|| (0..free.len()).max_by_key(|&i| free[i].len()));
        best.map(|i| free.swap_remove(i)).unwrap_or_default()
    })
}

/// Calls `f` with `elems` elements of unspecified contents, aligned to a cache line. Calls
/// nest: each holds a buffer of its own.
pub(crate) fn with<T: Pod, R>(elems: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    with_lines(elems * size_of::<T>(), |lines| f(&mut bytemuck::cast_slice_mut(lines)[..elems]))
}

/// As [`with`], for elements of any type, to be written before they are read.
pub(crate) fn with_uninit<U: Copy, R>(
    elems: usize,
    f: impl FnOnce(&mut [MaybeUninit<U>]) -> R,
) -> R {
    const { assert!(align_of::<U>() <= align_of::<Line>()) };
    with_lines(elems * size_of::<U>(), |lines| {
        // SAFETY: the lines are large enough, aligned, and borrowed for as long; any bytes
        // will do for `MaybeUninit`, and any that are left in them for the lines.
        f(unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), elems) })
    })
}

fn with_lines<R>(bytes: usize, f: impl FnOnce(&mut [Line]) -> R) -> R {
    let lines = bytes.div_ceil(size_of::<Line>());
    let mut buffer = take(lines);
    if buffer.len() < lines {
        // Not `resize`, which would copy what nobody wants.
        buffer = vec![Line([0; 64]); lines];
    }
    let out = f(&mut buffer);
    FREE.with_borrow_mut(|free| free.push(buffer));
    out
}
