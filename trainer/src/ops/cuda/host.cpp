// Runs the kernels on the CPU, for the tests. Blocks run one after the other; the threads of a block are coroutines that
// take turns at each __syncthreads(), in an order that the caller chooses: results that depend on it miss a barrier.
//
// Built by the tests:  c++ -std=c++17 -O1 -ffp-contract=off -shared -fPIC host.cpp -o libkernels.so

#include "conv.cu"
#include "descent.cu"
#include "norm.cu"
#include "pixels.cu"
#include "pool.cu"

#include <ucontext.h>

#include <cstring>
#include <functional>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

thread_local Index blockIdx, threadIdx, gridDim;

namespace {

const size_t STACK_BYTES = 64 * 1024;

struct Block {
    ucontext_t scheduler;
    std::vector<ucontext_t> threads{THREADS};
    std::vector<char> stacks = std::vector<char>(THREADS * STACK_BYTES);
    std::vector<bool> ended = std::vector<bool>(THREADS);
    std::function<void()> kernel;
};
thread_local Block* block = nullptr;

void run_thread() {
    block->kernel();
    block->ended[threadIdx.x] = true;
    // Returning resumes the scheduler, by uc_link.
}

// One turn of each thread per round, until all have ended.
void run_block(bool backwards) {
    for (unsigned t = 0; t < THREADS; ++t) {
        getcontext(&block->threads[t]);
        block->threads[t].uc_stack.ss_sp = block->stacks.data() + t * STACK_BYTES;
        block->threads[t].uc_stack.ss_size = STACK_BYTES;
        block->threads[t].uc_link = &block->scheduler;
        makecontext(&block->threads[t], run_thread, 0);
        block->ended[t] = false;
    }
    for (bool running = true; running;) {
        running = false;
        for (unsigned turn = 0; turn < THREADS; ++turn) {
            const unsigned t = backwards ? THREADS - 1 - turn : turn;
            if (block->ended[t]) continue;
            threadIdx = Index{t, 0, 0};
            swapcontext(&block->scheduler, &block->threads[t]);
            running = true;
        }
    }
}

// What the Rust side says about each argument; its kinds are those of `Arg`.
template <class T>
char kind() {
    return std::is_pointer<T>::value ? 'p' : std::is_same<T, unsigned>::value ? 'u'
           : std::is_same<T, float>::value ? 'f' : std::is_same<T, double>::value ? 'd' : '?';
}

template <class... Parameters, size_t... I>
bool call(void (*kernel)(Parameters...), const char* kinds, void* const* arguments, std::index_sequence<I...>) {
    const char expected[] = {kind<Parameters>()..., 0};
    if (std::strcmp(expected, kinds) != 0) return false;
    kernel(*static_cast<std::decay_t<Parameters>*>(arguments[I])...);
    return true;
}

template <class... Parameters>
bool call(void (*kernel)(Parameters...), const char* kinds, void* const* arguments) {
    return call(kernel, kinds, arguments, std::index_sequence_for<Parameters...>());
}

#define KERNEL(NAME) \
    {#NAME, [](const char* kinds, void* const* arguments) { return call(NAME, kinds, arguments); }}

const struct {
    const char* name;
    bool (*call)(const char* kinds, void* const* arguments);
} kernels[] = {
    KERNEL(im2col_f32_1), KERNEL(im2col_f32_4), KERNEL(im2col_bf16_1), KERNEL(im2col_bf16_4),
    KERNEL(col2im_1), KERNEL(col2im_4), KERNEL(round_to_bf16),
    KERNEL(bn_moment_sums), KERNEL(bn_batch_coefficients), KERNEL(bn_frozen_coefficients),
    KERNEL(bn_apply_1), KERNEL(bn_apply_4), KERNEL(bn_gradient_sums), KERNEL(bn_gradient_coefficients),
    KERNEL(bn_input_gradient_f32_1), KERNEL(bn_input_gradient_f32_4),
    KERNEL(bn_input_gradient_bf16_1), KERNEL(bn_input_gradient_bf16_4),
    KERNEL(max_pool), KERNEL(max_pool_gradient),
    KERNEL(sum_of_squares), KERNEL(gradient_norm), KERNEL(adamw), KERNEL(blend),
    KERNEL(normalise_bytes),
};

}  // namespace

void __syncthreads() {
    const Index mine = threadIdx;
    swapcontext(&block->threads[mine.x], &block->scheduler);
    threadIdx = mine;
}

// 0: done; 1: no such kernel; 2: the arguments are of other kinds than the kernel's parameters.
extern "C" int run_on_host(const char* name, unsigned grid_x, unsigned grid_y, const char* kinds,
                           void* const* arguments, bool backwards) {
    for (const auto& kernel : kernels) {
        if (std::strcmp(kernel.name, name) != 0) continue;
        auto owner = std::make_unique<Block>();
        block = owner.get();
        bool fits = true;
        block->kernel = [&] { fits = kernel.call(kinds, arguments) && fits; };
        gridDim = Index{grid_x, grid_y, 1};
        for (unsigned y = 0; y < grid_y; ++y)
            for (unsigned x = 0; x < grid_x; ++x) {
                blockIdx = Index{x, y, 0};
                run_block(backwards);
                if (!fits) return 2;
            }
        return 0;
    }
    return 1;
}
