// Taps of bilinear resizing, which src/ops/resize_bilinear computes.
#pragma once

#include "types.h"

// A position of one side: between the cell `first` and the one behind it, or at the last cell.
struct Tap {
    u32 first;
    float share;  // of the cell behind the first
};

// (1 − share)·a + share·b.
DEVICE float blend(float share, float a, float b) { return (1.0f - share) * a + share * b; }
