//! Concatenation in native code: rows of channels are copied.

use crate::ops::CHUNK;
use crate::ops::passes::chunks_mut;
use crate::tensor::Real;

/// Pixels that a thread takes at a time, of `c` channels.
fn pixels(c: usize) -> usize {
    (CHUNK / c).max(1)
}

/// y = a and b, each with its channels, pixel by pixel.
pub(super) fn forward<T: Real>([(a, ca), (b, cb)]: [(&[T], usize); 2], y: &mut [T]) {
    let (c, pixels) = (ca + cb, pixels(ca + cb));
    chunks_mut(y.len(), y, pixels * c, |i, y| {
        let (a, b) = (&a[i * pixels * ca..], &b[i * pixels * cb..]);
        for (y, (a, b)) in y.chunks_mut(c).zip(a.chunks(ca).zip(b.chunks(cb))) {
            y[..ca].copy_from_slice(a);
            y[ca..].copy_from_slice(b);
        }
    });
}

/// The channels of gy from `from` on, as many as g has.
pub(super) fn backward<T: Real>(
    (gy, c): (&[T], usize),
    from: usize,
    (g, channels): (&mut [T], usize),
) {
    let pixels = pixels(c);
    chunks_mut(g.len(), g, pixels * channels, |i, g| {
        let gy = &gy[i * pixels * c..];
        for (g, gy) in g.chunks_mut(channels).zip(gy.chunks(c)) {
            g.copy_from_slice(&gy[from..][..channels]);
        }
    });
}
