"""How Sphinx builds these pages.

pip install -e '.[docs]' && sphinx-build -W --keep-going docs docs/_build
"""

import ast
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.roles import XRefRole
from sphinx.util import logging

import ondax

project = "ondax"
author = "the authors of ondax"
project_copyright = author
release = version = ondax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
nb_execution_mode = "off"
default_role = "python"  # what stands in single backticks in docstrings; see `setup`

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False

html_theme = "pydata_sphinx_theme"
html_title = "ondax"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}

SOURCE = Path(ondax.__file__)
NAME = re.compile(r"[A-Za-z_][\w.]*")


def public_names() -> set[str]:
    """What `ondax/__init__.py` imports as itself: its public names, as type checkers have it."""
    imports = [n for n in ast.walk(ast.parse(SOURCE.read_text())) if isinstance(n, ast.ImportFrom)]
    aliases = [alias for statement in imports for alias in statement.names]
    return {a.name for a in aliases if a.asname == a.name and not a.name.startswith("_")}


PUBLIC = public_names()
SHORTER = {
    "~jaxtyping.": "",
    "jaxlib._jax.Array": "Array",
    "Key[Array, ''] | UInt32[Array, '2'] | UInt32[Array, '4']": "PRNGKeyArray",
}


class Python(XRefRole):
    """Text in single backticks: code, and a link where it is a public name."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Make the nodes."""
        name = self.text.removesuffix("()").removeprefix("ox.").removeprefix("ondax.")
        if not NAME.fullmatch(name) or name.split(".")[0] not in PUBLIC:
            return [nodes.literal(self.rawtext, self.text, classes=["code"])], []
        self.has_explicit_title, self.title, self.target = True, self.text, f"ondax.{name}"
        self.refdomain, self.reftype, self.classes = "py", "obj", ["xref", "py", "py-obj"]
        return self.create_xref_node()


def complain_of_missing_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Every public name must be on a page of the API."""
    described = [d.split(".") for d in env.domains.python_domain.objects]
    for name in sorted(PUBLIC - {parts[1] for parts in described if len(parts) > 1}):
        logging.getLogger(__name__).warning("ox.%s is on no page in docs/api", name)


def shorten(
    app: Sphinx, what: str, name: str, obj: object, options: object, given: str, returned: str
) -> tuple[str, str]:
    """Signatures with the names that JAX and jaxtyping have for their types."""
    for long, short in SHORTER.items():
        given, returned = (text and text.replace(long, short) for text in (given, returned))
    return given, returned


def setup(app: Sphinx) -> None:
    """Add the role, and the check of the API's pages."""
    app.add_role("python", Python())
    app.connect("autodoc-process-signature", shorten)
    app.connect("env-check-consistency", complain_of_missing_names)
