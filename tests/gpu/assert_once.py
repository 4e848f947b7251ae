"""The command line, with one CUDA error: the first worker of Separate that gets its second block has a device-side assert.

On a GPU a kernel indexes out of bounds, and the error comes out of a later call of the separator. On a CPU an error of that
type is raised in its place. `ACCEPT_ONCE` names the file that says that it has happened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from sep_batch.jobs.cli.main import main
from sep_batch.jobs.engine import engine
from sep_batch.jobs.setup.options import Options

TEXT = "CUDA error: device-side assert triggered"  # in torch's words


def _is_first() -> bool:
    try:
        with Path(os.environ["ACCEPT_ONCE"]).open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def plant() -> None:
    """Replace Separate in Ray's flow; Ray reads its environment when it is imported, so that is set before."""
    engine.set_environment(Options())
    import torch

    from sep_batch.pipeline.flow import ray_flow
    from sep_batch.pipeline.stages import separate

    def fail(*_: object, **__: object) -> Iterator[Any]:
        raise torch.AcceleratorError(TEXT)

    class Separate(separate.Separate):
        """Separate, whose second block of this worker meets a CUDA error, once in a run."""

        blocks = 0

        def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
            self.blocks += 1
            if self.blocks > 1 and _is_first():
                if self._is_on_gpu:
                    torch.zeros(1, device="cuda")[torch.tensor([7], device="cuda")]  # asynchronous
                else:
                    self._is_on_gpu, self.separator.separate_parts = True, fail
            return super().__call__(block)

    ray_flow.Separate = Separate  # type: ignore[misc]


if __name__ == "__main__":
    plant()
    main()
