"""Settings of the documentation, which `make docs` builds with Sphinx."""

import chargen

project = "chargen"
author = "the chargen developers"
project_copyright = "the chargen developers"
release = version = chargen.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
smartquotes = False  # would turn --temp into an en dash, and the quotes of commands into others
html_theme = "furo"
html_title = f"chargen {version}"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_show_sourcelink = False

default_role = "code"  # docstrings write names in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def keep_comments_whole(app, what, name, obj, options, lines: list[str]) -> None:
    """Put an empty comment before that of an attribute: napoleon takes "x" of a first line "x: y" for its type."""
    if what in ("attribute", "property") and lines:
        lines[:0] = ["..", ""]


def setup(app) -> None:
    """Process comments before napoleon does, which has the priority 500."""
    app.connect("autodoc-process-docstring", keep_comments_whole, priority=400)
