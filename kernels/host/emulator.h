/* The emulator as the program sees it. Plain C: src/device/emulator mirrors it. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A kernel of the table. `file` is where it is defined. */
typedef struct {
    const char* name;
    const char* file;
    uint32_t pointers;
    uint32_t params_bytes;
    uint32_t max_threads;
} EmuKernel;

uint32_t emu_kernel_count(void);
EmuKernel emu_kernel(uint32_t i);

/* Says what went wrong. Places in code stand as `{pc:HEX}`, a return address. */
typedef struct {
    char text[8000];
} EmuMessage;

/* Global memory, one for the process. Functions that can fail return 0 for success. */
int emu_alloc(uint64_t bytes, uint64_t* address, EmuMessage* message);
int emu_free(uint64_t address, EmuMessage* message);
int emu_copy_in(uint64_t dst, const void* src, uint64_t bytes, EmuMessage* message);
int emu_copy_out(void* dst, uint64_t src, uint64_t bytes, EmuMessage* message);
int emu_copy(uint64_t dst, uint64_t src, uint64_t bytes, EmuMessage* message);
int emu_fill(uint64_t dst, uint8_t value, uint64_t bytes, EmuMessage* message);
/* Of the allocation at `address` only the first `bytes` may be used, and hold nothing yet. */
int emu_handed_out(uint64_t address, uint64_t bytes, EmuMessage* message);
/* Nothing of the allocation at `address` may be used until it is handed out again. */
int emu_handed_back(uint64_t address, EmuMessage* message);

/* What the launches of a kernel did, where they were counted. A request is what one instruction
 * of a warp asks for; a sector is 32 bytes; a wavefront is a turn of the 32 banks of shared
 * memory, more of which than the least are bank conflicts. */
typedef struct {
    uint64_t launches;
    uint64_t global_read_bytes, global_read_requests, global_read_sectors;
    uint64_t global_written_bytes, global_write_requests, global_write_sectors;
    uint64_t shared_requests, shared_wavefronts, shared_least_wavefronts;
    /* Of blocks, and of warps. */
    uint64_t barriers, warp_operations;
    uint64_t copied_bytes;
    /* Multiply-adds of tensor cores, and those of them whose factors are not zero. */
    uint64_t tensor_issued, tensor_useful;
    /* Of threads. */
    uint64_t atomics;
} EmuCounters;

/* Host threads that run blocks. */
typedef struct EmuDevice EmuDevice;
EmuDevice* emu_open(uint32_t threads);
void emu_close(EmuDevice* device);

/* The last one makes blocks run one at a time. */
enum EmuRaces { EMU_RACES_NOWHERE, EMU_RACES_SHARED, EMU_RACES_EVERYWHERE };

typedef struct {
    uint32_t kernel;
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t shared_bytes;
    /* What a block can have, static and dynamic together. */
    uint32_t shared_limit_bytes;
    /* Where to look for races, an EmuRaces. */
    uint32_t races;
    /* Whether to count. */
    uint32_t counts;
    /* Order of threads and blocks; 0 is the natural one. */
    uint64_t seed;
    const uint64_t* pointers;
    const void* params;
} EmuLaunch;

/* Runs a kernel to its end, or to the first fault. Calls for one device are not concurrent. */
int emu_launch(EmuDevice* device, const EmuLaunch* launch, EmuMessage* message);

/* What was counted for a kernel since the counters were last cleared. */
EmuCounters emu_counters(const EmuDevice* device, uint32_t kernel);
void emu_clear_counters(EmuDevice* device);

#ifdef __cplusplus
}
#endif
