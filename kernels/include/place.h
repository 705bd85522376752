// Threads over a feature map.
#pragma once

#include "kernel.h"

// Which pixel, and which of its channels, the `N` elements are that this thread has in a
// tensor of `height` × `width` pixels.
template <int N>
struct Place {
    u32 image, row, column, channel;

    DEVICE Place(u32 height, u32 width, u32 channels) {
        u32 vectors = channels / N;
        u32 pixel = global_thread() / vectors;
        channel = global_thread() % vectors * N;
        column = pixel % width;
        row = pixel / width % height;
        image = pixel / width / height;
    }
};
