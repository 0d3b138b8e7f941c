"""OpenMP's threads, in a process as people start it."""

import os
import subprocess
import sys

import pytest

from distill.threads import SPINS, bound_spinning


@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "PASSIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_threads_spin_for_a_moment_where_nothing_else_is_asked(own: dict[str, str]) -> None:
    environment = dict(own)
    bound_spinning(environment)
    assert environment == (own or {"GOMP_SPINCOUNT": SPINS})


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp")
def test_the_library_of_threads_has_read_it() -> None:
    """torch's own libgomp prints its settings when it is loaded: it must be after ours."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", "import distill.training.device, torch"],
        env={**environment, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in done.stderr
