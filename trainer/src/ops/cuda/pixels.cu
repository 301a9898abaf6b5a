// Bytes of images to the network's values, so that only bytes cross the bus.

#include "cuda_or_host.cuh"

extern "C" __global__ void normalise_bytes(const unsigned char* bytes, float* values, unsigned count, float mean,
                                           float scale) {
    const unsigned i = thread_index();
    if (i < count) values[i] = (float(bytes[i]) - mean) * scale;
}
