"""Distill learns a generative model of a musician's own sounds.

`distill.load(path)` reads a model file and gives a `distill.api.Model`, which generates, encodes and decodes.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill.api import Model

__version__ = "0.1.0"


def load(path: "str | os.PathLike[str]") -> "Model":
    """A model file, ready to use on the CPU. Raises ArtifactError, which says what is wrong with the file."""
    from distill.api import Model

    return Model(path)
