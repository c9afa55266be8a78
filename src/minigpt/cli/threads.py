"""The number of threads and how they wait: environment variables that a library reads once, when it is loaded."""

import contextlib
from collections.abc import Iterator, MutableMapping

SPINS = 10_000
"""How often a waiting thread polls before it sleeps. With libgomp's own 300,000 it keeps a core from all other threads,
from the one that it waits for above all: on two busy cores two threads are then many times slower than one. On two
quiet ones 10,000 are as fast; see `benchmarks/results/step.md`."""
_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_ALGEBRA = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""What the libraries of linear algebra below numpy and scipy read: OpenBLAS, Intel's MKL, Apple's Accelerate."""


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Set a short spin count in `environment`, before torch is imported, unless the user has set one."""
    if not any(name in environment for name in _POLICIES):
        environment["GOMP_SPINCOUNT"] = str(SPINS)


@contextlib.contextmanager
def one_thread_of_algebra(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Import numpy and scipy within the block: their linear algebra then uses one thread, unless the user set a number.

    For arrays of a few numbers, whose threads would only wait for each other. Afterwards the environment is as before.
    """
    ours = [name for name in _ALGEBRA if name not in environment]
    environment.update(dict.fromkeys(ours, "1"))
    try:
        yield
    finally:
        for name in ours:
            environment.pop(name, None)
