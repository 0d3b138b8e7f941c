"""The documentation site: Markdown by MyST. `make docs` builds it, every warning an error."""

project = "Distill"
author = "the Distill authors"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Distill"
html_copy_source = False
html_show_copyright = False
html_static_path = ["static"]
html_favicon = "static/icon.svg"
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_theme_options = {"navigation_with_keys": True}
myst_heading_anchors = 4  # headings can be linked to, as on a code host
smartquotes = False  # two dashes are a flag
nitpicky = True
