"""The table of verbs: each module of this package that has a `VERB` adds one.

The command line, `distill.api.Model`, the page and its web endpoints iterate `VERBS`.
"""

from importlib import import_module
from pkgutil import iter_modules

from distill.verbs.verb import Verb

_MODULES = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
VERBS: dict[str, Verb] = {
    module.VERB.name: module.VERB for module in _MODULES if hasattr(module, "VERB")
}
