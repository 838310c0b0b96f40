// A committee: the mean of its members, and their scatter as `uncertainty` of each atom (fix pair) and of the energy.

#include "pair_mlip.h"

#include "atom.h"
#include "comm.h"
#include "error.h"

#include <cmath>
#include <cstring>

using namespace LAMMPS_NS;

void PairMLIP::join_committee(Member &member, const std::string &path)
{
  if (!members.empty()) {
    const mlip::StagedModel &first = *members.front().model, &other = *member.model;
    if (solves() || flows() || other.bond_width)
      error->all(FLERR, "a committee with {} is not split over processes: take a head without charges, or formal_charges with "
                        "kspace", other.global_terms.front());
    std::string unlike;
    if (first.elements != other.elements) unlike = "elements";
    if (first.cutoff != other.cutoff) unlike = "cutoff";
    if (first.fixed != other.fixed || first.width != other.width) unlike = "fixed charges";
    if (first.dtype != other.dtype) unlike = "precision";
    if (!unlike.empty())
      error->all(FLERR, "members of a committee share their {}, and {} has others than the first", unlike, path);
  }
  members.push_back(std::move(member));
  delete[] pvector;
  nextra = members.size() > 1;
  pvector = nextra ? new double[1]() : nullptr;
}

void *PairMLIP::extract_peratom(const char *name, int &columns)
{
  columns = 0;
  return std::strcmp(name, "uncertainty") == 0 && members.size() > 1 ? uncertainty.data() : nullptr;
}

/* sigma_i^2 = sum_k |F_ik - <F_i>|^2 / (K - 1), as mlip/models/committee.py; pvector holds that of the energy */

void PairMLIP::compute_committee()
{
  const int n_own = atom->nlocal, n = n_own + atom->nghost, n_members = static_cast<int>(members.size());
  double *f = n ? atom->f[0] : nullptr;
  const std::vector<double> before(f, f + 3 * n);
  std::vector<double> energy(n_members, 0.0), total(n_members);
  const at::Tensor forces = at::zeros({n, 3 * n_members}, at::kDouble);
  double *of_members = forces.data_ptr<double>();
  for (int k = 0; k < n_members; k++) {
    std::fill(f, f + 3 * n, 0.0);
    energy[k] = -eng_vdwl;
    compute_member(members[k]);
    energy[k] += eng_vdwl;
    for (int i = 0; i < n; i++) std::memcpy(of_members + 3 * (i * n_members + k), f + 3 * i, 3 * sizeof(double));
  }
  for (int i = 0; i < n; i++)
    for (int a = 0; a < 3; a++) {
      f[3 * i + a] = before[3 * i + a];
      for (int k = 0; k < n_members; k++) f[3 * i + a] += of_members[3 * (i * n_members + k) + a] / n_members;
    }
  eng_vdwl /= n_members;
  for (double &one : virial) one /= n_members;
  if (eflag_atom)
    for (int i = 0; i < n_own; i++) eatom[i] /= n_members;
  if (vflag_atom)
    for (int i = 0; i < n; i++)
      for (int k = 0; k < 6; k++) vatom[i][k] /= n_members;

  rows = forces;    // what other processes have for own atoms is added
  comm->reverse_comm(this, stride());
  uncertainty.resize(std::max(atom->nmax, 1));
  for (int i = 0; i < n_own; i++) {
    double sum = 0.0;
    for (int a = 0; a < 3; a++) {
      double mean = 0.0;
      for (int k = 0; k < n_members; k++) mean += of_members[3 * (i * n_members + k) + a] / n_members;
      for (int k = 0; k < n_members; k++) sum += std::pow(of_members[3 * (i * n_members + k) + a] - mean, 2);
    }
    uncertainty[i] = std::sqrt(sum / (n_members - 1));
  }
  pvector[0] = 0.0;
  if (!eflag_global) return;
  MPI_Allreduce(energy.data(), total.data(), n_members, MPI_DOUBLE, MPI_SUM, world);
  double mean = 0.0, sum = 0.0;
  for (const double one : total) mean += one / n_members;
  for (const double one : total) sum += (one - mean) * (one - mean);
  if (comm->me == 0) pvector[0] = std::sqrt(sum / (n_members - 1));    // `compute pair` adds those of all processes
}
