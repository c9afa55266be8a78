"""How torch's threads wait for each other, which the library that starts them reads once, when it is loaded."""

from collections.abc import MutableMapping

SPINS = 10_000
"""How often a waiting thread looks again before it sleeps. libgomp's own 300,000 keep a core from whoever else wants
it, the thread that is waited for above all: on two busy cores two threads are then many times slower than one. On two
quiet ones 10,000 are as fast; see `benchmarks/results/step.md`."""
_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Set the wait in `environment`, before torch is imported, unless its owner has chosen one."""
    if not any(name in environment for name in _POLICIES):
        environment["GOMP_SPINCOUNT"] = str(SPINS)
