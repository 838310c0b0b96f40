// A calculation in stages, each a sweep of all threads over blocks of atoms: see interface.h.
//
// The backward pass is written by hand and computes the inner values of a layer again instead of keeping them. In a large
// system it also describes the edges of a block again in every sweep, and turns their gradients into forces at once:
// nothing is kept for each edge but where it leads. Energies of other terms may depend on the scalars: these come out
// after the forward pass, and the gradient by them goes into the backward pass.
#pragma once

#include <algorithm>
#include <thread>
#include <vector>

#include "interface.h"
#include "readout.h"

namespace mlip {

constexpr int LAST = LAYERS - 1;  // layer; and the stage that gives scalars
constexpr int STAGES = 2 * LAYERS;

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

// Memory of a thread
struct Worker {
    Block block;
    EdgeArrays edges;  // of a block
    Buffer<float> hidden, d_scalars, d_density, d_sent[LAYERS];
    Buffer<double> forces, virial, virials;
};

// Memory of one user, kept from step to step
struct Workspace {
    Buffer<int32_t> species, neighbours;
    Buffer<long> first;
    Buffer<double> offsets, crowding;
    Buffer<float> d_density, scalars, sent[LAYERS];
    EdgeArrays edges;
    std::vector<Worker> workers;
    long n_atoms;  // of the calculation
    int n_threads;
};

class Calculation {
   public:
    Calculation(const Model& model, const mlip_input& in, Workspace& work, const mlip_output& out)
        : model(model), in(in), work(work), out(out), n_blocks((in.n_own + BLOCK - 1) / BLOCK),
          n_threads(std::max(1L, std::min<long>(in.n_threads, n_blocks / 4))) {
        system = {in.positions, in.batch, work.species.resize(in.n_atoms), work.first.resize(in.n_own + 1),
                  work.neighbours.resize(in.n_edges), work.offsets.resize(3 * in.n_edges)};
        work.n_atoms = in.n_atoms, work.n_threads = n_threads;
        if (!in.lean) {
            work.edges.give(0, all);
            all.d_density = work.d_density.resize(n_blocks * BLOCK * GRADIENT_ROW);
        }
        all.scalars = work.scalars.resize(in.n_own * SCALARS);
        for (int t = 0; t < LAST; t++) all.sent[t] = work.sent[t].resize(in.n_atoms * FEATURE_ROW);
        all.crowding = work.crowding.resize(in.n_own);
        all.energies = out.energies;
    }

    void run(int from, int to) {
        if (from == 0) begin();
        for (int stage = from; stage < to; stage++) {
            if (stage == LAST && out.scalars == nullptr) continue;
            if (stage == LAYERS) clear_gradients();
            sweep([&](Worker& worker, Everything& own, Range range) {
                if (stage < LAST)
                    features(worker, own, range, stage);
                else if (stage == LAST)
                    scalars(worker, own, range);
                else if (stage == LAYERS)
                    turn(worker, own, range);
                else
                    back(worker, own, range, STAGES - 1 - stage);
            });
        }
        if (to == STAGES) give_results();
    }

   private:
    const Model& model;
    const mlip_input& in;
    Workspace& work;
    const mlip_output& out;
    const long n_blocks;
    const int n_threads;
    System system;
    Everything all;

    // work(thread) by every thread
    template <class F>
    void each_thread(const F& task) {
        std::vector<std::thread> others;
        for (int thread = 1; thread < n_threads; thread++) others.emplace_back(task, thread);
        task(0);
        for (std::thread& other : others) other.join();
    }

    // work(worker, arrays, range) for every block
    template <class F>
    void sweep(const F& task) {
        each_thread([&](int thread) {
            Everything own = all;
            for (long number = n_blocks * thread / n_threads; number < n_blocks * (thread + 1) / n_threads; number++)
                task(work.workers[thread], own, Range{number * BLOCK, (int)std::min<long>(BLOCK, in.n_own - number * BLOCK)});
        });
    }

    // Edges of own atoms
    void begin() {
        int32_t* species = work.species.get();
        for (long i = 0; i < in.n_atoms; i++) species[i] = in.lookup[in.numbers[i]];
        long *first = work.first.zeros(in.n_own + 1), most = 0;
        for (long e = 0; e < in.n_edges; e++) first[in.centres[e] + 1]++;
        for (long i = 0; i < in.n_own; i++) most = std::max(most, first[i + 1]), first[i + 1] += first[i];
        if (static_cast<int>(work.workers.size()) < n_threads) work.workers = std::vector<Worker>(n_threads);
        for (int thread = 0; thread < n_threads; thread++) {
            Worker& worker = work.workers[thread];
            worker.block.resize(model, most);
            worker.hidden.resize(BLOCK * HIDDEN), worker.d_scalars.resize(BLOCK * SCALARS);
        }
        if (!in.lean) {
            work.edges.resize(in.n_edges);
            work.edges.give(0, all);
        }
        sweep([&](Worker&, Everything& own, Range range) {
            std::vector<int> count(model.n_elements + 1);
            for (long i = range.first; i < range.first + range.n; i++) {
                sort_edges(i, count.data());
                if (!in.lean) describe_edges(own, i);
            }
        });
    }

    // Edges of one atom sorted by the element of the neighbour, otherwise in their order
    void sort_edges(long atom, int* count) {
        std::fill(count, count + model.n_elements + 1, 0);
        const int32_t* species = work.species.get();
        const long first = system.first[atom], end = system.first[atom + 1];
        for (long e = first; e < end; e++) count[species[in.neighbours[e]] + 1]++;
        for (int z = 0; z < model.n_elements; z++) count[z + 1] += count[z];
        const double* cell = in.cells + 9 * in.batch[atom];
        int32_t* neighbours = work.neighbours.get();
        double* offsets = work.offsets.get();
        for (long e = first; e < end; e++) {
            const long to = first + count[species[in.neighbours[e]]]++;
            neighbours[to] = in.neighbours[e];
            const double none[3] = {}, *s = in.shifts == nullptr ? none : in.shifts + 3 * e;
            for (int x = 0; x < 3; x++) offsets[3 * to + x] = s[0] * cell[x] + s[1] * cell[3 + x] + s[2] * cell[6 + x];
        }
    }

    void describe_edges(Everything& own, long atom) {
        own.crowding[atom] = describe(model, system, atom, own.harmonics, own.basis);
        double scale, slope;
        density_scale(own.crowding[atom], model.elements[system.species[atom]].most, scale, slope);
        if (scale != 1.0)
            for (long k = system.first[atom] * BASIS_ROW; k < system.first[atom + 1] * BASIS_ROW; k++) own.basis[k] *= scale;
    }

    // In a large system: the arrays of the edges of a block
    void look_at(Worker& worker, Everything& own, Range range) {
        if (!in.lean) return;
        const long first = system.first[range.first];
        worker.edges.resize(system.first[range.first + range.n] - first);
        worker.edges.give(first, own);
        own.d_density = worker.d_density.zeros(BLOCK * GRADIENT_ROW) - range.first * GRADIENT_ROW;
        for (long i = range.first; i < range.first + range.n; i++) describe_edges(own, i);
    }

    void clear_gradients() {
        const long n = in.n_atoms;
        for (int thread = 0; thread < n_threads; thread++) {
            Worker& worker = work.workers[thread];
            for (int t = 0; t < LAST; t++) worker.d_sent[t].resize(n * FEATURE_ROW);
            worker.forces.resize(3 * n), worker.virial.resize(9 * in.n_systems);
            worker.virials.resize(out.virials == nullptr ? 0 : 9 * n);
        }
        each_thread([&](int thread) {
            Worker& worker = work.workers[thread];
            for (int t = 0; t < LAST; t++) worker.block.d_sent[t] = worker.d_sent[t].zeros(n * FEATURE_ROW);
            worker.forces.zeros(3 * n), worker.virial.zeros(9 * in.n_systems);
            if (out.virials != nullptr) worker.virials.zeros(9 * n);
        });
    }

    void features(Worker& worker, Everything& own, Range range, int t) {
        Block& block = worker.block;
        look_at(worker, own, range);
        forward<false>(model, t, system, range, own, block);
        multiply_on_sphere<false>(model, t, system, range, block);
        for (int i = 0; i < range.n; i++) {
            const float* from = block.features.get() + i * FEATURE_ROW;
            float* to = own.sent[t] + (range.first + i) * FEATURE_ROW;
            std::memcpy(own.scalars + (range.first + i) * SCALARS + t * CHANNELS, from, sizeof(float) * CHANNELS);
            std::memcpy(to, from, sizeof(float) * FEATURE_ROW);
            const float* sender = model.layers[t + 1].sender + system.species[range.first + i] * CHANNELS;
            for (int k = 0; k < CHANNELS; k++) to[k] += sender[k];
        }
    }

    void last_layer(Worker& worker, Everything& own, Range range) {
        Block& block = worker.block;
        look_at(worker, own, range);
        forward<true>(model, LAST, system, range, own, block);
        multiply_on_sphere<true>(model, LAST, system, range, block);
        for (int i = 0; i < range.n; i++)
            std::memcpy(own.scalars + (range.first + i) * SCALARS + LAST * CHANNELS, block.features.get() + i * FEATURE_ROW,
                        sizeof(float) * CHANNELS);
    }

    void scalars(Worker& worker, Everything& own, Range range) {
        last_layer(worker, own, range);
        std::memcpy(out.scalars + range.first * SCALARS, own.scalars + range.first * SCALARS,
                    sizeof(float) * range.n * SCALARS);
    }

    // Last layer, readout, and back through both
    void turn(Worker& worker, Everything& own, Range range) {
        Block& block = worker.block;
        float* d_scalars = worker.d_scalars.get();
        last_layer(worker, own, range);
        for (int i = 0; i < range.n; i++) own.energies[range.first + i] = 0.0;
        readout(model, system, range, own.scalars + range.first * SCALARS, worker.hidden.get(), d_scalars, own.energies);
        if (in.pull != nullptr)
            for (long k = 0; k < range.n * SCALARS; k++) d_scalars[k] += in.pull[range.first * SCALARS + k];
        for (int i = 0; i < range.n; i++) {
            const float* from = d_scalars + i * SCALARS;
            std::memcpy(block.d_features.get() + i * FEATURE_ROW, from + LAST * CHANNELS, sizeof(float) * CHANNELS);
            for (int t = 0; t < LAST; t++)
                for (int k = 0; k < CHANNELS; k++)
                    block.d_sent[t][(range.first + i) * FEATURE_ROW + k] += from[t * CHANNELS + k];
        }
        backward<true>(model, LAST, system, range, own, block);
        pull_atoms(worker, own, range, LAST == 0);
    }

    void back(Worker& worker, Everything& own, Range range, int t) {
        Block& block = worker.block;
        float* to = block.d_features.get();
        std::memset(to, 0, sizeof(float) * BLOCK * FEATURE_ROW);
        for (int other = 0; other < n_threads; other++) {
            const float* from = work.workers[other].d_sent[t].get() + range.first * FEATURE_ROW;
            for (long k = 0; k < range.n * FEATURE_ROW; k++) to[k] += from[k];
        }
        look_at(worker, own, range);
        forward<false>(model, t, system, range, own, block);
        backward<false>(model, t, system, range, own, block);
        pull_atoms(worker, own, range, t == 0);
    }

    // To forces, as soon as the gradients by edges are there or, in a large system, before they are forgotten
    void pull_atoms(Worker& worker, Everything& own, Range range, bool complete) {
        if (!complete && !in.lean) return;
        double* virials = out.virials == nullptr ? nullptr : worker.virials.get();
        for (long i = range.first; i < range.first + range.n; i++) {
            density_gradient(model, system, i, own.harmonics, own.basis, own.d_density + i * GRADIENT_ROW, own.d_harmonics,
                             own.d_basis);
            own.energies[i] += forces_of(model, system, i, own.crowding[i], own.basis, own.d_harmonics, own.d_basis, complete,
                                         worker.forces.get(), worker.virial.get(), virials);
        }
    }

    void give_results() {
        auto add_up = [&](Buffer<double> Worker::*part, double* to, long n) {
            if (to == nullptr) return;
            std::memset(to, 0, sizeof(double) * n);
            for (int thread = 0; thread < n_threads; thread++)
                for (long k = 0; k < n; k++) to[k] += (work.workers[thread].*part).get()[k];
        };
        add_up(&Worker::forces, out.forces, 3 * in.n_atoms);
        add_up(&Worker::virial, out.virial, 9 * in.n_systems);
        add_up(&Worker::virials, out.virials, 9 * in.n_atoms);
    }
};

}  // namespace mlip
