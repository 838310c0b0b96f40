// Vectors of the widest registers that the compiler may use, and the one matrix product that the network needs.
#pragma once

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

namespace mlip {

#if defined(__AVX512F__)
constexpr int WIDTH = 16, TILE_ROWS = 8;  // floats in a register; rows of a tile: 2 x 8 sums stay in 32 registers
#elif defined(__AVX__)
constexpr int WIDTH = 8, TILE_ROWS = 4;
#else
constexpr int WIDTH = 4, TILE_ROWS = 4;
#endif

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef float anywhere __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int ivec __attribute__((vector_size(4 * WIDTH)));

static inline vec load(const float* from) { return *(const anywhere*)from; }
static inline void store(float* to, vec value) { *(anywhere*)to = value; }
static inline vec all(float x) { return x - vec{}; }

constexpr int rounded_up(int n, int step) { return (n + step - 1) / step * step; }

// Memory that keeps its size between calls, on a cache line.
template <class T>
class Buffer {
   public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(data_); }
    T* resize(size_t n) {
        if (n > size_) {
            std::free(data_);
            size_ = 0;
            data_ = static_cast<T*>(std::aligned_alloc(64, (n * sizeof(T) + 127) / 64 * 64));
            if (data_ == nullptr) throw std::bad_alloc();
            size_ = n;
        }
        return data_;
    }
    T* zeros(size_t n) {
        std::memset(static_cast<void*>(resize(n)), 0, n * sizeof(T));
        return data_;
    }
    T* get() const { return data_; }

   private:
    T* data_ = nullptr;
    size_t size_ = 0;
};

// lane i of the result is the sum over the lanes of values[i], i < N <= WIDTH
template <int N>
static inline vec sums_of_lanes(vec (&values)[N]) {
    static_assert(N <= WIDTH, "one lane for each sum");
    ivec even, odd;
    for (int i = 0; i < WIDTH; i++) even[i] = 2 * i, odd[i] = 2 * i + 1;
    vec now[WIDTH];
    for (int i = 0; i < WIDTH; i++) now[i] = i < N ? values[i < N ? i : 0] : vec{};
#pragma GCC unroll 16
    for (int n = WIDTH / 2; n > 0; n /= 2)
#pragma GCC unroll 16
        for (int i = 0; i < n; i++)
            now[i] = __builtin_shuffle(now[2 * i], now[2 * i + 1], even) + __builtin_shuffle(now[2 * i], now[2 * i + 1], odd);
    return now[0];
}

template <int M, int N>
static inline void tile(int inner, const float* a, long a_row, long a_inner, const float* w, long w_row, float* c,
                        long c_row, bool add) {
    vec sum[M][N];
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) sum[m][n] = add ? load(c + m * c_row + n * WIDTH) : vec{};
    for (int p = 0; p < inner; p++) {
        vec weight[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) weight[n] = load(w + p * w_row + n * WIDTH);
#pragma GCC unroll 16
        for (int m = 0; m < M; m++) {
            const float x = a[m * a_row + p * a_inner];
#pragma GCC unroll 4
            for (int n = 0; n < N; n++) sum[m][n] += x * weight[n];
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) store(c + m * c_row + n * WIDTH, sum[m][n]);
}

template <int N>
static void panel(int rows, int inner, const float* a, long a_row, long a_inner, const float* w, long w_row, float* c,
                  long c_row, bool add) {
    int m = 0;
    for (; m + TILE_ROWS <= rows; m += TILE_ROWS)
        tile<TILE_ROWS, N>(inner, a + m * a_row, a_row, a_inner, w, w_row, c + m * c_row, c_row, add);
    for (; m + 2 <= rows; m += 2) tile<2, N>(inner, a + m * a_row, a_row, a_inner, w, w_row, c + m * c_row, c_row, add);
    for (; m < rows; m++) tile<1, N>(inner, a + m * a_row, a_row, a_inner, w, w_row, c + m * c_row, c_row, add);
}

// A product of matrices for each of `n` pairs (a, c) with the same weights:
// c[m, :] (+)= sum_p a[m, p] w[p, :]; `cols` is a multiple of WIDTH, the others are any number
struct Rows {
    long next, row, inner;  // floats from one matrix to the next, from row to row, and along the inner index
};
static void multiply(int n, int rows, int inner, int cols, const float* a, Rows ra, const float* w, long w_row, float* c,
                     Rows rc, bool add) {
    int col = 0;
    for (; col + 2 * WIDTH <= cols; col += 2 * WIDTH)
        for (int i = 0; i < n; i++)
            panel<2>(rows, inner, a + i * ra.next, ra.row, ra.inner, w + col, w_row, c + i * rc.next + col, rc.row, add);
    for (; col < cols; col += WIDTH)
        for (int i = 0; i < n; i++)
            panel<1>(rows, inner, a + i * ra.next, ra.row, ra.inner, w + col, w_row, c + i * rc.next + col, rc.row, add);
}

// e^x to float precision for |x| < 80: 2^k of the nearest whole number, a polynomial for the rest
static inline vec exponential(vec x) {
    x = x < -80.0f ? all(-80.0f) : x;
    x = x > 80.0f ? all(80.0f) : x;
    const vec shifted = x * 1.44269504f + 12582912.0f;  // 1.5 x 2^23: the sum is rounded to a whole number
    const vec k = shifted - 12582912.0f;
    const vec y = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    vec p = all(1.0f / 5040.0f);
    p = p * y + 1.0f / 720.0f;
    p = p * y + 1.0f / 120.0f;
    p = p * y + 1.0f / 24.0f;
    p = p * y + 1.0f / 6.0f;
    p = p * y + 0.5f;
    p = p * y + 1.0f;
    p = p * y + 1.0f;
    ivec bits = (__builtin_convertvector(k, ivec) + 127) << 23;
    vec power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

}  // namespace mlip
