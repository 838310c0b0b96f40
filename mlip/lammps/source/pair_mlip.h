// pair_style mlip: potentials of mlip-electrolytes, their atoms shared by the processes of LAMMPS.
//
//   pair_style mlip [kspace] [float64 | float32] [native | torchscript] [charge Q]
//   pair_coeff * * model.pt Li In Cl        one element for every atom type
//   pair_coeff * * 1.pt 2.pt 3.pt Li In Cl  a committee: its mean moves the atoms, its scatter is their uncertainty
//
// kspace: fixed charges, and those that bonds transfer, are left to kspace_style, whose reciprocal part with gewald =
// 1 / (2 width) is their energy; `dielectric` screens it. Charges that flow are equilibrated over it.
// native, torchscript: code that runs; the native kernel by itself where there is one for this model and processor.
// charge: total charge in e: of charges that adapt, and of the energy that the model gives to it.

#ifndef MLIP_PAIR_MLIP_H
#define MLIP_PAIR_MLIP_H

#include "native_kernel.h"
#include "staged_model.h"

#include "pair.h"

#include <memory>
#include <string>
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
  void *extract_peratom(const char *, int &) override;
  double memory_usage() override;

  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;

 private:
  struct Member {
    std::unique_ptr<mlip::StagedModel> model;
    std::unique_ptr<mlip::NativeKernel> native;    // none: the model itself runs
    bool checked;                                  // that the kernel gives the model's numbers
  };
  std::vector<Member> members;    // one potential, or a committee of the same elements and cutoff, without solve()
  mlip::StagedModel *model;       // of the member that is evaluated
  mlip::NativeKernel *native;
  std::string kernel;             // auto, native, torchscript
  bool by_kspace;
  double total_charge;              // e
  c10::optional<c10::ScalarType> wanted;
  std::vector<int> number_of_type;  // atomic numbers
  std::vector<double> charge_of_type, energy_of_type;    // of fixed charges; beside their lattice sum
  bool have_charges;                // of the last step, in atom->q
  bigint last_step;                 // that charges were asked for, and how many in a row were before it
  int n_known;
  double seconds, seconds_of_solve;
  bigint n_iterations, n_equilibrations;

  // rows of own atoms and ghosts as they travel, [n_all, width] in the model's precision
  at::Tensor rows;

  std::vector<double> vector;               // of edges, Å
  std::vector<int64_t> centre, neighbour, numbers;
  std::vector<int64_t> one_system;          // zeros: the system of each row

  bool solves() const { return !by_kspace && !model->global_terms.empty(); }
  void allocate();
  void open_model(const std::string &path);
  void compute_member(Member &member);
  void find_edges(int n_own, int n_atoms);
  mlip::Share share(int n_own, int n_atoms);
  void compute_torchscript();
  void compute_alone_with_others();
  void charges_alone_with_others();
  at::Tensor charges_of_bonds(const at::Tensor &transferred);
  at::Tensor potential_of_kspace(const at::Tensor &charges);
  void add_energies(const double *of_atoms);
  void add_background();
  mlip::Graph solve(const mlip::Graph &local);
  void take_over(const mlip::Graph &others, int first);
  void add_edge_forces(const at::Tensor &slope);
  // pair_mlip_native.cpp
  std::string open_native(Member &member, const std::string &path);
  bool native_runs(Member &member);
  void compare_piece(double *worst);
  void start_native(int n_own, int n_atoms, bool with_scalars);
  void compute_native();
  at::Tensor pull_of_charges();
  at::Tensor pull_of_bonds(mlip::Graph &local);
  // pair_mlip_committee.cpp
  std::vector<double> uncertainty;    // of the force on own atoms, eV/Å
  void join_committee(Member &member, const std::string &path);
  void compute_committee();
  // pair_mlip_flow.cpp
  std::vector<double> reach;                              // Å, of each two types: beyond it kspace is all of their potential
  std::vector<double> hardness_of_type, width_of_type;    // eV/e^2, Å
  std::vector<int> near_first, near_neighbour;            // near pairs of own atoms, their first [n_own + 1] and what they reach
  std::vector<double> near_value, near_slope;             // k (erf(r / a) - erf(g r)) / r in eV/e^2, and its derivative by r
  bool flows() const { return by_kspace && !model->hardness.empty(); }
  void set_flow(char **symbols);
  void set_reach();
  void find_near();
  double near_potential(double r, int itype, int jtype, double *slope) const;
  at::Tensor potential_of_flow(const at::Tensor &charges, const at::Tensor &on_site);
  at::Tensor relaxed_charges(const at::Tensor &electronegativity, const at::Tensor &on_site);
  at::Tensor equilibrate(const at::Tensor &scalars);
  // pair_mlip_waves.cpp
  at::Tensor waves, softness, screening;    // U [n_own, n_waves], D^-1 [n_own] and (1 + U^T D^-1 U)^-1
  void set_waves(const at::Tensor &on_site);
  at::Tensor response(const at::Tensor &potential);
  // pair_mlip_history.cpp
  void set_history();
  at::Tensor expected_charges();
  // pair_mlip_comm.cpp
  int stride() const;
  at::Tensor to_ghosts(const at::Tensor &own);
  at::Tensor from_ghosts(const at::Tensor &gradient);
  at::Tensor gathered(const at::Tensor &own, int *first = nullptr);
};

}    // namespace LAMMPS_NS

#endif
