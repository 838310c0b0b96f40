// Density of an atom, D[s n, lm] = sum_j embedding[s, element of j] b_n(r_ij) Y_lm(r_ij): summed for each element of
// the neighbours first, which costs the fewest multiplications, then embedded.
#pragma once

#include "edges.h"

namespace mlip {

constexpr int HV = HARMONICS_ROW / WIDTH;
constexpr long GRADIENT_ROW = HARMONICS * DESCRIBED + 16;  // of d E / d D, [lm, s n]

static inline long same_element(const System& system, long edge, long end) {
    const int32_t element = system.species[system.neighbours[edge]];
    do edge++;
    while (edge < end && system.species[system.neighbours[edge]] == element);
    return edge;
}

// density [s n, lm] of one atom
static void sum_density(const Model& model, const System& system, long atom, const float* harmonics, const float* basis,
                        float* density) {
    std::memset(density, 0, sizeof(float) * DESCRIBED * HARMONICS_ROW);
    const long end = system.first[atom + 1];
    for (long edge = system.first[atom]; edge < end;) {
        const float* embedding = model.embedding + system.species[system.neighbours[edge]] * SPECIES;
        const long stop = same_element(system, edge, end);
        vec sum[BASIS][HV] = {};
        for (; edge < stop; edge++)
#pragma GCC unroll 2
            for (int v = 0; v < HV; v++) {
                const vec y = load(harmonics + edge * HARMONICS_ROW + v * WIDTH);
#pragma GCC unroll 16
                for (int n = 0; n < BASIS; n++) sum[n][v] += basis[edge * BASIS_ROW + n] * y;
            }
        for (int s = 0; s < SPECIES; s++)
#pragma GCC unroll 16
            for (int n = 0; n < BASIS; n++)
#pragma GCC unroll 2
                for (int v = 0; v < HV; v++) {
                    float* to = density + (s * BASIS + n) * HARMONICS_ROW + v * WIDTH;
                    store(to, load(to) + embedding[s] * sum[n][v]);
                }
    }
}

// adds to the gradients by harmonics [edge, lm] and radial functions [edge, n] those of an atom's density [lm, s n]
static void density_gradient(const Model& model, const System& system, long atom, const float* harmonics,
                             const float* basis, const float* gradient, float* d_harmonics, float* d_basis) {
    alignas(64) float turned[DESCRIBED * HARMONICS_ROW] = {};
    for (int lm = 0; lm < HARMONICS; lm++)
        for (int k = 0; k < SPECIES * BASIS; k++) turned[k * HARMONICS_ROW + lm] = gradient[lm * DESCRIBED + k];
    const long end = system.first[atom + 1];
    for (long edge = system.first[atom]; edge < end;) {
        const float* embedding = model.embedding + system.species[system.neighbours[edge]] * SPECIES;
        const long stop = same_element(system, edge, end);
        vec by_basis[BASIS][HV] = {};
        alignas(64) float by_harmonic[HARMONICS][BASIS] = {};
        for (int s = 0; s < SPECIES; s++) {
#pragma GCC unroll 16
            for (int n = 0; n < BASIS; n++)
#pragma GCC unroll 2
                for (int v = 0; v < HV; v++)
                    by_basis[n][v] += embedding[s] * load(turned + (s * BASIS + n) * HARMONICS_ROW + v * WIDTH);
            for (int lm = 0; lm < HARMONICS; lm++)
                for (int n = 0; n < BASIS; n++)
                    by_harmonic[lm][n] += embedding[s] * gradient[lm * DESCRIBED + s * BASIS + n];
        }
        for (; edge < stop; edge++) {
            const float *y = harmonics + edge * HARMONICS_ROW, *b = basis + edge * BASIS_ROW;
#pragma GCC unroll 2
            for (int v = 0; v < HV; v++) {
                float* to = d_harmonics + edge * HARMONICS_ROW + v * WIDTH;
                vec sum = load(to);
#pragma GCC unroll 16
                for (int n = 0; n < BASIS; n++) sum += b[n] * by_basis[n][v];
                store(to, sum);
            }
            float sum[BASIS];
            for (int n = 0; n < BASIS; n++) sum[n] = d_basis[edge * BASIS_ROW + n];
            for (int lm = 0; lm < HARMONICS; lm++)
                for (int n = 0; n < BASIS; n++) sum[n] += y[lm] * by_harmonic[lm][n];
            for (int n = 0; n < BASIS; n++) d_basis[edge * BASIS_ROW + n] = sum[n];
        }
    }
}

}  // namespace mlip
