// Enters a kernel in the kernel table, with what its signature says about its arguments.
#pragma once

#include <type_traits>

#include "intrinsics.h"

namespace emulator {

template <auto KERNEL_FUNCTION>
struct Kernel;

template <typename... Args, void (*FUNCTION)(Args...)>
struct Kernel<FUNCTION> {
    static constexpr int POINTERS = int(sizeof...(Args)) - 1;

    template <int I, typename First, typename... Rest>
    struct Nth : Nth<I - 1, Rest...> {};
    template <typename First, typename... Rest>
    struct Nth<0, First, Rest...> {
        using Type = First;
    };
    using Params = typename Nth<POINTERS, Args...>::Type;
    static_assert(std::is_class_v<Params> && std::is_trivially_copyable_v<Params>,
                  "the last argument of a kernel is a plain struct by value");

    template <int...>
    struct Indices {};
    template <int N, int... I>
    struct UpTo : UpTo<N - 1, N - 1, I...> {};
    template <int... I>
    struct UpTo<0, I...> {
        using Type = Indices<I...>;
    };

    // Not instrumented: arguments are no memory of the device.
    template <int... I>
    __attribute__((no_sanitize("thread"))) static void call(void* const* pointers,
                                                            const void* params, Indices<I...>) {
        FUNCTION(static_cast<typename Nth<I, Args...>::Type>(pointers[I])...,
                 *static_cast<const Params*>(params));
    }
    __attribute__((no_sanitize("thread"))) static void run(void* const* pointers,
                                                           const void* params) {
        call(pointers, params, typename UpTo<POINTERS>::Type());
    }

    Kernel(const char* name, const char* file, uint32_t max_threads) {
        emu_register(name, file, run, POINTERS, sizeof(Params), max_threads);
    }
};

}  // namespace emulator
