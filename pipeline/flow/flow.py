"""The interface of a flow: the three stages over a plan's files, whichever engine runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import pyarrow as pa


class Flow(Protocol):
    """The stages over a plan's files. They run when its rows are read."""

    def rows(self) -> Iterator[pa.Table]:
        """Run the flow, and yield the rows of finished tracks as they come; the parts of long tracks are joined on the way.

        Raises:
            NotRunnableError: A stage could not start, or its engine failed.
        """
        ...

    def watch(self) -> None:
        """Give up workers that are lost or over the time limit; the driver's next pass retries their tracks. Call it repeatedly.

        Raises:
            NotRunnableError: A stage has been without a worker for too long.
        """
        ...

    def is_loading(self, stage: str) -> bool:
        """Tell whether every worker of a stage is still starting."""
        ...

    def stop(self) -> None:
        """Stop the flow; tracks at work are lost."""
        ...

    def stats(self) -> str:
        """Return the engine's statistics of the run, if it has any."""
        ...


Build = Callable[..., Flow]  # called with the arguments of `RayFlow`
