// Products f g and f g h of functions on the sphere, sampled at pairs of opposite points: harmonics of even l are equal
// there, those of odd l opposite, so half of the multiplications serve.
#pragma once

#include "sizes.h"

namespace mlip {

constexpr int AT_ONCE = WIDTH == 16 ? 4 : 1;  // points whose sums stay in registers

// The three functions at N pairs of points, one vector of channels: their even and odd parts
template <int N>
static inline void sampled(const Model& model, int first, const float* f, const float* gh, vec (&even)[3][N],
                           vec (&odd)[3][N]) {
    const float* sample = model.sample + first * HARMONICS;
#pragma GCC unroll 3
    for (int x = 0; x < 3; x++)
#pragma GCC unroll 4
        for (int i = 0; i < N; i++) even[x][i] = odd[x][i] = vec{};
#pragma GCC unroll 8
    for (int l = 0; l <= DEGREE; l++)
        for (int lm = l * l; lm < (l + 1) * (l + 1); lm++) {
            const vec value[3] = {load(f + lm * CHANNELS), load(gh + lm * 2 * CHANNELS),
                                  load(gh + lm * 2 * CHANNELS + CHANNELS)};
#pragma GCC unroll 4
            for (int i = 0; i < N; i++) {
                const vec y = all(sample[i * HARMONICS + lm]);
#pragma GCC unroll 3
                for (int x = 0; x < 3; x++) (l % 2 ? odd : even)[x][i] += y * value[x];
            }
        }
}

// sums over points of weight times f g and f g h: [0] with Y_0, [1 .. 3] with Y_1
template <int N, bool VECTORS>
static inline void project(const Model& model, int first, const float* f, const float* gh, vec (&pair)[4], vec (&triple)[4]) {
    vec even[3][N], odd[3][N];
    sampled<N>(model, first, f, gh, even, odd);
#pragma GCC unroll 4
    for (int i = 0; i < N; i++) {
        const float* weight = model.project + 4 * (first + i);
        const vec pair_plus = (even[0][i] + odd[0][i]) * (even[1][i] + odd[1][i]);
        const vec pair_minus = (even[0][i] - odd[0][i]) * (even[1][i] - odd[1][i]);
        const vec triple_plus = pair_plus * (even[2][i] + odd[2][i]), triple_minus = pair_minus * (even[2][i] - odd[2][i]);
        pair[0] += weight[0] * (pair_plus + pair_minus);
        triple[0] += weight[0] * (triple_plus + triple_minus);
        if (VECTORS)
#pragma GCC unroll 4
            for (int m = 1; m < 4; m++) {
                pair[m] += weight[m] * (pair_plus - pair_minus);
                triple[m] += weight[m] * (triple_plus - triple_minus);
            }
    }
}

// Projected products of an atom, [4, 2 K], times the gains of its element; without l = 1 if nothing reads them
template <bool VECTORS>
static void products(const Model& model, const float* gains, const float* f, const float* gh, float* pairs) {
    for (int c = 0; c < CHANNELS; c += WIDTH) {
        vec pair[4] = {}, triple[4] = {};
        int q = 0;
        for (; q + AT_ONCE <= model.n_points; q += AT_ONCE) project<AT_ONCE, VECTORS>(model, q, f + c, gh + c, pair, triple);
        for (; q < model.n_points; q++) project<1, VECTORS>(model, q, f + c, gh + c, pair, triple);
        for (int m = 0; m < (VECTORS ? 4 : 1); m++) {
            store(pairs + m * 2 * CHANNELS + c, pair[m] * load(gains + c));
            store(pairs + m * 2 * CHANNELS + CHANNELS + c, triple[m] * load(gains + CHANNELS + c));
        }
    }
}

// Gradients by the samples at N pairs of points: [point][even f, g, h, odd f, g, h]
template <int N, bool VECTORS>
static inline void sample_gradient(const Model& model, int first, const float* f, const float* gh, const vec (&d_pair)[4],
                                   const vec (&d_triple)[4], float* gradients) {
    vec even[3][N], odd[3][N];
    sampled<N>(model, first, f, gh, even, odd);
#pragma GCC unroll 4
    for (int i = 0; i < N; i++) {
        const float* weight = model.project + 4 * (first + i);
        vec pair_plus = weight[0] * d_pair[0], triple_plus = weight[0] * d_triple[0];
        vec pair_minus = pair_plus, triple_minus = triple_plus;
        if (VECTORS) {
            const vec p = weight[1] * d_pair[1] + weight[2] * d_pair[2] + weight[3] * d_pair[3];
            const vec t = weight[1] * d_triple[1] + weight[2] * d_triple[2] + weight[3] * d_triple[3];
            pair_plus += p, pair_minus -= p, triple_plus += t, triple_minus -= t;
        }
        const vec f_plus = even[0][i] + odd[0][i], f_minus = even[0][i] - odd[0][i];
        const vec g_plus = even[1][i] + odd[1][i], g_minus = even[1][i] - odd[1][i];
        const vec h_plus = even[2][i] + odd[2][i], h_minus = even[2][i] - odd[2][i];
        const vec dh_plus = triple_plus * f_plus * g_plus, dh_minus = triple_minus * f_minus * g_minus;
        pair_plus += triple_plus * h_plus, pair_minus += triple_minus * h_minus;
        const vec df_plus = pair_plus * g_plus, df_minus = pair_minus * g_minus;
        const vec dg_plus = pair_plus * f_plus, dg_minus = pair_minus * f_minus;
        float* to = gradients + i * 6 * WIDTH;
        store(to, df_plus + df_minus), store(to + 3 * WIDTH, df_plus - df_minus);
        store(to + WIDTH, dg_plus + dg_minus), store(to + 4 * WIDTH, dg_plus - dg_minus);
        store(to + 2 * WIDTH, dh_plus + dh_minus), store(to + 5 * WIDTH, dh_plus - dh_minus);
    }
}

// Adds to N consecutive harmonics of the same parity what the samples' gradients give; f accumulates where `add`
template <int N>
static inline void collect(const Model& model, int lm, const float* gradients, bool add, float* d_f, float* d_gh) {
    vec sum[3][N];
#pragma GCC unroll 8
    for (int i = 0; i < N; i++) {
        sum[0][i] = add ? load(d_f + (lm + i) * CHANNELS) : vec{};
        sum[1][i] = sum[2][i] = vec{};
    }
    const float* sample = model.sample_t + lm * model.n_points;
    for (int q = 0; q < model.n_points; q++) {
        const vec value[3] = {load(gradients + q * 6 * WIDTH), load(gradients + q * 6 * WIDTH + WIDTH),
                              load(gradients + q * 6 * WIDTH + 2 * WIDTH)};
#pragma GCC unroll 8
        for (int i = 0; i < N; i++) {
            const vec y = all(sample[i * model.n_points + q]);
#pragma GCC unroll 3
            for (int x = 0; x < 3; x++) sum[x][i] += y * value[x];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < N; i++) {
        store(d_f + (lm + i) * CHANNELS, sum[0][i]);
        store(d_gh + (lm + i) * 2 * CHANNELS, sum[1][i]);
        store(d_gh + (lm + i) * 2 * CHANNELS + CHANNELS, sum[2][i]);
    }
}

// Gradients by f [lm, K] and by g and h [lm, 2 K] from those of the projected products [4, 2 K]; d_f holds already what
// f gives to the features itself, l <= 1 or with VECTORS off l = 0
template <bool VECTORS>
static void products_gradient(const Model& model, const float* gains, const float* f, const float* gh,
                              const float* d_pairs, float* scratch, float* d_f, float* d_gh) {
    for (int c = 0; c < CHANNELS; c += WIDTH) {
        vec pair[4] = {}, triple[4] = {};
        for (int m = 0; m < (VECTORS ? 4 : 1); m++) {
            pair[m] = load(d_pairs + m * 2 * CHANNELS + c) * load(gains + c);
            triple[m] = load(d_pairs + m * 2 * CHANNELS + CHANNELS + c) * load(gains + CHANNELS + c);
        }
        int q = 0;
        for (; q + AT_ONCE <= model.n_points; q += AT_ONCE)
            sample_gradient<AT_ONCE, VECTORS>(model, q, f + c, gh + c, pair, triple, scratch + q * 6 * WIDTH);
        for (; q < model.n_points; q++)
            sample_gradient<1, VECTORS>(model, q, f + c, gh + c, pair, triple, scratch + q * 6 * WIDTH);
#pragma GCC unroll 8
        for (int l = 0; l <= DEGREE; l++) {
            const bool add = l == 0 || (l == 1 && VECTORS);
            const float* from = scratch + (l % 2 ? 3 * WIDTH : 0);
            int lm = l * l;
            for (; lm + 5 <= (l + 1) * (l + 1); lm += 5) collect<5>(model, lm, from, add, d_f + c, d_gh + c);
            for (; lm + 3 <= (l + 1) * (l + 1); lm += 3) collect<3>(model, lm, from, add, d_f + c, d_gh + c);
            for (; lm < (l + 1) * (l + 1); lm++) collect<1>(model, lm, from, add, d_f + c, d_gh + c);
        }
    }
}

}  // namespace mlip
