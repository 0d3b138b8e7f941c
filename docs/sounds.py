"""The sounds of docs/index.md: a recording of the demo and what its model makes. `python -m docs.sounds` writes them."""

import os
from pathlib import Path

import distill
from distill.audio.write import write_audio
from docs.follow_picture import voice

SOUNDS = Path(__file__).parent / "static" / "sounds"
RECORDING = "data/demo/plucked_string/g3_soft.flac"
OTHER = "data/demo/fm_bell/hand_a4.flac"


def main() -> None:
    """Write each as Ogg Vorbis. The model is `models/demo.distill`, in the repository's root."""
    model = distill.load("models/demo.distill")
    rate = model.sample_rate
    recording = model.samples(RECORDING)
    sung = voice(rate)
    made = {
        "recording": recording,
        "decoded": model.decode(model.encode(recording), model.side_info(recording).in_mono),
        "take": model.vary(RECORDING, n=1, seed=2, sample_rate=rate).sounds[0],
        "morph": model.morph(RECORDING, OTHER, steps=3).sounds[1],
        "sung": sung,
        "followed": model.generate(follow=sung, seed=2).sounds[0],
    }
    made |= {
        f"new_{number}": sound for number, sound in enumerate(model.generate(n=4, seed=3).sounds, 1)
    }
    for name, sound in made.items():
        path = SOUNDS / f"{name}.ogg"
        write_audio(path, sound, rate, "ogg")
        print(f"{os.path.relpath(path)}  {len(sound) / rate:.2f} s  {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
