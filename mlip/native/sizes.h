// Sizes of one network, given when it is compiled: loops of fixed length are what makes it fast.
#pragma once

#include <cstdint>

#include "vectors.h"

namespace mlip {

#ifndef MLIP_CHANNELS  // what an editor sees; mlip/native/build.py gives the model's
#define MLIP_CHANNELS 64
#define MLIP_DEGREE 3
#define MLIP_LAYERS 2
#define MLIP_BASIS 8
#define MLIP_SPECIES 4
#define MLIP_HIDDEN 64
#endif

constexpr int CHANNELS = MLIP_CHANNELS;  // K, a multiple of 16: the rest is zero weights
constexpr int DEGREE = MLIP_DEGREE;      // l_max
constexpr int LAYERS = MLIP_LAYERS;
constexpr int BASIS = MLIP_BASIS;        // radial functions n
constexpr int SPECIES = MLIP_SPECIES;    // numbers s that describe an element
constexpr int HIDDEN = MLIP_HIDDEN;      // of the readout, a multiple of 16

constexpr int HARMONICS = (DEGREE + 1) * (DEGREE + 1);      // (l, m)
constexpr int HARMONICS_ROW = rounded_up(HARMONICS, 16);    // of one edge
constexpr int BASIS_ROW = rounded_up(BASIS, 8);
constexpr int DESCRIBED = rounded_up(SPECIES * BASIS, 16);  // (s, n)
constexpr int CHUNKS = CHANNELS / WIDTH;
constexpr int MOMENTS = HARMONICS * 4;                      // (lm, l1 m1)
constexpr int SCALARS = LAYERS * CHANNELS;

// Paths (l1, l) -> l' with l1 <= 1 and l1 + l + l' even: (0, l'), (1, l' - 1), (1, l' + 1)
constexpr int paths(int degree) { return (degree == 0 || degree == DEGREE) ? 2 : 3; }
constexpr int PATHS = DEGREE == 1 ? 2 : 3;

constexpr int BLOCK = 16;  // atoms whose numbers stay in the second cache; fewer would fetch the weights of 128 channels too often

// Rows of an atom are padded by a cache line: powers of two would fall into the same few places of the cache
constexpr long DENSITY_ROW = DESCRIBED * HARMONICS_ROW + 16;
constexpr long FIELD_ROW = HARMONICS * CHANNELS + 16;
constexpr long PRODUCT_ROW = HARMONICS * 2 * CHANNELS + 16;
constexpr long COUPLED_ROW = HARMONICS * PATHS * CHANNELS + 16;
constexpr long PAIRS_ROW = 4 * 2 * CHANNELS + 16;
constexpr long FEATURE_ROW = 4 * CHANNELS;

// A matrix with few entries, row by row: the coupling of moments, and its transpose
struct Sparse {
    const int32_t *start, *column;
    const float* value;
};

struct Layer {
    const float *density, *density_t;  // [l, sn, K] and back
    const float *maps, *maps_t;        // [l, K, 2 K]: to the second and the third factor of the products
    const float* gains;                // [element, 2 K]
    const float *out, *out_t;          // [2, 3 K, K]
    const float *radial, *mix, *mix_t, *sender;  // [n, 2 K], [l, paths K, K], [element, K]; not in the first layer
};

struct Pair {
    double limit;                                       // Å, the closest that the network sees
    double zbl_reach, zbl_strength, zbl_inverse_length;  // Å, eV Å, 1/Å
    double wall_reach, wall_strength;                    // Å, eV
};

struct Element {
    double energy;                            // eV, of the lone atom
    double most, wall_most, wall_strength;  // crowding of the network's limit and of the wall's, eV
    // crowding below which the wall draws atoms back, and below which it is flat; eV
    double wall_least, wall_flat, cohesion_strength;
};

struct Model {
    double cutoff;
    int n_elements, n_points;               // n_points: pairs of opposite points of the quadrature
    const float *sample, *sample_t;         // [points, lm] and back
    const float* project;                   // [points, 4]
    const float* embedding;                 // [element, s]
    const float *linear, *hidden, *hidden_t, *bias, *last;  // readout, in eV
    Sparse coupling, coupling_t;
    Layer layers[LAYERS];
    const Pair* pairs;                      // [element, element]
    const Element* elements;
};

}  // namespace mlip
