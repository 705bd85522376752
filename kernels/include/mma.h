// Tensor cores: matrix products of a whole warp, and the loads that lay out their operands.
//
// Lane l holds, with g = l / 4 and t = l % 4,
//   of D and C (16 x 8, f32):        (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1)
//   of A (16 x 16, bf16, two each):  (g, 2t..) (g+8, 2t..) (g, 2t+8..) (g+8, 2t+8..)
//   of B (16 x 8, bf16, two each):   (2t.., g) (2t+8.., g)
//   of A (16 x 8, tf32):             (g, t) (g+8, t) (g, t+4) (g+8, t+4)
//   of B (8 x 8, tf32):              (t, g) (t+4, g)
// as (row, column); of two bf16 in a word the lower half is the first. All lanes take part.
#pragma once

#include "types.h"

// D = A B + D with bf16 operands: 16 x 8 x 16.
DEVICE void mma_m16n8k16_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    EmuFloats sum = emu_mma(EMU_MMA_BF16, EmuFloats{d[0], d[1], d[2], d[3]},
                            EmuWords{a[0], a[1], a[2], a[3]}, b[0], b[1]);
    for (int i = 0; i < 4; i++) d[i] = sum[i];
#endif
}

// D = A B + D with tf32 operands, f32 whose last 13 bits are ignored: 16 x 8 x 8.
DEVICE void mma_m16n8k8_tf32(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    EmuFloats sum = emu_mma(EMU_MMA_TF32, EmuFloats{d[0], d[1], d[2], d[3]},
                            EmuWords{a[0], a[1], a[2], a[3]}, b[0], b[1]);
    for (int i = 0; i < 4; i++) d[i] = sum[i];
#endif
}

// Rounds to tf32: to nearest, ties away from zero.
DEVICE u32 as_tf32(float x) {
#ifdef __CUDACC__
    u32 y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
#else
    u32 b = bit_cast<u32>(x);
    bool is_finite = (b & 0x7f800000) != 0x7f800000;
    return (is_finite ? b + 0x1000 : b) & ~0x1fffu;
#endif
}

// Loads four matrices of 8 x 8 values of 2 bytes from shared memory: lanes 8i to 8i+7 give the
// addresses of the rows of matrix i, 16 bytes each and aligned to them. Lane l gets, of each
// matrix, values (g, 2t) and (g, 2t+1); transposed, (2t, g) and (2t+1, g).
DEVICE void ldmatrix_x4(u32 (&r)[4], const void* row) {
#ifdef __CUDACC__
    u32 address = u32(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
#else
    EmuWords loaded = emu_ldmatrix(EMU_LDMATRIX_X4, row);
    for (int i = 0; i < 4; i++) r[i] = loaded[i];
#endif
}
DEVICE void ldmatrix_x4_trans(u32 (&r)[4], const void* row) {
#ifdef __CUDACC__
    u32 address = u32(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
#else
    EmuWords loaded = emu_ldmatrix(EMU_LDMATRIX_X4_TRANS, row);
    for (int i = 0; i < 4; i++) r[i] = loaded[i];
#endif
}
// The same for two matrices, by the addresses that lanes 0 to 15 give.
DEVICE void ldmatrix_x2(u32 (&r)[2], const void* row) {
#ifdef __CUDACC__
    u32 address = u32(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(address) : "memory");
#else
    EmuWords loaded = emu_ldmatrix(EMU_LDMATRIX_X2, row);
    for (int i = 0; i < 2; i++) r[i] = loaded[i];
#endif
}
DEVICE void ldmatrix_x2_trans(u32 (&r)[2], const void* row) {
#ifdef __CUDACC__
    u32 address = u32(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(address) : "memory");
#else
    EmuWords loaded = emu_ldmatrix(EMU_LDMATRIX_X2_TRANS, row);
    for (int i = 0; i < 2; i++) r[i] = loaded[i];
#endif
}
