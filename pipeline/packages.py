"""Versions of this package and of those that it needs."""

from __future__ import annotations

import sys
import tomllib
from importlib import metadata
from pathlib import Path

from sep_batch.pipeline import errors

_PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"  # exists in a checkout only


def version(package: str) -> str:
    """Return the version of a package.

    A checkout that is imported without being installed has the version of its pyproject.toml, marked with `+checkout`.

    Args:
        package: Name of the package, as pip takes it.

    Raises:
        NotRunnableError: The package is not installed in this Python.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError as error:
        project = tomllib.loads(_PYPROJECT.read_text())["project"] if _PYPROJECT.is_file() else {"name": ""}
        if project["name"] == package:
            return f"{project['version']}+checkout"
        raise errors.NotRunnableError(
            f"the package {package} is not installed for {sys.executable}; "
            "install sep-batch there with all that it needs, as the README has it"
        ) from error
