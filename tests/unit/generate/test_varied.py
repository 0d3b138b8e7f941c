"""Similarity of takes to their recording: figures frame by frame, and the verdict beside it alone."""

import numpy as np
import pytest
from unit.tiny import write_prior_model

from distill.generate.varied import similarities
from distill.model_file.format import Bundle, load_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("model") / "a.distill"
    write_prior_model(path)
    return load_bundle(path)


def test_the_recording_is_a_copy_of_itself_and_other_codes_are_not(bundle: Bundle) -> None:
    recording = np.random.default_rng(3).integers(0, 8, (40, 2))
    half = recording.copy()
    half[:, 1] = (half[:, 1] + 1) % 8
    other = (recording + 3) % 8
    same, halfway, apart = similarities(bundle.codec, bundle.reference, recording, [recording, half, other])
    assert (same.equal_codes, same.difference_db, same.verdict) == (1, 0, "copy")
    assert halfway.equal_codes == 0.5
    assert 0 < halfway.difference_db < apart.difference_db
    assert (apart.equal_codes, apart.verdict) == (0, "new")


def test_without_a_reference_there_is_no_verdict(bundle: Bundle) -> None:
    recording = np.zeros((9, 2), dtype=np.int64)
    (found,) = similarities(bundle.codec, None, recording, [recording])
    assert (found.equal_codes, found.verdict) == (1, None)
