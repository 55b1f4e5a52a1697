"""Sphinx configuration: ``nox -s docs`` builds with ``-W -n``."""

from importlib.metadata import version as installed_version
from typing import Any

from sphinx.pycode import ModuleAnalyzer

project = "tilekit"
author = "the tilekit developers"
project_copyright = "2026, the tilekit developers"
release = version = installed_version("tilekit-vae")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True
# Bases that the architecture page explains, not the reference: of every layer, and of a plan.
nitpick_ignore = [
    ("py:class", "ltx_models.nn.Module"),
    ("py:class", "ltx_models.vocoder.generator.Generator"),
    ("py:class", "tilekit._plan.layout.Layout"),
]

# Types stand in the numpydoc sections, as shapes and layouts; in signatures they would only be repeated.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "furo"
html_title = "tilekit"
html_static_path = ["_static"]
html_css_files = ["cards.css"]
# What is copied is what is typed: no prompts, and no output.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True


def docstring_of_geometry(*event: Any) -> None:
    """Give a geometry the text that stands below it in its module, in place of that of its class."""
    _, what, name, _, _, lines = event
    texts = ModuleAnalyzer.for_module("tilekit._plan.presets").find_attr_docs()
    text = texts.get(("", name.rpartition(".")[2]))
    if what == "data" and text is not None:
        lines[:] = text


def setup(app: Any) -> None:
    """Connect with Sphinx."""
    app.connect("autodoc-process-docstring", docstring_of_geometry, priority=400)  # before numpydoc
