// Functions of the kernel for other programs: mlip/native/model.py and the pair style of mlip/lammps.
#pragma once

#include <cstdint>

extern "C" {

// Atoms first .. n_own have rows; those behind are neighbours only, atoms of another process
struct mlip_input {
    long n_own, n_atoms, n_edges, n_systems;
    const double *positions, *cells;                          // [n_atoms, 3], [n_systems, 3, 3] Å
    const int64_t *numbers, *centres, *neighbours, *batch;    // [n_atoms], [n_edges] twice, [n_own]; centres ascend
    const double* shifts;                                     // [n_edges, 3] whole cells, or null: none
    const int32_t* lookup;                                    // row of an atomic number, which is there for every atom
    const float* pull;                                        // [n_own, layers K] derivatives of other energies by the scalars, or null
    int n_threads;
    int lean;                                                 // keep nothing for each edge: slower by a few us/atom
};

// eV and Å; null: not wanted
struct mlip_output {
    double *energies, *forces, *virial;    // [n_own], [n_atoms, 3], [n_systems, 3, 3]
    double* virials;                       // [n_atoms, 3, 3] of each atom, half of every edge's
    float* scalars;                        // [n_own, layers K]
};

// arrays: those of mlip/native/weights.py, in that order; bytes of each. Returns null without memory
void* mlip_create(double cutoff, int n_elements, int n_points, const void* const* arrays, const long* bytes, int n_arrays);
void mlip_destroy(void* handle);

// Stages from .. to - 1 of a calculation; 0, or 1 without memory. With L layers these are
//   0 .. L - 2          features of layers 0 .. L - 2
//   L - 1               scalars of all layers, nothing if they are not wanted
//   L                   energies, and back from them to the features of layer L - 2
//   L + 1 .. 2 L - 1    back through layers L - 2 .. 0; the last one gives forces and virials
// in this order, with the same input. Processes that share a crystal exchange `mlip_features` of layer t behind stage t,
// and `mlip_gradients` of layer t before stage 2 L - 1 - t.
int mlip_evaluate(void* handle, const mlip_input* input, int from, int to, const mlip_output* output);

// [n_atoms, 4 K] what the next layer receives of this one: own rows are there, the others are for the caller to write
float* mlip_features(void* handle, int layer);
// [n_atoms, 4 K] gradients by these: the caller adds to own rows what others have for them
float* mlip_gradients(void* handle, int layer);
}
