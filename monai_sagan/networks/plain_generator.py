"""Brainomaly's generator: a plain encoder and decoder that restore an image by an additive map of one channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_sagan.networks.blocks import DownBlock, ResidualBlock, UpBlock


class PlainGenerator(nn.Module):
    """Restore images (B, C, H, W) in [-1, 1] to their healthy versions ``tanh(image + change)``, of the same shape.

    After Brainomaly (https://arxiv.org/abs/2302.09200): the change (B, 1, H, W) is the same in all channels; norms are
    per image, also in evaluation. The defaults are the published network.

    Args:
        in_channels: C.
        channels: width of the first level; the two below have 2 and 4 times as many.
        num_res_blocks: residual blocks in the bottleneck.

    Raises:
        ValueError: when an image has another number of channels, or a side that 4 does not divide.

    Example:
        >>> network = PlainGenerator(3)
        >>> sum(parameter.numel() for parameter in network.parameters())
        8408576
    """

    def __init__(self, in_channels: int = 3, channels: int = 64, num_res_blocks: int = 6) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.body = nn.Sequential(
            DownBlock(in_channels, channels, kernel=7, stride=1),
            DownBlock(channels, 2 * channels),
            DownBlock(2 * channels, 4 * channels),
            *(ResidualBlock(4 * channels) for _ in range(num_res_blocks)),
            UpBlock(4 * channels, 2 * channels),
            UpBlock(2 * channels, channels),
            nn.Conv2d(channels, 1, 7, padding=3, bias=False),
        )

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[1] != self.in_channels:
            raise ValueError(f"the images have {image.shape[1]} channels; the network was built for {self.in_channels}")
        if image.shape[2] % 4 or image.shape[3] % 4:
            raise ValueError(f"the images are {image.shape[2]} x {image.shape[3]} pixels; use sides that 4 divides")
        return torch.tanh(image + self.body(image))
