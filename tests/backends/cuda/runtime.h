// The calls of the CUDA runtime that a generated launcher makes, over `host.h`, for tests.
#pragma once

typedef int cudaError_t;
typedef void *cudaStream_t;

struct dim3 {
    unsigned x;
    explicit dim3(unsigned count) : x(count) {}
};

enum { cudaFuncAttributeMaxDynamicSharedMemorySize };

extern "C" {
int64_t host_launches = 0;
}

static inline cudaError_t cudaFuncSetAttribute(const void *, int, int) { return 0; }

static inline cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t) {
    memset(to, value, bytes);
    return 0;
}

static void run_kernel(const void *function, unsigned grid, unsigned block, int64_t bytes, void **values);

static inline cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **values,
                                           size_t bytes, cudaStream_t) {
    ++host_launches;
    run_kernel(function, grid.x, block.x, int64_t(bytes), values);
    return 0;
}

template <class Arguments, class Workspace>
static void run_as(void (*kernel)(Arguments, Workspace), const void *function, unsigned grid, unsigned block,
                   int64_t bytes, void **values) {
    if (function != reinterpret_cast<const void *>(kernel)) return;
    Arguments &a = *static_cast<Arguments *>(values[0]);
    void *workspace = *static_cast<void **>(values[1]);
    host::launch(grid, block, bytes, [=] { kernel(a, workspace); });
}
