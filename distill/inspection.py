"""What a person wants to know of a model file before trusting it, as tables."""

from pathlib import Path

from rich.console import Group
from rich.table import Table

from distill.bundle import BundleMetadata
from distill.console import HEALTH_TITLE, health_table, plain


def describe(path: Path, metadata: BundleMetadata) -> Group:
    """Tables for the terminal."""
    codec, spectrogram, prior = metadata.vqvae_config, metadata.spectrogram_config, metadata.prior_config
    version = ".".join(str(part) for part in metadata.version)
    bits = spectrogram.frame_rate * codec.num_quantizers * (codec.codebook_size - 1).bit_length()
    rows = [
        ("file", f"{path} ({path.stat().st_size / 1e6:.1f} MB), format {version}, weights intact"),
        ("sound", f"mono, {spectrogram.sample_rate} Hz"),
        (
            "codec",
            f"{codec.num_quantizers} levels of {codec.codebook_size} codewords, {spectrogram.frame_rate:.1f} frames "
            f"per second: {bits / 1000:.2f} kbit/s",
        ),
    ]
    if prior is not None and metadata.prior_metadata is not None:
        trained = metadata.prior_metadata
        rows += [
            (
                "prior",
                f"{prior.architecture}, {prior.num_layers} layers of {prior.hidden_size}, {prior.num_heads} heads, "
                f"looks back {prior.seq_len / prior.num_quantizers / spectrogram.frame_rate:.1f} s",
            ),
            ("held out", f"perplexity {trained.best_perplexity:.1f} after {trained.epochs_trained} epochs"),
        ]
    else:
        rows.append(("prior", "none: this model encodes and decodes, and cannot generate"))
    rows += [(key.replace("_", " "), str(value)) for key, value in metadata.metadata.items()]
    rows += [(key.replace("_", " "), str(value)) for key, value in metadata.provenance.model_dump().items() if value]
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        facts.add_row(*map(plain, row))
    health = {level: values.model_dump() for level, values in metadata.codebook_health_snapshot.items()}
    return Group(facts, health_table(health, HEALTH_TITLE))
