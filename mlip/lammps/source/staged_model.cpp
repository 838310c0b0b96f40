#include "staged_model.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include "json.h"    // of LAMMPS

#include <malloc.h>

using at::Tensor;
using LAMMPS_NS::json;
namespace autograd = torch::autograd;

namespace mlip {

namespace {

// Rows to ghosts; in the backward pass the gradients of ghosts are added to those of the atoms they are.
struct Exchange : public autograd::Function<Exchange> {
  static Tensor forward(autograd::AutogradContext *context, const Tensor &own, const Transfer *there, const Transfer *back)
  {
    context->saved_data["back"] = reinterpret_cast<int64_t>(back);
    return (*there)(own);
  }

  static autograd::variable_list backward(autograd::AutogradContext *context, autograd::variable_list gradients)
  {
    auto back = reinterpret_cast<const Transfer *>(context->saved_data["back"].toInt());
    return {(*back)(gradients[0]), Tensor(), Tensor()};
  }
};

Graph graph_of(const c10::IValue &value)
{
  return c10::impl::toTypedDict<std::string, Tensor>(value.toGenericDict());
}

}    // namespace

StagedModel::StagedModel(const std::string &path)
{
  // large temporaries come back every step: mapping and zeroing their pages anew would cost more than the arithmetic
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, (1u << 31) - 1);
  torch::jit::ExtraFilesMap extra{{"metadata.json", ""}};
  module = torch::jit::load(path, c10::Device(c10::kCPU), extra);
  if (extra["metadata.json"].empty()) throw std::runtime_error(path + " was not written by mlip export");
  const json metadata = json::parse(extra["metadata.json"]);
  if (!metadata.contains("stages"))
    throw std::runtime_error(path + " is from before potentials could be split over processes: run `mlip export` again");
  const json &stages = metadata["stages"];
  if (stages.contains("refused")) throw std::runtime_error(path + ": " + stages["refused"].get<std::string>());
  cutoff = metadata["cutoff"];
  n_layers = stages["n_layers"];
  n_channels = stages["n_channels"];
  bond_width = stages["bond_width"];
  elements = stages["elements"].get<std::map<std::string, int>>();
  global_terms = stages["global"].get<std::vector<std::string>>();
  reads_vectors = stages["vectors"];
  width = 0.0;
  dielectric = 1.0;
  for (const char *kind : {"fixed", "bonded", "equilibrated"})
    if (stages.contains(kind) && !stages[kind].is_null()) {
      fixed = stages[kind]["charges"].get<std::map<std::string, double>>();
      width = stages[kind]["width"];
      dielectric = stages[kind].value("dielectric", 1.0);
      if (stages[kind].contains("hardness")) hardness = stages[kind]["hardness"].get<std::map<std::string, double>>();
      if (stages[kind].contains("widths")) widths = stages[kind]["widths"].get<std::map<std::string, double>>();
      if (stages[kind].contains("energies")) energies = stages[kind]["energies"].get<std::map<std::string, double>>();
    }
  has_bonds = module.find_method("begin_bonds").has_value();
  has_constants = stages.contains("charge_energy");
  charge_energy = stages.value("charge_energy", 0.0);
  dtype = metadata["dtype"].get<std::string>() == "float64" ? c10::kDouble : c10::kFloat;
}

void StagedModel::convert(c10::ScalarType wanted)
{
  // Module::to would turn the tables of whole numbers into this type too
  const auto as_wanted = [&](at::Tensor one) {
    if (one.is_floating_point()) one.set_data(one.to(wanted));
  };
  for (const auto &one : module.parameters()) as_wanted(one);
  for (const auto &one : module.buffers()) as_wanted(one);
  dtype = wanted;
}

Graph StagedModel::local(const Share &share, const Transfer &to_ghosts, const Transfer &from_ghosts)
{
  // the profiling executor saves nothing here, and recompiles for new shapes
  torch::jit::GraphOptimizerEnabledGuard interpreted(false);
  auto graph = graph_of(
      module.get_method("begin")({share.edge_vector, share.edge_index, share.atomic_numbers, share.n_own}));
  for (int layer = 1; layer < n_layers; layer++) {
    const Tensor own = graph.at("features").transpose(0, 1).flatten(1);    // [n_own, 4 K]
    const Tensor rows = Exchange::apply(own, &to_ghosts, &from_ghosts);
    const Tensor features = rows.view({rows.size(0), 4, n_channels}).transpose(0, 1);
    graph = graph_of(module.get_method("proceed")({graph, features, layer}));
  }
  graph = graph_of(module.get_method("finish")({graph}));
  return bond_width ? with_bonds(graph, to_ghosts, from_ghosts) : graph;
}

Graph StagedModel::with_bonds(const Graph &graph, const Transfer &to_ghosts, const Transfer &from_ghosts)
{
  const Tensor ends = Exchange::apply(graph.at("bond_ends"), &to_ghosts, &from_ghosts);
  return graph_of(module.get_method("bond")({graph, ends}));
}

Tensor StagedModel::transferred(const Share &share, const Tensor &scalars, const Transfer &to_ghosts, const Transfer &from_ghosts)
{
  torch::jit::GraphOptimizerEnabledGuard interpreted(false);
  const Graph graph = graph_of(
      module.get_method("begin_bonds")({share.edge_vector, share.edge_index, share.atomic_numbers, scalars}));
  return with_bonds(graph, to_ghosts, from_ghosts).at("transferred");
}

Graph StagedModel::on_site(const Tensor &atomic_numbers, const Tensor &scalars)
{
  torch::jit::GraphOptimizerEnabledGuard interpreted(false);
  return graph_of(module.get_method("on_site")({atomic_numbers, scalars}));
}

Graph StagedModel::solve(const Crystal &crystal)
{
  torch::jit::GraphOptimizerEnabledGuard interpreted(false);
  const Tensor total_charge = at::full({1}, crystal.total_charge, at::kDouble);
  const auto given = [](const c10::optional<Tensor> &one) { return one ? c10::IValue(*one) : c10::IValue(); };
  return graph_of(module.get_method("solve")({crystal.positions, crystal.atomic_numbers, crystal.cell, crystal.pbc,
                                              crystal.scalars, crystal.vectors, total_charge, given(crystal.guess),
                                              given(crystal.transferred)}));
}

std::string reason(const std::exception &error)
{
  const auto of_torch = dynamic_cast<const c10::Error *>(&error);
  std::string text = of_torch ? of_torch->what_without_backtrace() : error.what();
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1);
}

}    // namespace mlip
