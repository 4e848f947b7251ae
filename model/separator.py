"""Separator: all U-Nets of a spec; magnitudes to estimates, estimates to masks, masks to stems.

Nothing here knows about files or rows: waves or spectra go in, waves come out.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from sep_batch.model import cuda_errors, weights
from sep_batch.model.batching import Batches
from sep_batch.model.inference import Target, inference_form
from sep_batch.model.masks import ratio_masks
from sep_batch.model.parts import Part, energies, float_wave, split_parts
from sep_batch.model.spec import ModelSpec
from sep_batch.model.spectrogram import Synthesis, as_stereo, magnitude, overlap_add, patch_count, spectrum_of
from sep_batch.model.stems import Stems
from sep_batch.model.unet import UNet
from sep_batch.model.wiener import EstimatedPatch, FilteredPiece, filtered

BAND = -1  # in place of a stem's number: the mix in the bins that stems have
CPU_BATCH = 1  # patches per batch
GPU_BATCH = 10  # of songs of 3 to 5 minutes, in parts of up to 20 patches, 18 % of the places are padding; with 32 it was 56 %
GROWN_AFTER = 64  # batches without running out of memory, before a halved batch is doubled
PRECISIONS = {"float32": "float32", "tf32": "float32", "bfloat16": "bfloat16", "float16": "float16"}  # to torch's dtypes
CPU_PRECISIONS = ("float32", "bfloat16")


AGREEMENT_DB = {"float32": 60.0, "tf32": 30.0, "bfloat16": 15.0, "float16": 30.0}  # of a network that works, at least


def _plain(spec: ModelSpec, tensors: Mapping[str, np.ndarray]) -> list[UNet]:
    """Return the networks of a model's stems as they are written, on the CPU."""
    with torch.device("meta"):  # without memory, and without random weights
        unets = {stem: UNet(spec) for stem in spec.stems}
    state = {name: torch.from_numpy(np.require(array, requirements="W")) for name, array in tensors.items()}
    nn.ModuleDict(unets).load_state_dict(state, assign=True)
    return list(unets.values())


def _use(precision: str, device: torch.device) -> torch.dtype:
    """Set torch's TF32 mode for this precision, and return the compute dtype."""
    allowed = CPU_PRECISIONS if device.type == "cpu" else PRECISIONS
    if precision not in allowed:
        raise ValueError(f"precision {precision!r} on {device.type}: expected one of {', '.join(allowed)}")
    if device.type == "cuda":  # torch's own default is tf32 in convolutions
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    dtype: torch.dtype = getattr(torch, PRECISIONS[precision])
    return dtype


class Piece(NamedTuple):
    """The next piece of a part's stems.

    Attributes:
        part_index: Position of the part among the parts of the call.
        waves: (stems, channels, samples) float32 on the Separator's device.
        energy: Energy of this piece of the part's own spectrum, where the part is a wave; else 0, since the part holds it.
        energy_above_f: The same for the bins from F up.
        band: The mix in the bins that stems have, which is the sum of all stems: (channels, samples) float32, for a null test.
    """

    part_index: int
    waves: Tensor
    energy: float
    energy_above_f: float
    band: Tensor | None = None


class EstimatedPiece(NamedTuple):
    """The next patch of a part, with its estimates.

    Attributes:
        part_index: Position of the part among the parts of the call.
        patch: The patch, on the Separator's device.
        energy: Energy of the patch's spectrum.
        energy_above_f: The same for the bins from F up.
    """

    part_index: int
    patch: EstimatedPatch
    energy: float
    energy_above_f: float


class _Kind(NamedTuple):
    """What the patches of a batch have in common.

    Attributes:
        stems: Numbers of the stems to return, and `BAND`; None for the estimates of all.
        dtype: Numpy's name of the patches' type.
    """

    stems: tuple[int, ...] | None
    dtype: str


class _Batch(NamedTuple):
    """Result of a batch, or of one of its patches, whose energies are on the CPU.

    Attributes:
        stems: (patches, stems, channels, T + 3, hop) as `overlap_add` fills it, or estimates (patches, stems, channels, T, F).
        energies: (patches, 2), of the spectra, all bins and those from F up.
    """

    stems: Tensor
    energies: Tensor


class Separator:
    """All U-Nets of a model on one device.

    Attributes:
        spec: The model's description.
        weights_sha256: Checksum of the weights, the same on every machine.
        batch: Number of patches in a batch; one with fewer is padded with zeros to this shape.
        room: Number of patches that fit on the device at once: `batch`, or less after it ran out of memory.
        threads: Number of batches processed at once, each by one thread, on a GPU on its own stream. No result depends on it.
        precision: Compute precision of the U-Nets.
    """

    def __init__(
        self,
        spec: ModelSpec,
        tensors: Mapping[str, np.ndarray],
        *,
        device: str = "cpu",
        batch: int | None = None,
        threads: int = 1,
        precision: str = "float32",
        weights_sha256: str | None = None,
    ) -> None:
        """Build the networks.

        Args:
            spec: The model's description.
            tensors: Weights by name, as `weights.load` returns them.
            device: A torch device.
            batch: Number of patches in a batch; by default 1 on a CPU and 10 on a GPU.
            threads: Number of batches processed at once. A CPU is faster with one patch per thread than many threads per patch.
            precision: Compute precision of the U-Nets, one of `PRECISIONS`; on a CPU one of `CPU_PRECISIONS`.
            weights_sha256: Checksum of the weights, where it is known already.

        Raises:
            ValueError: The device does not support the precision.
        """
        self.spec = spec
        self.weights_sha256 = weights_sha256 or weights.sha256_of(tensors)
        self.device = torch.device(device)
        self.batch = batch or (CPU_BATCH if self.device.type == "cpu" else GPU_BATCH)
        self.room, self._successes = self.batch, 0
        self.threads, self.precision = threads, precision
        self._kept = threading.local()
        self._batches = Batches(self._computed, size=self.batch, threads=threads)
        shape = (self.batch, spec.channels, spec.patch_frames, spec.bins)
        target = Target(self.device, _use(precision, self.device))
        self._unets = [inference_form(unet, shape=shape, target=target) for unet in _plain(spec, tensors)]

    @classmethod
    def load(cls, model: str = "spleeter:2stems", *, device: str = "cpu", threads: int = 1) -> Self:
        """Load a model by name (from the cache, fetched on first use) or from the folder of a converted one.

        Raises:
            WeightsError: The model is unknown, cannot be fetched, or fails a check.
        """
        spec, tensors, sha256 = weights.load(weights.obtain(model), preset=model)
        return cls(spec, tensors, device=device, threads=threads, weights_sha256=sha256)

    @torch.inference_mode()
    def agreement_db(self, tensors: Mapping[str, np.ndarray]) -> float:
        """Return how closely the networks agree with plain ones in float32 on the CPU: signal to difference, in dB.

        Each place of a batch gets the same patch of noise; the worst one counts. It should be more than `AGREEMENT_DB`.

        Args:
            tensors: The weights.
        """
        spec = self.spec
        patch = torch.rand((1, spec.channels, spec.patch_frames, spec.bins), generator=torch.Generator().manual_seed(0))
        expected = torch.stack([unet.eval()(patch) for unet in _plain(spec, tensors)])
        while True:
            try:
                results = torch.stack([unet(patch.to(self.device).expand(self.room, -1, -1, -1)) for unet in self._unets]).cpu()
                break
            except RuntimeError as error:
                if not cuda_errors.is_out_of_memory(error) or self.room == 1:
                    raise
            self.shrink()
        differences = (results - expected).square().sum(dim=(0, 2, 3, 4)).max()
        ratio = float(expected.square().sum() / differences.clamp(min=torch.finfo(torch.float32).tiny))
        return -math.inf if ratio == 0 else 10 * math.log10(ratio)

    @torch.inference_mode()
    def estimates(self, magnitudes: Tensor) -> Tensor:
        """Run every U-Net.

        Args:
            magnitudes: (batch, channels, T, F).

        Returns:
            (stems, batch, channels, T, F), magnitudes.
        """
        _use(self.precision, self.device)  # torch's mode is the process's, which may have another separator
        logits = torch.stack([unet(magnitudes) for unet in self._unets])
        heads = torch.sigmoid_(logits) if self.spec.head == "sigmoid" else torch.softmax(logits, dim=0)
        return heads.mul_(magnitudes)

    @torch.inference_mode()
    def separate_parts(
        self, parts: Sequence[Part], stems: Sequence[str] | None = None, *, null_test: bool = False
    ) -> Iterator[Piece]:
        """Separate several parts. Patches of all parts, and of all calls at the same time, are packed into batches of one shape.

        Args:
            parts: Parts of any tracks; all with spectra, or all with waves.
            stems: Names of the stems to return, in this order; by default all.
            null_test: Return the pieces' `band` too.

        Yields:
            The pieces of each part, part after part. The pieces of one part add up to its `samples`.
        """
        chosen = tuple(self.spec.stems.index(stem) for stem in stems or self.spec.stems)
        kinds = (*chosen, BAND) if null_test else chosen
        patches = [(part_index, patch) for part_index, part in enumerate(parts) for patch in part.patches(self.spec)]
        joined = [Synthesis(part.skip, part.samples, self.spec) for part in parts]
        context = [part.context(self.spec) for part in parts]
        for (part_index, _), (sums, energy) in zip(patches, self._results(patches, kinds), strict=True):
            own = energy.new_zeros(2) if context[part_index] else energy[0]
            context[part_index] = 0
            waves = joined[part_index].add(sums)
            piece = Piece(part_index, waves[: len(chosen)], *own.tolist())
            yield piece._replace(band=waves[-1]) if null_test else piece

    @torch.inference_mode()
    def estimate_parts(self, parts: Sequence[Part]) -> Iterator[EstimatedPiece]:
        """Run the U-Nets over several parts with waves, for `wiener.filtered`, in batches as `separate_parts` does.

        Args:
            parts: Parts of any tracks, with waves.

        Yields:
            The patches of each part, part after part, without the one that belongs to the part before.
        """
        patches = [
            (index, patch) for index, part in enumerate(parts) for patch in part.patches(self.spec)[part.context(self.spec) :]
        ]
        for (part_index, patch), (estimates, energy) in zip(patches, self._results(patches, None), strict=True):
            wave = torch.zeros((self.spec.channels, self.spec.patch_wave_samples))
            wave[:, : len(patch)] = float_wave(torch.from_numpy(np.require(patch, requirements="W"))).transpose(0, 1)
            yield EstimatedPiece(part_index, EstimatedPatch(wave.to(self.device), estimates[0].contiguous()), *energy[0].tolist())

    def _results(self, patches: Iterable[tuple[int, np.ndarray]], stems: tuple[int, ...] | None) -> Iterator[_Batch]:
        """Yield the result of each patch, from batches that it shares with other calls."""
        for result in self._batches.results((_Kind(stems, patch.dtype.name), patch) for _, patch in patches):
            if self.device.type == "cuda":
                result.stems.record_stream(torch.cuda.current_stream(self.device))
            yield result

    def _computed(self, kind: _Kind, patches: Sequence[np.ndarray]) -> list[_Batch]:
        """Compute a batch, and return the result of each patch."""
        with self._stream():
            batch = self._synthesis(patches, kind.stems)
            energies = batch.energies.cpu()
        return [_Batch(batch.stems[number : number + 1], energies[number : number + 1]) for number in range(len(patches))]

    @contextlib.contextmanager
    def _stream(self) -> Iterator[None]:
        """On a GPU, use a stream of this thread, and wait for it: a batch is copied while another thread's is computed."""
        if self.device.type == "cpu":
            yield
            return
        if not hasattr(self._kept, "stream"):
            self._kept.stream = torch.cuda.Stream(self.device)
            self._kept.stream.wait_stream(torch.cuda.default_stream(self.device))  # the weights are brought on it
        with torch.cuda.stream(self._kept.stream):
            yield
        self._kept.stream.synchronize()

    def _synthesis(self, patches: Sequence[np.ndarray], chosen: Sequence[int] | None) -> _Batch:
        """Separate one batch. It is halved where the device runs out of memory; after `GROWN_AFTER` successes it grows again."""
        done: list[_Batch] = []
        while (begin := sum(len(batch.stems) for batch in done)) < len(patches):
            is_full = False
            try:
                done.append(self._synthesis_of(patches[begin : begin + self.room], chosen, self.room))
            except RuntimeError as error:
                if not cuda_errors.is_out_of_memory(error) or self.room == 1:
                    raise
                is_full = True
            if is_full:  # not in the except block: the error's traceback holds the tensors
                self.shrink()
                continue
            self._successes += 1
            if self._successes >= GROWN_AFTER and self.room < self.batch:
                self.room, self._successes = min(2 * self.room, self.batch), 0
        return done[0] if len(done) == 1 else _Batch(*map(torch.cat, zip(*done, strict=True)))

    def shrink(self) -> bool:
        """Halve `room`, and free the memory that torch keeps for later, after the device ran out of it; False if room is 1."""
        if self.room == 1:
            return False
        self.room, self._successes = self.room // 2, 0
        torch.cuda.empty_cache()
        return True

    @torch.inference_mode()
    def _synthesis_of(self, patches: Sequence[np.ndarray], chosen: Sequence[int] | None, room: int) -> _Batch:
        spec = self.spec
        spectrum, frames, energy = self._spectra(patches, room)
        estimates = self.estimates(magnitude(spectrum[..., : spec.bins]))
        if chosen is None:
            return _Batch(estimates[:, : len(patches)].transpose(0, 1), energy)
        used = slice(len(patches)), slice(None), slice(frames)  # all further steps are frame by frame
        masks = ratio_masks(estimates[(slice(None), *used)], spec)
        shape = (len(patches), len(chosen), spec.channels, spec.patch_frames + 3, spec.hop)
        sums = torch.zeros(shape, device=self.device)
        for number, stem in enumerate(chosen):  # one after another: a stem needs four times the memory of its result
            own = spectrum[used] if stem == BAND else masks[stem] * spectrum[used]
            overlap_add(sums[:, number], own, spec)
        return _Batch(sums, energy)

    def _spectra(self, patches: Sequence[np.ndarray], room: int) -> tuple[Tensor, int, Tensor]:
        """Bring patches to the device.

        Returns:
            Spectrum of the patches (room, channels, T, kept bins), number of frames of the longest one, and energies
            (patches, 2) of their spectrum, all bins and those from F up: zeros where the patches are spectra.
        """
        spec, longest = self.spec, max(map(len, patches))
        if patches[0].dtype.kind == "c":
            spectra = self._brought(patches, (room, spec.patch_frames, spec.channels, spec.kept_bins))
            return spectra.transpose(1, 2), longest, torch.zeros((len(patches), 2))
        waves = float_wave(self._brought(patches, (room, spec.patch_wave_samples, spec.channels)))
        whole = spectrum_of(waves.transpose(1, 2).contiguous(), spec)
        own = whole[: len(patches)]
        energy = torch.stack([energies(own), energies(own[..., spec.bins :])], dim=-1)
        kept = whole[..., : spec.kept_bins].transpose(1, 2).contiguous()  # the layout of a part's spectrum
        return kept.transpose(1, 2), (longest - spec.frame_length) // spec.hop + 1, energy

    def _brought(self, patches: Sequence[np.ndarray], shape: tuple[int, ...]) -> Tensor:
        """Bring patches to the device; zeros fill the rest of the shape.

        They are put together in a buffer that each thread keeps for each type: to map and zero a new one each time takes as long
        as the copy.
        """
        kept: dict[torch.dtype, Tensor] = self._kept.__dict__.setdefault("patches", {})
        dtype = torch.from_numpy(np.empty(0, patches[0].dtype)).dtype
        host = kept.get(dtype)
        if host is None or host.shape != shape:
            host = kept[dtype] = torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")
        count = len(patches)
        _stacked(patches, host)
        if self.device.type == "cpu":
            host[count:] = 0
            return host
        brought = torch.empty(shape, dtype=dtype, device=self.device)
        brought[:count].copy_(host[:count], non_blocking=True)  # the batch has ended before the next one overwrites the buffer
        brought[count:] = 0
        return brought

    def separate(self, wave: Tensor | np.ndarray, *, mwf: bool = False) -> Stems:
        """Separate one wave at the model's sample rate.

        Args:
            wave: (channels, samples) or (samples,), float, full scale 1. Mono is doubled; the first two of more channels
                are used.
            mwf: Filter with the multichannel Wiener filter, in place of the ratio masks.

        Returns:
            Waves by stem name, (2, samples) float32, exactly as long as the input; a notebook shows players.

        Raises:
            ValueError: The wave has no samples, or another number of dimensions.
        """
        tensor = torch.as_tensor(wave)
        if tensor.ndim not in (1, 2) or tensor.numel() == 0:
            raise ValueError(f"wave: found shape {tuple(tensor.shape)}, expected (channels, samples) with at least one sample")
        stereo = as_stereo(tensor)
        (part,) = split_parts([stereo], self.spec, patch_count(stereo.shape[1], self.spec), as_waves=mwf)
        if mwf:
            patches = [piece.patch for piece in self.estimate_parts([part])]
            pieces: Iterator[FilteredPiece | Piece] = filtered(patches, part.samples, self.spec)
        else:
            pieces = self.separate_parts([part])
        waves = torch.cat([piece.waves.cpu() for piece in pieces], dim=-1)
        return Stems(dict(zip(self.spec.stems, waves, strict=True)), self.spec.sample_rate_hz)


def _stacked(patches: Sequence[np.ndarray], out: Tensor) -> None:
    """Copy each patch to the front of its row of `out`, with zeros behind it."""
    for row, patch in zip(out.numpy(), patches, strict=False):
        row[: len(patch)] = patch
        row[len(patch) :] = 0
