// What every kernel file includes first. The same source is compiled by nvcc for the GPU and
// by the host's compiler for the emulator; whatever differs between the two is in this folder.
//
//     struct ReluParams { u32 n; };
//     KERNEL(relu_forward_f32, 256, (const float* x, float* y, ReluParams p)) { ... }
//
// The arguments of a kernel are pointers, then one struct by value. Its Rust mirror is
// `#[repr(C)]`; both drivers check its size before each launch.
#pragma once

#include "types.h"

#ifdef __CUDACC__

// Defines a kernel for blocks of at most `max_threads` threads.
#define KERNEL(name, max_threads, signature) \
    extern "C" __global__ void __launch_bounds__(max_threads) name signature
// The same, with registers for so many blocks at a time on a multiprocessor.
#define KERNEL_RESIDENT(name, max_threads, blocks, signature) \
    extern "C" __global__ void __launch_bounds__(max_threads, blocks) name signature

#else

#include "../host/register.h"

#define KERNEL(name, max_threads, signature)                                             \
    static void name signature;                                                          \
    static const emulator::Kernel<&name> name##_kernel(#name, __FILE__, max_threads);     \
    static void name signature
#define KERNEL_RESIDENT(name, max_threads, blocks, signature) KERNEL(name, max_threads, signature)

#endif

struct Index {
    u32 x, y, z;
};

#ifdef __CUDACC__
DEVICE Index thread_index() { return {threadIdx.x, threadIdx.y, threadIdx.z}; }
DEVICE Index block_index() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
DEVICE Index block_size() { return {blockDim.x, blockDim.y, blockDim.z}; }
DEVICE Index grid_size() { return {gridDim.x, gridDim.y, gridDim.z}; }
#else
DEVICE Index thread_index() { EmuIndex i = emu_thread_index(); return {i.x, i.y, i.z}; }
DEVICE Index block_index() { EmuIndex i = emu_block_index(); return {i.x, i.y, i.z}; }
DEVICE Index block_size() { EmuIndex i = emu_block_size(); return {i.x, i.y, i.z}; }
DEVICE Index grid_size() { EmuIndex i = emu_grid_size(); return {i.x, i.y, i.z}; }
#endif

// Number of this thread within its block, x fastest.
DEVICE u32 linear_thread() {
    Index t = thread_index(), n = block_size();
    return t.x + n.x * (t.y + n.y * t.z);
}
// Number of this thread within its warp, and of the warp within its block.
DEVICE u32 lane() { return linear_thread() % 32; }
DEVICE u32 warp() { return linear_thread() / 32; }
// Number of this thread within the grid, and of all threads, for one-dimensional launches.
DEVICE u32 global_thread() { return block_index().x * block_size().x + thread_index().x; }
DEVICE u32 global_threads() { return grid_size().x * block_size().x; }

#include "atomic.h"
#include "copy.h"
#include "sync.h"
#include "warp.h"
