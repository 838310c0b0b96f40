// Energy of atoms from the scalars of all layers.
#pragma once

#include "layers.h"

namespace mlip {

// Energy of each atom of a block by the readout, and the gradient by its scalars [atom, LAYERS K]
static void readout(const Model& model, const System& system, Range range, const float* scalars, float* hidden,
                    float* d_scalars, double* energies) {
    multiply(1, range.n, SCALARS, HIDDEN, scalars, {0, SCALARS, 1}, model.hidden, HIDDEN, hidden, {0, HIDDEN, 1}, false);
    for (int i = 0; i < range.n; i++) {
        const float* bias = model.bias + system.species[range.first + i] * HIDDEN;
        float* h = hidden + i * HIDDEN;
        vec sum = vec{};
        for (int c = 0; c < HIDDEN; c += WIDTH) {
            const vec b = load(bias + c), x = load(h + c) + b, last = load(model.last + c);
            // quotients, not products: a fused multiply-add would leave a rest where x = b, for a lone atom
            const vec below = 1.0f + exponential(-x), gate = 1.0f / below;
            sum += last * (x / below - b / (1.0f + exponential(-b)));
            store(h + c, last * gate * (1.0f + x * (1.0f - gate)));
        }
        for (int c = 0; c < SCALARS; c += WIDTH) {
            sum += load(model.linear + c) * load(scalars + i * SCALARS + c);
            store(d_scalars + i * SCALARS + c, load(model.linear + c));
        }
        double energy = 0.0;
        for (int lane = 0; lane < WIDTH; lane++) energy += sum[lane];
        energies[range.first + i] += energy;
    }
    multiply(1, range.n, HIDDEN, SCALARS, hidden, {0, HIDDEN, 1}, model.hidden_t, SCALARS, d_scalars, {0, SCALARS, 1}, true);
}

}  // namespace mlip
