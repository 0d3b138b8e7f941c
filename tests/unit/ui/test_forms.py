"""Fields of the page for those of a request, and their values as flags."""

import pytest

from distill.generate.settings import fields_of
from distill.ui.forms import command_of, verb_field
from distill.ui.generate_form import pattern_of
from distill.verbs import VERBS
from distill.verbs.generate import GenerateSettings


@pytest.mark.parametrize("name", fields_of(GenerateSettings))
def test_every_field_of_a_request_can_be_a_field_of_the_page(name: str) -> None:
    shown = verb_field(GenerateSettings, name)
    assert shown.label == name.replace("_", " ").capitalize()
    if name not in ("prompt", "follow"):  # a sound has no text below its label
        assert shown.info.startswith(GenerateSettings.model_fields[name].description.replace("--", ""))


def test_bounds_and_defaults_are_those_of_the_request() -> None:
    share, number = (verb_field(GenerateSettings, name) for name in ("top_p", "top_k"))
    assert (share.value, share.minimum, share.maximum, share.precision) == (1.0, 0.001, 1, None)
    assert (number.value, number.minimum, number.maximum, number.precision) == (0, 0, None, 0)
    assert verb_field(GenerateSettings, "guidance").info.endswith("; empty: 2.5")


def test_values_become_flags_and_what_is_empty_is_left_out() -> None:
    values = {"n": 4, "seconds": "", "label": None, "top_p": 0.9, "min_novelty": "close", "reject_faults": True}
    assert command_of(VERBS["generate"], ["a.distill"], values) == [
        *("generate", "a.distill", "--count", "4", "--top-p", "0.9", "--min-novelty", "close", "--reject-faults"),
    ]


def test_a_grid_of_steps_is_a_pattern() -> None:
    rows = [["kick", True, False, "true", False], ["", True, True, True, True], ["hat", *[False] * 4]]
    assert pattern_of(rows) == "kick:x.x."
    assert pattern_of([]) == pattern_of(None) == ""
