// What makes a convolution of NHWC images a matrix product: patches as rows (im2col), and the way back (col2im).
//
// A row of `columns` belongs to one output pixel: the patch under the kernel in the order of the weights
// [kh, kw, Ci], then zeros up to `pitch` values. Each thread moves N neighbouring channels; N = 4 needs channels and
// pitch that 4 divides, and addresses that 16 bytes divide.

#include "cuda_or_host.cuh"

struct Shape {
    unsigned height, width, channels;  // of the images
    unsigned out_h, out_w;
    unsigned kernel_h, kernel_w, stride, padding;
};

template <unsigned N, class Out>
__device__ inline void im2col(const float* images, Out* columns, unsigned rows, unsigned pitch, Shape s) {
    const unsigned index = thread_index(), groups = pitch / N;
    const unsigned row = index / groups, k = index % groups * N;
    if (row >= rows) return;
    const unsigned tap = k / s.channels, channel = k % s.channels;
    const unsigned ky = tap / s.kernel_w, kx = tap % s.kernel_w;
    const unsigned ox = row % s.out_w, oy = row / s.out_w % s.out_h, image = row / s.out_w / s.out_h;
    // Above or left of the image wraps around to a huge number, which is outside as well.
    const unsigned y = oy * s.stride + ky - s.padding, x = ox * s.stride + kx - s.padding;
    Floats<N> values = {};
    if (ky < s.kernel_h && y < s.height && x < s.width)
        values = load<N>(images + ((size_t(image) * s.height + y) * s.width + x) * s.channels + channel);
    store(columns + size_t(row) * pitch + k, values);
}

#define IM2COL(NAME, N, OUT)                                                                                         \
    extern "C" __global__ void NAME(const float* images, OUT* columns, unsigned rows, unsigned pitch,                \
                                    unsigned height, unsigned width, unsigned channels, unsigned out_h,              \
                                    unsigned out_w, unsigned kernel_h, unsigned kernel_w, unsigned stride,           \
                                    unsigned padding) {                                                              \
        im2col<N>(images, columns, rows, pitch,                                                                      \
                  Shape{height, width, channels, out_h, out_w, kernel_h, kernel_w, stride, padding});                \
    }
IM2COL(im2col_f32_1, 1, float)
IM2COL(im2col_f32_4, 4, float)
IM2COL(im2col_bf16_1, 1, bf16)
IM2COL(im2col_bf16_4, 4, bf16)

// The gradient of the images. Each pixel gathers what the patches that it is part of say about it, in the order of the
// kernel's positions: no atomic additions, so the same sums in every run.
template <unsigned N>
__device__ inline void col2im(const float* columns, float* images, unsigned pixels, Shape s) {
    const unsigned index = thread_index(), groups = s.channels / N;
    const unsigned pixel = index / groups, channel = index % groups * N;
    if (pixel >= pixels) return;
    const unsigned x = pixel % s.width, y = pixel / s.width % s.height, image = pixel / s.width / s.height;
    const unsigned depth = s.kernel_h * s.kernel_w * s.channels;
    Floats<N> sum = {};
    for (unsigned ky = 0; ky < s.kernel_h && ky <= y + s.padding; ++ky) {
        const unsigned from_y = y + s.padding - ky, oy = from_y / s.stride;
        if (oy * s.stride != from_y || oy >= s.out_h) continue;
        for (unsigned kx = 0; kx < s.kernel_w && kx <= x + s.padding; ++kx) {
            const unsigned from_x = x + s.padding - kx, ox = from_x / s.stride;
            if (ox * s.stride != from_x || ox >= s.out_w) continue;
            const size_t row = (size_t(image) * s.out_h + oy) * s.out_w + ox;
            const Floats<N> part = load<N>(columns + row * depth + (ky * s.kernel_w + kx) * s.channels + channel);
            for (unsigned l = 0; l < N; ++l) sum.at[l] += part.at[l];
        }
    }
    store(images + size_t(pixel) * s.channels + channel, sum);
}

#define COL2IM(NAME, N)                                                                                              \
    extern "C" __global__ void NAME(const float* columns, float* images, unsigned pixels, unsigned height,           \
                                    unsigned width, unsigned channels, unsigned out_h, unsigned out_w,               \
                                    unsigned kernel_h, unsigned kernel_w, unsigned stride, unsigned padding) {       \
        col2im<N>(columns, images, pixels,                                                                           \
                  Shape{height, width, channels, out_h, out_w, kernel_h, kernel_w, stride, padding});                \
    }
COL2IM(col2im_1, 1)
COL2IM(col2im_4, 4)

extern "C" __global__ void round_to_bf16(const float* values, bf16* rounded, unsigned count) {
    const unsigned i = thread_index();
    if (i < count) rounded[i] = to_bf16(values[i]);
}
