// The kernel table, and the host threads that run the blocks of a launch.

#include <condition_variable>
#include <cstdio>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "memory.h"
#include "worker.h"

namespace emulator {

namespace {

struct Entry {
    EmuKernel kernel;
    EmuRun run;
};

// Filled by constructors before the program starts.
std::vector<Entry>& table() {
    static std::vector<Entry> entries;
    return entries;
}

// Each worker has its own part of the memory for shared memory.
std::mutex numbers_mutex;
std::vector<bool> numbers_used;

uint32_t take_number() {
    std::lock_guard lock(numbers_mutex);
    for (uint32_t i = 0; i < numbers_used.size(); i++) {
        if (!numbers_used[i]) {
            numbers_used[i] = true;
            return i;
        }
    }
    if (numbers_used.size() == MOST_WORKERS) return MOST_WORKERS;
    numbers_used.push_back(true);
    return uint32_t(numbers_used.size() - 1);
}

void give_number(uint32_t number) {
    std::lock_guard lock(numbers_mutex);
    numbers_used[number] = false;
}

}  // namespace

}  // namespace emulator

using namespace emulator;

// Worker 0 runs on the thread that launches; the others have threads of their own, which
// sleep between launches.
struct EmuDevice {
    std::vector<uint32_t> numbers;
    std::vector<std::unique_ptr<Worker>> workers;
    std::vector<std::thread> threads;
    std::mutex mutex;
    std::condition_variable start, done;
    Launch* launch = nullptr;
    uint64_t launches = 0;
    uint32_t running = 0;
    bool closing = false;
    // By kernel.
    std::vector<EmuCounters> counters;

    void work(uint32_t i) {
        uint64_t seen = 0;
        std::unique_lock lock(mutex);
        for (;;) {
            start.wait(lock, [&] { return closing || launches != seen; });
            if (closing) return;
            seen = launches;
            Launch& l = *launch;
            lock.unlock();
            workers[i]->run(l);
            lock.lock();
            if (--running == 0) done.notify_one();
        }
    }

    void make_workers(uint32_t n) {
        for (uint32_t i = 0; i < n; i++) {
            uint32_t number = take_number();
            if (number == MOST_WORKERS) throw std::bad_alloc();
            numbers.push_back(number);
            workers.push_back(std::make_unique<Worker>(number));
        }
        for (uint32_t i = 1; i < n; i++) threads.emplace_back([=] { work(i); });
    }

    // Adds what the workers counted to the kernel's counters.
    void collect(const EmuLaunch* spec) {
        counters.resize(table().size());
        constexpr size_t N = sizeof(EmuCounters) / sizeof(uint64_t);
        auto* sums = reinterpret_cast<uint64_t*>(&counters[spec->kernel]);
        for (auto& worker : workers) {
            auto* counted = reinterpret_cast<const uint64_t*>(&worker->counters.totals);
            for (size_t i = 0; spec->counts && i < N; i++) sums[i] += counted[i];
            worker->counters.totals = {};
        }
        if (spec->counts) counters[spec->kernel].launches++;
    }

    void run(Launch& l) {
        // Other threads are not worth waking for a launch of some microseconds.
        const uint32_t* block = l.spec->block;
        uint64_t all_threads = l.blocks * block[0] * block[1] * block[2];
        bool alone = l.blocks == 1 || threads.empty() || all_threads <= 4096 ||
                     l.spec->races == EMU_RACES_EVERYWHERE;
        if (!alone) {
            std::lock_guard lock(mutex);
            launch = &l;
            launches++;
            running = uint32_t(threads.size());
            start.notify_all();
        }
        workers[0]->run(l);
        if (alone) return;
        std::unique_lock lock(mutex);
        done.wait(lock, [&] { return running == 0; });
    }
};

void emu_register(const char* name, const char* file, EmuRun run, uint32_t pointers,
                  uint32_t params_bytes, uint32_t max_threads) {
    table().push_back({{name, file, pointers, params_bytes, max_threads}, run});
}

uint32_t emu_kernel_count(void) { return uint32_t(table().size()); }
EmuKernel emu_kernel(uint32_t i) { return table()[i].kernel; }

EmuDevice* emu_open(uint32_t threads) {
    if (!reserve_memory()) return nullptr;
    auto* device = new (std::nothrow) EmuDevice;
    if (!device) return nullptr;
    try {
        device->make_workers(threads);
        return device;
    } catch (...) {
        // No memory, or no more threads.
        emu_close(device);
        return nullptr;
    }
}

void emu_close(EmuDevice* device) {
    {
        std::lock_guard lock(device->mutex);
        device->closing = true;
        device->start.notify_all();
    }
    for (std::thread& t : device->threads) t.join();
    device->workers.clear();
    for (uint32_t number : device->numbers) give_number(number);
    delete device;
}

EmuCounters emu_counters(const EmuDevice* device, uint32_t kernel) {
    return kernel < device->counters.size() ? device->counters[kernel] : EmuCounters{};
}
void emu_clear_counters(EmuDevice* device) { device->counters.clear(); }

int emu_launch(EmuDevice* device, const EmuLaunch* spec, EmuMessage* message) {
    const Entry& entry = table()[spec->kernel];
    std::vector<void*> pointers;
    for (uint32_t i = 0; i < entry.kernel.pointers; i++) {
        pointers.push_back(reinterpret_cast<void*>(spec->pointers[i]));
    }
    Launch launch;
    launch.spec = spec;
    launch.run = entry.run;
    launch.pointers = pointers.data();
    launch.blocks = uint64_t(spec->grid[0]) * spec->grid[1] * spec->grid[2];
    launch.message = message;
    device->run(launch);
    device->collect(spec);
    return launch.failed ? 1 : 0;
}
