"""Forms of verbs: their fields, and the settings that the values of the fields mean."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_origin

import gradio as gr

from distill.generate.settings import Guided, SoundSettings, fields_of
from distill.kit.settings import KitSettings
from distill.ui.forms import sound, verb_field
from distill.verbs import VERBS
from distill.verbs.verb import Verb

Fields = dict[str, list[Any]]
"""Components by setting; a setting with several has a list of values."""
# Settings whose fields all forms share.
SHARED = {*SoundSettings.model_fields, *Guided.model_fields, "n", "seed", "temperature"} - {
    "delivery"
}


@dataclass(frozen=True)
class VerbForm:
    """Fields of a verb, and the button that runs its command."""

    verb: Verb
    name: str  # of the endpoint
    title: str
    button: gr.Button
    fields: Fields
    fixed: Mapping[str, list[Any]] = field(default_factory=dict)  # values by setting

    def settings(self, values: Mapping[Any, Any]) -> dict[str, list[Any]]:
        """Return the values of the fields by setting, from values by component."""
        fields = self.fields.items()
        settings = {name: [values[own] for own in components] for name, components in fields}
        return {**settings, **self.fixed}

    def title_of(self, settings: Mapping[str, list[Any]]) -> str:  # noqa: ARG002 - most titles say nothing of settings
        """Return the title of the command."""
        return self.title


def build_verb(verb: Verb, source: Any, shared: Fields) -> VerbForm:
    """Build the form of a verb, whose first recording has the field `source`."""
    gr.Markdown(verb.help)
    settings = verb.settings
    fields = {name: shared[name] for name in settings.model_fields if name in SHARED}
    first, *others = verb.arguments
    fields[first] = [source]
    fields |= {name: _recordings(verb, name) for name in others}
    fields |= {
        name: [verb_field(settings, name, elem_id=f"{verb.name}_{name}")]
        for name in fields_of(settings)
        if name not in SHARED
    }
    button = gr.Button(verb.name.capitalize(), elem_id=f"{verb.name}-start")
    return VerbForm(verb, verb.name, verb.name, button, fields)


def _recordings(verb: Verb, name: str) -> list[Any]:
    """Build the field of a recording, or two fields for a list of recordings."""
    label = f"{verb.name.capitalize()}: {verb.arguments[name].help}"
    is_list = get_origin(verb.settings.model_fields[name].annotation) is Sequence
    return [sound(label, f"{verb.name}_{name}_{number}") for number in range(1 + is_list)]


def build_kits(form: Fields) -> Iterator[VerbForm]:
    """Build the forms of a kit, of variations on one key, and of an instrument at notes."""
    verb, shared = VERBS["kit"], {name: form[name] for name in ("seed", "width")}
    labelled = {**shared, "labels": form["label"]}
    gr.Markdown("Of the model, or of the sound to vary alone.")
    per_label = [verb_field(KitSettings, "per_label", "Sounds of each kind, or at each note")]
    button = gr.Button("Make a kit", elem_id="kit-start")
    yield VerbForm(verb, "kit", "kit", button, {**shared, "per_label": per_label})
    round_robins = [verb_field(KitSettings, "round_robins", "Variations of one sound", 8)]
    button = gr.Button("Make variations on one key", elem_id="one-key-start")
    fields = {**labelled, "round_robins": round_robins}
    title = "variations on one key"
    yield VerbForm(verb, "one_key", title, button, fields, {"one_key": [True]})
    notes = [verb_field(KitSettings, "notes", "Notes of an instrument", "C2:C6")]
    every = [verb_field(KitSettings, "every", "Every so many-th note", 3)]
    button = gr.Button("Make an instrument", elem_id="instrument-start")
    fields = {**labelled, "notes": notes, "every": every, "per_label": per_label}
    yield VerbForm(verb, "instrument", "instrument", button, fields)
