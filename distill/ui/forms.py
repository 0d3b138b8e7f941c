"""Forms: fields of settings, values as flags of a command, and the sentence for what cannot be done."""

import traceback
from html import escape
from typing import Any

import gradio as gr

from distill.errors import for_the_user
from distill.params import setting

PRIVATE: dict[str, Any] = {"api_visibility": "private"}  # of events that are no endpoints for programs
QUIET: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}  # of events that nobody waits for
DEFECT = "this is a defect of Distill; its report is in the window that distill ui runs in"


def error_to_show(error: Exception) -> gr.Error:
    """A DistillError as its sentence, and anything else as a defect, whose traceback goes to stderr."""
    known = for_the_user(error)
    if known is None:
        traceback.print_exception(error)
    said, title = (DEFECT, "Failed") if known is None else (escape(str(known)), "Not done")  # Gradio shows HTML
    return gr.Error(said, duration=None, title=title, print_exception=False)


def field(path: str, label: str, elem_id: str | None = None) -> Any:
    """A field for a setting of `params.yaml`, such as "vqvae.epochs": its choices, bounds, help and default."""
    about = setting(path)
    if about.type is str:
        return gr.Dropdown(list(about.choices), value=about.default, label=label, info=about.help)
    if about.default == "auto":
        return optional(label, about.auto_by or "auto", f"{about.help}; ", elem_id)
    low, high, whole = about.bounds.get("ge"), about.bounds.get("le"), 0 if about.type is int else None
    return gr.Number(about.default, label=label, info=about.help, minimum=low, maximum=high, precision=whole)


def optional(label: str, otherwise: str, text: str = "", elem_id: str | None = None) -> gr.Textbox:
    """A field for a number that may stay empty; the command that gets it says what is wrong with it.

    A number field of Gradio gives 0 where it is empty.
    """
    return gr.Textbox("", label=label, info=f"{text}empty: {otherwise}", max_length=30, elem_id=elem_id)


def flags(**values: Any) -> list[str]:
    """Flags of a command from the values of a form; None, "" and False are left out, True has no text."""
    made = []
    for name, value in values.items():
        if value is None or value is False or value == "":
            continue
        flag = "--" + name.replace("_", "-")
        text = f"{value:.10g}" if isinstance(value, float) else str(value)
        made += [flag] if value is True else [flag, text]
    return made
