"""Settings of the documentation site: `make docs` builds it into build/docs, to be read from the disk or any web server.

SEP_BATCH_REPOSITORY_URL, the repository's address at a Git host, as https://host/owner/name, makes links to files that are no
pages lead to the files of this version there; without it the site has copies of them.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS / "_extensions"))

project = "sep-batch"
author = "the sep-batch authors"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

source_suffix = {".md": "markdown"}
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "command_line", "repository_links"]
exclude_patterns = ["_*", "upstream"]
highlight_language = "text"
smartquotes = False  # "--" begins a flag

address = os.environ.get("SEP_BATCH_REPOSITORY_URL", "").rstrip("/")
repository_url = f"{address}/blob/v{version}" if address else ""  # as setup.py has it for the README
repository_pages = {  # files outside docs/, and the pages that include them or stand for them
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "infra/README.md": "guides/infrastructure.md",
}

myst_heading_anchors = 4  # links to headings, as Git hosts make them

autodoc_member_order = "bysource"
default_role = "literal"  # `name` in a docstring
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
nitpick_ignore_regex = [
    ("py:.*", r"(torch|numpy|np|collections|pathlib)\..*|Tensor"),  # of other projects
    ("py:.*", r"sep_batch\.(jobs\.progress|pipeline\.export)\..*"),  # not public
]

html_theme = "furo"
html_title = "sep-batch"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_show_copyright = False
html_use_index = html_domain_indices = False
html_show_search_summary = False  # it is fetched, which a browser refuses on file://


UNBROKEN_CHARS = 24
SIGNED = ("Options", "Spec")  # endings of classes that are made by their users


def hide_constructor(_app: Sphinx, what: str, name: str, *_: Any) -> tuple[str, str] | None:
    """Return an empty signature for a class that a function returns."""
    return ("", "") if what == "class" and not name.endswith(SIGNED) else None


def punctuate_fields(_app: Sphinx, doctree: nodes.document) -> None:
    """Put a colon between a parameter and its description, in place of two hyphens."""
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(": "))


def mark_short_code(_app: Sphinx, doctree: nodes.document) -> None:
    """Give code whose words are short, such as flags, the class with which they do not break."""
    for literal in doctree.findall(nodes.literal):
        if max(map(len, literal.astext().split()), default=0) <= UNBROKEN_CHARS:
            literal["classes"].append("short")


def setup(app: Sphinx) -> None:
    """Take `csv` as the language of a block, which Pygments does not know, and mend what docstrings and code become."""
    app.add_lexer("csv", TextLexer)
    app.connect("autodoc-process-signature", hide_constructor)
    app.connect("doctree-read", punctuate_fields)
    app.connect("doctree-read", mark_short_code)
    for field in PythonDomain.directives["class"].doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
