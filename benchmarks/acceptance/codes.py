"""Which codes a memory was measured on: the day, and the held-out loss of the demo's codec, which tells codes apart."""

import json
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.report import Table

METRICS = Path(__file__).parents[2] / "metrics" / "train_vqvae.json"
COLUMNS = ("corpus", "measured", "held-out loss of the demo's codec")


def loss_of_the_demo() -> float:
    """It changes with what is coded and how; by rounding on another processor it differs by less than .01 %."""
    return float(json.loads(METRICS.read_text(encoding="utf-8"))["val_loss"])


def measured(corpus: str) -> Table:
    """Table of today's date and codes, for a measurement on `corpus` that was made just now."""
    return Table(
        "memory_codes",
        COLUMNS,
        ((corpus, f"{datetime.now(UTC):%Y-%m-%d}", f"{loss_of_the_demo():.6f}"),),
    )
