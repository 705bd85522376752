// The exponential function in operations that every machine rounds alike.
#pragma once

#include "exact.h"

// 1/n!, of 13 down to 0.
CONSTANT(double, INVERSE_FACTORIALS, 14) = {
    1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0,
    1.0 / 40320.0,      1.0 / 5040.0,      1.0 / 720.0,      1.0 / 120.0,     1.0 / 24.0,
    1.0 / 6.0,          1.0 / 2.0,         1.0,              1.0};

// e^x to the nearest f32, for x up to 80, as src/geometry/exp.rs has it.
DEVICE float exp_rn(float to) {
    constexpr double ROUND = 6755399441055744.0, LOG2_E = 1.4426950408889634;
    double x = to < -110.0f ? -110.0 : double(to);
    double k = sub_rn(add_rn(mul_rn(x, LOG2_E), ROUND), ROUND);
    double r = sub_rn(x, mul_rn(k, 0.6931471803691238));
    r = sub_rn(r, mul_rn(k, 1.9082149292705877e-10));
    double series = 0.0;
    UNROLL
    for (int i = 0; i < 14; ++i) series = add_rn(mul_rn(series, r), INVERSE_FACTORIALS[i]);
    return float(mul_rn(series, bit_cast<double>(u64(i64(k) + 1023) << 52)));
}
