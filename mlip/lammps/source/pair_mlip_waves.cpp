// Preconditioner of charges that flow: their longest waves, which kspace makes stiffest, are inverted exactly.
//
// D + U U^T is inverted with Woodbury's formula, P = D^-1 - D^-1 U (1 + U^T D^-1 U)^-1 U^T D^-1 (mlip/electrostatics/
// preconditioner.py: wave_preconditioner). A column of U is cos(k r) or sin(k r) times the root of the kernel of k.

#include "pair_mlip.h"

#include "atom.h"
#include "domain.h"
#include "force.h"

#include <cmath>

using namespace LAMMPS_NS;
using at::Tensor;

static constexpr double MOST_WAVES = 256.0;

/* the same matrix or vector, added up over the processes */

static Tensor over_processes(const Tensor &own, MPI_Comm world)
{
  Tensor sum = own.contiguous();
  MPI_Allreduce(MPI_IN_PLACE, sum.data_ptr<double>(), static_cast<int>(sum.numel()), MPI_DOUBLE, MPI_SUM, world);
  return sum;
}

/* on_site [n_own] eV/e^2: second derivative of the energy by each charge, of which the waves are a part */

void PairMLIP::set_waves(const Tensor &on_site)
{
  const double volume = domain->xprd * domain->yprd * domain->zprd, *h = domain->h, *inverse = domain->h_inv;
  // so many waves are below this one; more than a third of the atoms would have are no fewer unknowns
  const double count = std::min(MOST_WAVES, static_cast<double>(atom->natoms) / 3.0);
  const double longest = std::cbrt(6.0 * M_PI * M_PI * count / volume);    // 1/Å
  const double length[3] = {h[0], std::hypot(h[1], h[5]), std::sqrt(h[2] * h[2] + h[3] * h[3] + h[4] * h[4])};
  int most[3];
  for (int a = 0; a < 3; a++) most[a] = static_cast<int>(longest * length[a] / (2.0 * M_PI));
  std::vector<double> vectors, amplitudes;
  for (int l = 0; l <= most[0]; l++)    // one of each two opposite waves
    for (int m = l ? -most[1] : 0; m <= most[1]; m++)
      for (int n = l || m ? -most[2] : 1; n <= most[2]; n++) {
        // columns of the inverse of h, whose entries are xx, yy, zz, yz, xz, xy
        const double k[3] = {2.0 * M_PI * l * inverse[0], 2.0 * M_PI * (l * inverse[5] + m * inverse[1]),
                             2.0 * M_PI * (l * inverse[4] + m * inverse[3] + n * inverse[2])};
        const double square = k[0] * k[0] + k[1] * k[1] + k[2] * k[2];
        if (square >= longest * longest) continue;
        vectors.insert(vectors.end(), k, k + 3);
        amplitudes.push_back(std::sqrt(8.0 * M_PI * force->qqrd2e / volume / square * std::exp(-square * std::pow(model->width, 2))));
      }
  const auto n_vectors = static_cast<int64_t>(amplitudes.size());
  const Tensor k = at::from_blob(vectors.data(), {n_vectors, 3}, at::kDouble);
  const Tensor amplitude = at::from_blob(amplitudes.data(), {n_vectors}, at::kDouble);
  const Tensor positions = at::from_blob(atom->nmax ? atom->x[0] : nullptr, {atom->nlocal, 3}, at::kDouble);
  const Tensor phase = positions.mm(k.t());
  waves = at::cat({phase.cos() * amplitude, phase.sin() * amplitude}, 1);
  softness = (on_site - waves.square().sum(1)).reciprocal();
  const Tensor metric = over_processes(waves.t().mm(softness.unsqueeze(1) * waves), world);
  screening = at::linalg_inv(metric + at::eye(metric.size(0), metric.options()));
}

/* charges that answer a difference of potential, [n_own] V -> [n_own] e */

Tensor PairMLIP::response(const Tensor &potential)
{
  const Tensor alone = softness * potential;
  return alone - softness * waves.mv(screening.mv(over_processes(waves.t().mv(alone), world)));
}
