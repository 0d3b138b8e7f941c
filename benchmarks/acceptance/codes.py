"""Which codes a memory was measured on: what `dvc.lock` names as those of the demo, and the day."""

from datetime import UTC, datetime
from pathlib import Path

import yaml

from benchmarks.report import Table

LOCK = Path(__file__).parents[2] / "dvc.lock"
COLUMNS = ("corpus", "measured", "codes of the demo")


def codes_of_the_demo(lock: Path = LOCK) -> str:
    """The first digits of the hash of the demo's codes. It changes with what is coded and how, not with every edit."""
    outs = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]["encode_codes"]["outs"]
    return next(str(out["md5"])[:12] for out in outs if out["path"] == "artifacts/codes")


def measured(corpus: str) -> Table:
    """Table of today's date and codes, for a measurement on `corpus` that was made just now."""
    return Table("memory_codes", COLUMNS, ((corpus, f"{datetime.now(UTC):%Y-%m-%d}", codes_of_the_demo()),))
