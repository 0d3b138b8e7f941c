"""Summary of a run in a few lines."""

import contextlib
import json
from typing import Any

from distill.audio.ingest_report import few_recordings
from distill.audio.partials import tone_line
from distill.codec.layout import level_names
from distill.params import Params
from distill.storage.files import read_json
from distill.text import named_values, terminal_width
from stages.running import AUDITION, FOLDERS, METRICS, RUN_LOG, bundle_path

Metrics = dict[str, Any]


def run_log() -> list[dict[str, Any]]:
    """Entries of all stages that ran, without lines truncated by a crash."""
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
    stages = (
        ", ".join(f"{entry['stage']} {entry['seconds']:.0f} s" for entry in ran)
        or "none, all up to date"
    )
    rows = {
        "stages run": f"{stages} ({seconds:.0f} s in all)",
        "recordings": _recordings(ingest),
        "codec": _kept(codec),
        "held-out sound": f"perplexity {prior['val_perplexity']:.1f}, {prior['val_bits_per_second']:.0f} bits per "
        f"second of audio ({_kept(prior)})",
        "memory": _memory(prior),
        "warning": "; ".join(filter(None, [few_recordings(_usable(ingest)), _warning(prior)])),
        "held-out tones": tone_line(codec),
        "codewords used": _codewords(codec),
        "generated": _generated(audition),
        "model": str(bundle_path(params)),
        "listen": f"open {AUDITION / 'index.html'} in a browser",
        "compare runs": "make mlflow, then open the link that it prints",
    }
    print(
        "",
        *named_values(((name, text) for name, text in rows.items() if text), terminal_width()),
        sep="\n",
    )


def _usable(ingest: Metrics) -> int:
    return int(ingest["used"] + ingest["warned"] - ingest["duplicates"])


def _recordings(ingest: Metrics) -> str:
    trimmed = (
        f", {ingest['trimmed_seconds']:.1f} s of silence trimmed"
        if ingest["trimmed_seconds"]
        else ""
    )
    left_out = (
        f"; {ingest['left_out']} left out: {ingest['left_out_suffixes']}"
        if ingest["left_out"]
        else ""
    )
    return f"{_usable(ingest)} usable, {ingest['rejected']} rejected, {ingest['seconds']:.1f} s{trimmed}{left_out}"


def _kept(training: Metrics) -> str:
    from distill.training.events import kept_weights

    return kept_weights(training["best_epoch"], training["epochs_trained"])


def _memory(prior: Metrics) -> str:
    """Benefit of a prior's memory, in the words of the training; "" without a memory."""
    if "probe/top1" not in prior:
        return ""
    from distill.prior.memory.probe import memory_line

    return memory_line(prior).removeprefix("memory: ")


def _warning(prior: Metrics) -> str:
    """Warning that the prior memorises, in the words of the training, or ""."""
    if not prior.get("is_memorizing"):
        return ""
    from distill.prior.artifact import PriorArtifact
    from distill.training.checkpoints import load_config

    return load_config(FOLDERS.prior, PriorArtifact).memorization.message


def _codewords(codec: Metrics) -> str:
    from distill.training.events import health_from_metrics

    levels = health_from_metrics(codec).values()
    names = level_names(len(levels))
    return ", ".join(
        f"{name} {health['utilization']:.0%}" for name, health in zip(names, levels, strict=True)
    )


def _generated(audition: Metrics) -> str:
    new, close, copies = (audition[verdict] for verdict in ("new", "close", "copies"))
    sounds = f"{new + close + copies} sounds: {new} new, {close} close, {copies} copies"
    return f"{sounds}; {audition['tonal_rate']:.0%} tonal"
