"""Pure functions of batches, shared by the transforms and the trainer.

Randomness comes in as uniform numbers in [0, 1), so that the same numbers give the same result whether a transform
draws them for one image or the trainer for a batch on the device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from monai_sagan.errors import SaganError
from monai_sagan.networks.patches import check_grid, position_code

__all__ = ["anomaly_map", "anomaly_score", "smooth_map"]


def foreign_patch(
    image: Tensor,
    source: Tensor,
    uniform: Tensor,
    core: float = 0.6,
    size: tuple[float, float] = (0.05, 0.2),
    opacity: tuple[float, float] = (0.0, 1.0),
) -> tuple[Tensor, Tensor]:
    """Blend a square of ``source`` into ``image``, at the same place: a pseudo-anomaly, after FPI.

    Foreign Patch Interpolation: https://arxiv.org/abs/2011.04197. The defaults are SAGAN's published code: a center
    within the middle 60 % of height and width, half a side of 5 to 20 % of the shorter image side (6 to 24 pixels
    across at 64 x 64), any opacity.

    Args:
        image: (B, C, H, W), of any range.
        source: same shape; another image for each.
        uniform: (B, 4) in [0, 1): center row, center column, size, opacity.
        core: share of height and width in which the center lies.
        size: least and greatest half side, as shares of the shorter image side.
        opacity: least and greatest share of ``source`` in the square.

    Returns:
        the blended image (B, C, H, W) and the mask (B, 1, H, W), 1 within the square and 0 elsewhere.

    >>> image, source = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    >>> blended, mask = foreign_patch(image, source, torch.tensor([[0.5, 0.5, 0.5, 0.25]]))
    >>> blended.max().item(), mask.sum().item()
    (0.25, 4.0)
    """
    h, w = image.shape[-2:]
    draw = uniform.to(image.device)[:, :, None, None]
    row = _whole(draw[:, 0], (1 - core) / 2 * h, (1 + core) / 2 * h - 1)
    col = _whole(draw[:, 1], (1 - core) / 2 * w, (1 + core) / 2 * w - 1)
    half = _whole(draw[:, 2], size[0] * min(h, w), size[1] * min(h, w)).clamp(min=1)
    rows = torch.arange(h, device=image.device)[:, None]
    cols = torch.arange(w, device=image.device)[None, :]
    inside = (rows >= row - half) & (rows < row + half) & (cols >= col - half) & (cols < col + half)
    share = opacity[0] + (opacity[1] - opacity[0]) * draw[:, 3:4]
    mask = inside[:, None]
    blended = torch.where(mask, torch.lerp(image, source, share.to(image.dtype)), image)
    return blended, mask.to(image.dtype)


def _whole(uniform: Tensor, low: float, high: float) -> Tensor:
    """Whole numbers from ``int(low)`` to ``int(high)``, both included."""
    return int(low) + (uniform * (int(high) - int(low) + 1)).floor()


def small_affine(
    image: Tensor, uniform: Tensor, degrees: float = 3.4, scale: float = 0.05, shift: float = 0.03
) -> Tensor:
    """Rotate, scale and shift each image (B, C, H, W) slightly, as patients vary in position; borders are repeated.

    ``uniform`` (B, 4) is in [0, 1): angle, scale, shift up, shift left; 0.5 everywhere changes nothing. ``degrees``,
    ``scale`` and ``shift``, the latter as shares, are the greatest changes.
    """
    h, w = image.shape[-2:]
    angle, zoom, up, left = (2 * uniform.to(image.device, image.dtype) - 1).unbind(1)
    angle = angle * math.radians(degrees)
    zoom = 1 / (1 + zoom * scale)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    theta = torch.stack(
        [
            torch.stack([cos, -sin * (h / w), 2 * shift * left], dim=1),
            torch.stack([sin * (w / h), cos, 2 * shift * up], dim=1),
        ],
        dim=1,
    )
    points = F.affine_grid(theta, list(image.shape), align_corners=False)
    return F.grid_sample(image, points, padding_mode="border", align_corners=False)


def append_position_code(image: Tensor, grid: tuple[int, int], rounding: str = "ceil") -> Tensor:
    """Append the binary `position_code` of each patch as channels: (..., C, H, W) to (..., C + bits, H, W)."""
    h, w = image.shape[-2:]
    check_grid(grid, h, w)
    code = position_code(grid, rounding).to(image).T.reshape(-1, grid[0], grid[1])
    code = code.repeat_interleave(h // grid[0], dim=1).repeat_interleave(w // grid[1], dim=2)
    return torch.cat([image, code.expand(*image.shape[:-3], *code.shape)], dim=-3)


def anomaly_map(image: Tensor, restored: Tensor) -> Tensor:
    """Half the absolute difference, averaged over channels: (..., C, H, W) in [-1, 1] to (..., 1, H, W) in [0, 1].

    >>> anomaly_map(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)).unique()
    tensor([0.5000])
    """
    return (image - restored).abs().mean(dim=-3, keepdim=True) / 2


def anomaly_score(anomaly_map: Tensor) -> Tensor:
    """The mean of an anomaly map (..., 1, H, W) over its pixels: (...), in [0, 1]; higher is more abnormal.

    >>> anomaly_score(torch.full((2, 1, 4, 4), 0.25))
    tensor([0.2500, 0.2500])
    """
    return anomaly_map.mean(dim=(-3, -2, -1))


def smooth_map(
    anomaly_map: Tensor,
    kind: str = "gaussian",
    image: Tensor | None = None,
    sigma: float = 1.0,
    radius: int = 4,
    epsilon: float = 0.04,
) -> Tensor:
    """Smooth anomaly maps (B, 1, H, W) in [0, 1]; the result has the same shape and range.

    A Gaussian filter keeps each map's mean, and so its score: borders are mirrored. A guided filter (He et al. 2010,
    https://doi.org/10.1007/978-3-642-15549-9_1) averages within regions of even brightness and not across their edges.

    Args:
        anomaly_map: of `anomaly_map`.
        kind: ``"gaussian"``, ``"guided"`` or ``"none"``.
        image: the guide, (B, C, H, W) in [-1, 1], the mean of its channels; for ``"guided"`` alone.
        sigma: standard deviation of the Gaussian, in pixels, above 0.
        radius: half side of the guided filter's square windows, in pixels, 1 or more.
        epsilon: variance of the guide below which a window counts as even, above 0.

    >>> spot = torch.zeros(1, 1, 9, 9)
    >>> spot[0, 0, 4, 4] = 1
    >>> smooth = smooth_map(spot, sigma=2)
    >>> round(smooth.sum().item(), 4), round(smooth.max().item(), 4)
    (1.0, 0.0398)
    """
    if kind == "none":
        return anomaly_map
    if kind == "gaussian":
        if not sigma > 0:
            raise SaganError(f"sigma is {sigma}; it is a standard deviation in pixels above 0, for example 1")
        height, width = (gaussian_weights(n, sigma, anomaly_map) for n in anomaly_map.shape[-2:])
        return height @ anomaly_map @ width.T
    if kind == "guided":
        if image is None:
            raise SaganError("the guided filter needs the image that guides it; give it, or the kind gaussian")
        if not (radius >= 1 and epsilon > 0):
            raise SaganError(f"radius is {radius} and epsilon {epsilon}; they are 1 or more, and above 0")
        return _guided(anomaly_map, image.mean(1, keepdim=True), radius, epsilon).clamp(0, 1)
    raise SaganError(f"no smoothing {kind!r}; it is none, gaussian or guided")


def gaussian_weights(count: int, sigma: float, like: Tensor) -> Tensor:
    """Gaussian weights (count, count) between a line's pixels, mirrored at its ends, as a tensor like ``like``."""
    place = torch.arange(count, dtype=torch.float64)
    turns = torch.arange(-math.ceil(5 * sigma / count) - 1, math.ceil(5 * sigma / count) + 2)[:, None, None]
    period = 2 * count * turns
    direct, mirrored = place[:, None] - place + period, place[:, None] + place + 1 + period
    weights = sum(torch.exp(-0.5 * (distance / sigma) ** 2).sum(0) for distance in (direct, mirrored))
    assert isinstance(weights, Tensor)
    return (weights / weights.sum(1, keepdim=True)).to(like)


def _guided(target: Tensor, guide: Tensor, radius: int, epsilon: float) -> Tensor:
    """In each window a line ``slope * guide + offset`` is fitted to the target; a pixel takes its windows' mean."""

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)

    mean_guide, mean_target = mean(guide), mean(target)
    covariance = mean(guide * target) - mean_guide * mean_target
    variance = (mean(guide * guide) - mean_guide**2).clamp(min=0)
    slope = covariance / (variance + epsilon)
    return mean(slope) * guide + mean(mean_target - slope * mean_guide)
