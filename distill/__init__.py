"""Distill learns a generative model of a musician's own sounds.

`distill.load(path)` reads a model file and gives a `distill.api.Model`, which generates, encodes and decodes;
`distill.read_table(path)` a table that the pipeline wrote, as a pandas data frame.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from distill.bytecode import keep_no_half_modules
from distill.exports import lazy_exports
from distill.threads import bound_spinning

if TYPE_CHECKING:
    from distill.api import load as load
    from distill.api import read_table as read_table

keep_no_half_modules(Path(__file__).parent)
bound_spinning()

__version__ = "0.1.0"
__all__ = ["load", "read_table"]

__getattr__ = lazy_exports(__name__, {"load": "distill.api", "read_table": "distill.api"})
