"""Energies of a reference and of another wave, summed block by block in float64, and the ratios made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Sums:
    """Sums over all samples and both channels of two waves.

    Attributes:
        samples: Samples per channel.
        reference: Energy of the reference.
        other: Energy of the other wave.
        difference: Energy of reference minus other wave.
        product: Inner product of both waves.
        reference_sums: Sum of the reference's samples, by channel.
        other_sums: Sum of the other wave's samples, by channel.
    """

    samples: int = 0
    reference: float = 0.0
    other: float = 0.0
    difference: float = 0.0
    product: float = 0.0
    reference_sums: np.ndarray = field(default_factory=lambda: np.zeros(2))
    other_sums: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def add(self, reference: np.ndarray, other: np.ndarray) -> None:
        """Add a block of both waves, each (2, samples)."""
        true, given = reference.astype(np.float64), other.astype(np.float64)
        self.samples += true.shape[1]
        self.reference += _energy(true)
        self.other += _energy(given)
        self.difference += _energy(true - given)
        self.product += float(np.vdot(true, given))
        self.reference_sums += true.sum(axis=1)
        self.other_sums += given.sum(axis=1)

    @property
    def snr_db(self) -> float:
        """Energy of the reference over energy of the difference, in dB: of a stem and its reference, the SDR."""
        return ratio_db(self.reference, self.difference)

    @property
    def level_db(self) -> float:
        """Level of the other wave minus that of the reference, in dB."""
        return ratio_db(self.other, self.reference)

    @property
    def si_sdr_db(self) -> float:
        """Scale-invariant SDR of the other wave, in dB: means removed channel by channel, one scale for both channels.

        Source: Le Roux et al., SDR - half-baked or well done?, ICASSP 2019, equations 4 and 5.
        """
        if not self.difference:
            return ratio_db(self.reference, 0.0)
        energy = self.reference - self._mean_part(self.reference_sums, self.reference_sums)
        other = self.other - self._mean_part(self.other_sums, self.other_sums)
        product = self.product - self._mean_part(self.reference_sums, self.other_sums)
        target = product**2 / energy if energy > 0 else 0.0
        return ratio_db(target, max(0.0, other - target)) if target else -math.inf

    def _mean_part(self, some: np.ndarray, others: np.ndarray) -> float:
        """Return the inner product of the means of two waves."""
        return float(some @ others) / self.samples if self.samples else 0.0


def ratio_db(energy: float, by: float) -> float:
    """Return the ratio of two energies in dB: infinite by nothing, also nothing by nothing; of nothing, minus infinite."""
    if not by:
        return math.inf
    return 10 * math.log10(energy / by) if energy else -math.inf


def _energy(wave: np.ndarray) -> float:
    return float(np.vdot(wave, wave))
