// AdamW with clipping by the global norm, and the moving average of the weights, without a value leaving the device.
// The expressions are those of optim.rs, in the same order.

#include "cuda_or_host.cuh"

// One double per block: the sum of squares of its share, added in a fixed order.
extern "C" __global__ void sum_of_squares(const float* values, unsigned count, double* sums) {
    __shared__ double shared[THREADS];
    double sum = 0;
    for (unsigned i = thread_index(); i < count; i += gridDim.x * THREADS) sum += double(values[i]) * values[i];
    shared[threadIdx.x] = sum;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = shared[0];
}

// The norm of all gradients from the blocks' sums. One block.
extern "C" __global__ void gradient_norm(const double* sums, unsigned count, double* norm) {
    __shared__ double shared[THREADS];
    double sum = 0;
    for (unsigned i = threadIdx.x; i < count; i += THREADS) sum += sums[i];
    shared[threadIdx.x] = sum;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    if (threadIdx.x == 0) *norm = sqrt(shared[0]);
}

// Moves one variable. A norm that is not finite moves nothing: the host learns of it later.
extern "C" __global__ void adamw(float* values, const float* gradient, float* first, float* second, unsigned count,
                                 const double* norm, double clip_norm, float beta1, float beta2, float decay,
                                 float step_size, float root_bias2, float epsilon) {
    const unsigned i = thread_index();
    if (i >= count || !isfinite(*norm)) return;
    const double ratio = clip_norm / (*norm < 1e-12 ? 1e-12 : *norm);
    const float g = gradient[i] * float(ratio < 1. ? ratio : 1.);
    const float m = beta1 * first[i] + (1.f - beta1) * g;
    const float v = beta2 * second[i] + (1.f - beta2) * g * g;
    first[i] = m;
    second[i] = v;
    values[i] = values[i] * decay - step_size * m / (sqrtf(v) / root_bias2 + epsilon);
}

// mine = keep * mine + (1 - keep) * theirs
extern "C" __global__ void blend(float* mine, const float* theirs, unsigned count, float keep) {
    const unsigned i = thread_index();
    if (i < count) mine[i] = keep * mine[i] + (1.f - keep) * theirs[i];
}
