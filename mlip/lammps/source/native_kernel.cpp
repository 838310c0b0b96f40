#include "native_kernel.h"

#include "json.h"    // of LAMMPS

#include <dlfcn.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <new>
#include <set>
#include <sstream>
#include <stdexcept>

using LAMMPS_NS::json;

namespace mlip {

namespace {

std::string content_of(const std::string &path)
{
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// of zlib
uint32_t crc32(const std::string &text)
{
  std::array<uint32_t, 256> table;
  for (uint32_t n = 0; n < 256; n++) {
    table[n] = n;
    for (int k = 0; k < 8; k++) table[n] = (table[n] & 1) ? 0xedb88320u ^ (table[n] >> 1) : table[n] >> 1;
  }
  uint32_t sum = 0xffffffffu;
  for (const char byte : text) sum = table[(sum ^ static_cast<unsigned char>(byte)) & 0xff] ^ (sum >> 8);
  return sum ^ 0xffffffffu;
}

// as in mlip/compiled.py
std::string processor()
{
  std::istringstream lines(content_of("/proc/cpuinfo"));
  std::set<std::string> known;
  std::string text;
  for (std::string line; std::getline(lines, line);)
    for (const char *wanted : {"model name", "flags", "Features", "CPU part"})
      if (line.rfind(wanted, 0) == 0 && known.insert(line).second) text += (text.empty() ? "" : "\n") + line;
  return text;
}

// beside the folder of this library
std::string kernel_file(const std::string &model)
{
  Dl_info here;
  dladdr(reinterpret_cast<void *>(&kernel_file), &here);
  const std::string library(here.dli_fname), content = content_of(model);
  char name[64];
  std::snprintf(name, sizeof name, "%zu-%08x-%08x.kernel", content.size(), crc32(content), crc32(processor()));
  return library.substr(0, library.rfind('/') + 1) + "../" MLIP_KERNELS "/" + name;
}

template <typename Function> void find(void *library, const char *name, Function &function)
{
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (!function) throw std::runtime_error(dlerror());
}

}    // namespace

NativeKernel::NativeKernel(const std::string &model) : path(kernel_file(model)), library(nullptr), handle(nullptr)
{
  const std::string content = content_of(path);
  if (content.empty())
    throw std::runtime_error("none was compiled for this file on this processor: run `mlip lammps build model=" + model + "`");
  const size_t header = content.find('\n');
  const json sizes = json::parse(content.substr(0, header));
  n_layers = sizes["n_layers"];
  n_channels = sizes["n_channels"];
  filled = sizes["filled"];
  lean_above = sizes["lean_above"];
  const auto bytes = sizes["bytes"].get<std::vector<long>>();
  std::vector<const void *> arrays;
  size_t next = header + 1;
  for (const long size : bytes) {
    arrays.push_back(content.data() + next);
    next += size;
  }
  if (next != content.size()) throw std::runtime_error(path + " is damaged: remove it");
  lookup.resize(bytes[0] / sizeof(int32_t));
  std::memcpy(lookup.data(), arrays[0], bytes[0]);
  library = dlopen(sizes["library"].get<std::string>().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw std::runtime_error(dlerror());
  decltype(&mlip_create) create;
  find(library, "mlip_create", create);
  find(library, "mlip_evaluate", evaluate);
  find(library, "mlip_destroy", destroy);
  find(library, "mlip_features", features_of);
  find(library, "mlip_gradients", gradients_of);
  handle = create(sizes["cutoff"], sizes["n_elements"], sizes["n_points"], arrays.data() + 1, bytes.data() + 1,
                  static_cast<int>(bytes.size()) - 1);
  if (!handle) throw std::bad_alloc();
}

NativeKernel::~NativeKernel()
{
  if (handle) destroy(handle);
  if (library) dlclose(library);
}

void NativeKernel::start(const mlip_input &given, bool with_scalars, bool with_virials)
{
  input = given;
  input.lookup = lookup.data();
  input.lean = input.n_own > lean_above;
  energies.resize(input.n_own);
  forces.resize(3 * input.n_atoms);
  virials.resize(with_virials ? 9 * input.n_atoms : 0);
  scalars.resize(with_scalars ? static_cast<size_t>(input.n_own) * n_layers * filled : 0);
  output = {energies.data(), forces.data(), virial, with_virials ? virials.data() : nullptr,
            with_scalars ? scalars.data() : nullptr};
}

void NativeKernel::run(int from, int to)
{
  if (evaluate(handle, &input, from, to, &output)) throw std::bad_alloc();
}

}    // namespace mlip
