// Plugin of LAMMPS: registers `pair_style mlip`, and opens the library that implements it beside this file.
//
// That library is opened with RTLD_DEEPBIND: liblammps.so exports dgemm_ and dgetrf_, which would come before those of
// torch, and double precision would run at half speed.

#include "lammps.h"

#include <cstdio>
#include <dlfcn.h>
#include <string>

// the interface that LAMMPS documents for plugins (its header is not among the installed ones)
extern "C" {
typedef void *(lammpsplugin_factory)(void *);

struct lammpsplugin_t {
  const char *version;    // of the LAMMPS that loads the plugin
  const char *style;      // "pair"
  const char *name;
  const char *info;
  const char *author;
  lammpsplugin_factory *creator;
  void *handle;
};

typedef void (*lammpsplugin_register)(lammpsplugin_t *, void *);
}

static void *create(void *lammps)
{
  Dl_info here;
  dladdr(reinterpret_cast<void *>(&create), &here);
  std::string folder(here.dli_fname);
  folder.resize(folder.rfind('/') + 1);
  void *library = dlopen((folder + "libmlip_lammps.so").c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  void *factory = library ? dlsym(library, "mlip_create_pair") : nullptr;
  if (!factory) {
    std::fprintf(stderr, "pair_style mlip: %s; run `mlip lammps build` again\n", dlerror());
    return nullptr;
  }
  return reinterpret_cast<lammpsplugin_factory *>(factory)(lammps);
}

extern "C" void lammpsplugin_init(void *lammps, void *handle, void *register_plugin)
{
  lammpsplugin_t plugin;
  plugin.version = static_cast<LAMMPS_NS::LAMMPS *>(lammps)->version;
  plugin.style = "pair";
  plugin.name = "mlip";
  plugin.info = "potentials of mlip-electrolytes";
  plugin.author = "mlip contributors";
  plugin.creator = &create;
  plugin.handle = handle;
  reinterpret_cast<lammpsplugin_register>(register_plugin)(&plugin, lammps);
}
