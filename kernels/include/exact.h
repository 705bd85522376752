// Arithmetic that rounds after every operation, to nearest, so that a kernel gives the bits of
// the native code: nvcc would otherwise fuse a product and the sum that follows into one.
#pragma once

#include "types.h"

#ifdef __CUDACC__

DEVICE float add_rn(float a, float b) { return __fadd_rn(a, b); }
DEVICE float sub_rn(float a, float b) { return __fsub_rn(a, b); }
DEVICE float mul_rn(float a, float b) { return __fmul_rn(a, b); }
DEVICE float div_rn(float a, float b) { return __fdiv_rn(a, b); }
DEVICE double add_rn(double a, double b) { return __dadd_rn(a, b); }
DEVICE double sub_rn(double a, double b) { return __dsub_rn(a, b); }
DEVICE double mul_rn(double a, double b) { return __dmul_rn(a, b); }
DEVICE double div_rn(double a, double b) { return __ddiv_rn(a, b); }
// The upper 64 bits of a product.
DEVICE u64 mul_high(u64 a, u64 b) { return __umul64hi(a, b); }
// The cosine of so many turns of the circle.
DEVICE double cos_turns(double turns) { return cospi(2.0 * turns); }

#else

// The host's compiler is told not to fuse.
DEVICE float add_rn(float a, float b) { return a + b; }
DEVICE float sub_rn(float a, float b) { return a - b; }
DEVICE float mul_rn(float a, float b) { return a * b; }
DEVICE float div_rn(float a, float b) { return a / b; }
DEVICE double add_rn(double a, double b) { return a + b; }
DEVICE double sub_rn(double a, double b) { return a - b; }
DEVICE double mul_rn(double a, double b) { return a * b; }
DEVICE double div_rn(double a, double b) { return a / b; }
DEVICE u64 mul_high(u64 a, u64 b) {
    return u64(static_cast<unsigned __int128>(a) * b >> 64);
}
DEVICE double cos_turns(double turns) { return cos(6.283185307179586 * turns); }

#endif
