// The spherical network of mlip/models/spherical.py with its short-range terms: energies, forces and virial.
//
// Float32 with float64 geometry. Three sweeps over blocks of atoms: features of the layers before the last; the last
// layer, the readout and back through both; back through the layers before. The backward pass is written by hand and
// computes the inner values of a layer again instead of keeping them. In a large system it also describes the edges of a
// block again in every sweep, and turns their gradients into forces at once: nothing is kept for each edge but where it
// leads. Energies of other terms may depend on the scalars: these come out after the forward pass, and the gradient by
// them goes into the backward pass.

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

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

// All threads wait until the last has come; sleeping, so that a busy machine loses no time
class Barrier {
   public:
    explicit Barrier(int n) : n_(n) {}
    void wait() {
        std::unique_lock<std::mutex> lock(mutex_);
        const long round = round_;
        if (++here_ == n_) {
            here_ = 0;
            round_++;
            all_.notify_all();
        } else {
            all_.wait(lock, [&] { return round_ != round; });
        }
    }

   private:
    std::mutex mutex_;
    std::condition_variable all_;
    int n_, here_ = 0;
    long round_ = 0;
};

// Harmonics and radial functions of some edges, and the gradients by them
struct EdgeArrays {
    Buffer<float> harmonics, basis, d_harmonics, d_basis;
    // room for n edges, without gradients
    void resize(long n) {
        harmonics.resize(n * HARMONICS_ROW), basis.resize(n * BASIS_ROW);
        d_harmonics.zeros(n * HARMONICS_ROW), d_basis.zeros(n * BASIS_ROW);
    }
    // addressed by the number of the edge, of which the first is here
    void give(long first, Everything& all) const {
        all.harmonics = harmonics.get() - first * HARMONICS_ROW, all.basis = basis.get() - first * BASIS_ROW;
        all.d_harmonics = d_harmonics.get() - first * HARMONICS_ROW, all.d_basis = d_basis.get() - first * BASIS_ROW;
    }
};

// Memory of one user, kept from step to step
struct Workspace {
    Buffer<int32_t> species, neighbours;
    Buffer<long> first;
    Buffer<double> offsets, crowding, forces, virial;
    Buffer<float> d_density, scalars, sent[LAYERS];
    EdgeArrays edges;
    std::vector<Block> blocks;
    std::vector<EdgeArrays> of_block;
    std::vector<Buffer<float>> hidden, d_scalars, d_sent, d_density_of_block;
};

// Which part of a calculation: all of it, its forward pass, or its backward pass after that
enum Part { WHOLE, FORWARD, BACKWARD };

struct Input {
    long n_atoms, n_edges, n_systems;
    const double *positions, *cells;
    const int64_t *numbers, *centres, *neighbours, *batch;
    const double* shifts;  // [n_edges, 3] whole cells
    const int32_t* lookup;  // of atomic numbers
    const float* pull;      // [n_atoms, LAYERS K] derivatives of other energies by the scalars, or null
    Part part;
    bool lean;  // keep nothing for each edge: slower by a few us/atom
};

struct Output {
    double *energies, *forces, *virial;  // [n_atoms], [n_atoms, 3], [n_systems, 3, 3] eV and eV/Å
    float* scalars;                      // [n_atoms, LAYERS K], of a forward pass
};

// Edges of one atom sorted by the element of the neighbour, otherwise in their order
static void sort_edges(const Model& model, const Input& in, const System& system, long atom, int* count,
                       int32_t* neighbours, double* offsets) {
    std::fill(count, count + model.n_elements + 1, 0);
    const long first = system.first[atom], end = system.first[atom + 1];
    for (long e = first; e < end; e++) count[system.species[in.neighbours[e]] + 1]++;
    for (int z = 0; z < model.n_elements; z++) count[z + 1] += count[z];
    const double* cell = in.cells + 9 * in.batch[atom];
    for (long e = first; e < end; e++) {
        const long to = first + count[system.species[in.neighbours[e]]]++;
        neighbours[to] = in.neighbours[e];
        const double* s = in.shifts + 3 * e;
        for (int x = 0; x < 3; x++) offsets[3 * to + x] = s[0] * cell[x] + s[1] * cell[3 + x] + s[2] * cell[6 + x];
    }
}

static void run(const Model& model, const Input& in, Workspace& work, int n_threads, const Output& out) {
    const long n = in.n_atoms, n_blocks = (n + BLOCK - 1) / BLOCK;
    n_threads = std::max(1L, std::min<long>(n_threads, n_blocks / 4));
    int32_t* species = work.species.resize(n);
    long* first = work.first.resize(n + 1);
    if (in.part != BACKWARD) {
        for (long i = 0; i < n; i++) species[i] = in.lookup[in.numbers[i]];
        work.first.zeros(n + 1);
        for (long e = 0; e < in.n_edges; e++) first[in.centres[e] + 1]++;
        for (long i = 0; i < n; i++) first[i + 1] += first[i];
    }
    long most = 0;
    for (long i = 0; i < n; i++) most = std::max(most, first[i + 1] - first[i]);
    int32_t* neighbours = work.neighbours.resize(in.n_edges);
    double* offsets = work.offsets.resize(3 * in.n_edges);
    const System system{n, in.positions, in.batch, species, first, neighbours, offsets};

    Everything all;
    if (!in.lean) {
        if (in.part != BACKWARD) work.edges.resize(in.n_edges);
        work.edges.give(0, all);
        all.d_density = work.d_density.resize(n_blocks * BLOCK * GRADIENT_ROW);
    }
    all.scalars = work.scalars.resize(n * SCALARS);
    for (int t = 0; t + 1 < LAYERS; t++) all.sent[t] = work.sent[t].resize(n * FEATURE_ROW);
    all.crowding = work.crowding.resize(n);
    all.energies = out.energies;

    while (static_cast<int>(work.blocks.size()) < n_threads) {
        work.blocks = std::vector<Block>(n_threads);
        work.hidden = std::vector<Buffer<float>>(n_threads);
        work.d_scalars = std::vector<Buffer<float>>(n_threads);
        work.d_sent = std::vector<Buffer<float>>(n_threads * LAYERS);
        work.of_block = std::vector<EdgeArrays>(n_threads);
        work.d_density_of_block = std::vector<Buffer<float>>(n_threads);
    }
    double* forces = work.forces.zeros(n_threads * 3 * n);
    double* virial = work.virial.zeros(n_threads * 9 * in.n_systems);
    Barrier barrier(n_threads);

    auto worker = [&](int thread) {
        Block& block = work.blocks[thread];
        block.resize(model, most);
        float* hidden = work.hidden[thread].resize(BLOCK * HIDDEN);
        float* d_scalars = work.d_scalars[thread].resize(BLOCK * SCALARS);
        for (int t = 0; t + 1 < LAYERS; t++) block.d_sent[t] = work.d_sent[thread * LAYERS + t].zeros(in.part == FORWARD ? 0 : n * FEATURE_ROW);
        std::vector<int> count(model.n_elements + 1);
        const long begin = n_blocks * thread / n_threads, end = n_blocks * (thread + 1) / n_threads;
        auto range = [&](long number) { return Range{number * BLOCK, (int)std::min<long>(BLOCK, n - number * BLOCK)}; };
        double *own_forces = forces + thread * 3 * n, *own_virial = virial + thread * 9 * in.n_systems;

        Everything own = all;
        auto describe_edges = [&](long i) {
            own.crowding[i] = describe(model, system, i, own.harmonics, own.basis);
            double scale, slope;
            density_scale(own.crowding[i], model.elements[species[i]].most, scale, slope);
            if (scale != 1.0)
                for (long k = first[i] * BASIS_ROW; k < first[i + 1] * BASIS_ROW; k++) own.basis[k] *= scale;
        };
        auto look_at = [&](Range r) {
            if (!in.lean) return;
            EdgeArrays& edges = work.of_block[thread];
            edges.resize(first[r.first + r.n] - first[r.first]);
            edges.give(first[r.first], own);
            own.d_density = work.d_density_of_block[thread].zeros(BLOCK * GRADIENT_ROW) - r.first * GRADIENT_ROW;
            for (long i = r.first; i < r.first + r.n; i++) describe_edges(i);
        };
        // to forces, as soon as the gradients by edges are there or, in a large system, before they are forgotten
        auto pull_atoms = [&](Range r, bool complete) {
            if (!complete && !in.lean) return;
            for (long i = r.first; i < r.first + r.n; i++) {
                density_gradient(model, system, i, own.harmonics, own.basis, own.d_density + i * GRADIENT_ROW,
                                 own.d_harmonics, own.d_basis);
                own.energies[i] += forces_of(model, system, i, own.crowding[i], own.basis, own.d_harmonics, own.d_basis,
                                             complete, own_forces, own_virial);
            }
        };
        constexpr int T = LAYERS - 1;
        auto last_layer = [&](Range r) {
            look_at(r);
            forward<true>(model, T, system, r, own, block);
            multiply_on_sphere<true>(model, T, system, r, block);
            for (int i = 0; i < r.n; i++)
                std::memcpy(own.scalars + (r.first + i) * SCALARS + T * CHANNELS, block.features.get() + i * FEATURE_ROW,
                            sizeof(float) * CHANNELS);
        };

        if (in.part != BACKWARD) {
            for (long i = begin * BLOCK; i < std::min(end * BLOCK, n); i++) {
                sort_edges(model, in, system, i, count.data(), neighbours, offsets);
                if (!in.lean) describe_edges(i);
            }
            for (int t = 0; t + 1 < LAYERS; t++) {
                for (long number = begin; number < end; number++) {
                    const Range r = range(number);
                    look_at(r);
                    forward<false>(model, t, system, r, own, block);
                    multiply_on_sphere<false>(model, t, system, r, block);
                    for (int i = 0; i < r.n; i++) {
                        const float* from = block.features.get() + i * FEATURE_ROW;
                        float* to = own.sent[t] + (r.first + i) * FEATURE_ROW;
                        std::memcpy(own.scalars + (r.first + i) * SCALARS + t * CHANNELS, from, sizeof(float) * CHANNELS);
                        std::memcpy(to, from, sizeof(float) * FEATURE_ROW);
                        const float* sender = model.layers[t + 1].sender + species[r.first + i] * CHANNELS;
                        for (int k = 0; k < CHANNELS; k++) to[k] += sender[k];
                    }
                }
                barrier.wait();
            }
        }
        if (in.part == FORWARD) {
            for (long number = begin; number < end; number++) {
                const Range r = range(number);
                last_layer(r);
                std::memcpy(out.scalars + r.first * SCALARS, own.scalars + r.first * SCALARS, sizeof(float) * r.n * SCALARS);
            }
            return;
        }
        for (long number = begin; number < end; number++) {
            const Range r = range(number);
            last_layer(r);
            for (int i = 0; i < r.n; i++) own.energies[r.first + i] = 0.0;
            readout(model, system, r, own.scalars + r.first * SCALARS, hidden, d_scalars, own.energies);
            if (in.pull != nullptr)
                for (long k = 0; k < r.n * SCALARS; k++) d_scalars[k] += in.pull[r.first * SCALARS + k];
            for (int i = 0; i < r.n; i++) {
                const float* from = d_scalars + i * SCALARS;
                std::memcpy(block.d_features.get() + i * FEATURE_ROW, from + T * CHANNELS, sizeof(float) * CHANNELS);
                for (int t = 0; t < T; t++)
                    for (int k = 0; k < CHANNELS; k++) block.d_sent[t][(r.first + i) * FEATURE_ROW + k] += from[t * CHANNELS + k];
            }
            backward<true>(model, T, system, r, own, block);
            pull_atoms(r, T == 0);
        }
        for (int t = LAYERS - 2; t >= 0; t--) {
            barrier.wait();
            for (long number = begin; number < end; number++) {
                const Range r = range(number);
                float* to = block.d_features.get();
                std::memset(to, 0, sizeof(float) * BLOCK * FEATURE_ROW);
                for (int other = 0; other < n_threads; other++) {
                    const float* from = work.d_sent[other * LAYERS + t].get() + r.first * FEATURE_ROW;
                    for (long k = 0; k < r.n * FEATURE_ROW; k++) to[k] += from[k];
                }
                look_at(r);
                forward<false>(model, t, system, r, own, block);
                backward<false>(model, t, system, r, own, block);
                pull_atoms(r, t == 0);
            }
        }
    };
    std::vector<std::thread> others;
    for (int thread = 1; thread < n_threads; thread++) others.emplace_back(worker, thread);
    worker(0);
    for (std::thread& other : others) other.join();
    if (in.part == FORWARD) return;

    std::memset(out.forces, 0, sizeof(double) * 3 * n);
    std::memset(out.virial, 0, sizeof(double) * 9 * in.n_systems);
    for (int thread = 0; thread < n_threads; thread++) {
        for (long k = 0; k < 3 * n; k++) out.forces[k] += forces[thread * 3 * n + k];
        for (long k = 0; k < 9 * in.n_systems; k++) out.virial[k] += virial[thread * 9 * in.n_systems + k];
    }
}

// A model with its own copy of the weights, and the memory of its calls
struct Handle {
    Model model;
    std::vector<Buffer<char>> arrays;
    std::mutex mutex;
    Workspace work;
};

}  // namespace mlip

extern "C" {

// arrays: those of mlip/native/weights.py, in that order; bytes of each. Returns null without memory
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

// 0, or 1 without memory. Edges are sorted by centre; every atomic number has a row in lookup. part: 0 whole; 1 forward,
// which writes scalars; 2 backward with pull, which writes the rest, with the same arguments right after 1
int mlip_evaluate(void* handle, long n_atoms, long n_edges, long n_systems, const double* positions, const double* cells,
                  const int64_t* numbers, const int64_t* edge_index, const double* shifts, const int64_t* batch,
                  const int32_t* lookup, int n_threads, int lean, int part, const float* pull, double* energies,
                  double* forces, double* virial, float* scalars) {
    auto* own = static_cast<mlip::Handle*>(handle);
    const std::lock_guard<std::mutex> lock(own->mutex);
    const mlip::Input in{n_atoms, n_edges, n_systems, positions, cells, numbers, edge_index, edge_index + n_edges, batch,
                         shifts, lookup, pull, static_cast<mlip::Part>(part), lean != 0};
    try {
        mlip::run(own->model, in, own->work, n_threads, {energies, forces, virial, scalars});
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}
}
