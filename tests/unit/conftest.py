"""What unit tests share."""

import pytest


@pytest.fixture(autouse=True)
def decoding_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings are decoded in this process, as a process for it takes half a second to start.

    Tests of faults and of the pipeline start those processes, and audio/test_decode.py does.
    """
    from distill.audio.bandwidth import measure_bandwidth
    from distill.audio.decode import Decoder, decode

    monkeypatch.setattr(Decoder, "decoded", lambda _, *given, **settings: decode(*given, **settings))
    monkeypatch.setattr(Decoder, "bandwidth", lambda _, path: measure_bandwidth(path))
