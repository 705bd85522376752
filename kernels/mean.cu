// Means of rows, in a fixed order.
#include "include/kernel.h"
#include "include/reduce.h"

struct MeanParams {
    u32 columns;
    float factor;
};

// y = factor · mean of each row of x. A block has a row.
KERNEL(mean_rows_f32, 256, (const float* x, float* y, MeanParams p)) {
    SHARED(double, shared, 256);
    u32 row = block_index().x;
    x += row * p.columns;
    double sum[1] = {0.0};
    for (u32 i = thread_index().x; i < p.columns; i += block_size().x) sum[0] += double(x[i]);
    sum_rows<256>(Tile(1), sum, shared);
    if (thread_index().x == 0) y[row] = float(sum[0] / double(p.columns) * double(p.factor));
}
