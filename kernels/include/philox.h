// Counter-based randomness: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011), with the draws of src/rng.rs, bit for bit. `normal` goes through f64
// logarithm and cosine, whose last bits are the library's: rounded to f32 it may be one unit
// in the last place from the native code's, or 1e-14 near 0, where the cosine is.
#pragma once

#include "exact.h"
#include "types.h"

struct PhiloxBlock {
    u32 at0, at1, at2, at3;
};

// One block with ten rounds.
DEVICE PhiloxBlock philox4x32_10(PhiloxBlock c, u32 key0, u32 key1) {
    UNROLL
    for (int round = 0; round < 10; ++round) {
        if (round > 0) {
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
        u64 p0 = u64(c.at0) * 0xD2511F53u;
        u64 p1 = u64(c.at2) * 0xCD9E8D57u;
        c = {u32(p1 >> 32) ^ c.at1 ^ key0, u32(p1), u32(p0 >> 32) ^ c.at3 ^ key1, u32(p0)};
    }
    return c;
}

// A stream of random numbers.
struct Philox {
    u64 seed;
    PhiloxBlock counter;
    PhiloxBlock block;
    u32 used;

    // The stream for a seed, a purpose and the indices a and b.
    DEVICE Philox(u64 seed, u32 purpose, u64 a, u32 b)
        : seed(seed), counter{0, u32(a), u32(a >> 32), purpose << 16 | b}, block{0, 0, 0, 0},
          used(4) {}

    // The next 32 bits.
    DEVICE u32 next_u32() {
        if (used == 4) {
            block = philox4x32_10(counter, u32(seed), u32(seed >> 32));
            counter.at0 += 1;
            used = 0;
        }
        // Chosen, not indexed: the block stays in registers.
        u32 i = used++;
        return i == 0 ? block.at0 : i == 1 ? block.at1 : i == 2 ? block.at2 : block.at3;
    }

    // Uniform in [0, 1), 24 bits.
    DEVICE float uniform() { return float(next_u32() >> 8) * (1.0f / 16777216.0f); }

    // Uniform in [low, high).
    DEVICE float range(float low, float high) {
        return add_rn(low, mul_rn(sub_rn(high, low), uniform()));
    }

    // Uniform integer below n (at least 1), by multiplication with rejection of the biased
    // part.
    DEVICE u64 below(u64 n) {
        u64 biased = (0 - n) % n;
        while (true) {
            u64 high = next_u32();
            u64 wide = high << 32 | next_u32();
            if (wide * n >= biased) return mul_high(wide, n);
        }
    }

    // True with probability p.
    DEVICE bool chance(float p) { return uniform() < p; }

    // Standard normal, by Box and Muller; uses two draws.
    DEVICE float normal() {
        double u = 1.0 - double(uniform());
        double v = double(uniform());
        return float(sqrt(-2.0 * log(u)) * cos_turns(v));
    }
};
