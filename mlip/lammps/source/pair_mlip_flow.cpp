// Charges that flow, equilibrated by conjugate gradients over kspace: (A + J) q + chi is the same for all atoms, sum q = Q.
//
// A_ij = k erf(r / a_ij) / r with a_ij^2 = 2 (s_i^2 + s_j^2), and A_ii = k / (s_i sqrt(pi)). kspace sums the tail of all pairs
// as if they had the largest a = 1 / g; those within `reach` are given the difference, k (erf(r / a_ij) - erf(g r)) / r.

#include "pair_mlip.h"

#include "atom.h"
#include "error.h"
#include "force.h"
#include "kspace.h"
#include "neigh_list.h"

#include <cmath>

using namespace LAMMPS_NS;
using at::Tensor;

static constexpr double TRUNCATED = 1e-6;     // eV/Å between unit charges, left out beyond reach
static constexpr double CONVERGED = 1e-5;     // V, by which atoms may differ in potential, as in mlip.electrostatics: forces err by
                                              // about that times a charge per Å
static constexpr int MOST_ITERATIONS = 300;
static const double TWO_BY_ROOT_PI = 2.0 / std::sqrt(M_PI);

void PairMLIP::set_flow(char **symbols)
{
  if (!flows()) return;
  const int n = atom->ntypes + 1;
  hardness_of_type.assign(n, 0.0);
  width_of_type.assign(n, 0.0);
  for (int type = 1; type < n; type++) {
    hardness_of_type[type] = model->hardness.at(symbols[type - 1]);
    width_of_type[type] = model->widths.at(symbols[type - 1]);
  }
}

void PairMLIP::set_reach()
{
  if (!flows()) return;
  const int n = atom->ntypes + 1;
  reach.assign(n * n, 0.0);
  for (int i = 1; i < n; i++)
    for (int j = 1; j < n; j++)
      for (double r = 12.0 * model->width; r > 0.0; r -= 0.05) {
        double slope;
        near_potential(r, i, j, &slope);
        if (std::abs(slope) < TRUNCATED) continue;
        reach[i * n + j] = r + 0.05;
        break;
      }
}

double PairMLIP::near_potential(double r, int itype, int jtype, double *slope) const
{
  const double g = 0.5 / model->width;
  const double inverse = 1.0 / std::sqrt(2.0 * (std::pow(width_of_type[itype], 2) + std::pow(width_of_type[jtype], 2)));
  const double value = force->qqrd2e * (std::erf(inverse * r) - std::erf(g * r)) / r;
  const double by_r = inverse * std::exp(-std::pow(inverse * r, 2)) - g * std::exp(-std::pow(g * r, 2));
  *slope = (force->qqrd2e * TWO_BY_ROOT_PI * by_r - value) / r;
  return value;
}

void PairMLIP::find_near()
{
  double **x = atom->x;
  const int *type = atom->type, n = atom->ntypes + 1;
  near_first.assign(1, 0);
  near_neighbour.clear();
  near_value.clear();
  near_slope.clear();
  for (int i = 0; i < atom->nlocal; i++) {
    for (int k = 0; k < list->numneigh[i]; k++) {
      const int j = list->firstneigh[i][k] & NEIGHMASK;
      const double limit = reach[type[i] * n + type[j]];
      const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
      const double square = dx * dx + dy * dy + dz * dz;
      if (square >= limit * limit) continue;
      double slope;
      near_value.push_back(near_potential(std::sqrt(square), type[i], type[j], &slope));
      near_slope.push_back(slope);
      near_neighbour.push_back(j);
    }
    near_first.push_back(static_cast<int>(near_neighbour.size()));
  }
}

/* derivatives of the energy by charges, [n_own] V, without electronegativity; on_site is J + A_ii */

Tensor PairMLIP::potential_of_flow(const Tensor &charges, const Tensor &on_site)
{
  Tensor potential = potential_of_kspace(charges).addcmul_(on_site, charges);
  const Tensor all = to_ghosts(charges.unsqueeze(1));
  const double *q = all.data_ptr<double>();
  double *phi = potential.data_ptr<double>();
  for (int i = 0; i < atom->nlocal; i++)
    for (int k = near_first[i]; k < near_first[i + 1]; k++) phi[i] += near_value[k] * q[near_neighbour[k]];
  return potential;
}

/* projected conjugate gradients, from what the charges of the last steps let expect */

Tensor PairMLIP::relaxed_charges(const Tensor &electronegativity, const Tensor &on_site)
{
  const auto sum = [this](const Tensor &own) {
    double here = own.numel() ? own.sum().item<double>() : 0.0, all = 0.0;
    MPI_Allreduce(&here, &all, 1, MPI_DOUBLE, MPI_SUM, world);
    return all;
  };
  const auto largest = [this](const Tensor &own) {
    double here = own.numel() ? own.abs().max().item<double>() : 0.0, all = 0.0;
    if (std::isnan(here)) here = HUGE_VAL;    // MPI_MAX may lose a NaN
    MPI_Allreduce(&here, &all, 1, MPI_DOUBLE, MPI_MAX, world);
    return all;
  };
  Tensor charges = expected_charges();
  set_waves(on_site);
  const Tensor even = response(at::ones_like(on_site));
  const double whole = sum(even);
  charges += (total_charge - sum(charges)) / whole * even;
  Tensor residual = (potential_of_flow(charges, on_site) + electronegativity).neg_(), direction;
  double before = 0.0;
  for (int n = 0; n <= MOST_ITERATIONS; n++) {
    residual -= sum(even * residual) / whole;    // the potential that all share
    if (largest(residual) < CONVERGED) {
      n_iterations += n;
      n_equilibrations++;
      return charges;
    }
    const Tensor step = response(residual);
    const double now = sum(residual * step);
    direction = n ? step + (now / before) * direction : step;
    const Tensor change = potential_of_flow(direction, on_site);
    const double length = now / sum(direction * change);
    charges += length * direction;
    residual -= length * change;
    before = now;
  }
  error->all(FLERR, "charges do not relax in {} iterations over kspace: start from a sound structure, or leave kspace out", MOST_ITERATIONS);
  return charges;
}

/* charges, the forces and energies that they have at constant electronegativity but for kspace's; returns a number whose derivative
   by the scalars is that of the energy */

Tensor PairMLIP::equilibrate(const Tensor &scalars)
{
  const double start = MPI_Wtime();
  const int n = atom->nlocal;
  Tensor chi = at::zeros({n}, at::kDouble), energies = at::zeros({n}, at::kDouble), on_site = at::empty({n}, at::kDouble);
  if (n) {
    const Tensor of_own = at::from_blob(numbers.data(), {n}, at::kLong);
    const mlip::Graph flow = model->on_site(of_own, scalars);
    chi = flow.at("electronegativity");
    energies = flow.at("energies");
  }
  for (int i = 0; i < n; i++) {
    const int type = atom->type[i];
    on_site.data_ptr<double>()[i] = hardness_of_type[type] + 0.5 * TWO_BY_ROOT_PI * force->qqrd2e / width_of_type[type];
  }
  find_near();
  const Tensor charges = relaxed_charges(chi.detach(), on_site);
  const Tensor result = (energies + chi * charges).sum();
  const Tensor all = to_ghosts(charges.unsqueeze(1)), own = (energies + chi * charges + 0.5 * on_site * charges.square()).detach();
  const double *q = all.data_ptr<double>(), *e = own.data_ptr<double>();
  double **x = atom->x, **f = atom->f;
  for (int i = 0; i < n; i++) {
    double energy = e[i];
    for (int k = near_first[i]; k < near_first[i + 1]; k++) {
      const int j = near_neighbour[k];
      const double d[3] = {x[j][0] - x[i][0], x[j][1] - x[i][1], x[j][2] - x[i][2]};
      const double product = q[i] * q[j], pull = product * near_slope[k] / std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
      energy += 0.5 * product * near_value[k];
      for (int a = 0; a < 3; a++) f[i][a] += pull * d[a];    // j has its own row
      const int first[6] = {0, 1, 2, 0, 0, 1}, second[6] = {0, 1, 2, 1, 2, 2};
      for (int v = 0; v < 6; v++) {
        const double half = -0.5 * pull * d[first[v]] * d[second[v]];
        if (vflag_global) virial[v] += half;
        if (vflag_atom) vatom[i][v] += half;
      }
    }
    if (eflag_global) eng_coul += energy;
    if (eflag_atom) eatom[i] += energy;
    atom->q[i] = q[i];
  }
  force->kspace->qsum_qsq(0);
  seconds_of_solve += MPI_Wtime() - start;
  return result;
}
