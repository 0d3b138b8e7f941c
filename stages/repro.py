"""`make repro`: check the settings, run `dvc repro`, and say in a few lines what came out."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from distill.audio.scanning import unhashable
from distill.errors import AudioError, DistillError
from distill.files import read_json
from distill.params import Params, load_params
from stages.running import AUDITION, METRICS, PARAMS, RUN_LOG, bundle_path

LISTED = 10


def main(arguments: list[str]) -> int:
    """Run `dvc repro ARGUMENTS` and return the exit status: that of the stage that failed, if one did."""
    try:
        params = load_params(PARAMS)
        corpus = Path(params.corpus.path)
        if not corpus.is_dir():
            found = "a file" if corpus.exists() else "nothing there"
            raise AudioError(
                f"{PARAMS}: corpus.path: expected a folder of recordings, found {found} at {corpus}; "
                "set it to the folder with your sounds"
            )
        _refuse_unhashable(corpus)
    except DistillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    began = time.time()
    status = _dvc_repro(arguments)
    ran = [entry for entry in _run_log() if entry["started"] >= began]
    if status != 0:
        return next((int(entry["exit"]) for entry in ran if entry["exit"] != 0), 1)
    try:
        _summary(params, ran, time.time() - began)
    except DistillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _refuse_unhashable(corpus: Path) -> None:
    """DVC hashes the folder before the first stage runs, and its own words for what it cannot hash help nobody."""
    entries = unhashable(corpus)
    if entries:
        shown = "; ".join(f"{path}: {reason}" for path, reason in entries[:LISTED])
        more = f"; and {len(entries) - LISTED} more" if len(entries) > LISTED else ""
        raise AudioError(
            f"{PARAMS}: corpus.path: expected entries that DVC can hash, found {len(entries)} others in {corpus} "
            f"({shown}{more}); rename or remove them"
        )


def _dvc_repro(arguments: list[str]) -> int:
    """DVC waits for the stage that Ctrl-C reached; so do we, or its last words would come after our exit."""

    def wait(_: int, __: FrameType | None) -> None:
        return

    previous = signal.signal(signal.SIGINT, wait)
    try:
        return subprocess.run([sys.executable, "-m", "dvc", "repro", *arguments], check=False).returncode
    finally:
        signal.signal(signal.SIGINT, previous)


def _run_log() -> list[dict[str, Any]]:
    if not RUN_LOG.exists():
        return []
    return [json.loads(line) for line in RUN_LOG.read_text(encoding="utf-8").splitlines()]


def _summary(params: Params, ran: list[dict[str, Any]], seconds: float) -> None:
    names = list(yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"])
    times = {entry["stage"]: entry["seconds"] for entry in ran}
    codec, prior, audition, ingest = (
        read_json(METRICS / f"{stage}.json", "the metrics of a finished stage")
        for stage in ("train_vqvae", "train_prior", "audition", "ingest")
    )
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    stages = ", ".join(f"{name} {times[name]:.0f} s" for name in names if name in times) or "none, all up to date"
    table.add_row("stages run", f"{stages} ({seconds:.0f} s in all)")
    usable = ingest["used"] + ingest["warned"] - ingest["duplicates"]
    table.add_row("recordings", f"{usable} usable, {ingest['rejected']} rejected, {ingest['seconds']:.1f} s")
    held_out = (
        f"perplexity {prior['val_perplexity']:.1f}, {prior['val_bits_per_second']:.0f} bits per second of audio "
        f"(best epoch {prior['best_epoch'] + 1} of {prior['epochs_trained']})"
    )
    table.add_row("held-out sound", held_out)
    levels = sorted(key for key in codec if key.endswith("/utilization"))
    table.add_row("codewords used", ", ".join(f"level {n} {codec[key]:.0%}" for n, key in enumerate(levels)))
    verdicts = (
        f"{audition['sounds']} sounds: {audition['new']} new, {audition['close']} close, {audition['copies']} copies"
    )
    table.add_row("generated", verdicts)
    table.add_row("model", str(bundle_path(params)))
    table.add_row("listen", f"open {AUDITION / 'index.html'} in a browser")
    table.add_row("compare runs", "make ui, then http://127.0.0.1:5000")
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
