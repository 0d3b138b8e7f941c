"""A verb: an operation on a model as a single object, which defines all its surfaces."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_type_hints

from distill.generate.settings import Argument, arguments_of, fields_of
from distill.params.settings import Settings, validated

if TYPE_CHECKING:
    from distill.generate.context import GenerationContext

    pass


@dataclass(frozen=True)
class Verb:
    """An operation on a model: its command, Python method, web endpoint and reference pages are made from it.

    `make(context, settings)` returns a result, whose `lines` and `json` report on it. It gives the verb its name, and the
    method its docstring; `help` is the help text of the command. Sounds are written to the folder `out`; without one the
    result writes a folder by itself. With `takes_recording_alone` a recording may stand in the place of the model file.
    """

    make: Callable[["GenerationContext", Any], Any]
    settings: type[Settings]
    help: str
    doing: str  # while it runs, on the page
    out: str = ""
    takes_recording_alone: bool = False
    # Samples of a recording stay, so that a lossy file format is warned of
    keeps_recording: bool = False

    @property
    def name(self) -> str:
        """Name of the verb."""
        return self.make.__name__

    @cached_property
    def arguments(self) -> dict[str, Argument]:
        """Positional arguments of the command after the model, by field."""
        return arguments_of(self.settings)

    @cached_property
    def method(self) -> Callable[..., Any]:
        """Method of `distill.api.Model`: its arguments are the fields of the settings. It raises ParamsError for invalid arguments."""
        signature = self._signature()

        def run(model: Any, *values: Any, **named: Any) -> Any:
            from distill.training.distributed import usual_tensors  # loads PyTorch

            given = signature.bind(model, *values, **named).arguments
            del given["self"]
            with usual_tensors():
                return self.make(model.context, validated(self.settings, given, f"{self.name}: "))

        helps = [
            f"- `{name}`: {field.description}" for name, field in fields_of(self.settings).items()
        ]
        run.__doc__ = "\n".join([inspect.getdoc(self.make) or "", "", *helps])
        run.__name__ = run.__qualname__ = self.name
        vars(run)["__signature__"] = signature
        return run

    def _signature(self) -> inspect.Signature:
        types, parameters = get_type_hints(self.settings), [inspect.Parameter("self", POSITIONAL)]
        for name, parameter in inspect.signature(self.settings).parameters.items():
            is_positional = self.settings.model_fields[name].kw_only is False
            kind = POSITIONAL if is_positional else parameter.kind
            parameters.append(parameter.replace(kind=kind, annotation=types[name]))
        return inspect.Signature(sorted(parameters, key=lambda parameter: parameter.kind))


POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
