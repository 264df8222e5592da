"""How Sphinx builds the site: ``python -m sphinx -W docs site``. It needs myst-nb and furo, and no network."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import shutil
from itertools import groupby
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import stringify_signature

from monai_sagan import __version__

project = "monai-sagan"
author = "The monai-sagan developers"
copyright = "The monai-sagan developers, Apache-2.0"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "tutorials/README.md"]  # which tutorials.md includes
nb_execution_mode = "off"  # tutorials are shown with the outputs that they store
nb_render_markdown_format = "gfm"  # tables, too
default_role = "py:obj"  # docstrings name things in single backticks
myst_heading_anchors = 3
suppress_warnings = [
    "ref.python",  # a public name stands in its module and again in its package
    "misc.highlighting_failure",  # a tutorial's command on several lines; site.css shows its backslashes as they are
]
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # MONAI's own are on its site
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False

html_domain_indices = False  # the reference lists the modules
html_theme = "furo"
html_title = "monai-sagan"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e75", "color-brand-content": "#0b6e75"},
    "dark_css_variables": {"color-brand-primary": "#5fc9d0", "color-brand-content": "#5fc9d0"},
}


class PublicModules(SphinxDirective):
    """``.. public-modules:: NAME ...``: a section for each public module of these packages, so that none is missed."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        names = [name for argument in self.arguments[0].split() for name in public_modules(argument)]
        text = "\n".join(f"``{name}``\n{'-' * (len(name) + 4)}\n\n.. automodule:: {name}\n" for name in names)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def public_modules(name: str) -> list[str]:
    """The modules that list public names: a module itself, or those of a package, sorted; of packages in it, too."""
    module = importlib.import_module(name)
    if not hasattr(module, "__path__"):
        return [name] if getattr(module, "__all__", None) else []
    found = (info.name for info in pkgutil.walk_packages(module.__path__, f"{name}.") if not info.ispkg)
    return sorted(name for name in found if getattr(importlib.import_module(name), "__all__", None))


def as_restructured_text(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written to be read as they stand: what is indented in them is text as typed, a table a table."""
    if what == "module":
        blocks = [list(block) for _, block in groupby(lines, key=_kind)]
        lines[:] = [line for block in blocks for line in _converted(block)]


def _kind(line: str) -> str:
    return "indented" if line.startswith("    ") else "table" if line.startswith("|") else "text" if line else ""


def _converted(block: list[str]) -> list[str]:
    if _kind(block[0]) == "indented":
        return ["", "::", "", *block, ""]
    if _kind(block[0]) != "table":
        return block
    rows = [line.strip("|").split("|") for line in block if not re.fullmatch(r"[|\- ]+", line)]
    cells = [f"   {'  ' if i else '* '}- {cell.strip()}" for row in rows for i, cell in enumerate(row)]
    return ["", ".. list-table::", "   :header-rows: 1", "", *cells, ""]


def own_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """MONAI's transforms are made by a ``__new__`` that takes anything; what they take stands in ``__init__``."""
    if what == "class" and signature == "(*args, **kwargs)":
        _, *rest = inspect.signature(obj.__init__).parameters.values()
        return stringify_signature(inspect.Signature(rest), show_annotation=False), returns
    return signature, returns


def copy_tutorials(app: Sphinx, config: Config) -> None:
    """Copy the notebooks from the top of the repository: Sphinx reads only what lies below its own folder."""
    place = Path(app.srcdir) / "tutorials"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(Path(app.srcdir).parent / "tutorials", place, ignore=shutil.ignore_patterns("*.py", ".*"))


def keep_pictures_inside(app: Sphinx) -> None:
    """Let the pictures of tutorials lie in the site's own folder while they wait to be copied, not beside it."""
    place = Path(app.doctreedir) / "pictures"
    app.env.mystnb_config = app.env.mystnb_config.copy(output_folder=str(place))


def label_cells(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give each table cell that holds something its column's name, beside which site.css shows it on a phone."""
    if "<table" in context.get("body", ""):
        body = BeautifulSoup(context["body"], "html.parser")
        for table in body.find_all("table"):
            names = [" ".join(cell.get_text().split()) for cell in table.select("thead th")]
            for row in table.select("tbody tr"):
                for cell, name in zip(row.find_all("td"), names, strict=False):
                    if cell.get_text(strip=True):
                        cell["data-column"] = name
        context["body"] = str(body)


def setup(app: Sphinx) -> None:
    app.add_directive("public-modules", PublicModules)
    app.connect("config-inited", copy_tutorials)
    app.connect("builder-inited", keep_pictures_inside, priority=900)  # after MyST-NB's own
    app.connect("html-page-context", label_cells)
    app.connect("autodoc-process-docstring", as_restructured_text)
    app.connect("autodoc-process-signature", own_signature)
