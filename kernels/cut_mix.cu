// Images of a batch, each with a window of another one (CutMix).
#include "include/kernel.h"

struct CutMixParams {
    u32 elems;            // of the batch
    u32 height, width, channels;
    u32 top, left;        // the window's first pixel
    u32 bottom, right;    // behind its last
};

// Inside the window y[n] is x[partners[n]], outside it is x[n]. A thread has an element.
template <typename T>
DEVICE void mix(const T* x, const i32* partners, T* y, const CutMixParams& p) {
    u32 at = global_thread();
    if (at >= p.elems) return;
    u32 pixel = at / p.channels, row = pixel / p.width;
    u32 n = row / p.height, h = row % p.height, w = pixel % p.width;
    bool inside = h >= p.top && h < p.bottom && w >= p.left && w < p.right;
    u32 image = p.height * p.width * p.channels;
    u32 from = inside ? u32(partners[n]) * image + at % image : at;
    y[at] = x[from];
}

#define CUT_MIX(suffix, T)                                                                  \
    KERNEL(cut_mix##suffix, 256, (const T* x, const i32* partners, T* y, CutMixParams p)) { \
        mix(x, partners, y, p);                                                             \
    }

CUT_MIX(_f32, float)
CUT_MIX(_bf16, bf16)
