"""A small convolutional classifier that judges each location of an image."""

# No `from __future__ import annotations` here: torch.jit.script cannot read the annotation of `forward` as a string.
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["LocationClassifier"]

STRIDES = (2, 2, 2, 1)  # of the levels


class LocationClassifier(nn.Module):
    """Classify each location of images (B, C, H, W) in [-1, 1]: logits (B, 1, H / 8, W / 8).

    Four levels, each of two 3 x 3 convolutions with batch norm; the first three halve height and width. A linear head
    judges the features of each location. The mean of an image's logits is the head's logit of its mean features: a
    classifier with global average pooling, seen before its pooling.

    Args:
        in_channels: C.
        channels: of the first level; each further one has twice those of the one above.
        dropout: share of an image's last features that `forward` drops where it is given ``uniform``.

    Raises:
        ValueError: when an image has another number of channels.

    Example:
        >>> import torch
        >>> LocationClassifier()(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, in_channels: int = 1, channels: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.dropout = dropout
        widths = [in_channels, *(channels * 2**level for level in range(len(STRIDES)))]
        self.width = widths[-1]
        self.body = nn.Sequential(
            *(
                nn.Sequential(*_convolution(before, after, stride), *_convolution(after, after))
                for (before, after), stride in zip(pairwise(widths), STRIDES, strict=True)
            )
        )
        self.head = nn.Conv2d(self.width, 1, 1)

    def forward(self, image: Tensor, uniform: Tensor | None = None) -> Tensor:
        """Logits (B, 1, H / 8, W / 8) of images (B, C, H, W) in [-1, 1].

        Args:
            image: of any height and width.
            uniform: (B, width) in [0, 1), drawn for training: features are dropped where it is below ``dropout``.
        """
        if image.shape[1] != self.in_channels:
            raise ValueError(f"the images have {image.shape[1]} channels; the network was built for {self.in_channels}")
        features = self.body(image)
        if uniform is not None:
            kept = (uniform >= self.dropout).to(features.dtype) / (1 - self.dropout)
            features = features * kept[:, :, None, None]
        return self.head(features)


def _convolution(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
