// Global maximum pooling: [N, P, C] to [N, C], and back to the first position that holds the maximum.

#include "cuda_or_host.cuh"

extern "C" __global__ void max_pool(const float* x, float* y, unsigned* position, unsigned images, unsigned positions,
                                    unsigned channels) {
    const unsigned i = thread_index();
    if (i >= images * channels) return;
    const float* values = x + size_t(i / channels) * positions * channels + i % channels;
    float best = values[0];
    unsigned at = 0;
    for (unsigned p = 1; p < positions; ++p) {
        const float value = values[size_t(p) * channels];
        if (value > best) {
            best = value;
            at = p;
        }
    }
    y[i] = best;
    position[i] = at;
}

extern "C" __global__ void max_pool_gradient(const float* g, const unsigned* position, float* x_gradient,
                                             unsigned count, unsigned positions, unsigned channels) {
    const unsigned i = thread_index();
    if (i >= count) return;
    const unsigned p = i / channels % positions, out = i / channels / positions * channels + i % channels;
    x_gradient[i] = position[out] == p ? g[out] : 0.f;
}
