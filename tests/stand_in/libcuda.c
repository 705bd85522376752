// A stand-in for NVIDIA's driver library, so that the code above it can be run where there is
// no GPU. It keeps to what the driver's manual promises and no more: work lies in its stream
// until someone waits for it, copies read host memory when they run, and freed memory is
// overwritten. Every kernel is y[i] = x[i] + 1, with the arguments (x, y, {n}).
//
// Variables of the environment choose what it pretends to be.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
enum { OK = 0, INVALID = 1, NO_MEMORY = 2, FAULT = 700 };
enum { MAX_OPS = 100000 };
enum Kind { COPY, FILL, FREE, LAUNCH, RECORD, WAIT };

typedef struct Stream Stream;
typedef struct Event { Stream *stream; int position; } Event;
typedef struct Op {
    enum Kind kind;
    void *to;
    const void *from;
    size_t bytes;
    int value;
    Event event;
} Op;
struct Stream { Op *ops; int done, queued, eager; };

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static size_t used_bytes;
static size_t memory_bytes(void) { return (size_t)setting("STAND_IN_MEMORY_MIB", 256) << 20; }
static int faulted;
static int current;

// Sizes lie before the memory that is handed out.
enum { HEADER = 256 };
static size_t size_of(void *p) { return *(size_t *)((char *)p - HEADER); }

static void run(Stream *s, int end) {
    while (s->done < end) {
        Op op = s->ops[s->done++];
        switch (op.kind) {
        case COPY: memcpy(op.to, op.from, op.bytes); break;
        case FILL: memset(op.to, op.value, op.bytes); break;
        case FREE: memset(op.to, 0xdd, size_of(op.to)); used_bytes -= size_of(op.to); break;
        case LAUNCH:
            if (setting("STAND_IN_FAULT", 0)) faulted = 1;
            for (int i = 0; i < op.value; i++) ((float *)op.to)[i] = ((const float *)op.from)[i] + 1;
            break;
        case RECORD: break;
        case WAIT: if (op.event.stream) run(op.event.stream, op.event.position); break;
        }
    }
}

static Result push(Stream *s, Op op) {
    if (!current || s->queued == MAX_OPS) return 201;
    s->ops[s->queued++] = op;
    if (s->eager) run(s, s->queued);
    return OK;
}
static Result waited(void) { return faulted ? FAULT : OK; }

Result cuInit(unsigned flags) { return flags ? INVALID : (Result)setting("STAND_IN_INIT", OK); }
Result cuDriverGetVersion(int *v) { *v = (int)setting("STAND_IN_VERSION", 13000); return OK; }
Result cuGetErrorName(Result e, const char **s) {
    *s = e == NO_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : e == FAULT ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR";
    return OK;
}
Result cuGetErrorString(Result e, const char **s) { (void)e; *s = "from the stand-in"; return OK; }

Result cuDeviceGetCount(int *n) { *n = (int)setting("STAND_IN_GPUS", 1); return OK; }
Result cuDeviceGet(int *d, int i) { *d = i; return OK; }
Result cuDeviceGetName(char *s, int n, int d) { snprintf(s, n, "Stand-in %d", d); return OK; }
Result cuDeviceTotalMem_v2(size_t *n, int d) { (void)d; *n = memory_bytes(); return OK; }
Result cuDeviceGetAttribute(int *v, int a, int d) {
    (void)d;
    long capability = setting("STAND_IN_CAPABILITY", 90);
    *v = a == 75 ? (int)capability / 10 : a == 76 ? (int)capability % 10 : a == 97 ? 166912 : 0;
    return OK;
}
Result cuDevicePrimaryCtxRetain(void **c, int d) { (void)d; *c = &current; return OK; }
Result cuDevicePrimaryCtxRelease_v2(int d) { (void)d; return OK; }
Result cuCtxSetCurrent(void *c) { current = c == &current; return OK; }
#ifndef WITHOUT_POOLS
Result cuDeviceGetDefaultMemPool(void **p, int d) { (void)d; *p = &current; return OK; }
#endif
Result cuMemPoolSetAttribute(void *p, int a, void *v) {
    (void)p;
    return a == 4 && *(uint64_t *)v == UINT64_MAX ? OK : INVALID;
}

Result cuStreamCreate(Stream **s, unsigned flags) {
    if (flags != 1) return INVALID;
    *s = calloc(1, sizeof **s);
    (*s)->ops = calloc(MAX_OPS, sizeof(Op));
    // Streams have no order but by events: all but the first may also run ahead.
    static int streams;
    (*s)->eager = streams++ && setting("STAND_IN_EAGER", 0);
    return OK;
}
Result cuStreamDestroy_v2(Stream *s) { run(s, s->queued); return OK; }
Result cuStreamSynchronize(Stream *s) { run(s, s->queued); return waited(); }
Result cuStreamWaitEvent(Stream *s, Event *e, unsigned flags) {
    (void)flags;
    return push(s, (Op){.kind = WAIT, .event = *e});
}
Result cuEventCreate(Event **e, unsigned flags) { (void)flags; *e = calloc(1, sizeof **e); return OK; }
Result cuEventDestroy_v2(Event *e) { free(e); return OK; }
Result cuEventRecord(Event *e, Stream *s) {
    Result r = push(s, (Op){.kind = RECORD});
    *e = (Event){s, s->queued};
    return r;
}
Result cuEventSynchronize(Event *e) { if (e->stream) run(e->stream, e->position); return waited(); }
// As many milliseconds as there was work in between.
Result cuEventElapsedTime(float *ms, Event *a, Event *b) {
    *ms = (float)(b->position - a->position - 1);
    return OK;
}

Result cuMemAllocAsync(void **p, size_t bytes, Stream *s) {
    (void)s;
    if (used_bytes + bytes > memory_bytes()) return NO_MEMORY;
    char *memory = aligned_alloc(HEADER, (bytes + 2 * HEADER) / HEADER * HEADER);
    *(size_t *)memory = bytes;
    memset(memory + HEADER, 0xff, bytes);
    used_bytes += bytes;
    *p = memory + HEADER;
    return OK;
}
Result cuMemFreeAsync(void *p, Stream *s) { return push(s, (Op){.kind = FREE, .to = p}); }
Result cuMemGetInfo_v2(size_t *left, size_t *all) {
    *all = memory_bytes();
    *left = *all - used_bytes;
    return OK;
}
Result cuMemHostAlloc(void **p, size_t bytes, unsigned flags) { (void)flags; *p = malloc(bytes); return OK; }
Result cuMemFreeHost(void *p) { free(p); return OK; }
static Result copy(void *to, const void *from, size_t bytes, Stream *s) {
    return push(s, (Op){.kind = COPY, .to = to, .from = from, .bytes = bytes});
}
Result cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t n, Stream *s) { return copy(to, from, n, s); }
Result cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t n, Stream *s) { return copy(to, from, n, s); }
Result cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t n, Stream *s) { return copy(to, from, n, s); }
Result cuMemsetD8Async(void *to, unsigned char value, size_t n, Stream *s) {
    return push(s, (Op){.kind = FILL, .to = to, .value = value, .bytes = n});
}

// A fatbin begins with its magic number.
Result cuModuleLoadData(void **m, const void *image) {
    uint32_t magic = *(const uint32_t *)image;
    *m = &current;
    return magic == 0xba55ed50 && (uintptr_t)image % 8 == 0 ? OK : 200;
}
Result cuModuleUnload(void *m) { (void)m; return OK; }
Result cuModuleGetFunction(void **f, void *m, const char *name) {
    (void)m;
    (void)name;
    *f = calloc(1, sizeof(int));
    *(int *)*f = 48 << 10;
    return OK;
}
Result cuProfilerStart(void) { return current ? OK : 201; }
Result cuProfilerStop(void) { return current ? OK : 201; }
Result cuFuncGetAttribute(int *v, int a, int *f) { *v = a == 8 ? *f : 0; return OK; }
Result cuFuncSetAttribute(int *f, int a, int v) { if (a != 8) return INVALID; *f = v; return OK; }
Result cuLaunchKernel(int *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, Stream *s, void **arguments, void **extra) {
    if (extra || !gx || !gy || !gz || !bx || !by || !bz || (int)shared > *f) return INVALID;
    void *x = *(void **)arguments[0], *y = *(void **)arguments[1];
    uint32_t n = *(uint32_t *)arguments[2];
    return push(s, (Op){.kind = LAUNCH, .to = y, .from = x, .value = (int)n});
}
