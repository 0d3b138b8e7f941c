"""A codec and a prior that make sounds with a pitch, without training, for tests."""

from functools import cache
from pathlib import Path

import torch

from distill.codec.coordinates import codewords_of
from distill.codec.model import VQVAE
from distill.codec.streaming import encode_each
from distill.codec.tones.atoms import shipped_sets
from distill.codes.sequences import CodedRecording
from distill.model_file.format import BundleMetadata, save_bundle
from distill.prior.artifact import build_prior
from distill.prior.counts import fold_tables
from distill.prior.frame import FramePrior
from unit.codec.tonal import RATE, fitted, sound_of
from unit.tiny import TRAINED, prior_shape

LABELS = ("hiss", "string")
PITCHES = range(48, 73, 4)


@cache
def networks() -> tuple[VQVAE, FramePrior]:
    """A codec fitted to strings and hisses, and a prior that knows no more than their counts."""
    strings = [sound_of(shipped_sets()[0], pitch, 0.4, 3.0) for pitch in PITCHES]
    generator = torch.Generator().manual_seed(0)
    fall = torch.exp(-5 * torch.arange(round(0.3 * RATE)) / RATE)
    hisses = [0.1 * torch.randn(len(fall), generator=generator) * fall for _ in range(4)]
    codec = fitted(strings + hisses)
    coded = [codes.numpy() for codes in encode_each(codec, strings + hisses)]
    labels = [2] * len(strings) + [1] * len(hisses)
    sizes = codec.architecture.codebook_sizes
    counted = [
        CodedRecording([codes], str(number), label, 1)
        for number, (codes, label) in enumerate(zip(coded, labels, strict=True))
    ]
    shape = prior_shape("frame", codebook_sizes=sizes, context_frames=64, codeword_size=64, labels=list(LABELS))
    prior = build_prior(shape.model_copy(update={"count_experts": True}), codewords_of(codec)).eval()
    assert isinstance(prior, FramePrior)
    assert prior.count_experts is not None
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.zero_()
        prior.count_experts.weight.fill_(1.0)
        prior.pointer_mixture.threshold.fill_(50.0)  # nothing is copied
        prior.longest.fill_(max(map(len, coded)))
    prior.count_experts.set_tables(fold_tables(counted, sizes, len(LABELS))[:1])
    return codec, prior


def write_pitched_model(path: Path) -> Path:
    """A model file with these networks."""
    codec, prior = networks()
    metadata = BundleMetadata(
        vqvae_config=codec.architecture,
        spectrogram_config=codec.spectrogram,
        training_config={"split": {"seed": 0, "val_fraction": 0.5}},
        prior_config=prior.shape,
        prior_metadata=TRAINED,
    )
    save_bundle(path, codec, prior, metadata)
    return path
