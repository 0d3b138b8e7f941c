"""Summary of a run, in a few lines."""

import contextlib
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from distill.audio.partials import tone_line
from distill.params import Params
from distill.storage.files import read_json
from stages.running import AUDITION, FOLDERS, METRICS, RUN_LOG, bundle_path


def run_log() -> list[dict[str, Any]]:
    """Entries of all stages that ran; lines truncated by a crash are skipped."""
    entries = []
    for line in RUN_LOG.read_text(encoding="utf-8").splitlines() if RUN_LOG.exists() else []:
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def summarise(params: Params, ran: list[dict[str, Any]], seconds: float) -> None:
    """Print the stages that ran and the most important metrics. Raises ArtifactError."""
    codec, prior, audition, ingest = (
        read_json(METRICS / f"{stage}.json", "the metrics of a finished stage")
        for stage in ("train_vqvae", "train_prior", "audition", "ingest")
    )
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    stages = ", ".join(f"{entry['stage']} {entry['seconds']:.0f} s" for entry in ran) or "none, all up to date"
    table.add_row("stages run", f"{stages} ({seconds:.0f} s in all)")
    usable = ingest["used"] + ingest["warned"] - ingest["duplicates"]
    trimmed = f", {ingest['trimmed_seconds']:.1f} s of silence trimmed" if ingest["trimmed_seconds"] else ""
    left_out = f"; {ingest['left_out']} left out: {ingest['left_out_suffixes']}" if ingest["left_out"] else ""
    recordings = f"{usable} usable, {ingest['rejected']} rejected, {ingest['seconds']:.1f} s{trimmed}{left_out}"
    table.add_row("recordings", recordings)
    held_out = (
        f"perplexity {prior['val_perplexity']:.1f}, {prior['val_bits_per_second']:.0f} bits per second of audio "
        f"(best epoch {prior['best_epoch'] + 1} of {prior['epochs_trained']})"
    )
    table.add_row("held-out sound", held_out)
    if prior.get("is_memorizing"):
        from distill.prior.artifact import PriorArtifact
        from distill.training.checkpoints import load_config

        found = load_config(FOLDERS.prior, PriorArtifact).memorization
        table.add_row("warning", "" if found is None else found.message)
    from distill.training.events import health_from_metrics

    table.add_row("held-out tones", tone_line(codec))
    levels = health_from_metrics(codec)
    shares = (f"{level.replace('_', ' ')} {figures['utilization']:.0%}" for level, figures in levels.items())
    table.add_row("codewords used", ", ".join(shares))
    new, close, copies = (audition[verdict] for verdict in ("new", "close", "copies"))
    verdicts = f"{new + close + copies} sounds: {new} new, {close} close, {copies} copies"
    table.add_row("generated", f"{verdicts}; {audition['tonal_rate']:.0%} tonal")
    table.add_row("model", str(bundle_path(params)))
    table.add_row("listen", f"open {AUDITION / 'index.html'} in a browser")
    table.add_row("compare runs", "make ui, then http://127.0.0.1:5000")
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    console.print(table)
