"""Sources that a manifest may name: its URIs are resolved and checked.

A manifest that comes from elsewhere shall not read this machine's files: it names no local path, unless `root` says below
which folder they may lie. Links are followed when the manifest is read; one that is set later is not seen.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from sep_batch.pipeline import errors
from sep_batch.pipeline.storage import uris


@dataclass(frozen=True)
class SourcePolicy:
    """What sources have to keep to.

    Attributes:
        root: The folder of this machine that local ones have to lie below, links followed; None where there is no such.
        allow_http: Whether http and https are read.
    """

    root: str | None = None
    allow_http: bool = False

    @classmethod
    def around(cls, input_root: str | None, *, allow_http: bool) -> SourcePolicy:
        """Check and resolve the root.

        Raises:
            UsageError: It is no folder of this machine.
        """
        if input_root is None:
            return cls(None, allow_http)
        root = os.path.realpath(uris.absolute(input_root))
        if not uris.is_local(input_root) or not os.path.isdir(root):
            raise errors.UsageError(f"--input-root {uris.shown(input_root)}: expected a folder of this machine")
        return cls(root, allow_http)

    def resolve(self, uri: str, folder: str) -> str:
        """Return a source as an absolute URI.

        Args:
            uri: As the manifest gives it.
            folder: Base of relative URIs: the folder of the manifest.

        Raises:
            BadUri: It is of a form that is not read, or lies outside the fence.
        """
        uris.check(uri, allow_http=self.allow_http)
        joined = uris.join(folder, uri)
        if joined != uri:
            uris.check(joined, allow_http=self.allow_http)
        absolute = uris.absolute(joined)
        if uris.is_local(absolute):
            self._refuse_outside(absolute, is_from_here=uris.is_local(folder))
        return absolute

    def _refuse_outside(self, path: str, *, is_from_here: bool) -> None:
        if self.root is None:
            if not is_from_here:
                raise errors.BadUri(f"{uris.shown(path)}: a path of this machine, in a manifest from elsewhere; see --input-root")
        elif os.path.commonpath([os.path.realpath(path), self.root]) != self.root:
            raise errors.BadUri(f"{uris.shown(path)}: lies outside --input-root {uris.shown(self.root)}")


OPEN = SourcePolicy()
