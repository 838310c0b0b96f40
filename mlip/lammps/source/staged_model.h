// Exported file of a potential, run in stages (mlip/deployed.py: Staged).

#ifndef MLIP_STAGED_MODEL_H
#define MLIP_STAGED_MODEL_H

#include <torch/script.h>

#include <functional>
#include <map>
#include <string>

namespace mlip {

using Graph = c10::Dict<std::string, at::Tensor>;
// rows of own atoms [n_own, width] -> of own atoms and ghosts [n_all, width], or gradients the other way
using Transfer = std::function<at::Tensor(const at::Tensor &)>;

// One process's atoms: own ones first, then ghosts, which are neighbours only.
struct Share {
  at::Tensor edge_vector;       // [n_edges, 3] Å
  at::Tensor edge_index;        // [2, n_edges], centres ascending
  at::Tensor atomic_numbers;    // [n_all]
  int64_t n_own;
};

// All atoms of the crystal, gathered on every process.
struct Crystal {
  at::Tensor positions;         // [n, 3] Å
  at::Tensor atomic_numbers;    // [n]
  at::Tensor cell;              // [1, 3, 3] Å, rows are lattice vectors
  at::Tensor pbc;               // [1, 3]
  at::Tensor scalars;           // [n, n_features]
  at::Tensor vectors;           // [n, 3, n_features]
  double total_charge;          // e
  c10::optional<at::Tensor> guess;          // [n, 1] e
  c10::optional<at::Tensor> transferred;    // [n] e
};

class StagedModel {
 public:
  // Raises std::runtime_error for a file that cannot be run in stages.
  explicit StagedModel(const std::string &path);

  void convert(c10::ScalarType dtype);

  // Graph with node features, the energies of local terms and, where charge moves along bonds, `transferred`.
  // `to_ghosts` runs between the layers and before the bonds, its adjoint `from_ghosts` in the backward pass: both must
  // live until then.
  Graph local(const Share &share, const Transfer &to_ghosts, const Transfer &from_ghosts);

  // Charge that bonds bring to own atoms, [n_own] e, a function of edge_vector and of the network's scalars
  // [n_own, n_features]; without has_bonds the file is from before this.
  at::Tensor transferred(const Share &share, const at::Tensor &scalars, const Transfer &to_ghosts, const Transfer &from_ghosts);

  // electronegativity [n] V and energies without charge [n] eV, where charge flows
  Graph on_site(const at::Tensor &atomic_numbers, const at::Tensor &scalars);

  // energies, forces, virial = dE/d(strain), derivatives by node_scalars, node_vectors and transferred, charges
  Graph solve(const Crystal &crystal);

  double cutoff;                           // Å
  int n_layers, n_channels, bond_width;    // bond_width: of rows that charges along bonds need, 0 without
  std::map<std::string, int> elements;     // symbol -> atomic number
  std::vector<std::string> global_terms;
  bool reads_vectors;                      // by the global terms
  std::map<std::string, double> fixed;     // charges, e, by symbol: empty unless the one global term is fixed charges, or
                                           // these and what bonds transfer, or charges that flow and start from these
  double width, dielectric;                // Å, of their Gaussians, the largest; what they are screened by
  std::map<std::string, double> hardness, widths;    // eV/e^2 and Å, by symbol, of charges that flow
  std::map<std::string, double> energies;  // eV, by symbol, beside the lattice sum of charges that bonds change
  double charge_energy;                    // eV/e, energy by the total charge
  bool has_constants;                      // the file says these two
  bool has_bonds;
  c10::ScalarType dtype;

 private:
  Graph with_bonds(const Graph &graph, const Transfer &to_ghosts, const Transfer &from_ghosts);
  torch::jit::Module module;
};

// Message of an exception of torch or TorchScript without its traces.
std::string reason(const std::exception &error);

}    // namespace mlip

#endif
