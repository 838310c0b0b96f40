// One layer of the network for a block of atoms, forward and back. What a block needs stays in the second cache.
#pragma once

#include "messages.h"
#include "products.h"

namespace mlip {

// Arrays of all atoms and edges
struct Everything {
    float *harmonics, *basis, *d_harmonics, *d_basis;    // [edge, HARMONICS_ROW], [edge, BASIS_ROW]
    float* d_density;                                    // [atom, GRADIENT_ROW]
    float* scalars;                                      // [atom, LAYERS K]
    float* sent[LAYERS];                                 // [atom, 4 K]: features of a layer as the next receives them
    double *crowding, *energies;                         // [atom]
};

// Arrays of a block, one of each thread
struct Block {
    Buffer<float> density, field, factors, pairs, features, coupled, moments, radial, samples;
    Buffer<float> d_field, d_factors, d_pairs, d_features;
    float* d_sent[LAYERS];  // [atom, 4 K], of all atoms and ghosts

    void resize(const Model& model, long most_neighbours) {
        density.zeros(BLOCK * DENSITY_ROW);
        field.zeros(BLOCK * FIELD_ROW), d_field.zeros(BLOCK * FIELD_ROW);
        factors.zeros(BLOCK * PRODUCT_ROW), d_factors.zeros(BLOCK * PRODUCT_ROW);
        pairs.zeros(BLOCK * PAIRS_ROW), d_pairs.zeros(BLOCK * PAIRS_ROW);
        features.zeros(BLOCK * FEATURE_ROW), d_features.zeros(BLOCK * FEATURE_ROW);
        coupled.zeros(BLOCK * COUPLED_ROW);
        moments.zeros(MOMENTS * CHANNELS);
        samples.zeros(model.n_points * 6 * WIDTH);
        radial.resize((most_neighbours + 1) * 2 * CHANNELS);
    }
};

// Atoms first .. first + n of the system, n <= BLOCK; missing ones have no neighbours, and all of theirs is zero
struct Range {
    long first;
    int n;
};

template <bool LAST>
static void forward(const Model& model, int number, const System& system, Range range, const Everything& all, Block& block) {
    const Layer& layer = model.layers[number];
    float *density = block.density.get(), *field = block.field.get(), *factors = block.factors.get();
    for (int i = 0; i < BLOCK; i++)
        if (i < range.n)
            sum_density(model, system, range.first + i, all.harmonics, all.basis, density + i * DENSITY_ROW);
        else
            std::memset(density + i * DENSITY_ROW, 0, sizeof(float) * DENSITY_ROW);
    for (int l = 0; l <= DEGREE; l++)
        multiply(2 * l + 1, BLOCK, DESCRIBED, CHANNELS, density + l * l, {1, DENSITY_ROW, HARMONICS_ROW},
                 layer.density + l * DESCRIBED * CHANNELS, CHANNELS, field + l * l * CHANNELS, {CHANNELS, FIELD_ROW, 1}, false);
    if (number > 0) {
        float *coupled = block.coupled.get(), *moments = block.moments.get(), *radial = block.radial.get();
        for (int i = 0; i < BLOCK; i++)
            if (i < range.n) {
                radial_functions(layer, system, range.first + i, all.basis, radial);
                sum_messages(system, range.first + i, all.harmonics, radial, all.sent[number - 1], moments);
                couple(model.coupling, HARMONICS * PATHS, moments, coupled + i * COUPLED_ROW);
            } else {
                std::memset(coupled + i * COUPLED_ROW, 0, sizeof(float) * COUPLED_ROW);
            }
        for (int l = 0; l <= DEGREE; l++)
            multiply(2 * l + 1, BLOCK, paths(l) * CHANNELS, CHANNELS, coupled + l * l * PATHS * CHANNELS,
                     {PATHS * CHANNELS, COUPLED_ROW, 1}, layer.mix + l * PATHS * CHANNELS * CHANNELS, CHANNELS,
                     field + l * l * CHANNELS, {CHANNELS, FIELD_ROW, 1}, true);
    }
    for (int l = 0; l <= DEGREE; l++)
        multiply(2 * l + 1, BLOCK, CHANNELS, 2 * CHANNELS, field + l * l * CHANNELS, {CHANNELS, FIELD_ROW, 1},
                 layer.maps + l * 2 * CHANNELS * CHANNELS, 2 * CHANNELS, factors + l * l * 2 * CHANNELS,
                 {2 * CHANNELS, PRODUCT_ROW, 1}, false);
}

// features [atom, 4 K] from the field and its factors; without l = 1 in the last layer
template <bool LAST>
static void multiply_on_sphere(const Model& model, int number, const System& system, Range range, Block& block) {
    const Layer& layer = model.layers[number];
    float *pairs = block.pairs.get(), *features = block.features.get();
    for (int i = 0; i < range.n; i++)
        products<!LAST>(model, layer.gains + system.species[range.first + i] * 2 * CHANNELS, block.field.get() + i * FIELD_ROW,
                        block.factors.get() + i * PRODUCT_ROW, pairs + i * PAIRS_ROW);
    for (int l = 0; l < (LAST ? 1 : 2); l++) {
        const float* out = layer.out + l * 3 * CHANNELS * CHANNELS;
        multiply(2 * l + 1, BLOCK, CHANNELS, CHANNELS, block.field.get() + l * l * CHANNELS, {CHANNELS, FIELD_ROW, 1}, out,
                 CHANNELS, features + l * l * CHANNELS, {CHANNELS, FEATURE_ROW, 1}, false);
        multiply(2 * l + 1, BLOCK, 2 * CHANNELS, CHANNELS, pairs + l * l * 2 * CHANNELS, {2 * CHANNELS, PAIRS_ROW, 1},
                 out + CHANNELS * CHANNELS, CHANNELS, features + l * l * CHANNELS, {CHANNELS, FEATURE_ROW, 1}, true);
    }
}

// From d_features [atom, 4 K] of a block whose field and factors are there: gradients by density and messages
template <bool LAST>
static void backward(const Model& model, int number, const System& system, Range range, const Everything& all, Block& block) {
    const Layer& layer = model.layers[number];
    float *field = block.d_field.get(), *factors = block.d_factors.get(), *pairs = block.d_pairs.get();
    const float* features = block.d_features.get();
    for (int l = 0; l < (LAST ? 1 : 2); l++) {
        const float* out = layer.out_t + l * 3 * CHANNELS * CHANNELS;
        multiply(2 * l + 1, BLOCK, CHANNELS, CHANNELS, features + l * l * CHANNELS, {CHANNELS, FEATURE_ROW, 1}, out,
                 3 * CHANNELS, field + l * l * CHANNELS, {CHANNELS, FIELD_ROW, 1}, false);
        multiply(2 * l + 1, BLOCK, CHANNELS, 2 * CHANNELS, features + l * l * CHANNELS, {CHANNELS, FEATURE_ROW, 1},
                 out + CHANNELS, 3 * CHANNELS, pairs + l * l * 2 * CHANNELS, {2 * CHANNELS, PAIRS_ROW, 1}, false);
    }
    for (int i = 0; i < range.n; i++)
        products_gradient<!LAST>(model, layer.gains + system.species[range.first + i] * 2 * CHANNELS,
                                 block.field.get() + i * FIELD_ROW, block.factors.get() + i * PRODUCT_ROW,
                                 pairs + i * PAIRS_ROW, block.samples.get(), field + i * FIELD_ROW, factors + i * PRODUCT_ROW);
    for (int l = 0; l <= DEGREE; l++) {
        multiply(2 * l + 1, BLOCK, 2 * CHANNELS, CHANNELS, factors + l * l * 2 * CHANNELS, {2 * CHANNELS, PRODUCT_ROW, 1},
                 layer.maps_t + l * 2 * CHANNELS * CHANNELS, CHANNELS, field + l * l * CHANNELS, {CHANNELS, FIELD_ROW, 1}, true);
        multiply(2 * l + 1, range.n, CHANNELS, DESCRIBED, field + l * l * CHANNELS, {CHANNELS, FIELD_ROW, 1},
                 layer.density_t + l * DESCRIBED * CHANNELS, DESCRIBED,
                 all.d_density + range.first * GRADIENT_ROW + l * l * DESCRIBED, {DESCRIBED, GRADIENT_ROW, 1}, !LAST);
    }
    if (number == 0) return;
    float *coupled = block.coupled.get(), *moments = block.moments.get(), *radial = block.radial.get();
    for (int l = 0; l <= DEGREE; l++)
        multiply(2 * l + 1, BLOCK, CHANNELS, paths(l) * CHANNELS, field + l * l * CHANNELS, {CHANNELS, FIELD_ROW, 1},
                 layer.mix_t + l * PATHS * CHANNELS * CHANNELS, PATHS * CHANNELS, coupled + l * l * PATHS * CHANNELS,
                 {PATHS * CHANNELS, COUPLED_ROW, 1}, false);
    for (int i = 0; i < range.n; i++) {
        couple(model.coupling_t, MOMENTS, coupled + i * COUPLED_ROW, moments);
        radial_functions(layer, system, range.first + i, all.basis, radial);
        messages_gradient(layer, system, range.first + i, all.harmonics, radial, all.sent[number - 1], moments,
                          all.d_harmonics, all.d_basis, block.d_sent[number - 1]);
    }
}

}  // namespace mlip
