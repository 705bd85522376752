// Places in kernels that access memory, by small numbers.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace emulator {

class Sites {
  public:
    // Numbers that `of` can give; later places share the last one.
    static constexpr uint32_t MOST = 1 << 17;

    // The number of a return address.
    uint32_t of(uintptr_t pc) {
        Cached& c = cache_[(pc * 0x9e3779b97f4a7c15u) >> 54];
        if (c.pc != pc) c = {pc, find(pc)};
        return c.site;
    }
    uintptr_t pc(uint32_t site) const { return pcs_[site]; }

  private:
    struct Cached {
        uintptr_t pc;
        uint32_t site;
    };

    uint32_t find(uintptr_t pc) {
        auto [it, is_new] = sites_.try_emplace(pc, uint32_t(pcs_.size()));
        if (is_new && pcs_.size() < MOST) pcs_.push_back(pc);
        return it->second < MOST ? it->second : MOST - 1;
    }

    Cached cache_[1024] = {};
    std::unordered_map<uintptr_t, uint32_t> sites_;
    std::vector<uintptr_t> pcs_;
};

}  // namespace emulator
