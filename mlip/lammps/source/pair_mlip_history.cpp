// Charges of the last three steps: those of the last in atom->q, the others in a fix, which moves them with their atoms.

#include "pair_mlip.h"

#include "atom.h"
#include "modify.h"
#include "update.h"

#include <algorithm>

using namespace LAMMPS_NS;
using at::Tensor;

static const char *const FORMER = "mlip_former_charges";    // of the fix, and of its columns: one and two steps before atom->q
static constexpr int MOST_KNOWN = 3;

void PairMLIP::set_history()
{
  n_known = 0;
  if (!atom->q_flag || !(solves() || flows()) || modify->get_fix_by_id(FORMER)) return;
  modify->add_fix(fmt::format("{} all property/atom d2_{} {} writedata no", FORMER, FORMER, MOST_KNOWN - 1));
}

/* [n_own] e: the polynomial through the charges of up to three steps, one step on; else those that the atoms have. Called once
   a step, before atom->q changes. */

Tensor PairMLIP::expected_charges()
{
  const int n = atom->nlocal;
  Tensor charges = at::from_blob(atom->q, {n}, at::kDouble).clone();
  int is_float, n_columns;
  const int index = atom->find_custom(FORMER, is_float, n_columns);
  const bool same = update->ntimestep == last_step, next = update->whichflag == 1 && update->ntimestep == last_step + 1;
  last_step = update->ntimestep;
  if (same || index < 0) return charges;    // a second look at one step: they are in atom->q
  if (!next) n_known = 0;
  static constexpr double WEIGHT[MOST_KNOWN + 1][MOST_KNOWN] = {{1.0, 0.0, 0.0}, {1.0, 0.0, 0.0}, {2.0, -1.0, 0.0}, {3.0, -3.0, 1.0}};
  const double *weight = WEIGHT[n_known];
  double *q = charges.data_ptr<double>();
  for (int i = 0; i < n; i++) {
    double *former = atom->darray[index][i];
    const double last = atom->q[i];
    q[i] = weight[0] * last + weight[1] * former[0] + weight[2] * former[1];
    former[1] = former[0];
    former[0] = last;
  }
  n_known = std::min(n_known + 1, MOST_KNOWN);
  return charges;
}
