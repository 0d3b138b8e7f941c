"""Sound files that FFmpeg writes."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

LAYOUTS = {1: "mono", 2: "stereo", 8: "7.1"}
SAMPLES = {"wavpack": "s16p", "tta": "s16"}  # of codecs that would take 8 bits


def encoded(path: Path, samples: NDArray[np.floating], rate: int, codec: str, container: str | None = None) -> Path:
    """Write samples `[N]` or `[N, C]`, the same bytes each time."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32).reshape(1, -1), "flt", LAYOUTS[channels])
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    with av.open(path, "w", format=container, options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(codec, rate=rate, layout=LAYOUTS[channels])
        stream.bit_rate = 12_200 if codec == "amr_nb" else 128_000
        if codec in SAMPLES:
            stream.format = SAMPLES[codec]
        for packet in (*stream.encode(frame), *stream.encode(None)):
            output.mux(packet)
    return path
