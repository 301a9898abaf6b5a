// What every kernel starts from. nvcc compiles the kernels for the GPU; the tests compile the very same files as plain
// C++ (host.cpp) and compare each result with the operators of the CPU.
#pragma once

#ifndef __CUDACC__
#include "host.h"
#endif

// Threads of every block: the Rust side launches with this number.
#define THREADS 256

typedef unsigned short bf16;

// N neighbouring values, moved by one instruction.
template <unsigned N>
struct alignas(4 * N) Floats {
    float at[N];
};
template <unsigned N>
struct alignas(2 * N) Bf16s {
    bf16 at[N];
};

// Rounds to nearest even; a NaN stays one.
__device__ inline bf16 to_bf16(float value) {
    union {
        float value;
        unsigned bits;
    } word;
    word.value = value;
    if (value != value) return bf16((word.bits >> 16) | 0x40u);
    return bf16((word.bits + 0x7fffu + ((word.bits >> 16) & 1u)) >> 16);
}

template <unsigned N>
__device__ inline void store(float* to, const Floats<N>& values) {
    *reinterpret_cast<Floats<N>*>(to) = values;
}

template <unsigned N>
__device__ inline void store(bf16* to, const Floats<N>& values) {
    Bf16s<N> rounded;
    for (unsigned l = 0; l < N; ++l) rounded.at[l] = to_bf16(values.at[l]);
    *reinterpret_cast<Bf16s<N>*>(to) = rounded;
}

template <unsigned N>
__device__ inline Floats<N> load(const float* from) {
    return *reinterpret_cast<const Floats<N>*>(from);
}

// The index of this thread in a one-dimensional grid. Sizes are checked to stay below 2^31 before a launch.
__device__ inline unsigned thread_index() { return blockIdx.x * THREADS + threadIdx.x; }
