"""Requirements of the machines of a run: the driver's packages, and its disk where the run works on one."""

from __future__ import annotations

import functools
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from sep_batch.pipeline import errors

PACKAGES = ("sep-batch", "torch", "torchaudio", "ray", "av", "pyarrow")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter, on this machine."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}


def differing(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """Say of each package that two machines have in other versions what both have; of Python, 3.11.2 is as 3.11.7."""
    return [
        f"{name} {theirs.get(name, 'not installed')}, the driver {ours[name]}"
        for name in ours
        if _told(name, theirs.get(name, "")) != _told(name, ours[name])
    ]


def _told(name: str, version: str) -> str:
    return ".".join(version.split(".")[:2]) if name == "python" else version


@dataclass(frozen=True)
class MachineRequirements:
    """What a stage's machine has to be like.

    Attributes:
        versions: As `versions` gives them on the driver; none are not looked at.
        disk: A path that the run works on, where it is not said that all machines see it.
        host: The name of the driver's, which does.
    """

    versions: dict[str, str] = field(default_factory=dict)
    disk: str | None = None
    host: str = field(default_factory=socket.gethostname)

    def refuse_other(self) -> None:
        """Refuse to work on a machine that joined later and is not as the others.

        Raises:
            NotRunnableError: Says what this one has and what was expected.
        """
        here = socket.gethostname()
        if self.disk is not None and self.host != here:
            raise errors.NotRunnableError(f"{self.disk} is a path of {self.host}, and {here} has joined: --shared-filesystem?")
        if self.versions and (differences := differing(versions(), self.versions)):
            raise errors.NotRunnableError(f"{here} has {'; '.join(differences)}")
