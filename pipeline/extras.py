"""Advice for a missing package of an optional extra: the command that installs it."""

from __future__ import annotations

import shlex
import sys
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

_DISTRIBUTION = "sep-batch"
_CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"  # exists in a checkout only


def to_install(extra: str) -> str:
    """Return the advice to install an extra into this Python: a command with its packages and the versions that fit.

    The command names packages instead of this project, which is in no package index. It works from any folder.

    Args:
        extra: Name of the extra in pyproject.toml.
    """
    constraints = ["--constraint", str(_CONSTRAINTS)] if _CONSTRAINTS.is_file() else []
    command = shlex.join([*_installer(), *constraints, *requirements(extra)])
    return f"install the extra {extra}: {command}"


def requirements(extra: str) -> list[str]:
    """Return an extra's packages with the versions that fit, as pip takes them."""
    try:
        needed = [Requirement(line) for line in requires(_DISTRIBUTION) or ()]
    except PackageNotFoundError:  # a bare copy of the sources on a path
        return [f"{_DISTRIBUTION}[{extra}]"]
    mine = (requirement for requirement in needed if requirement.marker and requirement.marker.evaluate({"extra": extra}))
    return sorted(str(requirement).partition(";")[0] for requirement in mine)


def _installer() -> list[str]:
    """Return the command that installs into this Python; environments that uv made have no pip."""
    has_pip = find_spec("pip") is not None
    return [sys.executable, "-m", "pip", "install"] if has_pip else ["uv", "pip", "install", "--python", sys.executable]
