// Messages of an atom's neighbours: moments T[lm, l1 m1, k] = sum_j Y_lm(r_ij) R_l1(r_ij) h_j[l1 m1, k], their coupling
// by its few nonzero coefficients, and the gradients of both. Nothing of size edge x channel outlives the atom.
#pragma once

#include "density.h"

namespace mlip {

constexpr int AT_A_TIME = HARMONICS <= 16 ? HARMONICS : 16;  // sums over neighbours that stay in registers

static inline void radial_functions(const Layer& layer, const System& system, long atom, const float* basis, float* radial) {
    const long first = system.first[atom];
    multiply(1, system.first[atom + 1] - first, BASIS, 2 * CHANNELS, basis + first * BASIS_ROW, {0, BASIS_ROW, 1},
             layer.radial, 2 * CHANNELS, radial, {0, 2 * CHANNELS, 1}, false);
}

// N of the moments of one vector of channels
template <int N>
static inline void sum_moments(const int32_t* neighbours, long n, const float* harmonics, const float* radial,
                               const float* features, float* moments) {
    vec sum[N] = {};
    for (long j = 0; j < n; j++) {
        const vec weighted = load(radial + j * 2 * CHANNELS) * load(features + neighbours[j] * FEATURE_ROW);
#pragma GCC unroll 16
        for (int lm = 0; lm < N; lm++) sum[lm] += harmonics[j * HARMONICS_ROW + lm] * weighted;
    }
#pragma GCC unroll 16
    for (int lm = 0; lm < N; lm++) store(moments + lm * 4 * CHANNELS, sum[lm]);
}

// moments [lm, l1 m1, K] of one atom
static void sum_messages(const System& system, long atom, const float* harmonics, const float* radial,
                         const float* features, float* moments) {
    const long first = system.first[atom], n = system.first[atom + 1] - first;
    const int32_t* neighbours = system.neighbours + first;
    const float* y = harmonics + first * HARMONICS_ROW;
    for (int a = 0; a < 4; a++)
        for (int c = 0; c < CHANNELS; c += WIDTH) {
            const float *r = radial + (a > 0) * CHANNELS + c, *h = features + a * CHANNELS + c;
            float* to = moments + a * CHANNELS + c;
            int lm = 0;
            for (; lm + AT_A_TIME <= HARMONICS; lm += AT_A_TIME)
                sum_moments<AT_A_TIME>(neighbours, n, y + lm, r, h, to + lm * 4 * CHANNELS);
            for (; lm < HARMONICS; lm++) sum_moments<1>(neighbours, n, y + lm, r, h, to + lm * 4 * CHANNELS);
        }
}

// out[row] = sum of value times in[column], rows of K numbers
static void couple(const Sparse& matrix, int n_rows, const float* in, float* out) {
    for (int row = 0; row < n_rows; row++) {
        vec sum[CHUNKS] = {};
        for (int k = matrix.start[row]; k < matrix.start[row + 1]; k++)
#pragma GCC unroll 8
            for (int c = 0; c < CHUNKS; c++) sum[c] += matrix.value[k] * load(in + matrix.column[k] * CHANNELS + c * WIDTH);
#pragma GCC unroll 8
        for (int c = 0; c < CHUNKS; c++) store(out + row * CHANNELS + c * WIDTH, sum[c]);
    }
}

// From the gradient by the moments of one atom: adds to those by harmonics, radial functions and the features sent
static void messages_gradient(const Layer& layer, const System& system, long atom, const float* harmonics,
                              const float* radial, const float* features, const float* d_moments, float* d_harmonics,
                              float* d_basis, float* d_features) {
    const long first = system.first[atom], n = system.first[atom + 1] - first;
    for (long j = 0; j < n; j++) {
        const long row = system.neighbours[first + j] * FEATURE_ROW;
        const float* y = harmonics + (first + j) * HARMONICS_ROW;
        alignas(64) float d_radial[2 * CHANNELS];
        vec by_harmonic[HARMONICS] = {};
        for (int c = 0; c < CHANNELS; c += WIDTH) {
            vec d_one = vec{};
            for (int a = 0; a < 4; a++) {
                const vec r = load(radial + j * 2 * CHANNELS + (a > 0) * CHANNELS + c);
                const vec h = load(features + row + a * CHANNELS + c), weighted = r * h;
                const float* gradient = d_moments + a * CHANNELS + c;
                vec sum = vec{};
#pragma GCC unroll 32
                for (int lm = 0; lm < HARMONICS; lm++) {
                    const vec g = load(gradient + lm * 4 * CHANNELS);
                    sum += y[lm] * g;
                    by_harmonic[lm] += g * weighted;
                }
                float* to = d_features + row + a * CHANNELS + c;
                store(to, load(to) + sum * r);
                if (a == 0)
                    store(d_radial + c, sum * h);
                else
                    d_one += sum * h;
            }
            store(d_radial + CHANNELS + c, d_one);
        }
        float* to = d_harmonics + (first + j) * HARMONICS_ROW;
#pragma GCC unroll 8
        for (int v = 0; v < HV; v++) {
            vec some[WIDTH];
#pragma GCC unroll 16
            for (int i = 0; i < WIDTH; i++) some[i] = v * WIDTH + i < HARMONICS ? by_harmonic[(v * WIDTH + i) % HARMONICS] : vec{};
            store(to + v * WIDTH, load(to + v * WIDTH) + sums_of_lanes(some));
        }
        vec by_basis[BASIS] = {};
        for (int c = 0; c < 2 * CHANNELS; c += WIDTH)
#pragma GCC unroll 16
            for (int b = 0; b < BASIS; b++) by_basis[b] += load(d_radial + c) * load(layer.radial + b * 2 * CHANNELS + c);
        for (int b = 0; b < BASIS; b += WIDTH) {
            vec some[WIDTH];
#pragma GCC unroll 16
            for (int i = 0; i < WIDTH; i++) some[i] = b + i < BASIS ? by_basis[(b + i) % BASIS] : vec{};
            const vec sums = sums_of_lanes(some);
            for (int i = 0; i < WIDTH && b + i < BASIS; i++) d_basis[(first + j) * BASIS_ROW + b + i] += sums[i];
        }
    }
}

}  // namespace mlip
