"""Files beside generated sounds: a spectrogram of each, and its nearest training recording to listen to."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import soundfile

from distill.api import Model
from distill.audio.plots import write_spectrograms
from distill.audio.write import write_audio
from distill.novelty.verdict import Novelty
from distill.progress import ProgressReport


def with_companions(paths: Sequence[Path]) -> list[Path]:
    """The paths of sounds and of what `write_companions` may write beside them."""
    return [one for path in paths for one in (path, path.with_suffix(".png"), _nearest(path))]


def write_companions(model: Model, paths: Sequence[Path], novelty: Sequence[Novelty | None]) -> None:
    """Write `<sound>.png` and, where novelty is known, `<sound>_nearest.wav` beside each sound."""
    with ProgressReport("pictures") as progress:
        for number, (path, one) in enumerate(zip(paths, novelty, strict=True)):
            samples, rate = soundfile.read(BytesIO(path.read_bytes()), dtype="float32")
            rows = [(path.stem, samples)]
            if one is not None:
                nearest = model.nearest(one)
                write_audio(_nearest(path), nearest, model.sample_rate)
                rows.append((f"nearest training recording: {one.nearest.nearest}", nearest))
            write_spectrograms(path.with_suffix(".png"), rows, rate)
            progress(number + 1, len(paths), path.name)


def _nearest(path: Path) -> Path:
    return path.with_name(f"{path.stem}_nearest.wav")
