// What CUDA gives a kernel, for a CPU: each block's threads are fibers that take turns from one __syncthreads() to the next.
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__ static
#define __shared__

struct Index {
    unsigned x, y, z;
};
static Index threadIdx, blockIdx;
// As much as every GPU has, and behind it a canary.
float shared[12288 + 64];

static const size_t STACK = 1 << 16;
static ucontext_t scheduler;
static ucontext_t fibers[1024];
static bool running[1024];
static char* stacks = 0;
static int current;

static void __syncthreads() { swapcontext(&fibers[current], &scheduler); }
static float __int_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
static float __uint_as_float(unsigned x) { return __int_as_float(x); }
static unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, 4); return y; }

// The kernel that runs, and its arguments.
static void (*body)(void**);
static void** arguments;

static void fiber() {
    body(arguments);
    running[current] = false;
    swapcontext(&fibers[current], &scheduler);
}

// Returns how often a thread left while another waited at a barrier (an error on a GPU), or the shared memory that was overrun.
static int run_block(int threads) {
    if (!stacks) stacks = (char*)malloc(STACK * 1024);
    for (int i = 0; i < 12288 + 64; i++) shared[i] = NAN;
    for (int i = 0; i < threads; i++) {
        getcontext(&fibers[i]);
        fibers[i].uc_stack.ss_sp = stacks + i * STACK;
        fibers[i].uc_stack.ss_size = STACK;
        fibers[i].uc_link = &scheduler;
        makecontext(&fibers[i], fiber, 0);
        running[i] = true;
    }
    for (int round = blockIdx.x;;) {
        int left = 0;
        // Up in one round and down in the next: threads that don't wait for each other where they must see old values.
        bool up = round++ % 2 == 0;
        for (int turn = 0; turn < threads; turn++) {
            current = up ? turn : threads - 1 - turn;
            threadIdx.x = current;
            if (!running[current]) continue;
            swapcontext(&scheduler, &fibers[current]);
            left += running[current];
        }
        if (left == 0) break;
        if (left != threads) return 1;
    }
    for (int i = 12288; i < 12288 + 64; i++) {
        if (!std::isnan(shared[i])) return 2;
    }
    return 0;
}

template <class... A, size_t... I>
static void call(void (*kernel)(A...), void** from, std::index_sequence<I...>) {
    kernel(*(A*)from[I]...);
}

template <class... A>
static void call(void (*kernel)(A...), void** from) {
    call(kernel, from, std::index_sequence_for<A...>());
}

static int run_grid(unsigned x, unsigned y, int threads, void (*kernel)(void**), void** from) {
    body = kernel;
    arguments = from;
    for (blockIdx.y = 0; blockIdx.y < y; blockIdx.y++) {
        for (blockIdx.x = 0; blockIdx.x < x; blockIdx.x++) {
            int failed = run_block(threads);
            if (failed) return failed;
        }
    }
    return 0;
}
