#include "fiber.h"

#include <sys/mman.h>

#if defined(__x86_64__)
// Callee-saved in the System V ABI: rbx, rbp, r12 to r15. Kernels do not change mxcsr.
asm(R"(
.text
.globl emu_switch
.type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch, .-emu_switch
)");
#elif defined(__aarch64__)
// Callee-saved in the AAPCS64: x19 to x30 and the lower halves of v8 to v15.
asm(R"(
.text
.globl emu_switch
.type emu_switch, %function
emu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size emu_switch, .-emu_switch
)");
#else
#error "the emulator switches stacks on x86-64 and aarch64 only"
#endif

namespace emulator {

Stacks::Stacks() {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* p = mmap(nullptr, MOST * BYTES, PROT_NONE, flags, -1, 0);
    base_ = p == MAP_FAILED ? 0 : uintptr_t(p);
}

Stacks::~Stacks() {
    if (base_) munmap(reinterpret_cast<void*>(base_), MOST * BYTES);
}

uint32_t Stacks::take() {
    if (!free_.empty()) {
        uint32_t stack = free_.back();
        free_.pop_back();
        return stack;
    }
    if (!base_) return NONE;
    // The lowest pages stay a guard.
    constexpr size_t GUARD_BYTES = 16 << 10;
    uintptr_t low = base_ + made_ * BYTES + GUARD_BYTES;
    if (mprotect(reinterpret_cast<void*>(low), BYTES - GUARD_BYTES, PROT_READ | PROT_WRITE)) {
        return NONE;
    }
    return made_++;
}

void Stacks::reset() {
    free_.clear();
    for (uint32_t i = made_; i-- > 0;) free_.push_back(i);
}

void* Stacks::start(uint32_t stack, void (*entry)()) const {
    // Stacks begin in different cache sets, as they are all a multiple of pages apart.
    uintptr_t top = base_ + (stack + 1) * BYTES - (stack % 61) * 192;
    auto* frame = reinterpret_cast<void**>(top & ~uintptr_t(63)) - 24;
    for (int i = 0; i < 24; i++) frame[i] = nullptr;
#if defined(__x86_64__)
    // Six registers are popped, then `ret` pops the entry and leaves rsp as a call does, 8 bytes
    // below a multiple of 16.
    frame[6] = reinterpret_cast<void*>(entry);
    return frame;
#else
    frame[11] = reinterpret_cast<void*>(entry);
    return frame;
#endif
}

}  // namespace emulator
