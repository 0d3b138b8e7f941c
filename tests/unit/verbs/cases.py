"""Settings of a call of each verb; a new verb adds its own here, and every surface is tested with them."""

from typing import Any

TONE = "tone.wav"  # stands for a recording
CASES: dict[str, dict[str, Any]] = {
    "generate": {"n": 2, "seconds": 0.2, "seed": 1, "label": "kick"},
    "vary": {"recording": TONE, "n": 1},
    "morph": {"first": TONE, "last": TONE, "steps": 2},
    "extend": {"recording": TONE, "after": 0.1},
    "fill": {"recording": TONE, "start": 0.1, "end": 0.2},
    "kit": {"per_label": 1, "seconds": 0.2, "allow_copies": True, "keys": ["kick=C3"]},
}
