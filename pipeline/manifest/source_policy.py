"""Sources that a manifest may name: its URIs are resolved and checked.

A remote manifest must not read this machine's files: it may name no local path, unless `root` gives the folder that they have to
lie below. Links are followed when the manifest is read; a link that is set later is not checked.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from sep_batch.pipeline import errors
from sep_batch.pipeline.storage import uris


@dataclass(frozen=True)
class SourcePolicy:
    """Rules for the sources of a manifest.

    Attributes:
        root: Local folder that local sources have to lie below, links followed; None if none is given.
        allow_http: Accept http and https.
    """

    root: str | None = None
    allow_http: bool = False

    @classmethod
    def around(cls, input_root: str | None, *, allow_http: bool) -> SourcePolicy:
        """Check and resolve the root.

        Raises:
            UsageError: It is no folder on this machine.
        """
        if input_root is None:
            return cls(None, allow_http)
        root = os.path.realpath(uris.absolute(input_root))
        if not uris.is_local(input_root) or not os.path.isdir(root):
            raise errors.UsageError(f"--input-root {uris.shown(input_root)}: expected a folder on this machine")
        return cls(root, allow_http)

    def resolve(self, uri: str, folder: str) -> str:
        """Return a source as an absolute URI.

        Args:
            uri: URI as the manifest gives it.
            folder: Base of relative URIs: the folder of the manifest.

        Raises:
            BadUri: Its form is not supported, or it lies outside the allowed folder.
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
                raise errors.BadUri(
                    f"{uris.shown(path)}: a path on this machine, in a remote manifest; allow its folder by --input-root"
                )
        elif os.path.commonpath([os.path.realpath(path), self.root]) != self.root:
            raise errors.BadUri(f"{uris.shown(path)}: lies outside --input-root {uris.shown(self.root)}")


OPEN = SourcePolicy()
