// The step through the native kernel, and its comparison with the model itself before the first.

#include "pair_mlip.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include "atom.h"
#include "comm.h"
#include "error.h"

#include <cmath>

using namespace LAMMPS_NS;
using at::Tensor;

static constexpr int PIECE = 1000;          // own atoms on which the kernel is compared
static constexpr double ROUNDING = 1e-4;    // eV and eV/Å, or of the largest number

/* open the kernel on every process, or on none; returns why there is none */

std::string PairMLIP::open_native(Member &member, const std::string &path)
{
  std::string reason;
  if (kernel == "torchscript")
    reason = "as asked for";
  else if (model->dtype != c10::kFloat)
    reason = "the native kernel is float32";
  else if (!by_kspace && model->reads_vectors)
    reason = model->global_terms.front() + " reads more than the scalars, which the native kernel gives";
  else if (model->bond_width && !model->has_bonds)
    reason = "the file is from before bonds could stand beside the native kernel: run `mlip export` again";
  else
    try {
      member.native = std::make_unique<mlip::NativeKernel>(path);
    } catch (const std::exception &problem) {
      reason = std::string("no native kernel: ") + problem.what();
    }
  int here = member.native != nullptr, everywhere = 0;
  MPI_Allreduce(&here, &everywhere, 1, MPI_INT, MPI_MIN, world);
  if (member.native && !everywhere) {
    member.native.reset();
    reason = "another process has no native kernel for its processor";
  }
  if (kernel == "native" && !member.native) error->all(FLERR, "pair_style mlip native: {}", reason);
  return reason;
}

/* the kernel after it gave the model's numbers on the first structure with neighbours, for all processes alike */

bool PairMLIP::native_runs(Member &member)
{
  if (!native || member.checked) return native != nullptr;
  double here[3] = {0.0, 0.0, 0.0}, worst[3];    // edges, differences of energies and of forces
  compare_piece(here);
  MPI_Allreduce(here, worst, 3, MPI_DOUBLE, MPI_MAX, world);
  if (worst[0] == 0.0) return false;
  member.checked = true;
  if (worst[1] <= ROUNDING && worst[2] <= ROUNDING) return true;
  if (kernel == "native")
    error->all(FLERR, "pair_style mlip native: the kernel differs from the model, energies by {:.1e} and forces by {:.1e}",
               worst[1], worst[2]);
  if (comm->me == 0)
    error->warning(FLERR, "mlip: the native kernel differs from the model, energies by {:.1e} and forces by {:.1e}: "
                          "TorchScript runs", worst[1], worst[2]);
  member.native.reset();
  native = nullptr;
  return false;
}

/* some own atoms as a molecule, through both */

void PairMLIP::compare_piece(double *worst)
{
  const int n = std::min(atom->nlocal, PIECE);
  find_edges(n, n);
  worst[0] = static_cast<double>(centre.size());
  if (centre.empty()) return;
  const mlip::Transfer nobody = [](const Tensor &rows) { return rows; };
  mlip::Share piece = share(n, n);
  const Tensor energies = model->local(piece, nobody, nobody).at("energies").to(at::kDouble);
  const Tensor slope = torch::autograd::grad({energies.sum()}, {piece.edge_vector})[0];
  Tensor forces = at::zeros({n, 3}, at::kDouble);
  forces.index_add_(0, piece.edge_index[0], slope);
  forces.index_add_(0, piece.edge_index[1], slope, -1.0);
  start_native(n, n, false);
  native->run(0, 2 * native->n_layers);
  const auto difference = [](const Tensor &expected, std::vector<double> &found) {
    const Tensor error = (at::from_blob(found.data(), expected.sizes(), at::kDouble) - expected).abs().max();
    const double result = (error / expected.abs().max().clamp_min(1.0)).item<double>();
    return std::isnan(result) ? HUGE_VAL : result;    // MPI_MAX may lose a NaN
  };
  worst[1] = difference(energies.detach(), native->energies);
  worst[2] = difference(forces, native->forces);
}

/* a calculation of the first n_own atoms with the edges that were found */

void PairMLIP::start_native(int n_own, int n_atoms, bool with_scalars)
{
  static const double no_cell[9] = {};    // ghosts stand where they are
  one_system.assign(n_own, 0);
  mlip_input input{};
  input.n_own = n_own;
  input.n_atoms = n_atoms;
  input.n_edges = static_cast<long>(centre.size());
  input.n_systems = 1;
  input.positions = n_atoms ? atom->x[0] : nullptr;
  input.cells = no_cell;
  input.numbers = numbers.data();
  input.centres = centre.data();
  input.neighbours = neighbour.data();
  input.batch = one_system.data();
  input.n_threads = at::get_num_threads();
  native->start(input, with_scalars, vflag_atom);
}

void PairMLIP::compute_native()
{
  const int n_own = atom->nlocal, n_atoms = n_own + atom->nghost, n_layers = native->n_layers;
  find_edges(n_own, n_atoms);
  const bool with_charges = solves() || model->bond_width || flows();
  start_native(n_own, n_atoms, with_charges);
  const auto exchanged = [&](float *of_layer) {
    rows = at::from_blob(of_layer, {n_atoms, 4 * native->filled}, at::kFloat);
  };
  for (int layer = 0; layer + 1 < n_layers; layer++) {
    native->run(layer, layer + 1);
    exchanged(native->features(layer));
    comm->forward_comm(this, stride());
  }
  native->run(n_layers - 1, n_layers);
  Tensor pull;
  if (with_charges) {
    pull = pull_of_charges();
    native->input.pull = pull.data_ptr<float>();
  }
  native->run(n_layers, n_layers + 1);
  for (int layer = n_layers - 2; layer >= 0; layer--) {
    exchanged(native->gradients(layer));
    comm->reverse_comm(this, stride());
    native->run(2 * n_layers - 1 - layer, 2 * n_layers - layer);
  }
  for (int i = 0; i < n_atoms; i++)
    for (int a = 0; a < 3; a++) atom->f[i][a] += native->forces[3 * i + a];
  add_energies(native->energies.data());
  const int index[6] = {0, 4, 8, 1, 2, 5}, mirror[6] = {0, 4, 8, 3, 6, 7};
  for (int k = 0; k < 6; k++) {
    if (vflag_global) virial[k] -= 0.5 * (native->virial[index[k]] + native->virial[mirror[k]]);
    if (!vflag_atom) continue;
    for (int i = 0; i < n_atoms; i++)
      vatom[i][k] -= 0.5 * (native->virials[9 * i + index[k]] + native->virials[9 * i + mirror[k]]);
  }
}

/* charges that depend on the features: their forces; returns derivatives of their energy by the scalars, [n_own, n_layers filled] */

Tensor PairMLIP::pull_of_charges()
{
  const int64_t n = atom->nlocal, layers = native->n_layers, channels = native->n_channels;
  const std::vector<int64_t> shape{n, layers, native->filled};
  Tensor pull = at::zeros(shape, at::kFloat);
  if (n == 0) {
    charges_alone_with_others();
    return pull;
  }
  mlip::Graph local;
  local.insert("node_scalars", at::from_blob(native->scalars.data(), shape, at::kFloat).narrow(2, 0, channels).reshape({n, layers * channels}));
  local.insert("node_vectors", at::zeros({n, 3, 0}, at::kFloat));
  Tensor by_scalars;
  if (flows()) {
    const Tensor scalars = local.at("node_scalars").requires_grad_(true);
    by_scalars = torch::autograd::grad({equilibrate(scalars)}, {scalars})[0];
  } else {
    by_scalars = model->bond_width ? pull_of_bonds(local) : solve(local).at("node_scalars");
  }
  pull.narrow(2, 0, channels).copy_(by_scalars.reshape({n, layers, channels}));
  return pull;
}

/* the same, [n_own, n_features], of charge that bonds transfer, which pulls on their ends */

Tensor PairMLIP::pull_of_bonds(mlip::Graph &local)
{
  mlip::Share mine = share(atom->nlocal, atom->nlocal + atom->nghost);
  const mlip::Transfer there = [this](const Tensor &own) { return to_ghosts(own); };
  const mlip::Transfer back = [this](const Tensor &gradient) { return from_ghosts(gradient); };
  const Tensor scalars = local.at("node_scalars").detach().requires_grad_(true);
  const Tensor transferred = model->transferred(mine, scalars, there, back);
  Tensor potential, by_scalars = at::zeros_like(scalars);
  if (by_kspace) {
    potential = potential_of_kspace(charges_of_bonds(transferred));
  } else {
    local.insert("transferred", transferred);
    const mlip::Graph others = solve(local);
    potential = others.at("transferred");
    by_scalars = others.at("node_scalars").clone();
  }
  const auto slopes = torch::autograd::grad({transferred}, {mine.edge_vector, scalars}, {potential}, c10::nullopt, false, true);
  if (slopes[0].defined()) add_edge_forces(slopes[0].contiguous());
  return slopes[1].defined() ? by_scalars + slopes[1] : by_scalars;
}
