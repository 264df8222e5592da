"""The encoder-decoder that learns to find synthetic anomalies: a ResNet-18 and three residual blocks that enlarge."""

# No `from __future__ import annotations` here, as in `monai_sagan.networks.blocks`: torch.jit.script reads the types.
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DensePredictor", "EncoderBlock", "EnlargingBlock"]


class EncoderBlock(nn.Module):
    """The basic block of a ResNet: two 3 x 3 convolutions with batch norm, and a shortcut.

    Args:
        in_channels: C of the input (N, C, H, W).
        out_channels: C of the output.
        stride: 2 halves height and width.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class EnlargingBlock(nn.Module):
    """A residual block that doubles height and width by transposed convolutions.

    Args:
        in_channels: C of the input (N, C, H, W).
        out_channels: C of the output (N, C, 2 H, 2 W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 3, 2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 1, 2, output_padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class DensePredictor(nn.Module):
    """Predict a logit for each pixel: images (B, C, H, W) in [0, 1] to (B, 1, H, W); the sigmoid is left to the caller.

    The network of Natural Synthetic Anomalies (https://arxiv.org/abs/2109.15222) and of its comparisons: 11,491,440
    parameters for one channel. Batch norm makes an image's logits depend on its batch in training mode alone.

    Args:
        in_channels: C of the images.

    Raises:
        ValueError: when images have another number of channels, or sides that 32 does not divide.

    Example:
        >>> import torch
        >>> DensePredictor()(torch.zeros(2, 1, 64, 96)).shape
        torch.Size([2, 1, 64, 96])
    """

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 64, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
        )
        widths = (64, 64, 128, 256, 512)
        self.encoder = nn.Sequential(
            *(
                block
                for i in range(4)
                for block in (
                    EncoderBlock(widths[i], widths[i + 1], 2 if i else 1),
                    EncoderBlock(widths[i + 1], widths[i + 1]),
                )
            )
        )
        self.middle = nn.Sequential(
            nn.Conv2d(512, 256, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 128, 1, bias=False),
            nn.ReLU(inplace=True),
        )
        self.decoder = nn.Sequential(EnlargingBlock(128, 64), EnlargingBlock(64, 32), EnlargingBlock(32, 16))
        self.to_logits = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.ConvTranspose2d(16, 1, 7, 2, padding=3, output_padding=1, bias=False),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[1] != self.in_channels:
            raise ValueError(f"the images have {image.shape[1]} channels; the network was built for {self.in_channels}")
        if image.shape[2] % 32 != 0 or image.shape[3] % 32 != 0:
            raise ValueError(f"images of {image.shape[2]} x {image.shape[3]} do not fit; 32 must divide both sides")
        return self.to_logits(self.decoder(self.middle(self.encoder(self.stem(image)))))
