"""The critic, which scores normal images above restored ones (WGAN, no sigmoid)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SaganDiscriminator"]


class SaganDiscriminator(nn.Module):
    """The critic: scores images (B, C, H, W) in [-1, 1], higher for normal ones; the output is (B, 1, H / 64, W / 64).

    A stack of 4 x 4 convolutions of stride 2, each twice as wide as the previous one, without normalization, which the
    per-image gradient penalty rules out. At 64 x 64 the output is a single number for the image.

    >>> SaganDiscriminator(channels=4)(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 1, 1, 1])

    Args:
        in_channels: C.
        channels: width of the first layer.
        num_layers: number of layers, each of which halves height and width.
        init: of the weights: ``"torch"`` is torch's default, as in the published code, with an initial gradient of
            almost 0 (0.0003 at 16 channels); with ``"he"`` (https://arxiv.org/abs/1502.01852) it is about a hundred
            times larger.

    Raises:
        ValueError: for images smaller than ``2 ** num_layers``, or with another number of channels.
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

        Equal to autograd's, but written out layer by layer. The slopes of the activations are constant almost
        everywhere, so a loss of this gradient needs no double backward pass, and `torch.compile` can fuse it.
        """
        shapes: list[torch.Size] = []
        slopes: list[Tensor] = []
        x = image
        # In bfloat16 some activations would change sign, and with them the gradient's direction (cosine .998).
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
    """Gradient of a convolution's input of ``shape``, from the gradient of its output."""
    stride, padding, kernel = layer.stride, (int(layer.padding[0]), int(layer.padding[1])), layer.kernel_size
    rest = [
        side - ((out - 1) * step - 2 * pad + size)  # pixels of an odd side that a stride of 2 skips
        for side, out, step, pad, size in zip(shape[2:], gradient.shape[2:], stride, padding, kernel, strict=True)
    ]
    return F.conv_transpose2d(gradient, layer.weight, None, stride, padding, rest)


def _he_init(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, a=0.01)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
