"""The audition page: two players, a verdict in some words, its sentence and the figures behind a fold."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

import distill
from distill.audio.corpus import load_corpus
from distill.audio.ingest import ingest
from distill.audio.partial_noise import own_partial_noise
from distill.audio.write import write_audio
from distill.generate.presentation.audition import audition, write_page
from distill.params import default_params
from unit.tiny import RATE, write_prior_model

SPACE = {
    "nearest": "a/<b>.wav",
    "likeness": 0.4,
    "copied_seconds": 0.1,
    "edit_distance": 0.97,
    "percentile": 0.7,
    "semitones": -3,
}
ROW: dict[str, Any] = {
    **{"file": "sound_000.wav", "label": "kick", "nearest_file": "sound_000_nearest.wav", "nearest_path": "a/<b>.wav"},
    **{"picture": "sound_000.png", "codes_picture": "sound_000_codes.png", "seconds": 1.5, "verdict": "close"},
    **{"short": "Close. Nearest: <b>", "explanation": "Close to a/<b>.wav: it is"},
    **{"codes": SPACE, "spectra": {**SPACE, "difference_db": 2.0}},
    "faults": [],
}
LINES = ["2 new, 0 close", "faults: 1 of 2 sounds, 50%; of 4 held-out recordings 0%", "  drone 50%, held-out 0%: it"]


def test_a_card_has_players_a_sentence_and_a_fold(tmp_path: Path) -> None:
    write_page(tmp_path / "index.html", LINES, [ROW, {**ROW, "faults": ["drone", "ending"]}])
    page = (tmp_path / "index.html").read_text()
    cards = re.findall(r"<section>.*?</section>", page, flags=re.DOTALL)
    assert len(cards) == 2
    for card in cards:
        assert card.count("<audio controls") == 2
        before, fold = card.split("<details>")
        long = "Close to a/&lt;b&gt;.wav: it is."
        assert f'<p class="verdict" title="{long}">Close. Nearest: &lt;b&gt;.' in before
        assert f"<p>{long}</p>" in fold
        assert "97%" not in before
        terms = ["nearest recording", "best alignment", "interval", "longest copied run", "edit distance"]
        terms.append("newer than")
        assert re.findall('<th scope="row">(.*?)</th>', fold) == terms
        assert fold.count('class="meaning"') == len(terms)
        assert all(text in fold for text in ("40% equal", "2.0 dB apart", "-3 semitones", "0.10 s", "97%", "30%"))
    assert "<b>" not in page
    assert "color-scheme: light dark" in page
    assert "<p>faults: 1 of 2 sounds, 50%; of 4 held-out recordings 0%</p>\n<p>drone 50%, held-out 0%: it</p>" in page
    assert page.count("Faulty: drone, ending.</p>") == page.count("Faulty: ") == 1


def test_names_are_shown_as_text(tmp_path: Path) -> None:
    markup = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'onload='x", "$summary", "]]>-->")
    texts = ("label", "short", "explanation", "file", "nearest_path", "nearest_file", "picture", "codes_picture")
    rows = []
    for name in markup:
        spaces = {space: {**ROW[space], "nearest": name} for space in ("codes", "spectra")}
        rows.append({**ROW, **dict.fromkeys(texts, name), **spaces, "faults": [name]})
    write_page(tmp_path / "index.html", markup, rows)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not [wrong for wrong in ("<script", "<img src=x", "'onload=") if wrong in page]
    assert "&lt;script&gt;alert(1)" in page


def test_noise_between_partials_is_in_metrics_and_report(tmp_path: Path) -> None:
    """Sounds of untrained networks have no partials; those of recordings are between their own."""
    write_prior_model(tmp_path / "m.distill")
    time = np.arange(2 * RATE) / RATE
    for number in range(5):
        partials = [np.sin(2 * np.pi * (100 + 7 * number) * k * time + k * k) / k for k in range(1, 40)]
        noise = 0.01 * np.random.default_rng(number).standard_normal(len(time))
        write_audio(tmp_path / f"in/{number}.wav", ((sum(partials) + noise) / 8).astype(np.float32), RATE)
    ingest(tmp_path / "in", tmp_path / "corpus", RATE, 0.0)
    model, corpus = distill.load(tmp_path / "m.distill"), load_corpus(tmp_path / "corpus")
    reference = model.bundle.reference
    assert reference is not None
    settings = default_params().audition.model_copy(update={"count": 2, "max_seconds": 2.0})
    figures, _ = audition(model.context, corpus, settings, 0, tmp_path / "out")
    step = model.bundle.codec.spectrogram.samples_per_frame
    used = {name: step * len(codes) for name, codes in zip(reference.names, reference.codes, strict=True)}
    recorded = [
        corpus.gain * corpus.read(entry, used[entry.path], 2 * RATE - used[entry.path]) for entry in corpus.entries
    ]
    expected = own_partial_noise({"recorded": recorded}, RATE)
    assert expected
    assert expected.items() <= figures.items()
    assert expected.items() <= json.loads((tmp_path / "out/report.json").read_text()).items()
