"""Requirements of the machines of a run: the driver's package versions, and its disk where the run uses one."""

from __future__ import annotations

import functools
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from sep_batch.pipeline import errors, packages

PACKAGES = ("sep-batch", "torch", "torchaudio", "ray", "av", "pyarrow")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter, on this machine.

    Raises:
        NotRunnableError: One of the packages is not installed.
    """
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {package: packages.version(package) for package in PACKAGES}


def differing(machine: Mapping[str, str], driver: Mapping[str, str]) -> list[str]:
    """Return a text with both versions for each package whose versions differ; patch releases of Python may differ."""
    return [
        f"{name} {machine.get(name, 'not installed')}, the driver {driver[name]}"
        for name in driver
        if _significant(name, machine.get(name, "")) != _significant(name, driver[name])
    ]


def _significant(name: str, version: str) -> str:
    return ".".join(version.split(".")[:2]) if name == "python" else version


@dataclass(frozen=True)
class MachineRequirements:
    """Requirements of the machines that run stages.

    Attributes:
        versions: The driver's versions, from `versions`; empty disables the check.
        disk: A path that the run uses, unless it is declared to be on a file system that all machines share.
        host: Host name of the driver, which has that path.
    """

    versions: dict[str, str] = field(default_factory=dict)
    disk: str | None = None
    host: str = field(default_factory=socket.gethostname)

    def refuse_other(self) -> None:
        """Refuse a machine that joined the cluster later and does not meet the requirements.

        Raises:
            NotRunnableError: This machine differs; the message names the differences.
        """
        host = socket.gethostname()
        if self.disk is not None and self.host != host:
            raise errors.NotRunnableError(
                f"{host} joined the cluster, and {self.disk} is a path of {self.host}; "
                "pass --shared-filesystem if every node sees that path"
            )
        if self.versions and (differences := differing(versions(), self.versions)):
            raise errors.NotRunnableError(f"{host} joined the cluster with other versions: {'; '.join(differences)}")
