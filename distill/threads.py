"""How threads of a computation wait for one another."""

import os
from collections.abc import MutableMapping

SPINS = "10000"  # a fraction of a millisecond; by default libgomp spins 300,000 times


def bound_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's threads spin for a moment and then sleep. Must come before torch is loaded; the user's own setting stays.

    By default a thread spins for milliseconds, on the very core that the thread it waits for needs when another program
    is busy: training on two recordings took 13 times as long then, and takes 3 times with this (docs/decisions.md). Results
    do not change.
    """
    if not environment.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        environment["GOMP_SPINCOUNT"] = SPINS
