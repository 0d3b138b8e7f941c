"""Draws for a kit: silent sounds, copies and repeats are refused and drawn again."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.generate.sounds import MOST_DRAWS, Checks, Wanted, generate_batches
from distill.kit.sounds import Finished, finish
from distill.novelty.report import Comparison
from distill.novelty.verdict import Novelty
from distill.prior.base import Prior
from distill.status import Progress


@dataclass(frozen=True, eq=False)
class Take:
    """A finished sound with its codes `[F, Q]` and its novelty, None where there is no reference."""

    codes: Codes
    finished: Finished
    novelty: Novelty | None


@dataclass(frozen=True)
class Refused:
    """How many draws were refused, and why."""

    copies: int = 0
    silent: int = 0
    repeats: int = 0  # of a sound drawn before

    @property
    def words(self) -> str:
        """The counts in words: `3 copies, 1 silent`."""
        counts = ((self.copies, "copies"), (self.silent, "silent"), (self.repeats, "repeats"))
        return ", ".join(f"{count} {what}" for count, what in counts if count) or "none"

    def __add__(self, other: "Refused") -> "Refused":
        return Refused(self.copies + other.copies, self.silent + other.silent, self.repeats + other.repeats)


@dataclass(frozen=True)
class Draws:
    """Sounds in the order of drawing, how many draws were refused, and how many are missing after MOST_DRAWS draws."""

    takes: list[Take]
    refused: Refused
    missing: int


@dataclass(frozen=True)
class Source:
    """What draws and judges sounds: codec, prior, and comparison, None where there is no reference."""

    codec: VQVAE
    prior: Prior | None
    comparison: Comparison | None

    def draw(
        self,
        wanted: Wanted,
        seed_of: Callable[[int], int],
        allow_copies: bool = False,
        progress: Callable[[int, str], None] | None = None,
    ) -> Draws:
        """Draw `wanted.count` sounds. Attempt `n` draws those that are still missing, from the seed `seed_of(n)`.

        `progress` is called with the number of sounds found and the frames of the batch at work. Raises as `generate_batches`.
        """
        rate = self.codec.spectrogram.sample_rate
        longest = max(1, round(wanted.max_seconds * rate))
        takes: list[Take] = []
        seen: set[bytes] = set()
        silent = copies = repeats = 0
        for attempt in range(MOST_DRAWS):
            missing = wanted.count - len(takes)
            if not missing:
                break
            request = replace(wanted, count=missing)
            frames = None if progress is None else _frames(progress, len(takes))
            for batch in generate_batches(
                self.codec, self.prior, request, seed_of(attempt), Checks(self.comparison), frames
            ):
                for sound in batch.sounds:
                    finished = finish(sound.samples[:longest], rate)
                    if finished is None:
                        silent += 1
                    elif not allow_copies and sound.novelty is not None and sound.novelty.verdict == "copy":
                        copies += 1
                    elif sound.codes.tobytes() in seen:
                        repeats += 1
                    else:
                        seen.add(sound.codes.tobytes())
                        takes.append(Take(sound.codes, finished, sound.novelty))
        return Draws(takes, Refused(copies, silent, repeats), wanted.count - len(takes))


def _frames(progress: Callable[[int, str], None], found: int) -> Progress:
    return lambda done, of, _: progress(found, f"frame {done} of {of}")
