// Native kernel of a model (mlip/native), opened from the file that `mlip lammps input` or `build` wrote for this processor.

#ifndef MLIP_NATIVE_KERNEL_H
#define MLIP_NATIVE_KERNEL_H

#include "interface.h"    // of mlip/native

#include <string>
#include <vector>

namespace mlip {

class NativeKernel {
 public:
  // Raises std::runtime_error without a kernel for this model and this processor.
  explicit NativeKernel(const std::string &model);
  ~NativeKernel();
  NativeKernel(const NativeKernel &) = delete;
  NativeKernel &operator=(const NativeKernel &) = delete;

  // Prepare a calculation: `lookup`, `lean` and the missing shifts are filled in, results get their size. What `given`
  // points to must live until the last stage.
  void start(const mlip_input &given, bool with_scalars, bool with_virials);
  // Stages from .. to - 1 of interface.h. Raises std::bad_alloc.
  void run(int from, int to);
  float *features(int layer) { return features_of(handle, layer); }
  float *gradients(int layer) { return gradients_of(handle, layer); }

  mlip_input input;
  std::vector<double> energies, forces, virials;    // [n_own], [n_atoms, 3], [n_atoms, 3, 3]
  double virial[9];
  std::vector<float> scalars;              // [n_own, n_layers filled]
  int n_layers, n_channels, filled;        // filled: channels with those that fill up registers
  std::string path;

 private:
  void *library, *handle;
  long lean_above;
  std::vector<int32_t> lookup;
  mlip_output output;
  decltype(&mlip_evaluate) evaluate;
  decltype(&mlip_destroy) destroy;
  decltype(&mlip_features) features_of;
  decltype(&mlip_gradients) gradients_of;
};

}    // namespace mlip

#endif
