"""Requests: one description of each field, for flags and for arguments in Python."""

import inspect
from typing import Any

import pytest
import typer

from distill.api import Model
from distill.cli import main as cli
from distill.errors import ParamsError
from distill.params import default_values
from distill.params.settings import Settings, validated
from distill.verbs import VERBS
from distill.verbs.generate import GenerateSettings
from unit.verbs.cases import CASES

KINDS: dict[str, type[Settings]] = {name: verb.settings for name, verb in VERBS.items()}


@pytest.mark.parametrize("verb", KINDS)
def test_flags_and_arguments_are_the_fields(verb: str) -> None:
    kind = KINDS[verb]
    command: Any = typer.main.get_command(cli.app)
    options = {option.name: option for option in command.commands[verb].params}
    method = getattr(Model, verb)
    arguments = inspect.signature(method).parameters
    assert {*arguments} == {"self", *kind.model_fields}
    for name, field in kind.model_fields.items():
        required = field.is_required()
        assert arguments[name].default == (inspect.Parameter.empty if required else field.default)
        assert (name in options) == bool(field.description or name in VERBS[verb].arguments)
        if field.description:
            assert options[name].help == field.description
            assert f"- `{name}`: {field.description}" in method.__doc__


def test_every_verb_has_a_case() -> None:
    assert CASES.keys() == VERBS.keys()


def test_arguments_that_come_by_position_stay() -> None:
    positional = {
        verb: [
            name
            for name, argument in inspect.signature(getattr(Model, verb)).parameters.items()
            if argument.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]
        for verb in KINDS
    }
    expected = {
        "extend": ["self", "recording"],
        "fill": ["self", "recording"],
        "generate": ["self", "n", "seconds", "seed"],
        "morph": ["self", "first", "last", "steps"],
        "vary": ["self", "recording", "n", "strength", "seed"],
        "kit": ["self", "out"],
    }
    assert {verb: positional[verb] for verb in expected} == expected


def test_defaults_are_those_of_the_audition() -> None:
    defaults, request = default_values()["audition"], GenerateSettings(label="kick")
    for name in ("temperature", "top_k", "top_p"):
        assert getattr(request, name) == defaults[name]
    assert request.guidance_scale == defaults["guidance"]
    assert GenerateSettings().guidance_scale == 1
    command: Any = typer.main.get_command(cli.app)
    shown = {option.name: option.show_default for option in command.commands["generate"].params}
    assert shown["guidance"] == f"{defaults['guidance']:g}"


@pytest.mark.parametrize(
    ("verb", "given", "expected"),
    [
        ("generate", {"n": 0}, "generate: n: expected greater than or equal to 1, found 0"),
        ("generate", {"top_p": 2}, "generate: top_p: expected less than or equal to 1, found 2"),
        ("generate", {"guidance": 2}, "guidance 2: expected a label to guide towards, found none; name a label"),
        ("vary", {"recording": "a", "strength": 1.5}, "vary: strength: expected less than or equal to 1, found 1.5"),
        ("vary", {"recording": "a", "transpose": 49}, "vary: transpose: expected less than or equal to 48, found 49"),
        ("vary", {"recording": "a", "note": "H3"}, "note H3: expected notes such as C3, F#2 or Bb4, MIDI numbers from"),
        (
            "vary",
            {"recording": "a", "note": ["C3", 52]},
            "note C3,52: expected one note for takes, found 2; give one, or make an instrument of a recording at several "
            "with `distill kit`",
        ),
        (
            "vary",
            {"recording": "a", "note": 48, "transpose": 1.0},
            "note 48: expected one note, or a number of semitones, found both; give one of them",
        ),
        ("kit", {"out": "x", "every": 128}, "kit: every: expected less than or equal to 127, found 128"),
        ("kit", {"out": "x", "formats": "sfz,exs"}, "kit: formats: expected 'sfz' or 'dspreset', found 'exs'"),
        (
            "kit",
            {"out": "x", "round_robins": 20},
            "round_robins 20: expected one_key with it, found none; give both, or per_label alone",
        ),
        (
            "kit",
            {"out": "x", "one_key": True, "round_robins": 65},
            "kit: round_robins: expected less than or equal to 64",
        ),
        (
            "kit",
            {"out": "x", "one_key": True, "notes": "C3"},
            "notes: expected none beside one_key, found C3; leave one of them out",
        ),
        (
            "kit",
            {"out": "x", "one_key": True, "per_label": 3},
            "per_label: expected none beside one_key, found 3; leave one of them out",
        ),
        *(
            ("generate", {"min_novelty": least}, f"min_novelty {least}: expected close, new or a number from 0 to 1")
            for least in ("old", "nan", 1.5, -1.0)
        ),
    ],
)
def test_what_is_out_of_range_is_a_sentence(verb: str, given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ParamsError) as caught:
        validated(KINDS[verb], given, f"{verb}: ")
    assert str(caught.value).startswith(expected)


def test_notes_come_in_any_form() -> None:
    assert GenerateSettings(note=["C3", 52]).notes == GenerateSettings(note="C3, E3").notes == [48, 52]
    assert [GenerateSettings(note=note).count for note in (None, 60, "C2:C3")] == [1, 1, 13]
    assert GenerateSettings(n=5, note=60).count == 5
    assert VERBS["kit"].settings(out="x", notes="C3:C5", every=8).sampled == [48, 56, 64, 72]


def test_an_unknown_argument_is_no_request() -> None:
    model = object.__new__(Model)
    with pytest.raises(TypeError, match="tempo"):
        model.generate(tempo=3)  # type: ignore[call-arg]
