#include "pair_mlip.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/runtime/jit_exception.h>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "kspace.h"
#include "library.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>

using namespace LAMMPS_NS;
using at::Tensor;

static constexpr double CHARGE_MISSED = 0.01;    // e, as mlip/data/total_charge.py

/* --------------------------------------------------------- settings and files --------------------------------------------------------- */

PairMLIP::PairMLIP(LAMMPS *lmp) :
    Pair(lmp), model(nullptr), native(nullptr), kernel("auto"), by_kspace(false), total_charge(0.0), have_charges(false), last_step(-1),
    n_known(0), seconds(0.0), seconds_of_solve(0.0), n_iterations(0), n_equilibrations(0)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;    // the sum over edges is exact, and ghosts reach no farther than one cutoff
  centroidstressflag = CENTROID_NOTAVAIL;
  if (!std::getenv("OMP_NUM_THREADS")) at::set_num_threads(1);    // processes share the cores
}

PairMLIP::~PairMLIP()
{
  delete[] pvector;
  pvector = nullptr;
  if (copymode || !allocated) return;
  memory->destroy(setflag);
  memory->destroy(cutsq);
}

void PairMLIP::settings(int narg, char **arg)
{
  by_kspace = false;
  total_charge = 0.0;
  kernel = "auto";
  wanted.reset();
  for (int i = 0; i < narg; i++) {
    const std::string word(arg[i]);
    if (word == "kspace")
      by_kspace = true;
    else if (word == "float64")
      wanted = c10::kDouble;
    else if (word == "float32")
      wanted = c10::kFloat;
    else if (word == "native" || word == "torchscript")
      kernel = word;
    else if (word == "charge" && i + 1 < narg)
      total_charge = std::atof(arg[++i]);
    else
      error->all(FLERR, "pair_style mlip takes kspace, float64, float32, native, torchscript and charge Q, got {}", word);
  }
  ewaldflag = pppmflag = by_kspace;
}

void PairMLIP::allocate()
{
  const int n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  map = new int[n];
  allocated = 1;
}

void PairMLIP::coeff(int narg, char **arg)
{
  const int n_models = narg - 2 - atom->ntypes;
  if (n_models < 1)
    error->all(FLERR, "pair_coeff * * model.pt needs the element of each of the {} atom types, got {}", atom->ntypes,
               std::max(narg - 3, 0));
  if (!allocated) allocate();
  members.clear();
  for (int k = 0; k < n_models; k++) open_model(arg[2 + k]);
  char **symbols = arg + 2 + n_models;
  number_of_type.assign(atom->ntypes + 1, 0);
  charge_of_type.assign(atom->ntypes + 1, 0.0);
  energy_of_type.assign(atom->ntypes + 1, 0.0);
  for (int type = 1; type <= atom->ntypes; type++) {
    const std::string symbol(symbols[type - 1]);
    if (!model->elements.count(symbol)) {
      std::string known;
      for (const auto &one : model->elements) known += " " + one.first;
      error->all(FLERR, "no parameters for {} in {}; it has parameters for{}", symbol, arg[2], known);
    }
    number_of_type[type] = model->elements[symbol];
    if (!by_kspace) continue;
    charge_of_type[type] = model->fixed[symbol];
    if (model->bond_width) energy_of_type[type] = model->energies[symbol];
  }
  set_flow(symbols);
  map_element2type(atom->ntypes, symbols);
  comm_forward = 0;
  for (const Member &one : members) {
    int bytes = std::max(4 * one.model->n_channels, one.model->bond_width) * static_cast<int>(c10::elementSize(one.model->dtype));
    if (one.native) bytes = std::max(bytes, 4 * one.native->filled * static_cast<int>(sizeof(float)));
    comm_forward = std::max(comm_forward, (bytes + 7) / 8);
  }
  comm_reverse = members.size() > 1 ? std::max(comm_forward, 3 * n_models) : comm_forward;
  have_charges = false;
}

/* one more member; the code that runs it is printed */

void PairMLIP::open_model(const std::string &path)
{
  if (!std::ifstream(path))
    error->all(FLERR, "{} is no file: pair_coeff * * takes the model, or those of a committee, then the element of each of "
                      "the {} atom types", path, atom->ntypes);
  Member member{};
  try {
    member.model = std::make_unique<mlip::StagedModel>(path);
    if (wanted && *wanted != member.model->dtype) member.model->convert(*wanted);
  } catch (const std::exception &problem) {
    error->all(FLERR, "pair_style mlip: {}", mlip::reason(problem));
  }
  model = member.model.get();
  if (by_kspace && model->fixed.empty())
    error->all(FLERR, "pair_style mlip kspace is for charges without dipoles that are fixed, flow, or are transferred by bonds, "
                      "and those of {} are not ({}): leave kspace out", path,
               model->global_terms.empty() ? "it has none" : model->global_terms.front());
  if (flows() && total_charge != 0.0)
    error->all(FLERR, "charges that flow are equilibrated over kspace in neutral cells only, got charge {}: leave kspace out",
               total_charge);
  if (!model->has_constants && !solves() && (total_charge != 0.0 || model->bond_width))
    error->all(FLERR, "{} is from before files said the energies of elements and of the total charge: run `mlip export` again",
               path);
  const std::string reason = open_native(member, path);
  if (comm->me == 0)
    utils::logmesg(lmp, member.native ? "mlip: native kernel {}\n" : "mlip: TorchScript ({})\n",
                   member.native ? member.native->path : reason);
  join_committee(member, path);
}

void PairMLIP::init_style()
{
  if (std::string(update->unit_style) != "metal") error->all(FLERR, "pair_style mlip needs units metal");
  if (!force->newton_pair) error->all(FLERR, "pair_style mlip needs newton on: forces on ghosts go home");
  if (sizeof(tagint) != static_cast<size_t>(lammps_extract_setting(lmp, "tagint")))
    error->all(FLERR, "libmlip_lammps.so was built for another size of atom IDs: give `mlip lammps build` the defines of "
                      "this LAMMPS");
  if (by_kspace && !atom->q_flag) error->all(FLERR, "pair_style mlip kspace needs atom_style charge");
  set_reach();
  set_history();
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

double PairMLIP::init_one(int i, int j)
{
  return flows() ? std::max(model->cutoff, reach[i * (atom->ntypes + 1) + j]) : model->cutoff;
}

void PairMLIP::setup()
{
  if (!by_kspace) return;
  if (!force->kspace) error->all(FLERR, "pair_style mlip kspace needs a kspace_style: pppm or ewald");
  const double expected = 0.5 / model->width;
  if (std::abs(force->kspace->g_ewald / expected - 1.0) > 1e-9)
    error->all(FLERR, "the charges are Gaussians of width {} Å: kspace_modify gewald {:.16g} is needed, got {:.16g}",
               model->width, expected, force->kspace->g_ewald);
  if (std::abs(force->dielectric / model->dielectric - 1.0) > 1e-9)
    error->all(FLERR, "the charges are screened: dielectric {:.16g} is needed, got {:.16g}", model->dielectric,
               force->dielectric);
  if (model->bond_width || flows()) {
    force->kspace->setup();    // LAMMPS calls it after the first step of the pair style
    return;
  }
  double here = 0.0, sum = 0.0;
  for (int i = 0; i < atom->nlocal; i++) here += charge_of_type[atom->type[i]];
  MPI_Allreduce(&here, &sum, 1, MPI_DOUBLE, MPI_SUM, world);
  if (total_charge != 0.0 && std::abs(sum - total_charge) > CHARGE_MISSED)
    error->all(FLERR, "the fixed charges add up to {:.6g} e, got charge {:.6g}: correct it, or leave it out", sum, total_charge);
  for (int i = 0; i < atom->nlocal; i++)
    if (std::abs(atom->q[i] - charge_of_type[atom->type[i]]) > 1e-9)
      error->one(FLERR, "the potential was fitted with {} e on atoms of type {}, got {} e: set type {} charge {}",
                 charge_of_type[atom->type[i]], atom->type[i], atom->q[i], atom->type[i], charge_of_type[atom->type[i]]);
}

void *PairMLIP::extract(const char *name, int &dim)
{
  dim = 0;
  return std::strcmp(name, "cut_coul") == 0 && model ? &model->cutoff : nullptr;
}

double PairMLIP::memory_usage()
{
  const double of_edges = vector.capacity() * 8.0 + (centre.capacity() + neighbour.capacity()) * 8.0;
  return Pair::memory_usage() + of_edges + (rows.defined() ? static_cast<double>(rows.nbytes()) : 0.0);
}

/* --------------------------------------------------------------- one step --------------------------------------------------------------- */

void PairMLIP::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  const double start = MPI_Wtime();
  if (vflag_atom && solves())
    error->all(FLERR, "no stress per atom with {}, whose energy is that of all atoms together", model->global_terms.front());
  if (list->inum != atom->nlocal) error->all(FLERR, "pair_style mlip takes all atoms: it cannot be a part of pair_style hybrid");
  try {
    if (members.size() > 1)
      compute_committee();
    else
      compute_member(members.front());
  } catch (const c10::Error &problem) {
    error->one(FLERR, "pair_style mlip: {}", mlip::reason(problem));
  } catch (const torch::jit::JITException &problem) {
    error->one(FLERR, "pair_style mlip: {}", mlip::reason(problem));
  } catch (const std::bad_alloc &) {
    error->one(FLERR, "pair_style mlip: no memory for {} atoms and {} ghosts", atom->nlocal, atom->nghost);
  }
  add_background();
  seconds += MPI_Wtime() - start;
}

/* kspace takes a background off charged cells, pi k Q^2 / (2 V g^2), which is that of points: Gaussians of zero mean
   potential have none, and neither has the pressure of kspace */

void PairMLIP::add_background()
{
  if (!by_kspace || !eflag_either) return;
  double here = 0.0, sum = 0.0;
  for (int i = 0; i < atom->nlocal; i++) here += atom->q[i];
  MPI_Allreduce(&here, &sum, 1, MPI_DOUBLE, MPI_SUM, world);
  const double volume = domain->xprd * domain->yprd * domain->zprd;
  const double potential = 0.5 * M_PI * force->qqrd2e * sum / (volume * std::pow(force->kspace->g_ewald, 2));
  for (int i = 0; i < atom->nlocal; i++) {
    if (eflag_global) eng_coul += potential * atom->q[i];
    if (eflag_atom) eatom[i] += potential * atom->q[i];
  }
}

void PairMLIP::compute_member(Member &member)
{
  model = member.model.get();
  native = member.native.get();
  if (native_runs(member))
    compute_native();
  else if (atom->nlocal == 0)
    compute_alone_with_others();
  else
    compute_torchscript();
}

void PairMLIP::compute_torchscript()
{
  find_edges(atom->nlocal, atom->nlocal + atom->nghost);
  mlip::Share mine = share(atom->nlocal, atom->nlocal + atom->nghost);
  const mlip::Transfer there = [this](const Tensor &own) { return to_ghosts(own); };
  const mlip::Transfer back = [this](const Tensor &gradient) { return from_ghosts(gradient); };
  mlip::Graph local = model->local(mine, there, back);
  const Tensor energies = local.at("energies");
  std::vector<Tensor> outputs{energies.sum()}, slopes{Tensor()};
  if (solves()) {
    mlip::Graph others = solve(local);
    outputs.push_back(local.at("node_scalars"));
    slopes.push_back(others.at("node_scalars"));
    if (model->reads_vectors) {
      outputs.push_back(local.at("node_vectors"));
      slopes.push_back(others.at("node_vectors"));
    }
    if (model->bond_width) {
      outputs.push_back(local.at("transferred"));
      slopes.push_back(others.at("transferred"));
    }
  }
  if (by_kspace && model->bond_width) {
    outputs.push_back(local.at("transferred"));
    slopes.push_back(potential_of_kspace(charges_of_bonds(local.at("transferred"))));
  }
  if (flows()) {
    outputs.push_back(equilibrate(local.at("node_scalars")));
    slopes.push_back(Tensor());
  }
  const auto slope = torch::autograd::grad(outputs, {mine.edge_vector}, slopes, c10::nullopt, false, true)[0];
  if (slope.defined()) add_edge_forces(slope.contiguous());
  add_energies(energies.detach().to(at::kDouble).contiguous().data_ptr<double>());
}

/* with those that depend on the elements and the total charge alone, which are in solve() where that runs */

void PairMLIP::add_energies(const double *of_atoms)
{
  const double of_charge = solves() ? 0.0 : model->charge_energy * total_charge / static_cast<double>(atom->natoms);
  for (int i = 0; i < atom->nlocal; i++) {
    const double energy = of_atoms[i] + of_charge + energy_of_type[atom->type[i]];
    if (eflag_global) eng_vdwl += energy;
    if (eflag_atom) eatom[i] += energy;
  }
}

/* edges shorter than the cutoff from the first n_own atoms to the first n_atoms of own ones and ghosts */

void PairMLIP::find_edges(int n_own, int n_atoms)
{
  const double limit = model->cutoff * model->cutoff;
  double **x = atom->x;
  vector.clear();
  centre.clear();
  neighbour.clear();
  for (int i = 0; i < n_own; i++) {    // rows of the network ascend
    const int *of_i = list->firstneigh[i];
    for (int k = 0; k < list->numneigh[i]; k++) {
      const int j = of_i[k] & NEIGHMASK;
      const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
      if (j >= n_atoms || dx * dx + dy * dy + dz * dz >= limit) continue;
      vector.insert(vector.end(), {dx, dy, dz});
      centre.push_back(i);
      neighbour.push_back(j);
    }
  }
  numbers.resize(n_atoms);
  for (int i = 0; i < n_atoms; i++) numbers[i] = number_of_type[atom->type[i]];
}

mlip::Share PairMLIP::share(int n_own, int n_atoms)
{
  const auto n_edges = static_cast<int64_t>(centre.size());
  mlip::Share share;
  share.edge_vector = at::from_blob(vector.data(), {n_edges, 3}, at::kDouble).requires_grad_(true);
  share.edge_index =
      at::stack({at::from_blob(centre.data(), {n_edges}, at::kLong), at::from_blob(neighbour.data(), {n_edges}, at::kLong)});
  share.atomic_numbers = at::from_blob(numbers.data(), {n_atoms}, at::kLong);
  share.n_own = n_own;
  return share;
}

/* a process without atoms takes part in what all do together, in the same order */

void PairMLIP::compute_alone_with_others()
{
  const auto of_model = at::TensorOptions().dtype(model->dtype);
  const int width = 4 * model->n_channels;
  for (int layer = 1; layer < model->n_layers; layer++) to_ghosts(at::zeros({0, width}, of_model));
  charges_alone_with_others();
  for (int layer = 1; layer < model->n_layers; layer++) from_ghosts(at::zeros({atom->nghost, width}, of_model));
}

void PairMLIP::charges_alone_with_others()
{
  const auto of_model = at::TensorOptions().dtype(model->dtype);
  const int n_features = model->n_layers * model->n_channels;
  if (model->bond_width) to_ghosts(at::zeros({0, model->bond_width}, of_model));
  if (solves()) {
    mlip::Graph nothing;
    nothing.insert("node_scalars", at::zeros({0, n_features}, of_model));
    nothing.insert("node_vectors", at::zeros({0, 3, n_features}, of_model));
    nothing.insert("transferred", at::zeros({0}, at::kDouble));
    solve(nothing);
  }
  if (by_kspace && model->bond_width) potential_of_kspace(charges_of_bonds(at::zeros({0}, at::kDouble)));
  if (flows()) equilibrate(at::zeros({0, n_features}, of_model));
  if (model->bond_width) from_ghosts(at::zeros({atom->nghost, model->bond_width}, of_model));
}

/* an edge from i to j pulls both ends */

void PairMLIP::add_edge_forces(const Tensor &slope)
{
  double **f = atom->f;
  const double *g = slope.data_ptr<double>(), *r = vector.data();
  for (size_t e = 0; e < centre.size(); e++, g += 3, r += 3) {
    const int64_t i = centre[e], j = neighbour[e];
    for (int a = 0; a < 3; a++) {
      f[i][a] += g[a];
      f[j][a] -= g[a];
    }
    if (!vflag_either) continue;
    const double v[6] = {-r[0] * g[0], -r[1] * g[1], -r[2] * g[2], -0.5 * (r[0] * g[1] + r[1] * g[0]),
                         -0.5 * (r[0] * g[2] + r[2] * g[0]), -0.5 * (r[1] * g[2] + r[2] * g[1])};
    for (int k = 0; k < 6; k++) {
      if (vflag_global) virial[k] += v[k];
      if (vflag_atom) {
        vatom[i][k] += 0.5 * v[k];
        vatom[j][k] += 0.5 * v[k];
      }
    }
  }
}

/* ------------------------------------------------ terms that need all atoms, on every process ------------------------------------------------ */

/* rows of all processes, in the order of processes; `first` is that of the own ones */

Tensor PairMLIP::gathered(const Tensor &own, int *first)
{
  std::vector<int64_t> shape = own.sizes().vec();
  const int bytes = static_cast<int>(own.nbytes()), n_own = static_cast<int>(shape[0]);
  std::vector<int> sizes(comm->nprocs), starts(comm->nprocs, 0), counts(comm->nprocs);
  MPI_Allgather(&bytes, 1, MPI_INT, sizes.data(), 1, MPI_INT, world);
  MPI_Allgather(&n_own, 1, MPI_INT, counts.data(), 1, MPI_INT, world);
  int total = 0, before = 0;
  for (int p = 0; p < comm->nprocs; p++) {
    if (p) starts[p] = starts[p - 1] + sizes[p - 1];
    if (p < comm->me) before += counts[p];
    total += counts[p];
  }
  if (first) *first = before;
  shape[0] = total;
  const Tensor mine = own.detach().contiguous();
  Tensor all = at::empty(shape, mine.options());
  MPI_Allgatherv(mine.data_ptr(), bytes, MPI_BYTE, all.data_ptr(), sizes.data(), starts.data(), MPI_BYTE, world);
  return all;
}

mlip::Graph PairMLIP::solve(const mlip::Graph &local)
{
  const double start = MPI_Wtime();
  const int n = atom->nlocal;
  Tensor positions = at::empty({n, 3}, at::kDouble), own_numbers = at::empty({n}, at::kLong);
  for (int i = 0; i < n; i++) {
    std::memcpy(positions.data_ptr<double>() + 3 * i, atom->x[i], 3 * sizeof(double));
    own_numbers.data_ptr<int64_t>()[i] = number_of_type[atom->type[i]];
  }
  int first = 0;
  mlip::Crystal crystal;
  crystal.positions = gathered(positions, &first);
  crystal.atomic_numbers = gathered(own_numbers);
  const Tensor scalars = local.at("node_scalars"), vectors = local.at("node_vectors");
  crystal.scalars = gathered(scalars);
  crystal.vectors = model->reads_vectors ? gathered(vectors)
                                         : at::zeros({crystal.scalars.size(0), 3, 0}, crystal.scalars.options());
  if (have_charges) crystal.guess = gathered(expected_charges().unsqueeze(1));
  if (model->bond_width) crystal.transferred = gathered(local.at("transferred"));
  const double *h = domain->h;    // xx, yy, zz, yz, xz, xy
  crystal.cell = at::tensor({h[0], 0.0, 0.0, h[5], h[1], 0.0, h[4], h[3], h[2]}, at::kDouble).view({1, 3, 3});
  crystal.pbc = at::empty({1, 3}, at::kBool);
  for (int a = 0; a < 3; a++) crystal.pbc.data_ptr<bool>()[a] = domain->periodicity[a];
  crystal.total_charge = total_charge;
  mlip::Graph others = model->solve(crystal);
  take_over(others, first);
  mlip::Graph of_own;
  of_own.insert("node_scalars", others.at("node_scalars").narrow(0, first, n));
  of_own.insert("node_vectors", others.at("node_vectors").narrow(0, first, n));
  if (model->bond_width) of_own.insert("transferred", others.at("transferred").narrow(0, first, n));
  seconds_of_solve += MPI_Wtime() - start;
  return of_own;
}

/* [n_own] e, with their share of the total charge */

Tensor PairMLIP::charges_of_bonds(const Tensor &transferred)
{
  const int n = atom->nlocal;
  Tensor charges = transferred.detach().to(at::kDouble).clone();
  double *q = charges.data_ptr<double>();
  double here = 0.0, sum = 0.0;
  for (int i = 0; i < n; i++) here += charge_of_type[atom->type[i]];
  MPI_Allreduce(&here, &sum, 1, MPI_DOUBLE, MPI_SUM, world);
  for (int i = 0; i < n; i++) q[i] += charge_of_type[atom->type[i]] + (total_charge - sum) / static_cast<double>(atom->natoms);
  return charges;
}

/* charges in atom->q; derivatives of kspace's energy by them, [n_own] eV/e: it is a quadratic form of theirs */

Tensor PairMLIP::potential_of_kspace(const Tensor &charges)
{
  const int n = atom->nlocal;
  double *f = atom->nmax ? atom->f[0] : nullptr, *q = atom->q;
  for (int i = 0; i < n; i++) {
    q[i] = charges.data_ptr<double>()[i];
    if (q[i] == 0.0) q[i] = 1e-100;    // divided by below
  }
  const std::vector<double> before(f, f + 3 * n);
  force->kspace->qsum_qsq(0);
  force->kspace->compute(3, 0);    // energies, of atoms as well
  std::copy(before.begin(), before.end(), f);
  Tensor potential = at::empty({n}, at::kDouble);
  for (int i = 0; i < n; i++) potential.data_ptr<double>()[i] = 2.0 * force->kspace->eatom[i] / q[i];
  return potential;
}

/* every process has the results of all atoms and takes those of its own */

void PairMLIP::take_over(const mlip::Graph &others, int first)
{
  const Tensor forces = others.at("forces").contiguous(), energies = others.at("energies").contiguous();
  const double *f = forces.data_ptr<double>() + 3 * first, *e = energies.data_ptr<double>() + first;
  const bool has_charges = others.contains("charges") && atom->q_flag;
  const Tensor charges = has_charges ? others.at("charges").to(at::kDouble).contiguous() : Tensor();
  for (int i = 0; i < atom->nlocal; i++) {
    for (int a = 0; a < 3; a++) atom->f[i][a] += f[3 * i + a];
    if (eflag_global) eng_coul += e[i];
    if (eflag_atom) eatom[i] += e[i];
    if (has_charges) atom->q[i] = charges.data_ptr<double>()[first + i];
  }
  have_charges = has_charges;
  if (!vflag_global || comm->me != 0) return;
  const Tensor w = others.at("virial").contiguous();
  const double *v = w.data_ptr<double>();
  const int index[6] = {0, 4, 8, 1, 2, 5};
  for (int k = 0; k < 6; k++) virial[k] -= v[index[k]];
}

void PairMLIP::finish()
{
  if (comm->me == 0 && flows() && n_equilibrations)
    utils::logmesg(lmp, "mlip: {:.0f}% of the pair time in {}, {:.1f} iterations a step with kspace\n", 100.0 * seconds_of_solve / seconds,
                   model->global_terms.front(), static_cast<double>(n_iterations) / n_equilibrations);
  n_iterations = n_equilibrations = 0;
  if (comm->me == 0 && solves() && seconds > 0.0)
    utils::logmesg(lmp, "mlip: {:.0f}% of the pair time in {}, which every process solves for all atoms\n",
                   100.0 * seconds_of_solve / seconds, model->global_terms.front());
  seconds = seconds_of_solve = 0.0;
}

extern "C" void *mlip_create_pair(void *lammps)
{
  return new PairMLIP(static_cast<LAMMPS *>(lammps));
}
