"""Executors for labels: this process, local processes, a cluster."""

import contextlib
import logging
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

WORKER = "parsl.executors.high_throughput.process_worker_pool"
# a killed process takes the hub of its workers with it, which would otherwise compute all remaining labels for nobody
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")  # Linux
HEARTBEAT, LOST = 10, 60  # s; workers without a hub end


@contextlib.contextmanager
def in_process() -> Iterator[Executor]:
    """One label after the other, here."""
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        yield pool
    except BaseException:  # the label in hand, which may take hours, is not waited for
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


@contextlib.contextmanager
def parsl_pool(provider, run_dir: str, workers_per_node: int = 1, cores_per_worker: float = 1,
               address: str | None = None, python: str | None = None) -> Iterator[Executor]:  # fmt: skip
    """Workers that Parsl starts through a provider: local processes, Slurm, PBS, Kubernetes.

    provider          a parsl.providers object; its worker_init sets up what an engine needs (modules, licences)
    run_dir           Parsl's own logs
    workers_per_node  labels at a time on each node; cores_per_worker how many cores one of them has
    address           by which the workers reach this machine; None lets Parsl find out
    python            the interpreter there, with mlip and the engine installed; None takes the path of this one
    """
    try:
        import parsl
        from parsl.concurrent import ParslPoolExecutor
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
    except ImportError as error:
        raise ModuleNotFoundError(
            "labels on several workers need Parsl: pip install 'mlip-electrolytes[cluster]'"
        ) from error
    logging.getLogger("parsl").setLevel(logging.ERROR)
    workers = HighThroughputExecutor(
        label="labels", provider=provider, max_workers_per_node=workers_per_node, cores_per_worker=cores_per_worker,
        address=address, heartbeat_period=HEARTBEAT, heartbeat_threshold=LOST,
        # by the interpreter: Parsl's scripts are not on the PATH if the environment is not activated
        interchange_launch_cmd=[*(DIE_WITH_PARENT if shutil.which(DIE_WITH_PARENT[0]) else ()), sys.executable, "-m",
                                "parsl.executors.high_throughput.interchange"],
        launch_cmd=DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", f"{python or sys.executable} -m {WORKER}"),
    )  # fmt: skip
    pool = ParslPoolExecutor(Config(executors=[workers], run_dir=run_dir, initialize_logging=False, strategy="simple"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False)  # every result that is wanted has been fetched
        parsl.clear()
