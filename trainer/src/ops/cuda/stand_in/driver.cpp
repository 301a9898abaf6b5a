// A stand-in for the driver and for cuBLAS on a machine without a GPU, so that the real program, candle's CUDA backend
// and all, can be run there: slowly, but with everything that is asked of the GPU done and checked. scripts/test-cuda.sh
// builds it.
//
// Device memory is memory. A kernel's parameters are read from the PTX that the program loads, and the function of its
// name, compiled as C++, is called with them; this knows the calling convention of 64-bit Linux on x86. Threads of a
// block are coroutines that meet at barriers; blocks follow each other. Fresh memory is NaN. cuBLAS products are written
// out. What the program does not call is not here.

#include "candle.h"

#include <dlfcn.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

thread_local Index blockIdx, threadIdx, gridDim, blockDim;
thread_local unsigned long warp_values[1024];

namespace {

typedef unsigned long long Address;

// Values of CUresult, cublasStatus_t and their like that are used here.
enum { SUCCESS = 0, INVALID_VALUE = 1, NOT_FOUND = 500, CUBLAS_INVALID_VALUE = 7 };
// The stream of candle: CU_STREAM_PER_THREAD.
void* const STREAM = reinterpret_cast<void*>(2);
// Handles that nobody looks into.
void* const HANDLE = reinterpret_cast<void*>(256);

// ---- kernels ----

const unsigned MOST_THREADS = 1024;
const size_t STACK_BYTES = 32 * 1024;
const unsigned MOST_INTEGERS = 16, MOST_FLOATS = 8;

struct Kernel {
    std::string name;
    // One letter a parameter: f and d are float and double, 1, 4 and 8 the bytes of integers and pointers.
    std::string parameters;
    void* code;
    bool has_barriers;
};

// Integers and pointers are passed one after the other, floats in registers of their own, so this call suits every
// kernel: what it does not take stays unread.
struct Call {
    void* code;
    long i[MOST_INTEGERS] = {};
    double f[MOST_FLOATS] = {};

    void run() const {
        typedef void (*Function)(long, long, long, long, long, long, long, long, long, long, long, long, long, long, long,
                                 long, double, double, double, double, double, double, double, double);
        reinterpret_cast<Function>(code)(i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9], i[10], i[11], i[12],
                                         i[13], i[14], i[15], f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]);
    }
};

enum class State { runs, at_barrier, at_warp_barrier, ended };

struct Block {
    const Call* call = nullptr;
    ucontext_t scheduler;
    std::vector<ucontext_t> contexts{MOST_THREADS};
    std::vector<char> stacks = std::vector<char>(MOST_THREADS * STACK_BYTES);
    std::vector<State> states{MOST_THREADS};
} block;

void run_thread() {
    block.call->run();
    block.states[threadIdx.x] = State::ended;
}

void wait_at(State barrier) {
    const Index mine = threadIdx;
    block.states[mine.x] = barrier;
    swapcontext(&block.contexts[mine.x], &block.scheduler);
    threadIdx = mine;
}

// Lets threads `from` to `to` go on if all that have not ended are at `barrier`.
bool release(unsigned from, unsigned to, State barrier) {
    bool some = false;
    for (unsigned t = from; t < to; ++t) {
        if (block.states[t] == State::ended) continue;
        if (block.states[t] != barrier) return false;
        some = true;
    }
    for (unsigned t = from; t < to; ++t)
        if (block.states[t] == barrier) block.states[t] = State::runs;
    return some;
}

void run_with_barriers(const std::string& name, const Call& call, bool backwards) {
    const unsigned threads = blockDim.x;
    block.call = &call;
    for (unsigned t = 0; t < threads; ++t) {
        getcontext(&block.contexts[t]);
        block.contexts[t].uc_stack.ss_sp = block.stacks.data() + t * STACK_BYTES;
        block.contexts[t].uc_stack.ss_size = STACK_BYTES;
        block.contexts[t].uc_link = &block.scheduler;
        makecontext(&block.contexts[t], run_thread, 0);
        block.states[t] = State::runs;
    }
    for (;;) {
        for (unsigned turn = 0; turn < threads; ++turn) {
            const unsigned t = backwards ? threads - 1 - turn : turn;
            if (block.states[t] != State::runs) continue;
            threadIdx = Index{t, 0, 0};
            swapcontext(&block.scheduler, &block.contexts[t]);
        }
        bool more = release(0, threads, State::at_barrier);
        for (unsigned warp = 0; warp < threads; warp += 32)
            more |= release(warp, std::min(warp + 32, threads), State::at_warp_barrier);
        if (more) continue;
        for (unsigned t = 0; t < threads; ++t)
            if (block.states[t] != State::ended) {
                std::fprintf(stderr, "stand-in: %s waits at a barrier that not all threads reach\n", name.c_str());
                std::abort();
            }
        return;
    }
}

char letter(const std::string& type) {
    if (type == "f32") return 'f';
    if (type == "f64") return 'd';
    if (type == "u8" || type == "b8") return '1';
    if (type == "u32" || type == "b32") return '4';
    if (type == "u64" || type == "b64") return '8';
    return '?';
}

// ---- cuBLAS ----

enum { REAL_32 = 0, BFLOAT_16 = 14 };            // cudaDataType_t
enum { COMPUTE_32 = 68, COMPUTE_32_TF32 = 77 };  // cublasComputeType_t

// A factor as `rows` x `columns` floats, column by column, after its transposition.
std::vector<float> factor(const void* memory, int type, int rows, int columns, int pitch, bool transposed) {
    std::vector<float> values(size_t(rows) * columns);
    for (int c = 0; c < columns; ++c)
        for (int r = 0; r < rows; ++r) {
            const size_t i = transposed ? c + size_t(r) * pitch : r + size_t(c) * pitch;
            float& value = values[size_t(c) * rows + r];
            if (type == REAL_32) {
                value = static_cast<const float*>(memory)[i];
            } else {
                const unsigned bits = unsigned(static_cast<const unsigned short*>(memory)[i]) << 16;
                std::memcpy(&value, &bits, sizeof value);
            }
        }
    return values;
}

}  // namespace

void __syncthreads() { wait_at(State::at_barrier); }
void __syncwarp(unsigned) { wait_at(State::at_warp_barrier); }

extern "C" {

int cuInit(unsigned) { return SUCCESS; }
int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : 101;
}
int cuDeviceGetAttribute(int* value, int, int) {
    *value = 1;
    return SUCCESS;
}
int cuDeviceGetDefaultMemPool(void** pool, int) {
    *pool = HANDLE;
    return SUCCESS;
}
int cuMemPoolSetAttribute(void*, int attribute, const unsigned long long* value) {
    const int RELEASE_THRESHOLD = 4;
    return attribute == RELEASE_THRESHOLD && *value == ~0ull ? SUCCESS : INVALID_VALUE;
}
int cuDevicePrimaryCtxRetain(void** context, int) {
    *context = HANDLE;
    return SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxDestroy_v2(void*) { return SUCCESS; }
static thread_local void* current_context;
int cuCtxGetCurrent(void** context) {
    *context = current_context;
    return SUCCESS;
}
int cuCtxSetCurrent(void* context) {
    current_context = context;
    return SUCCESS;
}
int cuGetErrorString(int, const char** text) {
    *text = "said by the stand-in driver";
    return SUCCESS;
}
int cuEventCreate(void** event, unsigned) {
    *event = HANDLE;
    return SUCCESS;
}
int cuEventDestroy_v2(void*) { return SUCCESS; }
int cuEventRecord(void*, void*) { return SUCCESS; }
int cuStreamDestroy_v2(void*) { return SUCCESS; }
int cuStreamSynchronize(void*) { return SUCCESS; }
int cuStreamWaitEvent(void*, void*, unsigned) { return SUCCESS; }
int cuStreamIsCapturing(void*, int* status) {
    *status = 0;
    return SUCCESS;
}

int cuMemAlloc_v2(Address* address, size_t bytes) {
    if (bytes == 0) return INVALID_VALUE;
    const size_t rounded = (bytes + 255) / 256 * 256;
    auto* words = static_cast<unsigned*>(std::aligned_alloc(256, rounded));
    if (!words) return 2;
    std::fill(words, words + rounded / 4, 0x7fe17fe1u);
    *address = reinterpret_cast<Address>(words);
    return SUCCESS;
}
int cuMemAllocAsync(Address* address, size_t bytes, void*) { return cuMemAlloc_v2(address, bytes); }
int cuMemFree_v2(Address address) {
    std::free(reinterpret_cast<void*>(address));
    return SUCCESS;
}
int cuMemFreeAsync(Address address, void*) { return cuMemFree_v2(address); }
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void*) {
    std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
    return SUCCESS;
}
int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void*) {
    std::memcpy(to, reinterpret_cast<void*>(from), bytes);
    return SUCCESS;
}
int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void*) {
    std::memcpy(reinterpret_cast<void*>(to), from, bytes);
    return SUCCESS;
}
int cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void*) {
    std::memset(reinterpret_cast<void*>(to), value, bytes);
    return SUCCESS;
}

int cuModuleLoadData(void** module, const char* ptx) {
    *module = new std::string(ptx);
    return SUCCESS;
}
int cuModuleUnload(void* module) {
    delete static_cast<std::string*>(module);
    return SUCCESS;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    const std::string& ptx = *static_cast<std::string*>(module);
    const size_t start = ptx.find(std::string(".entry ") + name + "(");
    if (start == std::string::npos) return NOT_FOUND;
    const std::string header = ptx.substr(start, ptx.find(')', start) - start);
    const std::string body = ptx.substr(start, ptx.find("\n}", start) - start);
    auto* kernel = new Kernel{name, "", dlsym(RTLD_DEFAULT, name), false};
    const std::string mark = ".param .";
    for (size_t at = header.find(mark); at != std::string::npos; at = header.find(mark, at + 1)) {
        const size_t type = at + mark.size();
        kernel->parameters += letter(header.substr(type, header.find_first_of(" \t", type) - type));
    }
    kernel->has_barriers = body.find("bar.sync") != std::string::npos ||
                           body.find("barrier.sync") != std::string::npos || body.find("shfl") != std::string::npos;
    *function = kernel;
    if (kernel->code && kernel->parameters.find('?') == std::string::npos) return SUCCESS;
    std::fprintf(stderr, "stand-in: kernel %s (%s) is not compiled in\n", name, kernel->parameters.c_str());
    return NOT_FOUND;
}
int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned, void* stream, void** parameters, void**) {
    const Kernel& kernel = *static_cast<Kernel*>(function);
    if (grid_x == 0 || grid_y == 0 || grid_y > 65535 || grid_z != 1 || block_x == 0 || block_x > MOST_THREADS ||
        block_y != 1 || block_z != 1 || stream != STREAM)
        return INVALID_VALUE;
    Call call{kernel.code};
    unsigned integers = 0, floats = 0;
    for (size_t p = 0; p < kernel.parameters.size(); ++p) {
        const bool is_float = kernel.parameters[p] == 'f' || kernel.parameters[p] == 'd';
        if (is_float ? floats == MOST_FLOATS : integers == MOST_INTEGERS) return INVALID_VALUE;
        switch (kernel.parameters[p]) {
            case 'f': std::memcpy(&call.f[floats++], parameters[p], 4); break;
            case 'd': std::memcpy(&call.f[floats++], parameters[p], 8); break;
            case '1': std::memcpy(&call.i[integers++], parameters[p], 1); break;
            case '4': std::memcpy(&call.i[integers++], parameters[p], 4); break;
            default: std::memcpy(&call.i[integers++], parameters[p], 8);
        }
    }
    const bool backwards = std::getenv("ROADHOUND_STAND_IN_BACKWARDS") != nullptr;
    gridDim = Index{grid_x, grid_y, 1};
    blockDim = Index{block_x, 1, 1};
    for (unsigned y = 0; y < grid_y; ++y)
        for (unsigned x = 0; x < grid_x; ++x) {
            blockIdx = Index{x, y, 0};
            if (kernel.has_barriers) {
                run_with_barriers(kernel.name, call, backwards);
            } else {
                for (unsigned t = 0; t < block_x; ++t) {
                    threadIdx = Index{t, 0, 0};
                    call.run();
                }
            }
        }
    return SUCCESS;
}

int cublasCreate_v2(void** handle) {
    *handle = HANDLE;
    return SUCCESS;
}
int cublasDestroy_v2(void*) { return SUCCESS; }
int cublasSetStream_v2(void*, void* stream) { return stream == STREAM ? SUCCESS : CUBLAS_INVALID_VALUE; }
int cublasGemmEx(void*, int op_a, int op_b, int m, int n, int k, const float* alpha, const void* a, int a_type, int lda,
                 const void* b, int b_type, int ldb, const float* beta, void* c, int c_type, int ldc, int compute, int) {
    const bool known = c_type == REAL_32 && a_type == b_type && (a_type == REAL_32 || a_type == BFLOAT_16) &&
                       (compute == COMPUTE_32 || (compute == COMPUTE_32_TF32 && a_type == REAL_32));
    if (!known || op_a > 1 || op_b > 1 || lda < (op_a ? k : m) || ldb < (op_b ? n : k) || ldc < m)
        return CUBLAS_INVALID_VALUE;
    const auto left = factor(a, a_type, m, k, lda, op_a), right = factor(b, b_type, k, n, ldb, op_b);
    std::vector<float> sums(m);
    for (int column = 0; column < n; ++column) {
        std::fill(sums.begin(), sums.end(), 0.f);
        for (int i = 0; i < k; ++i)
            for (int row = 0; row < m; ++row)
                sums[row] += left[size_t(i) * m + row] * right[size_t(column) * k + i];
        float* out = static_cast<float*>(c) + size_t(column) * ldc;
        // With beta = 0, what is there is not read, not even a NaN.
        for (int row = 0; row < m; ++row) out[row] = *alpha * sums[row] + (*beta == 0 ? 0 : *beta * out[row]);
    }
    return SUCCESS;
}
int cublasGemmStridedBatchedEx(void* handle, int op_a, int op_b, int m, int n, int k, const float* alpha,
                               const float* a, int a_type, int lda, long long stride_a, const float* b, int b_type,
                               int ldb, long long stride_b, const float* beta, float* c, int c_type, int ldc,
                               long long stride_c, int count, int compute, int algorithm) {
    if (a_type != REAL_32) return CUBLAS_INVALID_VALUE;
    for (int i = 0; i < count; ++i) {
        const int status = cublasGemmEx(handle, op_a, op_b, m, n, k, alpha, a + i * stride_a, a_type, lda,
                                        b + i * stride_b, b_type, ldb, beta, c + i * stride_c, c_type, ldc, compute,
                                        algorithm);
        if (status != SUCCESS) return status;
    }
    return SUCCESS;
}

int curandCreateGenerator(void** generator, int) {
    *generator = HANDLE;
    return SUCCESS;
}
int curandDestroyGenerator(void*) { return SUCCESS; }
int curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { return SUCCESS; }
int curandSetStream(void*, void*) { return SUCCESS; }

}  // extern "C"
