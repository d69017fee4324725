// CUDA on the host, for tests: a block's threads are fibers that take turns at __syncthreads, blocks
// run one after the other. Included before a generated .cu; `far` and the counters are the tests'.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <vector>

#define __device__
#define __host__
#define __global__
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct Dim {
    unsigned x;
};
static Dim threadIdx, blockIdx, blockDim, gridDim;

namespace host {

extern "C" {
int64_t host_far = 4096;    // steps beyond which checkpoints have two levels
int64_t host_loaded = 0;    // bytes
int64_t host_stored = 0;
int64_t host_narrow = 0;    // accesses of one number
}

constexpr size_t kStack = 256 << 10;

struct Fiber {
    ucontext_t start;
    jmp_buf at;
    bool started, done;
};

static std::vector<Fiber> fibers(1024);
// Not cleared: a library takes the pages that its fibers use, not 256 MiB.
static char *const stacks = static_cast<char *>(malloc(1024 * kStack));
static std::vector<char> shared;
static ucontext_t scheduler;
static jmp_buf turn;
static std::function<void()> body;
static unsigned current;

static void run_fiber() {
    body();
    fibers[current].done = true;
    _longjmp(turn, 1);
}

// Hand over to the next thread; come back when all have come as far.
static void __attribute__((noinline)) wait() {
    if (!_setjmp(fibers[current].at)) _longjmp(turn, 1);
}

static void __attribute__((noinline)) resume(unsigned thread) {
    current = threadIdx.x = thread;
    if (_setjmp(turn)) return;
    Fiber &fiber = fibers[thread];
    if (fiber.started) _longjmp(fiber.at, 1);
    fiber.started = true;
    getcontext(&fiber.start);
    fiber.start.uc_stack = {&stacks[thread * kStack], 0, kStack};
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, run_fiber, 0);
    swapcontext(&scheduler, &fiber.start);
}

static void run_block(unsigned threads) {
    for (unsigned k = 0; k < threads; ++k) fibers[k].started = fibers[k].done = false;
    for (unsigned left = threads; left;) {
        for (unsigned k = 0; k < threads; ++k) resume(k);
        left = 0;
        for (unsigned k = 0; k < threads; ++k) left += !fibers[k].done;
        if (left && left < threads) {
            fprintf(stderr, "cuda_host: some threads of a block have ended, others wait\n");
            abort();
        }
    }
}

static void launch(unsigned grid, unsigned block, int64_t bytes, std::function<void()> kernel) {
    body = kernel;
    shared.assign(bytes, char(0xff));  // NaN, as shared memory holds anything
    gridDim.x = grid;
    blockDim.x = block;
    for (unsigned k = 0; k < grid; ++k) {
        blockIdx.x = k;
        run_block(block);
    }
}

}  // namespace host

static inline void __syncthreads() { host::wait(); }

static inline void atomicAdd(double *to, double value) { *to += value; }

template <class T>
static T __shfl_down_sync(unsigned, T value, int delta) {
    static T values[1024];
    values[threadIdx.x] = value;
    host::wait();
    const T other = threadIdx.x % 32 + delta < 32 ? values[threadIdx.x + delta] : value;
    host::wait();
    return other;
}

#define HOST_KERNEL(kernel, arguments)                                                                     \
    extern "C" void host_##kernel(const arguments *a, void *workspace, unsigned grid, unsigned block,      \
                                  int64_t bytes) {                                                         \
        host::launch(grid, block, bytes, [=] { kernel(*a, workspace); });                                  \
    }
