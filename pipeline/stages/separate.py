"""Separate, the second stage: separates parts into stems with the U-Nets."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sep_batch.model import weights
from sep_batch.model.published import WeightsError
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.rows import PART, each, fill
from sep_batch.pipeline.stages import gpu_faults
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.estimates import Estimates
from sep_batch.pipeline.stages.failed_rows import failed, is_failed
from sep_batch.pipeline.stages.process import prepare_torch
from sep_batch.pipeline.stages.separation import separated
from sep_batch.pipeline.stages.shared_time import SharedTime
from sep_batch.pipeline.stages.stems import Stems
from sep_batch.pipeline.stages.time_limit import limited

if TYPE_CHECKING:
    from sep_batch.model.separator import Separator


CUFFT_PLANS = 32  # that are kept, each in the GPU's memory: torch keeps thousands, which fill it where clips have many lengths
FINEST = "float32"  # precision in which a part is separated again whose stems are not finite
WRONG_SUM_DB = -60.0  # mix minus stems against the mix; float32 leaves -120 dB
NARROW = ("float16", "bfloat16")  # precisions for which that may help; TF32 has the range of float32


class Separate:
    """The U-Nets: parts with a spectrum (or wave) in, parts with their stems out, measured and rounded for the codec."""

    def __init__(
        self, work: RunContext, model: str | Callable[[], Mapping[str, np.ndarray]], *, device: str, threads: int = 1
    ) -> None:
        """Load the model.

        Args:
            work: Context of the run.
            model: Folder of a converted model, or a function that returns its weights; nothing is downloaded here.
            device: A torch device; there is no fallback to another one.
            threads: Number of batches processed at once.

        Raises:
            WeightsError: The weights are missing, or differ from the driver's.
            NotRunnableError: This machine does not meet the run's requirements.
        """
        work.machine.refuse_other()
        import torch

        from sep_batch.model import cuda_errors
        from sep_batch.model.separator import Separator

        prepare_torch()
        storage.use(work.storage)
        self.work = work
        if callable(model):
            name, tensors = "model", model()
            digest = weights.sha256_of(tensors)
        else:
            name, (_, tensors, digest) = model, weights.load(Path(model))
        if digest != (expected := work.settings.weights_sha256):
            raise WeightsError(f"{name}: sha256 of the weights {digest}, expected {expected} as on the driver")
        settings = work.settings
        self._finest: Separator | None = None
        self._lock = threading.Lock()
        self._time = SharedTime()
        self._ids_at_work = Counter[str]()  # of all calls: their patches share batches
        self._is_on_gpu = device.startswith("cuda")
        self.gpu = gpu_faults.this_gpu()
        try:
            self.device = torch.cuda.get_device_name(device) if self._is_on_gpu else device
            self.gpu = gpu_faults.this_gpu(self.device)
            options: dict[str, Any] = {"device": device, "threads": threads, "weights_sha256": digest}
            self._build = partial(Separator, settings.spec, tensors, **options)
            self.separator = self._build(precision=settings.precision)
            if self._is_on_gpu:
                torch.backends.cuda.cufft_plan_cache.max_size = CUFFT_PLANS
                self._refuse_wrong_results(tensors)
        except RuntimeError as error:
            if not self._is_fault(error):
                raise
            if cuda_errors.is_unusable(error):
                raise errors.NotRunnableError(gpu_faults.unusable(self.gpu, error)) from error
            gpu_faults.end(error, [], self.gpu, work)

    def _is_fault(self, error: Exception) -> bool:
        from sep_batch.model import cuda_errors

        return self._is_on_gpu and cuda_errors.is_fault(error)

    def _refuse_wrong_results(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Compare the networks with the same ones on the CPU, before the first batch.

        Raises:
            NotRunnableError: They differ by more than the precision explains.
        """
        import torch

        from sep_batch.model.separator import AGREEMENT_DB

        precision = self.work.settings.precision
        agreement_db, expected_db = self.separator.agreement_db(tensors), AGREEMENT_DB[precision]
        if not agreement_db >= expected_db:  # also where it is no number
            raise errors.NotRunnableError(
                f"{self.gpu}: its networks agree with the CPU's to {agreement_db:.0f} dB in {precision}, expected "
                f"{expected_db:.0f} dB or more (torch {torch.__version__}, CUDA {torch.version.cuda}); try another driver or "
                "torch, or leave this GPU out with CUDA_VISIBLE_DEVICES"
            )

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Separate a whole block: patches are packed into batches, across tracks and across calls at the same time."""
        ids = block.column("id").to_pylist()
        with self._lock:
            self._ids_at_work.update(ids)
        try:
            yield from limited(self._time.during(self._rows(block)), ids, self.work)
        finally:
            with self._lock:
                self._ids_at_work.subtract(ids)

    def _rows(self, block: pa.Table) -> Iterator[pa.Table]:
        rows = list(each(block))
        yield from (row for row in rows if is_failed(row))
        waiting = [row for row in rows if not is_failed(row)]
        while waiting:
            is_full = False
            try:
                for row in self._stem_rows(waiting):
                    yield row
                    del waiting[0]
            except Exception as error:  # noqa: BLE001 (a failure is a row)
                from sep_batch.model import cuda_errors

                is_full = cuda_errors.is_out_of_memory(error) and self.separator.room > 1
                if not is_full:
                    if self._is_fault(error):
                        gpu_faults.end(error, sorted(+self._ids_at_work), self.gpu, self.work)
                    for row in waiting:
                        yield failed(row, _translated(error), "separate", self.work)
                    return
            if is_full:  # what joins and measures the pieces ran out of memory
                self.separator.shrink()

    def _stem_rows(self, waiting: Sequence[pa.Table]) -> Iterator[pa.Table]:
        """Yield the parts with their stems, in their order."""
        begun_s = self._time.now_s()
        for row, result in separated(self.separator, list(waiting), self.work):
            yield self._finished(row, result, begun_s)
            del result  # before the next one is made
            begun_s = self._time.now_s()

    def _finished(self, row: pa.Table, result: Stems | Estimates, begun_s: float) -> pa.Table:
        """Return the row of a part whose stems are complete; separate it in float32 where they are not finite."""
        precision: str = self.work.settings.precision
        if not result.is_finite and precision in NARROW:
            result, precision = self._in_float32(row), FINEST
        if not result.is_finite:
            error = errors.NonfiniteStems(f"the U-Nets gave stems of values that are no numbers, in {precision}")
            return failed(row, error, error.stage, self.work)
        columns = result.columns()
        if (level := columns.get("null_db")) is not None and level > WRONG_SUM_DB and not self.work.settings.mwf:
            wrong = errors.WrongSum(
                f"mix minus stems: {level:.0f} dB of the mix, in the frequencies that the model has; expected at most "
                f"{WRONG_SUM_DB:.0f} dB ({self.gpu if self._is_on_gpu else self.device})"
            )
            return failed(row, wrong, wrong.stage, self.work)
        settings = self.work.settings
        return fill(
            row,
            PART,
            model=settings.spec.name,
            weights_sha256=settings.weights_sha256,
            settings_sha256=settings.sha256,
            precision=precision,
            device=self.device,
            separate_s=self._time.now_s() - begun_s,
            **columns,
        )

    def _in_float32(self, row: pa.Table) -> Stems | Estimates:
        """Separate a part again, in float32: at 64 times full scale float16 overflows."""
        with self._lock:
            self._finest = finest = self._finest or self._build(precision=FINEST)
        ((_, result),) = separated(finest, [row], self.work)
        return result


def _translated(error: Exception) -> Exception:
    import torch

    return errors.OutOfMemory(str(error)) if isinstance(error, torch.OutOfMemoryError) else error
