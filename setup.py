"""Metadata that a build computes: the README as the long description, and addresses. All other metadata is in pyproject.toml.

SEP_BATCH_REPOSITORY_URL, an address such as https://host/owner/name, makes the README's links and pictures lead to the files of
this version's tag there, and adds the project's addresses. Without it, links and pictures stay relative.
"""

from __future__ import annotations

import os
import posixpath
import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from setuptools import setup

ROOT = Path(__file__).parent
VARIABLE = "SEP_BATCH_REPOSITORY_URL"
MARKDOWN = re.compile(
    r"""
    ^[ \t]*(?P<fence>`{3,}|~{3,}).*?^[ \t]*(?P=fence)                       # a block of code
    | (?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)                            # code in a line
    | (?P<before>!?\[[^\[\]`]*\]\(|\]\(|\s(?:src|srcset|href)=["'])(?P<path>[^\s()"']+)  # a link or picture, in HTML too
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


def absolute(text: str, repository: str, version: str) -> str:
    """Return a Markdown text with absolute links and pictures.

    Args:
        text: A text of the repository's root, with inline links and pictures, or those of HTML.
        repository: Address of the repository at a Git host.
        version: Version whose tag the links name.
    """

    def link(match: re.Match[str]) -> str:
        parts = urlsplit(match["path"] or "")
        if parts.scheme or parts.netloc or not parts.path:
            return match[0]  # code, an absolute address, or a heading of the same text
        kind = "raw" if match["before"].startswith("!") or "src" in match["before"] else "blob"
        path = parts._replace(path=posixpath.normpath(parts.path)).geturl()
        return f"{match['before']}{repository}/{kind}/v{version}/{path}"

    return MARKDOWN.sub(link, text)


def metadata(repository: str) -> dict[str, object]:
    """Return the computed metadata, as `setup` takes it.

    Args:
        repository: Address of the repository at a Git host; may be empty.

    Raises:
        SystemExit: It is no such address.
    """
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    computed: dict[str, object] = {"long_description": readme, "long_description_content_type": "text/markdown"}
    if not repository:
        return computed
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[\w.~-]+){2,}/?", repository):
        raise SystemExit(f"{VARIABLE}: expected an address such as https://host/owner/name, found {repository!r}")
    repository = repository.rstrip("/")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    addresses = {
        "Source": repository,
        "Documentation": f"{repository}/tree/v{version}/docs",
        "Changelog": f"{repository}/blob/v{version}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
    return computed | {"long_description": absolute(readme, repository, version), "project_urls": addresses}


if __name__ == "__main__":
    setup(**metadata(os.environ.get(VARIABLE, "")))
