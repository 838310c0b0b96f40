// The spherical network of mlip/models/spherical.py with its short-range terms: energies, forces and virial.
//
// Float32 with float64 geometry. Sweeps over blocks of atoms, one for each layer and direction: stages.h.

#include <mutex>

#include "stages.h"

namespace mlip {

// A model with its own copy of the weights, and the memory of its calls
struct Handle {
    Model model;
    std::vector<Buffer<char>> arrays;
    std::mutex mutex;
    Workspace work;
};

}  // namespace mlip

extern "C" {

void* mlip_create(double cutoff, int n_elements, int n_points, const void* const* arrays, const long* bytes, int n_arrays) {
    try {
        auto* handle = new mlip::Handle;
        handle->arrays = std::vector<mlip::Buffer<char>>(n_arrays);
        int next = 0;
        auto copy = [&]() -> const void* {
            char* own = handle->arrays[next].resize(bytes[next] + 64);
            std::memcpy(own, arrays[next], bytes[next]);
            next++;
            return own;
        };
        auto floats = [&] { return static_cast<const float*>(copy()); };
        auto ints = [&] { return static_cast<const int32_t*>(copy()); };
        mlip::Model& m = handle->model;
        m.cutoff = cutoff;
        m.n_elements = n_elements;
        m.n_points = n_points;
        for (const float** to : {&m.sample, &m.sample_t, &m.project, &m.embedding, &m.linear, &m.hidden, &m.hidden_t, &m.bias, &m.last})
            *to = floats();
        for (mlip::Sparse* to : {&m.coupling, &m.coupling_t}) {
            to->start = ints();
            to->column = ints();
            to->value = floats();
        }
        m.pairs = static_cast<const mlip::Pair*>(copy());
        m.elements = static_cast<const mlip::Element*>(copy());
        for (int t = 0; t < mlip::LAYERS; t++) {
            mlip::Layer& layer = m.layers[t];
            for (const float** to : {&layer.density, &layer.density_t, &layer.maps, &layer.maps_t, &layer.gains, &layer.out, &layer.out_t})
                *to = floats();
            if (t > 0)
                for (const float** to : {&layer.radial, &layer.mix, &layer.mix_t, &layer.sender}) *to = floats();
        }
        return handle;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void mlip_destroy(void* handle) { delete static_cast<mlip::Handle*>(handle); }

int mlip_evaluate(void* handle, const mlip_input* input, int from, int to, const mlip_output* output) {
    auto* own = static_cast<mlip::Handle*>(handle);
    const std::lock_guard<std::mutex> lock(own->mutex);
    try {
        mlip::Calculation(own->model, *input, own->work, *output).run(from, to);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

float* mlip_features(void* handle, int layer) { return static_cast<mlip::Handle*>(handle)->work.sent[layer].get(); }

float* mlip_gradients(void* handle, int layer) {
    mlip::Workspace& work = static_cast<mlip::Handle*>(handle)->work;
    float* sum = work.workers[0].d_sent[layer].get();
    const long n = work.n_atoms * mlip::FEATURE_ROW;
    for (int thread = 1; thread < work.n_threads; thread++) {
        float* part = work.workers[thread].d_sent[layer].get();
        for (long k = 0; k < n; k++) sum[k] += part[k];
        std::memset(part, 0, sizeof(float) * n);
    }
    return sum;
}
}
