// Division by numbers that a whole launch shares, without dividing.
#pragma once

#include "types.h"

// Quotients of numbers below 2^31 by a number d: magic = ⌈2^shift / d⌉ with
// shift = 31 + ⌈log₂ d⌉, which src/ops/divide.rs computes (Granlund and Montgomery, "Division by
// invariant integers using multiplication", PLDI 1994).
struct Divisor {
    u32 magic, shift;

    DEVICE u32 quotient(u32 n) const { return u32((u64(n) * magic) >> shift); }
};
