// Values of f32 rounded to bf16.
#include "include/kernel.h"
#include "include/vector.h"

struct NarrowCopyParams {
    u32 elems;
};

KERNEL(narrow_copy_bf16, 256, (const float* x, bf16* y, NarrowCopyParams p)) {
    map(p.elems, [](float x) { return x; }, y, x);
}
