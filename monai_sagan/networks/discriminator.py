"""The critic: tells restored images from normal ones (WGAN, no sigmoid)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SaganDiscriminator"]


class SaganDiscriminator(nn.Module):
    """Score images (B, C, H, W) in [-1, 1]: higher means more like a normal image; returns (B, 1, H / 64, W / 64).

    A stack of 4 x 4 convolutions of stride 2, each twice as wide as the one before, without normalization (which a
    gradient penalty per image forbids). At 64 x 64 the output is one number: the critic sees the image as a whole.

    Args:
        in_channels: C.
        channels: width of the first layer.
        num_layers: halvings of height and width.
        init: of the weights: ``"torch"`` is torch's default, as in the published code, under which the critic starts
            with a gradient of almost 0 (0.0003 at 16 channels); with ``"he"`` (https://arxiv.org/abs/1502.01852) it is
            some hundred times as large.

    Raises:
        ValueError: when an image is smaller than ``2 ** num_layers``, or of another channel count.
    """

    def __init__(self, in_channels: int = 1, channels: int = 64, num_layers: int = 6, init: str = "torch") -> None:
        super().__init__()
        if init not in ("torch", "he"):
            raise ValueError(f"init is {init!r}; use 'torch' or 'he'")
        widths = [in_channels, *(channels * 2**i for i in range(num_layers))]
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Conv2d(a, b, 4, 2, padding=1), nn.LeakyReLU(0.01)]
        self.layers = nn.Sequential(*layers)
        self.to_score = nn.Conv2d(widths[-1], 1, 3, padding=1, bias=False)
        if init == "he":
            self.apply(_he_init)
        self.in_channels = in_channels
        self.min_side = 2**num_layers

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[1] != self.in_channels:
            raise ValueError(f"the images have {image.shape[1]} channels; the network was built for {self.in_channels}")
        if min(image.shape[2], image.shape[3]) < self.min_side:
            raise ValueError(
                f"images of {image.shape[2]} x {image.shape[3]} are too small for the critic's {self.min_side} "
                f"pixels; use larger images or fewer layers"
            )
        score: Tensor = self.to_score(self.layers(image))
        return score

    def input_gradient(self, image: Tensor) -> Tensor:
        """The gradient (B, C, H, W) of each image's summed scores with respect to that image.

        Equal to what autograd gives, but spelled out: layer by layer backwards, times the slopes of the activations.
        Slopes are constant almost everywhere, so a loss of this gradient has a plain backward pass of its own, without
        the second half of a double backward pass (which computes zeros), and `torch.compile` can take it whole.

        Args:
            image: (B, C, H, W) in [-1, 1].
        """
        shapes: list[torch.Size] = []
        slopes: list[Tensor] = []
        x = image
        # In bfloat16 some activations would change sides, and with them the gradient's direction (cosine .998).
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            for layer in self.layers:
                if isinstance(layer, nn.Conv2d):
                    shapes.append(x.shape)
                x = layer(x)
                if isinstance(layer, nn.LeakyReLU):
                    slopes.append(torch.ones_like(x).masked_fill(x <= 0, layer.negative_slope))
        gradient = _backwards(self.to_score, torch.ones_like(x[:, :1]), x.shape)
        convolutions = [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]
        for convolution, slope, shape in zip(convolutions[::-1], slopes[::-1], shapes[::-1], strict=True):
            gradient = _backwards(convolution, gradient * slope, shape)
        return gradient


def _backwards(layer: nn.Conv2d, gradient: Tensor, shape: torch.Size) -> Tensor:
    """What a convolution's input of ``shape`` gets of the gradient of its output."""
    stride, padding, kernel = layer.stride, (int(layer.padding[0]), int(layer.padding[1])), layer.kernel_size
    rest = [
        side - ((out - 1) * step - 2 * pad + size)  # what a stride of 2 leaves over of an odd side
        for side, out, step, pad, size in zip(shape[2:], gradient.shape[2:], stride, padding, kernel, strict=True)
    ]
    return F.conv_transpose2d(gradient, layer.weight, None, stride, padding, rest)


def _he_init(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, a=0.01)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
