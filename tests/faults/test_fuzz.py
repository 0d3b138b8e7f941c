"""Any file of a format from elsewhere is used or refused with a sentence, in bounded time and memory: see `faults.fuzz`."""

import json
import secrets
import sys
from pathlib import Path

import pytest

from faults.targets import TARGETS
from programs import ROOT, fork

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


@pytest.mark.parametrize("name", TARGETS)
def test_a_file_is_used_or_refused(
    tmp_path: Path, request: pytest.FixtureRequest, name: str, exhaustive: bool, minutes: float
) -> None:
    asked = ["--minutes", str(minutes if exhaustive else 0)]
    folder = tmp_path
    if exhaustive:  # other files each time, kept where they are found again
        folder, asked = ROOT, [*asked, "--seed", str(secrets.randbits(32))]
    files = [request.getfixturevalue("trained") / "a.distill"] if name in ("models", "forgeries") else []
    done = fork(folder, "faults.fuzz", name, *map(str, files), *asked).end(60 * minutes + 600)
    assert done.returncode == 0, done.stderr[-9000:]
    counts = json.loads(done.stdout)
    assert min(counts.values()) > 0, counts
