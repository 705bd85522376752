// Work on many tensors in one launch: each is a span in a table, and is cut into chunks. Block
// b works on chunk b of all.
#pragma once

#include "types.h"

// The span that a chunk belongs to: the last whose `first_chunk` is not beyond it. Spans are
// in the order of their chunks, and none is without.
template <typename Span>
DEVICE u32 span_of_chunk(const Span* spans, u32 count, u32 chunk) {
    u32 low = 0, high = count;
    while (high - low > 1) {
        u32 middle = (low + high) / 2;
        if (spans[middle].first_chunk <= chunk) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}
