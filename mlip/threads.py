"""Number of threads of a calculation, from its size and from what else runs on the machine."""

import os

import torch

ATOMS_A_THREAD = 100  # fewer: threads wait for one another longer than they compute


def threads_for(n_atoms: int, allowed: int, cores: int, load: float) -> int:
    """Threads for n_atoms on cores of which `load` are busy: at most those allowed, those free, and one per 100 atoms.

    Threads of torch wait for the slowest of them by spinning. More of them than free cores make every step wait for a
    thread that does not run: thirty times slower where two processes of two threads share two cores.
    """
    return max(1, min(allowed, round(cores - load), n_atoms // ATOMS_A_THREAD))


def set_threads(n_atoms: int) -> str:
    """Set the threads of torch and of the native kernel for this process; the answer says how many and why.

    OMP_NUM_THREADS, where it is set, stays. The load is the mean over the last minute.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        return f"{torch.get_num_threads()} (OMP_NUM_THREADS)"
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    torch.set_num_threads(threads_for(n_atoms, torch.get_num_threads(), cores, load))
    return f"{torch.get_num_threads()} ({n_atoms} atoms, {cores} cores, load {load:.1f}; OMP_NUM_THREADS sets it)"
