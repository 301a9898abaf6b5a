// Enough of CUDA to compile the kernels as plain C++: see host.cpp.
#pragma once

#include <cmath>
#include <cstddef>

#define __global__
#define __device__
#define __restrict__
// The threads of a block take turns on one thread of the system, so what they share is static.
#define __shared__ static thread_local

struct Index {
    unsigned x, y, z;
};
extern thread_local Index blockIdx, threadIdx, gridDim, blockDim;

// Lets the other threads of the block run up to here.
void __syncthreads();

using std::isfinite;
