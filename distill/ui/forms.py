"""Forms: fields for settings, values as command-line flags, and error messages."""

import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.exceptions import InvalidPathError
from pydantic_core import PydanticUndefined

from distill.errors import ParamsError, for_the_user
from distill.generate.settings import flag_of
from distill.params import Setting, Settings, setting
from distill.params.settings import setting_of
from distill.text import one_line
from distill.verbs.verb import Verb

PRIVATE: dict[str, Any] = {"api_visibility": "private"}  # for events that are no API endpoints
HIDDEN: dict[str, Any] = {"show_progress": "hidden"}  # for events that show their own progress
QUIET: dict[str, Any] = {**HIDDEN, **PRIVATE}  # for events that nobody waits for


def error_to_show(error: Exception) -> gr.Error:
    """Error for the page: the sentence of a DistillError, otherwise a defect with its traceback on stderr."""
    known = for_the_user(error)
    shown = partial(gr.Error, duration=20.0, print_exception=False)  # seconds, unless it is closed
    if known is None:
        traceback.print_exception(error)
        report = "its report is in the window that distill ui runs in"
        return shown(f"this is a defect of Distill; {report}", title="Failed")
    return shown(escape(str(known)), title="Not done")  # Gradio shows HTML


class Page(gr.Blocks):
    """Blocks that show errors as sentences and only accept uploaded files.

    Gradio itself would fetch files from web addresses in a request.
    """

    async def call_function(self, *given: Any, **more: Any) -> Any:
        try:
            return await super().call_function(*given, **more)
        except gr.Error:
            raise
        except Exception as error:
            raise error_to_show(error) from error

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], *rest: Any, **more: Any
    ) -> list[Any]:
        """Prepare the inputs of an event for its handler. Raises gr.Error for files that were not uploaded."""
        if _names_address(inputs):
            address = "expected a file that was uploaded, found a web address; download the file and choose it"
            raise error_to_show(ParamsError(address))
        try:
            prepared: list[Any] = await super().preprocess_data(block_fn, inputs, *rest, **more)
        except InvalidPathError as error:
            other = "expected an uploaded file, found another or a hidden one; rename it"
            raise error_to_show(ParamsError(other)) from error
        except Exception as error:
            found = one_line(str(getattr(error, "message", error)).partition("\n")[0], 200)
            other = (
                f"expected values that the fields can have, found others ({found}); correct them"
            )
            raise error_to_show(ParamsError(other)) from error
        return prepared


def _names_address(value: Any) -> bool:
    """Whether a JSON value contains a file with a web address."""
    match value:
        case {"path": path} if "://" in str(path):
            return True
        case dict():
            return _names_address(list(value.values()))
        case list():
            return any(map(_names_address, value))
    return False


def field(path: str, label: str, elem_id: str | None = None) -> Any:
    """Field for a setting of `params.yaml`, such as "vqvae.epochs", with its choices, bounds, help and default."""
    about = setting(path)
    if about.type is str:
        return gr.Dropdown(list(about.choices), value=about.default, label=label, info=about.help)
    if about.default == "auto":
        return optional(label, about.auto_by or "auto", f"{about.help}; ", elem_id)
    return _number(about, about.default, label, elem_id)


def verb_field(
    kind: type[Settings], name: str, label: str = "", value: Any = None, elem_id: str = ""
) -> Any:
    """Build a field for a setting of a verb: its bounds, help and default, or an example, another label and value."""
    stated = kind.model_fields[name]
    about, flag = setting_of(stated), flag_of(name, stated)
    about = about._replace(help=about.help.replace("--", ""))  # flags are fields here
    label, elem_id = label or name.replace("_", " ").capitalize(), elem_id or name
    values = (value, *(stated.examples or ()), stated.get_default())
    value = next((own for own in values if own not in (None, PydanticUndefined)), None)
    if flag.type is Path:
        return sound(label, elem_id)
    if flag.type is bool:
        return gr.Checkbox(value, label=label, info=about.help)
    if flag.type in (int, float) and value is not None:
        return _number(about, value, label, elem_id)
    info = "; empty: ".join(filter(None, (about.help, flag.otherwise)))
    return gr.Textbox(value or "", label=label, info=info, max_length=1000, elem_id=elem_id)


def command_of(verb: Verb, paths: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Return the arguments of a verb's command: paths of the model and of recordings, and values by setting."""
    fields = verb.settings.model_fields
    named = {
        flag_of(name, fields[name]).name.removeprefix("--"): value for name, value in values.items()
    }
    return [verb.name, *paths, *flags(**named)]


def sound(label: str, elem_id: str | None = None) -> gr.Audio:
    """Field for a sound: a file, or a recording from the microphone."""
    return gr.Audio(sources=["upload", "microphone"], type="filepath", label=label, elem_id=elem_id)


def _number(about: Setting, value: Any, label: str, elem_id: str | None) -> gr.Number:
    shown: Any = {"minimum": about.bounds.get("ge"), "maximum": about.bounds.get("le")}
    shown["precision"] = 0 if about.type is int else None
    return gr.Number(value, label=label, info=about.help, elem_id=elem_id, **shown)


def optional(label: str, otherwise: str, text: str = "", elem_id: str | None = None) -> gr.Textbox:
    """Field for an optional value, as text, since an empty number field of Gradio gives 0.

    The command validates the value.
    """
    return gr.Textbox(
        "", label=label, info=f"{text}empty: {otherwise}", max_length=30, elem_id=elem_id
    )


def flags(**values: Any) -> list[str]:
    """Return flags of a command from the values of a form.

    None, "" and False are left out, True has no text, and a list repeats its flag.
    """
    made = []
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        for own in value if isinstance(value, list) else [value]:
            if own is None or own is False or own == "":
                continue
            text = f"{own:.10g}" if isinstance(own, float) else str(own)
            made += [flag] if own is True else [flag, text]
    return made
