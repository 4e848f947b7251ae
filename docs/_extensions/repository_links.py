"""Links to files of the repository that are no pages, and links within files that a page includes.

A link is rewritten before the page is parsed, so that Markdown is written as it reads in the repository:

- to a file that a page includes (`repository_pages` in conf.py): a link to that page;
- to any other file outside docs/: an address below `repository_url`; without one, a copy of the file;
- to a folder outside docs/: an address below `repository_url`; without one, its text alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

LINK = re.compile(r"(?P<text>\[(?:[^\[\]`]|`[^`]*`)*\])\((?P<path>[^()\s#:]+)(?P<fragment>#[^()\s]*)?\)")


def rewritten(app: Sphinx, text: str, file: Path, page: Path) -> str:
    """Return a file's Markdown with links that hold on a page.

    Args:
        app: The site.
        text: The Markdown.
        file: The file that it is in.
        page: The page: this file, or one that includes it.
    """
    source, repository, url = Path(app.srcdir), Path(app.srcdir).parent, app.config.repository_url

    def link(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(file.parent / match["path"]))
        if not (target.is_relative_to(repository) and target.exists()):
            return match[0]  # which the parser of Markdown reports
        name, fragment = target.relative_to(repository).as_posix(), match["fragment"] or ""
        if name in app.config.repository_pages:
            target = source / app.config.repository_pages[name]
        if target.is_relative_to(source):
            return f"{match['text']}({os.path.relpath(target, page.parent)}{fragment})"
        if url:
            return f"{match['text']}({url.rstrip('/')}/{name}{fragment})"
        return match["text"][1:-1] if target.is_dir() else f"{match['text']}(path:{os.path.relpath(target, page.parent)})"

    return LINK.sub(link, text)


def _rewrite_page(app: Sphinx, docname: str, content: list[str]) -> None:
    page = Path(app.env.doc2path(docname))
    content[0] = rewritten(app, content[0], page, page)


def _rewrite_included(app: Sphinx, relative_path: Path, _: str, content: list[str]) -> None:
    page = Path(app.env.doc2path(app.env.docname))  # MyST names only the last part of it
    content[0] = rewritten(app, content[0], Path(os.path.normpath(Path(app.srcdir) / relative_path)), page)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Declare the settings, and rewrite what is read."""
    app.add_config_value("repository_url", "", "env")
    app.add_config_value("repository_pages", {}, "env")
    app.connect("source-read", _rewrite_page)
    app.connect("include-read", _rewrite_included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
