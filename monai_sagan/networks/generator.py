"""The generator: restores an image to its healthy version (Sec. 2.2 and 2.3)."""

# No `from __future__ import annotations` here: torch.jit.script cannot read an optional argument's type as a string.
from itertools import pairwise
from typing import Optional

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from monai_sagan.networks.blocks import (
    AttentionGate,
    DownBlock,
    FuseBlock,
    PositionBlock,
    ResidualBlock,
    UpBlock,
)
from monai_sagan.networks.patches import check_grid, merge_patches, position_code, split_patches
from monai_sagan.networks.value_range import warn_of_range

__all__ = ["SaganGenerator"]


class SaganGenerator(nn.Module):
    """The generator: restores images (B, C, H, W) in [-1, 1] to healthy versions of the same shape and range.

    Each image is cut into a grid of patches, which share an encoder and a decoder and receive a position code at three
    depths and on the skips (anatomical consistency, Sec. 2.2). Attention gates weight the skips at each level of the
    decoder, and all levels are fused at full size into one additive map (abnormal region restoration, Sec. 2.3):
    ``restored = tanh(image + change)``. In training, each pixel's ``image + change`` becomes ``image + image`` with
    probability ``1 - keep_prob`` (the paper's Bernoulli gate, with delta on the additive map and 1 - delta on the
    image). The defaults are the published network.

    >>> generator = SaganGenerator(channels=4, num_res_blocks=1).eval()
    >>> generator(torch.rand(2, 1, 64, 64) * 2 - 1).shape
    torch.Size([2, 1, 64, 64])

    Args:
        in_channels: C, 1 for grey and 3 for color.
        channels: width of the first level; the next ones are 2, 4 and 8 times as wide.
        num_res_blocks: residual blocks in the bottleneck.
        grid: rows and columns of patches; must cut H and W into multiples of 8.
        keep_prob: probability that a pixel keeps its restoration in training, in (0, 1]; 1 switches the gate off.
        gate_norm: ``"instance"`` or None, see `AttentionGate`.
        position_norm: ``"instance"`` or None, see `PositionBlock`: with the published ``"instance"`` the position
            code cancels out, and only the cut into patches remains.
        position_bits: rounding of the code's length, ``"floor"`` or ``"ceil"``, see `position_code`.
        anatomical_consistency: False: no patches and no position code (ablation).
        abnormal_region_restoration: False: no skips, no gates and no multi-level fusion: the decoder is a plain
            stack, as in Brainomaly (ablation).
        output: ``"tanh"``, Eq. 2 as above, or ``"sum"``: ``restored = image + change``, so that an image without change
            stays exactly the same. The sum is clamped to [-1, 1] in evaluation mode; a pixel that the gate masks is not
            changed.
        checkpoint_images: activation checkpointing in chunks of this many images: less memory for one more forward
            pass; None is off.
        checks_range: warn in the first call in evaluation mode about images that are not scaled to [-1, 1].

    Raises:
        ValueError: for an image that does not fit the grid and the strides, naming sides that do.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: int = 64,
        num_res_blocks: int = 6,
        grid: tuple[int, int] = (2, 2),
        *,
        keep_prob: float = 0.95,
        gate_norm: str | None = "instance",
        position_norm: str | None = "instance",
        position_bits: str = "floor",
        anatomical_consistency: bool = True,
        abnormal_region_restoration: bool = True,
        output: str = "tanh",
        checkpoint_images: int | None = None,
        checks_range: bool = True,
    ) -> None:
        super().__init__()
        self.checks_range = checks_range
        if checkpoint_images is not None and checkpoint_images < 1:
            raise ValueError(f"checkpoint_images is {checkpoint_images}; it counts images, at least 1, or is None")
        self.checkpoint_images = checkpoint_images
        if not 0 < keep_prob <= 1:
            raise ValueError(f"keep_prob is {keep_prob}; it is a probability above 0 and at most 1")
        if output not in ("tanh", "sum"):
            raise ValueError(f"output is {output!r}; use 'tanh' or 'sum'")
        self.output = output
        self.rows, self.cols = (int(n) for n in grid) if anatomical_consistency else (1, 1)
        self.in_channels = in_channels
        self.keep_prob = keep_prob
        code = position_code(grid, position_bits)
        widths = [channels, 2 * channels, 4 * channels, 8 * channels]

        def position(width: int) -> nn.Module:
            return PositionBlock(width, code, position_norm) if anatomical_consistency else nn.Identity()

        self.stem = DownBlock(in_channels, widths[0], kernel=7, stride=1)
        self.down = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(widths))
        self.position = nn.ModuleList(position(w) for w in widths[1:])
        self.bottleneck = nn.Sequential(*(ResidualBlock(widths[3]) for _ in range(num_res_blocks)))
        if abnormal_region_restoration:
            self.decoder: nn.Module = AttentionDecoder(widths, gate_norm)
        else:
            self.decoder = PlainDecoder(widths)
        self.to_image = nn.Conv2d(widths[0], in_channels, 7, padding=3, bias=False)

    def forward(self, image: Tensor, uniform: Optional[Tensor] = None) -> Tensor:  # noqa: UP045  torch.jit.script
        """Restore images (B, C, H, W); ``uniform`` (B, 1, H, W) in [0, 1) decides the Bernoulli gate; None draws it."""
        if not torch.jit.is_scripting():
            self._check(image)
        patches = split_patches(image, self.rows, self.cols)
        if torch.jit.is_scripting() or self.checkpoint_images is None:
            change = self.change(patches)
        else:
            change = self._change_in_parts(patches, self.checkpoint_images * self.rows * self.cols)
        change = merge_patches(change, self.rows, self.cols)
        if self.training and self.keep_prob < 1:
            if uniform is None:
                uniform = torch.rand_like(image[:, :1])
            masked = image if self.output == "tanh" else torch.zeros_like(image)
            change = torch.where(uniform < self.keep_prob, change, masked)
        if self.output == "tanh":
            return torch.tanh(image + change)
        return image + change if self.training else (image + change).clamp(-1, 1)

    def change(self, patches: Tensor) -> Tensor:
        """The additive map of patches (N, C, h, w), of the same shape."""
        x = self.stem(patches)
        features = []
        for down, position in zip(self.down, self.position, strict=False):
            x = position(down(x))
            features.append(x)
        features[-1] = self.bottleneck(features[-1])
        return self.to_image(self.decoder(features))

    @torch.jit.unused
    def _change_in_parts(self, patches: Tensor, size: int) -> Tensor:
        if not torch.is_grad_enabled():
            return torch.cat([self.change(part) for part in patches.split(size)])
        parts = patches.split(size)  # nothing is drawn in them
        return torch.cat([checkpoint(self.change, x, use_reentrant=False, preserve_rng_state=False) for x in parts])

    def _check(self, image: Tensor) -> None:
        if image.shape[1] != self.in_channels:
            raise ValueError(f"the images have {image.shape[1]} channels; the network was built for {self.in_channels}")
        check_grid((self.rows, self.cols), image.shape[2], image.shape[3], stride=8)
        watched = self.training or torch.compiler.is_compiling() or torch.jit.is_tracing()
        if not watched and self.checks_range:
            self.checks_range = False  # once: it waits for the device
            warn_of_range(image)


class AttentionDecoder(nn.Module):
    """Decode features (8 x, 4 x and 2 x wide, deepest last) to full size, gated at each level and fused over all.

    The deepest gate weights the bottleneck by itself, as in the published code.
    """

    def __init__(self, widths: list[int], gate_norm: str | None) -> None:
        super().__init__()
        deep_first = widths[:0:-1]
        self.gates = nn.ModuleList(AttentionGate(w, gate_norm) for w in deep_first)
        self.fuse = nn.ModuleList(FuseBlock(2 * w, w) for w in deep_first)
        self.up = nn.ModuleList(UpBlock(w, w // 2) for w in deep_first)
        self.to_full_size = nn.ModuleList(
            [
                nn.Sequential(UpBlock(widths[2], widths[1]), UpBlock(widths[1], widths[0])),
                nn.Sequential(UpBlock(widths[1], widths[0])),
                nn.Identity(),
            ]
        )
        self.fuse_levels = FuseBlock(3 * widths[0], widths[0])

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        levels: list[Tensor] = []
        skips = features[::-1]
        for i, (gate, fuse, up, to_full_size) in enumerate(
            zip(self.gates, self.fuse, self.up, self.to_full_size, strict=False)
        ):
            x = up(fuse(torch.cat([x, gate(x, skips[i])], dim=1)))
            levels.append(to_full_size(x))
        return self.fuse_levels(torch.cat(levels, dim=1))


class PlainDecoder(nn.Module):
    """Decode only the deepest features to full size."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.up = nn.Sequential(*(UpBlock(w, w // 2) for w in widths[:0:-1]))

    def forward(self, features: list[Tensor]) -> Tensor:
        x: Tensor = self.up(features[-1])
        return x
