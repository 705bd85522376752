// What kernels ask of the memory system, counted as a GPU would see it: an access of a warp is
// one request. Lanes run one after another here, so their accesses are put together by
// instruction: the n-th access of each lane at one return address is one request.
#pragma once

#include <cstdint>
#include <vector>

#include "emulator.h"
#include "sites.h"

namespace emulator {

class Worker;

enum class Space : uint8_t { GLOBAL_READ, GLOBAL_WRITE, SHARED };

class Counters {
  public:
    bool enabled = false;
    EmuCounters totals = {};

    // The running thread accesses bytes. Accesses of one instruction to two spaces are two
    // requests.
    void access(const Worker& worker, Space space, uintptr_t address, uint32_t bytes,
                uintptr_t pc);
    // The block has ended: all its requests are complete.
    void end_block();

  private:
    struct Request {
        uint32_t lanes;
        uint32_t bytes;
        uintptr_t address[32];
    };
    // The requests of one warp at one instruction, and how many each lane has made.
    struct Instruction {
        Space space;
        uint32_t made[32] = {};
        // The first `done` of all are gone, and of those kept the first `counted` are counted.
        uint32_t done = 0, counted = 0;
        std::vector<Request> requests;
    };

    void count(Space space, const Request& request);
    static uint32_t sectors(const Request& request);
    static uint32_t wavefronts(const Request& request, uint32_t* least);

    Sites sites_;
    // By warp and site.
    std::vector<std::vector<Instruction>> warps_;
};

}  // namespace emulator
