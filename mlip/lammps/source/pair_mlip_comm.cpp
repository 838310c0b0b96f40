// Rows between the atoms of a process and their ghosts on others.

#include "pair_mlip.h"

#include "atom.h"
#include "comm.h"

#include <cstring>

using namespace LAMMPS_NS;
using at::Tensor;

/* doubles that hold a row: at most comm_forward */

int PairMLIP::stride() const
{
  return static_cast<int>((rows.size(1) * rows.element_size() + sizeof(double) - 1) / sizeof(double));
}

Tensor PairMLIP::to_ghosts(const Tensor &own)
{
  rows = at::empty({atom->nlocal + atom->nghost, own.size(1)}, own.options());
  rows.narrow(0, 0, own.size(0)).copy_(own);
  comm->forward_comm(this, stride());
  return rows;
}

Tensor PairMLIP::from_ghosts(const Tensor &gradient)
{
  rows = gradient.clone(at::MemoryFormat::Contiguous);    // gradients of others are added to it
  comm->reverse_comm(this, stride());
  return rows.narrow(0, 0, atom->nlocal);
}

int PairMLIP::pack_forward_comm(int n, int *atoms, double *buffer, int, int *)
{
  const size_t bytes = rows.size(1) * rows.element_size();
  const auto from = static_cast<const char *>(rows.data_ptr());
  const int width = stride();
  for (int i = 0; i < n; i++) std::memcpy(buffer + static_cast<size_t>(i) * width, from + atoms[i] * bytes, bytes);
  return n * width;
}

void PairMLIP::unpack_forward_comm(int n, int first, double *buffer)
{
  const size_t bytes = rows.size(1) * rows.element_size();
  auto to = static_cast<char *>(rows.data_ptr()) + first * bytes;
  const int width = stride();
  for (int i = 0; i < n; i++) std::memcpy(to + i * bytes, buffer + static_cast<size_t>(i) * width, bytes);
}

int PairMLIP::pack_reverse_comm(int n, int first, double *buffer)
{
  const size_t bytes = rows.size(1) * rows.element_size();
  const auto from = static_cast<const char *>(rows.data_ptr()) + first * bytes;
  const int width = stride();
  for (int i = 0; i < n; i++) std::memcpy(buffer + static_cast<size_t>(i) * width, from + i * bytes, bytes);
  return n * width;
}

template <typename Number> static void add(Number *to, const void *from, int64_t n)
{
  for (int64_t k = 0; k < n; k++) to[k] += static_cast<const Number *>(from)[k];
}

void PairMLIP::unpack_reverse_comm(int n, int *atoms, double *buffer)
{
  const int64_t width = rows.size(1);
  const int doubles = stride();
  for (int i = 0; i < n; i++) {
    const double *from = buffer + static_cast<size_t>(i) * doubles;
    if (rows.scalar_type() == at::kDouble)
      add(rows.data_ptr<double>() + atoms[i] * width, from, width);
    else
      add(rows.data_ptr<float>() + atoms[i] * width, from, width);
  }
}
