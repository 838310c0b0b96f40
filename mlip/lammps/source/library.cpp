// The pair style in one piece: the headers of torch are read once, which is most of the time that the compiler takes.

#include "native_kernel.cpp"
#include "staged_model.cpp"

#include "pair_mlip.cpp"
#include "pair_mlip_comm.cpp"
#include "pair_mlip_committee.cpp"
#include "pair_mlip_flow.cpp"
#include "pair_mlip_history.cpp"
#include "pair_mlip_native.cpp"
#include "pair_mlip_waves.cpp"
