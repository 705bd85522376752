// Checks of memory accesses. Kernels are compiled with -fsanitize=thread, which calls
// `__tsan_read4` and the like before each access; access.cpp defines them.
#pragma once

#include <cstdint>

#include "races.h"

namespace emulator {

class Worker;

// Any number of bytes. A fault where they may not be accessed.
void check_access(Worker& worker, Access kind, uintptr_t address, uint32_t bytes, uintptr_t pc);

}  // namespace emulator
