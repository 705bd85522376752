// Draws of every kind, to be compared with those of the native code. The mirror of the params,
// and the order of the draws, are in src/ops/check/draws.rs.
#include "include/kernel.h"
#include "include/philox.h"

struct PhiloxDrawsParams {
    u64 seed;
    u64 a;  // index of the first stream; the others follow
    u32 purpose;
    u32 b;
    u32 streams;
    u32 draws;  // words of the output for each stream
};

// One thread a stream.
DEVICE void draw_all(u32* out, const PhiloxDrawsParams& p) {
    u32 stream = global_thread();
    if (stream >= p.streams) return;
    Philox rng(p.seed, p.purpose, p.a + stream, p.b);
    out += stream * p.draws;
    for (int i = 0; i < 7; ++i) *out++ = rng.next_u32();
    for (int i = 0; i < 3; ++i) *out++ = bit_cast<u32>(rng.uniform());
    for (int i = 0; i < 3; ++i) *out++ = bit_cast<u32>(rng.range(-0.3f, 1.7f));
    const u64 limits[4] = {1, 3, 1000, 3ull << 62};
    UNROLL
    for (int i = 0; i < 4; ++i) {
        u64 below = rng.below(limits[i]);
        *out++ = u32(below);
        *out++ = u32(below >> 32);
    }
    for (int i = 0; i < 3; ++i) *out++ = rng.chance(0.3f) ? 1 : 0;
    for (int i = 0; i < 4; ++i) *out++ = bit_cast<u32>(rng.normal());
    *out++ = rng.next_u32();
}

KERNEL(philox_draws, 128, (u32* out, PhiloxDrawsParams p)) { draw_all(out, p); }
