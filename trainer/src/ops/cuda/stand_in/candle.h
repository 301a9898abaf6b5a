// What candle's own kernels use of CUDA besides host.h; see driver.cpp. Half and eighth precision are names only: the
// architecture that the kernels are told (scripts/test-cuda.sh) leaves out what computes with them.
#pragma once

#include "../host.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>

#define __forceinline__ inline
#define __host__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

using std::isnan;
using std::max;
using std::min;

struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline float normcdff(float x) { return .5f * std::erfc(-x * .70710678f); }
inline double normcdf(double x) { return .5 * std::erfc(-x * .70710678118654752); }

struct __half {};
struct __nv_bfloat16 {};
struct __nv_fp8_e4m3 {
    unsigned char __x;
    __nv_fp8_e4m3(float = 0) : __x(0) {}
    operator float() const { return 0; }
};
enum { __NV_E4M3 };
inline int __nv_cvt_fp8_to_halfraw(unsigned char, int) { return 0; }
inline float __half2float(int) { return 0; }

// Threads take turns, so a plain addition is atomic.
template <class T, class U>
T atomicAdd(T* to, U value) {
    const T old = *to;
    *to = old + value;
    return old;
}

// Lets the other threads of the warp run up to here.
void __syncwarp(unsigned = 0);
extern thread_local unsigned long warp_values[1024];

template <class T>
T from_lane(T value, unsigned lane) {
    const unsigned thread = threadIdx.x;
    std::memcpy(&warp_values[thread], &value, sizeof value);
    __syncwarp();
    if (lane < 32) std::memcpy(&value, &warp_values[thread / 32 * 32 + lane], sizeof value);
    __syncwarp();
    return value;
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
    return from_lane(value, threadIdx.x % 32 ^ mask);
}
template <class T>
T __shfl_down_sync(unsigned, T value, int delta, int = 32) {
    return from_lane(value, threadIdx.x % 32 + delta);
}
