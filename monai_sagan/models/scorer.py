"""Anomaly maps and scores of images, for validation, evaluation, export and prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from monai_sagan.data.batches import images_at_a_time, to_unit_range
from monai_sagan.errors import SaganError
from monai_sagan.methods import Detection, find_method
from monai_sagan.methods.sagan import detect_by_restoration
from monai_sagan.transforms.functional import anomaly_score, gaussian_weights, smooth_map

if TYPE_CHECKING:
    from monai_sagan.settings import Settings

__all__ = ["Scorer"]


class Scored(NamedTuple):
    """A `Detection` with a score (B,)."""

    anomaly_map: Tensor
    score: Tensor
    restored: Tensor | None


class Scorer(nn.Module):
    """Detect anomalies in images by any method, smooth the maps and score them.

    ``forward`` takes images (B, C, H, W) in [-1, 1], returns `Scored`, can be exported, and leaves the network's
    mode alone. `batches` and `score` take any number of uint8 images.

    Args:
        network: of the method.
        image_size: H and W, in pixels.
        detect: the method's, called as ``detect(network, image)``.
        passes: 1, or a square number of shifted copies of each image, in which the borders of the network's patches
            fall on other pixels; their maps, scores and restored versions are shifted back and averaged.
        shift: largest shift in each direction, in pixels; the copies are spaced evenly. Pixels shifted in repeat the
            border and are ignored in the average.
        smooth: arguments of `smooth_map`, such as ``{"kind": "gaussian", "sigma": 1}``; None does not smooth.
        amp: run the network in bfloat16; its norms, restored versions, maps and scores stay in float32.

    Raises:
        SaganError: if ``passes`` is not a square number, ``shift`` does not fit it or exceeds a quarter of the shorter
            side, or the arguments of `smooth_map` are invalid.

    Example:
        >>> import torch
        >>> from monai_sagan import SaganGenerator
        >>> scorer = Scorer(SaganGenerator(channels=4, num_res_blocks=1), (64, 64), smooth={"kind": "gaussian"})
        >>> found = scorer.eval()(torch.rand(2, 1, 64, 64) * 2 - 1)
        >>> found.anomaly_map.shape, found.score.shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2]))
    """

    down: Tensor
    across: Tensor

    def __init__(
        self,
        network: nn.Module,
        image_size: Sequence[int],
        detect: Callable[[nn.Module, Tensor], Detection] = detect_by_restoration,
        passes: int = 1,
        shift: int = 1,
        smooth: Mapping[str, Any] | None = None,
        amp: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.detect = detect
        self.shifts = _copy_shifts(passes, shift, min(image_size))
        self.smooth = dict(smooth or {"kind": "none"})
        self.amp = amp
        empty = torch.zeros(1, 1, *image_size)
        smooth_map(empty, image=empty, **self.smooth)  # checks the arguments
        sigma = self.smooth.get("sigma", 1.0)
        for name, side in zip(("down", "across"), image_size, strict=True):
            weights = gaussian_weights(side, sigma, empty) if self.smooth["kind"] == "gaussian" else torch.empty(0)
            self.register_buffer(name, weights, persistent=False)

    @classmethod
    def of(cls, network: nn.Module, settings: Settings, amp: bool = False) -> Scorer:
        """Build the scorer of a network from the settings of its run."""
        detect = find_method(settings.method).detect
        return cls(network, settings.image_size, detect, **settings.mapping(), amp=amp)

    def forward(self, image: Tensor) -> Scored:
        with in_precision(image.device, self.amp):
            found = self._mean_of_shifted(image) if len(self.shifts) > 1 else self.detect(self.network, image)
        maps = found.anomaly_map.float()
        if self.smooth["kind"] == "gaussian":
            maps = self.down.to(maps) @ maps @ self.across.to(maps).T
        else:
            maps = smooth_map(maps, image=image, **self.smooth)
        score = anomaly_score(maps) if found.score is None else found.score.float()
        return Scored(maps, score, found.restored)

    @torch.inference_mode()
    def batches(
        self, images: Tensor, batch_size: int = 256, mask_seed: int | None = None
    ) -> Iterator[tuple[Tensor, Scored]]:
        """Yield batches of images (B, C, H, W) in [-1, 1] with their results, on the network's device.

        Args:
            images: uint8 (N, C, H, W).
            batch_size: images of up to 64 x 64 pixels at a time, fewer for larger ones; each pass counts. Results do
                not depend on it.
            mask_seed: seed of the training mask, which the published code leaves on in tests; None switches it off.
        """
        device = next(self.network.parameters()).device
        self.network.train(mask_seed is not None)
        if mask_seed is not None:
            torch.manual_seed(mask_seed)
        step = max(images_at_a_time(batch_size, images.shape) // len(self.shifts), 1)
        for start in range(0, len(images), step):
            image = to_unit_range(images[start : start + step].to(device))
            yield image, self(image)

    def score(self, images: Tensor, batch_size: int = 256, mask_seed: int | None = None) -> Tensor:
        """Score uint8 images (N, C, H, W), see `batches`: float32 (N,) on the CPU, higher for more abnormal images."""
        scores = [found.score.cpu() for _, found in self.batches(images, batch_size, mask_seed)]
        return torch.cat(scores) if scores else torch.zeros(0)

    def _mean_of_shifted(self, image: Tensor) -> Detection:
        # Copies of one image are adjacent, so that the masks drawn do not depend on the batch.
        copies = torch.stack([_moved(image, down, right) for down, right in self.shifts], dim=1)
        found = self.detect(self.network, copies.flatten(0, 1))
        # Averages maps: the map of the averaged restoration would be blurred and glow at edges.
        maps = self._moved_back(found.anomaly_map)
        score = None if found.score is None else found.score.unflatten(0, copies.shape[:2]).mean(1)
        return Detection(maps, score, None if found.restored is None else self._moved_back(found.restored))

    def _moved_back(self, values: Tensor) -> Tensor:
        """Shift results of the copies (B * passes, ...) back and average them (B, ...)."""
        copies = values.unflatten(0, (-1, len(self.shifts)))
        shown = torch.ones_like(copies[:1, 0, :1])
        total, count = torch.zeros_like(copies[:, 0]), torch.zeros_like(shown)
        for i, (down, right) in enumerate(self.shifts):
            inside = _moved(shown, -down, -right, repeat=False)
            total += inside * _moved(copies[:, i], -down, -right)
            count += inside
        return total / count


@contextmanager
def in_precision(device: str | torch.device, amp: bool) -> Iterator[None]:
    """Run networks in bfloat16 with ``amp``, and else in float32, on a GPU too.

    There torch rounds the inputs of float32 convolutions to TF32 by default: scores would then differ from those of a
    CPU, which may use the thresholds that were found here.

    Args:
        device: where the networks are.
        amp: whether to use bfloat16.
    """
    device = torch.device(device)
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # set at run time
    kept = convolutions.fp32_precision
    if device.type == "cuda" and not amp:
        convolutions.fp32_precision = "ieee"
    # An exporter would record a region of autocast, though it is off.
    autocast = amp or torch.is_autocast_enabled(device.type)
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=amp) if autocast else nullcontext():
            yield
    finally:
        convolutions.fp32_precision = kept


def _copy_shifts(passes: int, shift: int, side: int) -> list[tuple[int, int]]:
    """How far down and to the right, in pixels, each copy moves: an even lattice, the same for all images."""
    count = math.isqrt(max(passes, 0))
    if count < 1 or count**2 != passes:
        raise SaganError(f"passes is {passes}; use 1, or a square number of shifted copies: 4, 9, 16, ...")
    if count == 1:
        return [(0, 0)]
    least, most = count // 2, side // 4
    if not least <= shift <= most:
        raise SaganError(f"shift is {shift}; for {passes} passes on this image size it is {least} to {most} pixels")
    steps = [round(shift * (2 * i / (count - 1) - 1)) for i in range(count)]
    return [(down, right) for down in steps for right in steps]


def _moved(image: Tensor, down: int, right: int, repeat: bool = True) -> Tensor:
    """Shift images (B, C, H, W) by integer numbers of pixels; new pixels repeat the border, or are 0."""
    height, width = image.shape[-2:]
    rows = torch.arange(height, device=image.device)[:, None] - down
    cols = torch.arange(width, device=image.device) - right
    moved = image[..., rows.clamp(0, height - 1), cols.clamp(0, width - 1)]
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    return moved if repeat else moved * inside
