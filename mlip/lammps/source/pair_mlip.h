// pair_style mlip: potentials of mlip-electrolytes, their atoms shared by the processes of LAMMPS.
//
//   pair_style mlip [kspace] [float64 | float32] [charge Q]
//   pair_coeff * * model.pt Li In Cl        one element for every atom type
//
// kspace: fixed charges are left to kspace_style, whose reciprocal part with gewald = 1 / (2 width) is their energy.
// charge: total charge in e of equilibrated charges.

#ifndef MLIP_PAIR_MLIP_H
#define MLIP_PAIR_MLIP_H

#include "staged_model.h"

#include "pair.h"

#include <memory>
#include <vector>

namespace LAMMPS_NS {

class PairMLIP : public Pair {
 public:
  explicit PairMLIP(LAMMPS *);
  ~PairMLIP() override;

  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void setup() override;
  void compute(int, int) override;
  void finish() override;
  void *extract(const char *, int &) override;
  double memory_usage() override;

  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;

 private:
  std::unique_ptr<mlip::StagedModel> model;
  bool by_kspace;
  double total_charge;              // e
  c10::optional<c10::ScalarType> wanted;
  std::vector<int> number_of_type;  // atomic numbers
  std::vector<double> charge_of_type;
  bool have_charges;                // of the last step, in atom->q
  double seconds, seconds_of_solve;

  // rows of own atoms and ghosts as they travel, [n_all, width] in the model's precision
  at::Tensor rows;

  std::vector<double> vector;               // of edges, Å
  std::vector<int64_t> centre, neighbour, numbers;

  bool solves() const { return !by_kspace && !model->global_terms.empty(); }
  void allocate();
  mlip::Share share();
  void compute_alone_with_others();
  mlip::Graph solve(const mlip::Graph &local);
  void take_over(const mlip::Graph &others, int first);
  void add_edge_forces(const at::Tensor &slope);
  at::Tensor to_ghosts(const at::Tensor &own);
  at::Tensor from_ghosts(const at::Tensor &gradient);
  at::Tensor gathered(const at::Tensor &own, int *first = nullptr);
};

}    // namespace LAMMPS_NS

#endif
