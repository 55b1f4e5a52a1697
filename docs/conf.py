"""Sphinx configuration: ``nox -s docs`` builds with ``-W -n``."""

import inspect
import sys
from importlib import import_module
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from sphinx.pycode import ModuleAnalyzer

sys.path.insert(0, str(Path(__file__).parent))

import flags

from ltx_models.cli import _parser

project = "tilekit"
author = "the tilekit developers"
project_copyright = "2026, the tilekit developers"
release = version = installed_version("tilekit-vae")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True
# Types stand in the numpydoc sections, as shapes and layouts; in signatures they would only be repeated.
autodoc_typehints = "none"
autodoc_preserve_defaults = True  # as they are written: LTX2_VIDEO, and not all that it holds
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
numpydoc_show_class_members = False

# Short lists of the names that are linked to stand beside, so that no build asks a network.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "inventories/python.txt"),
    "numpy": ("https://numpy.org/doc/stable", "inventories/numpy.txt"),
    "torch": ("https://docs.pytorch.org/docs/stable", "inventories/torch.txt"),
}
PUBLIC = (
    "tilekit tilekit.norms tilekit.adapters tilekit.backends ltx_models ltx_models.pipelines ltx_models.media "
    "ltx_models.clips ltx_models.convert ltx_models.sampling ltx_models.conditioning ltx_models.text "
    "ltx_models.transformer ltx_models.video_vae ltx_models.audio_vae ltx_models.vocoder ltx_models.upsampler"
)


def links_of_types() -> dict[str, str]:
    """Give what the words of a type link to: public classes by their names, and those of other projects."""
    found: dict[str, str] = {}
    for package in PUBLIC.split():
        module = import_module(package)
        for name in module.__all__:
            if inspect.isclass(getattr(module, name, None)):
                found[name] = name if name in found else f"{package}.{name}"  # two of one name: no link
    words = (
        "array_like array-like scalar RandomState np.random.RandomState np.inf np.nan numpy namedtuple contextmanager"
    )
    abstract = ("Sequence", "Mapping", "Iterable", "Iterator", "Generator")
    return {
        **{word: word for word in words.split()},
        **found,
        **{name.lower(): f"collections.abc.{name}" for name in abstract},
        "array": "tilekit.backends.Array",
        "ndarray": "numpy.ndarray",
        "numpy.random.Generator": "numpy.random.Generator",
        "torch.Generator": "torch.Generator",
        "bool": "bool",
        "callable": "collections.abc.Callable",
        "Executor": "concurrent.futures.Executor",
        "path": "pathlib.Path",
        "Path": "pathlib.Path",
    }


numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # words that are no names
numpydoc_xref_aliases = links_of_types()

smartquotes_action = "qe"  # a flag keeps its two hyphens
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


def bases_of_error(*event: Any) -> None:
    """Say of an error which others it is: callers may catch either. Bases of other classes would tell nothing."""
    _, what, _, error, _, lines = event
    if what == "exception":
        lines[:0] = [f"Bases: {', '.join(f'``{base.__name__}``' for base in error.__bases__)}", ""]


def add_flags(_: Any, page: str, source: list[str]) -> None:
    """Fill the page of all flags from the parser."""
    if page == "reference/flags":
        source[0] += f"```{{eval-rst}}\n{flags.text(_parser())}\n```\n"


def setup(app: Any) -> None:
    """Connect with Sphinx."""
    app.connect("source-read", add_flags)
    app.connect("autodoc-process-docstring", docstring_of_geometry, priority=400)  # before numpydoc
    app.connect("autodoc-process-docstring", bases_of_error, priority=600)
