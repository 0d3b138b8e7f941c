"""Quality of decoded sounds by recording: mel distance, ViSQOL, fidelity, and how well they are told apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from benchmarks.measures import mel_distance, mel_loss, opinions
from benchmarks.telling_apart import telling_apart
from distill.codec.fidelity import Fidelity, attack_ms, envelope


@dataclass(frozen=True)
class Quality:
    """Measures of one codec, a value for each held-out recording; NaN where there is none."""

    mel: tuple[float, ...]
    visqol: tuple[float, ...]
    fidelity: tuple[Fidelity, ...]
    told_apart: tuple[float, ...]  # shares of right answers of `telling_apart`

    def joined(self, other: "Quality") -> "Quality":
        """Both, as of one set of recordings."""
        return Quality(
            self.mel + other.mel,
            self.visqol + other.visqol,
            self.fidelity + other.fidelity,
            self.told_apart + other.told_apart,
        )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out recordings `[N]` to judge codecs by, also zero-padded to whole frames, and their groups."""

    sounds: tuple[Tensor, ...]
    padded: tuple[Tensor, ...]
    groups: tuple[str, ...]
    sample_rate: int
    seed: int

    def attacks(self) -> tuple[float, ...]:
        """Attack of each recording in milliseconds, NaN for silence."""
        return tuple(attack_ms(envelope(sound.numpy(), self.sample_rate)) for sound in self.sounds)

    def judge(self, decoded: Sequence[Tensor]) -> Quality:
        """Quality of decodes `[N]` of the padded recordings."""
        loss = mel_loss(self.sample_rate)
        originals = [sound.numpy().astype(np.float32) for sound in self.sounds]
        cut = [made[: len(sound)].float().numpy() for sound, made in zip(self.sounds, decoded, strict=True)]
        return Quality(
            mel=tuple(mel_distance(loss, *pair) for pair in zip(self.padded, decoded, strict=True)),
            visqol=tuple(opinions(self.sounds, decoded, self.sample_rate)),
            fidelity=tuple(Fidelity.measure(*pair, self.sample_rate) for pair in zip(originals, cut, strict=True)),
            told_apart=telling_apart(originals, cut, self.sample_rate, self.groups, self.seed),
        )
