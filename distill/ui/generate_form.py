"""Form of the verb `generate`."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import gradio as gr

from distill.errors import ParamsError
from distill.generate.settings import fields_of
from distill.notes import read_notes
from distill.text import several
from distill.ui.forms import sound, verb_field
from distill.ui.verb_form import Fields, VerbForm
from distill.verbs.generate import GenerateSettings

STEPS = 16  # of a bar in the grid of a pattern
COUNT, AT_EACH = "How many sounds", "How many at each note"


class GenerateForm(VerbForm):
    """Form whose number of sounds is for each note, and whose pattern is a grid."""

    def settings(self, values: Mapping[Any, Any]) -> dict[str, list[Any]]:
        """Return the values of the fields by setting, from values by component."""
        settings = super().settings(values)
        settings["pattern"] = [pattern_of(*settings["pattern"])]
        (count,), (notes,) = settings["n"], settings["note"]
        with suppress(ParamsError):  # without notes; the command reports wrong notes
            settings["n"] = [count * len(read_notes(notes))]
        return settings

    def title_of(self, settings: Mapping[str, list[Any]]) -> str:
        """Return the title of the command."""
        (count,) = settings["n"]
        return several(int(count), "sound")


def build_fields() -> Fields:
    """Build the fields of the form, the common fields first, others in folds."""
    fields: dict[str, Any] = {
        "n": gr.Slider(1, 32, 4, step=1, label=COUNT, elem_id="count"),
        "label": gr.Dropdown(
            [], label="Label", info="the kind of sound", visible=False, elem_id="label"
        ),
    }
    _build(fields, "note", "seconds")
    with gr.Accordion("Follow a voice or notes", open=False):
        suffixes = [".mid", ".midi", ".rmi"]
        midi = gr.File(label="Or a MIDI file", file_types=suffixes, elem_id="midi")
        fields["follow"] = sound("A recording to follow, such as your voice", "follow")
        _build(fields, "loose", "track", "program")
    with gr.Accordion("A pattern of hits", open=False):
        fields["pattern"] = _grid()
        _build(fields, "bpm", "bars", "swing", "stems")
    with gr.Accordion("More settings", open=False):
        fields["temperature"] = gr.Slider(
            0.1, 2.0, 1.0, step=0.05, label="Temperature", info="above 1 more random"
        )
        novelty = [("any", ""), ("no copies", "close"), ("new only", "new")]
        fields["min_novelty"] = gr.Radio(
            novelty, value="", label="Least novelty", info="others are drawn again"
        )
        _build(fields, *(name for name in fields_of(GenerateSettings) if name not in fields))
    components = {name: [component] for name, component in fields.items()}
    components["follow"].append(midi)  # the command follows the last recording that it gets
    return components


def _build(fields: dict[str, Any], *names: str) -> None:
    """Build the usual fields of settings."""
    fields.update({name: verb_field(GenerateSettings, name) for name in names})


def _grid() -> gr.Dataframe:
    """A grid of steps for a pattern: a row for each label, a column for each sixteenth of a bar."""
    kinds: Any = ["str", *["bool"] * STEPS]
    return gr.Dataframe(
        headers=["label", *map(str, range(1, STEPS + 1))],
        datatype=kinds,
        type="array",
        label="Steps of a bar",
        column_widths=["100px", *["52px"] * STEPS],
        pinned_columns=1,
        elem_id="pattern",
    )


def empty_rows(labels: Sequence[str]) -> list[list[Any]]:
    """Rows of a grid without steps, one for each label."""
    return [[label, *[False] * STEPS] for label in labels]


def pattern_of(rows: Sequence[Sequence[Any]] | None) -> str:
    """The text of a grid; "" where no step is chosen. A label without steps is left out."""
    lines = [
        (str(label), "".join("x" if step in (True, "true") else "." for step in steps))
        for label, *steps in rows or []
    ]
    return " ".join(f"{label}:{steps}" for label, steps in lines if label and "x" in steps)
