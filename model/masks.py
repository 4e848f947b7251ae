"""Ratio masks: the share of each stem in every bin, from the U-Nets' estimates."""

from __future__ import annotations

import torch
from torch import Tensor

from sep_batch.model.spec import ModelSpec

EPSILON = 1e-10  # Spleeter's, in numerator (divided by the number of stems) and denominator


@torch.inference_mode()
def ratio_masks(estimates: Tensor, spec: ModelSpec) -> Tensor:
    """Turn estimates into ratio masks: estimate^e / sum of estimates^e, extended to the kept bins.

    Args:
        estimates: (stems, ..., T, F); overwritten.
        spec: The model's description.

    Returns:
        (stems, ..., T, kept bins), between 0 and 1, summing to 1 over the stems below F.

    Source: Spleeter's `EstimatorSpecBuilder._build_masks` and `_extend_mask`.
    """
    exponent = spec.separation_exponent
    powers = estimates.square_() if exponent == 2 else estimates.pow_(exponent)
    total = powers.sum(dim=0).add_(EPSILON)
    masks = powers.add_(EPSILON / len(spec.stems)).div_(total)
    if spec.mask_extension == "zeros":
        return masks
    above = masks.mean(dim=-1, keepdim=True).expand(*masks.shape[:-1], spec.spectrum_bins - spec.bins)
    return torch.cat([masks, above], dim=-1)
