"""Distill learns a generative model of a musician's own sounds.

`distill.load(path)` reads a model file and gives a `distill.api.Model`, which generates, encodes and decodes.
"""

from typing import TYPE_CHECKING

from distill.exports import lazy_exports

if TYPE_CHECKING:
    from distill.api import load as load

__version__ = "0.1.0"
__all__ = ["load"]

__getattr__ = lazy_exports(__name__, {"load": "distill.api"})
