"""The documentation site: Markdown by MyST, the API reference by autodoc. `make docs` builds it, every warning an error."""

import re
import sys
from importlib import import_module
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

from reference import GENERATED  # noqa: E402

project = "Distill"
author = "the Distill authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Distill"
html_copy_source = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
myst_heading_anchors = 4  # headings can be linked to, as on a code host
smartquotes = False  # two dashes are a flag
nitpicky = True
# What others document is named in signatures and not linked: the site is built without a network.
nitpick_ignore_regex = [(r"py:.*", r".*")]
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "model_config"}
autodoc_preserve_defaults = True

PUBLIC = ("distill", "distill.api", "distill.codec", "distill.params", "distill.prior", "distill.training")


def load_public_names() -> None:
    """Packages load their public names on first use; autodoc looks for them in the package."""
    for package in map(import_module, PUBLIC):
        for name in getattr(package, "__all__", ()):
            setattr(package, name, getattr(package, name))


def literal_docstring(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Docstrings are plain text with `code` in single backticks: escape what reStructuredText would read otherwise."""
    parts = re.split(r"``?([^`]+)``?", "\n".join(lines))
    parts[::2] = [re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", text) for text in parts[::2]]
    parts[1::2] = [f"``{' '.join(code.split())}``" for code in parts[1::2]]
    text = "".join(f"{text}\\ " if n % 2 and not parts[n + 1][:1].isspace() else text for n, text in enumerate(parts))
    lines[:] = text.split("\n")


def short_signature(
    _app: Sphinx, what: str, _name: str, obj: object, _options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Settings have too many validated fields for a signature; the tuning page lists them."""
    return ("", None) if what == "class" and hasattr(obj, "model_fields") else (signature, returns)


def fill_generated(_app: Sphinx, _document: str, source: list[str]) -> None:
    """Put generated tables where a page asks for them with `<!-- generated: name -->`."""
    for name, table in GENERATED.items():
        mark = f"<!-- generated: {name} -->"
        if mark in source[0]:
            source[0] = source[0].replace(mark, table())


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    load_public_names()
    app.connect("autodoc-process-docstring", literal_docstring)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("source-read", fill_generated)
