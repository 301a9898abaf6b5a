// Batch normalisation of rows of channels, fused with residual addition and ReLU.
//
// Sums over the batch are taken twice: every block sums a fixed stretch of rows (in float over RUN rows, in double over
// runs), then one block per 32 channels adds up the blocks' sums in their order. Which thread adds what depends on the
// shape alone, so results are the same bytes in every run.
//
// `coefficients` is [4][C]: mean, 1 / sqrt(variance + epsilon), and the two of y = u * scale + shift.

#include "cuda_or_host.cuh"

#define RUN 64
#define CHANNELS_PER_BLOCK 32
#define LANES_PER_CHANNEL (THREADS / CHANNELS_PER_BLOCK)

// Where the gradient passes the ReLU: everywhere, where the normalised input is positive, where the result is.
#define MASK_ALL 0u
#define MASK_AFFINE 1u
#define MASK_RESULT 2u

struct Pair {
    float first, second;
};

// Per channel, sums of value(row, column) over the block's rows, to partial[block][2][channels]. A grid of
// [pieces of rows, pieces of THREADS channels].
template <class Value>
__device__ inline void sum_rows(unsigned rows, unsigned channels, unsigned rows_per_block, double* partial,
                                Value value) {
    __shared__ double first[THREADS], second[THREADS];
    const unsigned tile = blockIdx.y * THREADS;
    const unsigned width = channels - tile < THREADS ? channels - tile : THREADS;
    // Neighbouring threads read neighbouring values, of this row and of the next ones.
    const unsigned lanes = THREADS / width, lane = threadIdx.x / width, column = tile + threadIdx.x % width;
    const unsigned start = blockIdx.x * rows_per_block;
    const unsigned end = rows - start < rows_per_block ? rows : start + rows_per_block;
    double a = 0, b = 0;
    if (lane < lanes) {
        for (unsigned run = start + lane; run < end; run += lanes * RUN) {
            Pair sum = {0, 0};
            for (unsigned k = 0; k < RUN; ++k) {
                const unsigned row = run + k * lanes;
                if (row >= end) break;
                const Pair pair = value(row, column);
                sum.first += pair.first;
                sum.second += pair.second;
            }
            a += sum.first;
            b += sum.second;
        }
    }
    first[threadIdx.x] = a;
    second[threadIdx.x] = b;
    __syncthreads();
    if (threadIdx.x < width) {
        for (unsigned other = 1; other < lanes; ++other) {
            a += first[other * width + threadIdx.x];
            b += second[other * width + threadIdx.x];
        }
        partial[(size_t(blockIdx.x) * 2) * channels + column] = a;
        partial[(size_t(blockIdx.x) * 2 + 1) * channels + column] = b;
    }
}

// The sums of all pieces for the channel of this thread; valid in the threads of lane 0.
__device__ inline void sum_pieces(const double* partial, unsigned pieces, unsigned channels, unsigned channel,
                                  double& a, double& b) {
    __shared__ double first[THREADS], second[THREADS];
    const unsigned lane = threadIdx.x / CHANNELS_PER_BLOCK;
    a = b = 0;
    if (channel < channels) {
        for (unsigned piece = lane; piece < pieces; piece += LANES_PER_CHANNEL) {
            a += partial[(size_t(piece) * 2) * channels + channel];
            b += partial[(size_t(piece) * 2 + 1) * channels + channel];
        }
    }
    first[threadIdx.x] = a;
    second[threadIdx.x] = b;
    __syncthreads();
    for (unsigned other = 1; other < LANES_PER_CHANNEL && lane == 0; ++other) {
        a += first[other * CHANNELS_PER_BLOCK + threadIdx.x];
        b += second[other * CHANNELS_PER_BLOCK + threadIdx.x];
    }
}

__device__ inline unsigned channel_of_thread() {
    return blockIdx.x * CHANNELS_PER_BLOCK + threadIdx.x % CHANNELS_PER_BLOCK;
}

struct Moment {
    const float* u;
    unsigned channels;
    __device__ Pair operator()(unsigned row, unsigned column) const {
        const float value = u[size_t(row) * channels + column];
        return Pair{value, value * value};
    }
};

extern "C" __global__ void bn_moment_sums(const float* u, unsigned rows, unsigned channels, unsigned rows_per_block,
                                          double* partial) {
    sum_rows(rows, channels, rows_per_block, partial, Moment{u, channels});
}

__device__ inline void write_coefficients(float* coefficients, unsigned channels, unsigned c, float mean,
                                          double variance, double epsilon, float gamma, float beta) {
    const float reciprocal_std = float(1. / sqrt(variance + epsilon));
    const float scale = gamma * reciprocal_std;
    coefficients[c] = mean;
    coefficients[channels + c] = reciprocal_std;
    coefficients[2 * channels + c] = scale;
    coefficients[3 * channels + c] = beta - mean * scale;
}

// Coefficients from the batch; `running` [2][C], mean and unbiased variance, moves towards the batch by `momentum`.
extern "C" __global__ void bn_batch_coefficients(const double* partial, unsigned pieces, unsigned rows,
                                                 unsigned channels, float momentum, double epsilon,
                                                 const float* gamma, const float* beta, float* running,
                                                 float* coefficients) {
    const unsigned c = channel_of_thread();
    double sum, squares;
    sum_pieces(partial, pieces, channels, c, sum, squares);
    if (threadIdx.x >= CHANNELS_PER_BLOCK || c >= channels) return;
    const double count = rows, mean = sum / count;
    double variance = squares / count - mean * mean;
    if (variance < 0) variance = 0;
    running[c] += momentum * (float(mean) - running[c]);
    const float unbiased = float(variance * count / (count - 1));
    running[channels + c] += momentum * (unbiased - running[channels + c]);
    write_coefficients(coefficients, channels, c, float(mean), variance, epsilon, gamma[c], beta[c]);
}

// Coefficients from remembered statistics.
extern "C" __global__ void bn_frozen_coefficients(unsigned channels, double epsilon, const float* gamma,
                                                  const float* beta, const float* running, float* coefficients) {
    const unsigned c = thread_index();
    if (c >= channels) return;
    write_coefficients(coefficients, channels, c, running[c], double(running[channels + c]), epsilon, gamma[c],
                       beta[c]);
}

// y = relu?(u * scale + shift + residual?); `residual` may be null.
template <unsigned N>
__device__ inline void bn_apply(const float* u, const float* coefficients, const float* residual, unsigned relu,
                                float* y, unsigned count, unsigned channels) {
    const unsigned i = thread_index() * N;
    if (i >= count) return;
    const unsigned c = i % channels;
    Floats<N> values = load<N>(u + i), added = {};
    if (residual) added = load<N>(residual + i);
    for (unsigned l = 0; l < N; ++l) {
        float value = values.at[l] * coefficients[2 * channels + c + l] + coefficients[3 * channels + c + l];
        if (residual) value += added.at[l];
        // Written so that a NaN stays one.
        values.at[l] = relu && value < 0 ? 0.f : value;
    }
    store(y + i, values);
}

#define BN_APPLY(NAME, N)                                                                                            \
    extern "C" __global__ void NAME(const float* u, const float* coefficients, const float* residual, unsigned relu, \
                                    float* y, unsigned count, unsigned channels) {                                   \
        bn_apply<N>(u, coefficients, residual, relu, y, count, channels);                                            \
    }
BN_APPLY(bn_apply_1, 1)
BN_APPLY(bn_apply_4, 4)

// The gradient behind the ReLU. MASK_AFFINE repeats the expression of bn_apply, so both round to the same side of zero.
__device__ inline float gated(unsigned mask, float g, float u, float y, float scale, float shift) {
    if (mask == MASK_AFFINE) return u * scale + shift > 0 ? g : 0.f;
    if (mask == MASK_RESULT) return y > 0 ? g : 0.f;
    return g;
}

struct GradientPair {
    const float *u, *g, *y, *coefficients;
    unsigned mask, channels;
    __device__ Pair operator()(unsigned row, unsigned column) const {
        const size_t i = size_t(row) * channels + column;
        const float value = u[i];
        const float gradient = gated(mask, g[i], value, mask == MASK_RESULT ? y[i] : 0.f,
                                     coefficients[2 * channels + column], coefficients[3 * channels + column]);
        return Pair{gradient, gradient * (value - coefficients[column])};
    }
};

// Sums of the gradient behind the mask, and of it times u - mean. `y` is read for MASK_RESULT only.
extern "C" __global__ void bn_gradient_sums(const float* u, const float* g, const float* y, const float* coefficients,
                                            unsigned mask, unsigned rows, unsigned channels, unsigned rows_per_block,
                                            double* partial) {
    sum_rows(rows, channels, rows_per_block, partial, GradientPair{u, g, y, coefficients, mask, channels});
}

// Gradients of gamma and beta, `affine` [2][C], and what the input's gradient needs, `input` [3][C]:
// g * scale + u * slope + offset. The last two carry the dependence of the batch's statistics on the input.
extern "C" __global__ void bn_gradient_coefficients(const double* partial, unsigned pieces, unsigned rows,
                                                    unsigned channels, unsigned training, const float* gamma,
                                                    const float* coefficients, float* affine, float* input) {
    const unsigned c = channel_of_thread();
    double sum, product;
    sum_pieces(partial, pieces, channels, c, sum, product);
    if (threadIdx.x >= CHANNELS_PER_BLOCK || c >= channels) return;
    const double mean = coefficients[c], r = coefficients[channels + c];
    const double scale = double(gamma[c]) * r, gamma_gradient = product * r;
    double slope = 0, offset = 0;
    if (training) {
        slope = -scale * r * gamma_gradient / rows;
        offset = -scale * sum / rows - slope * mean;
    }
    affine[c] = float(gamma_gradient);
    affine[channels + c] = float(sum);
    input[c] = float(scale);
    input[channels + c] = float(slope);
    input[2 * channels + c] = float(offset);
}

// The gradient of u, and, where `masked` is not null, the gradient behind the mask: that of the residual.
template <unsigned N, class Out>
__device__ inline void bn_input_gradient(const float* u, const float* g, const float* y, const float* coefficients,
                                         unsigned mask, const float* input, Out* u_gradient, float* masked,
                                         unsigned count, unsigned channels) {
    const unsigned i = thread_index() * N;
    if (i >= count) return;
    const unsigned c = i % channels;
    const Floats<N> value = load<N>(u + i);
    Floats<N> gradient = load<N>(g + i), result = {}, out;
    if (mask == MASK_RESULT) result = load<N>(y + i);
    for (unsigned l = 0; l < N; ++l) {
        gradient.at[l] = gated(mask, gradient.at[l], value.at[l], result.at[l], coefficients[2 * channels + c + l],
                               coefficients[3 * channels + c + l]);
        out.at[l] = gradient.at[l] * input[c + l] +
                    (value.at[l] * input[channels + c + l] + input[2 * channels + c + l]);
    }
    if (u_gradient) store(u_gradient + i, out);
    if (masked) store(masked + i, gradient);
}

#define BN_INPUT_GRADIENT(NAME, N, OUT)                                                                              \
    extern "C" __global__ void NAME(const float* u, const float* g, const float* y, const float* coefficients,       \
                                    unsigned mask, const float* input, OUT* u_gradient, float* masked,               \
                                    unsigned count, unsigned channels) {                                             \
        bn_input_gradient<N>(u, g, y, coefficients, mask, input, u_gradient, masked, count, channels);               \
    }
BN_INPUT_GRADIENT(bn_input_gradient_f32_1, 1, float)
BN_INPUT_GRADIENT(bn_input_gradient_f32_4, 4, float)
BN_INPUT_GRADIENT(bn_input_gradient_bf16_1, 1, bf16)
BN_INPUT_GRADIENT(bn_input_gradient_bf16_4, 4, bf16)
