"""Autoencoders stacked into one network, so that several train at the cost of one, and the network that refines maps.

Layers and widths are those of DDAD-ASR (https://doi.org/10.1016/j.media.2023.102794); the code is not.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BACKBONES", "Autoencoders", "Reconstruction", "RefinementNetwork"]

BACKBONES = ("ae", "ae_u", "memae")
WIDTHS = (16, 32, 64, 64)


class Reconstruction(NamedTuple):
    """The outputs of M autoencoders.

    Args:
        mean: (B, M, C, H, W), the reconstructed images.
        log_variance: likewise, of each pixel; None except of AE-U.
        addressing: (M, B, slots), the weights of the memory's slots, which sum to 1; None except of MemAE.
    """

    mean: Tensor
    log_variance: Tensor | None
    addressing: Tensor | None


class Autoencoders(nn.Module):
    """M autoencoders of the same architecture in one network: images (B, C, H, W) to reconstructions (B, M * C, H, W).

    Member i owns the i-th group of every convolution, row of every linear layer and slice of every batch norm, so
    members share nothing and train as they would alone. All members get the same images, or with an input
    (B, M * C, H, W) each its own. Of ``"ae_u"`` the output has 2 * C channels a member: means, then log-variances.

    Args:
        members: M.
        in_channels: C.
        image_size: H and W, multiples of 16; the bottleneck's linear layers grow with it.
        backbone: ``"ae"``; ``"ae_u"``, which also predicts the variance of each pixel; or ``"memae"``, whose latent
            vector is a mixture of learned slots.
        latent: numbers in the bottleneck.
        slots: of the memory, for ``"memae"``.
        hidden: units between the features and the bottleneck, on both sides.

    Raises:
        ValueError: for an unknown backbone, or an image that does not fit.

    Example:
        >>> network = Autoencoders(6)
        >>> network(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 6, 64, 64])
        >>> sum(parameter.numel() for parameter in network.parameters()) // 6
        4487248
    """

    def __init__(
        self,
        members: int,
        in_channels: int = 1,
        image_size: tuple[int, int] = (64, 64),
        backbone: str = "ae",
        latent: int = 16,
        slots: int = 25,
        hidden: int = 2048,
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(f"backbone is {backbone!r}; use one of {', '.join(BACKBONES)}")
        strides = 2 ** len(WIDTHS)
        if any(side % strides or not side for side in image_size):
            raise ValueError(f"image_size is {tuple(image_size)}; both sides must be multiples of {strides}")
        m = self.members = members
        self.in_channels, self.image_size, self.backbone = in_channels, tuple(image_size), backbone
        self.bottom = (image_size[0] // strides, image_size[1] // strides)
        features = WIDTHS[-1] * self.bottom[0] * self.bottom[1]

        self.first = nn.Conv2d(m * in_channels, m * WIDTHS[0], 4, 2, 1, groups=m, bias=False)
        layers = _norm(m * WIDTHS[0])
        for a, b in pairwise(WIDTHS):
            layers += [nn.Conv2d(m * a, m * b, 4, 2, 1, groups=m, bias=False), *_norm(m * b)]
        self.encoder = nn.Sequential(*layers)
        self.to_latent = _Bottleneck(m, features, hidden, latent)
        self.memory = _Memory(m, slots, latent) if backbone == "memae" else None
        self.from_latent = _Bottleneck(m, latent, hidden, features)
        layers = []
        for a, b in pairwise(WIDTHS[::-1]):
            layers += [nn.ConvTranspose2d(m * a, m * b, 4, 2, 1, groups=m, bias=False), *_norm(m * b)]
        outputs = in_channels * (2 if backbone == "ae_u" else 1)
        layers.append(nn.ConvTranspose2d(m * WIDTHS[0], m * outputs, 4, 2, 1, groups=m, bias=False))
        self.decoder = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        latent = self.encode(image)
        if self.memory is not None:
            latent = self.memory(latent)
        return self.decode(latent)

    def reconstruct(self, image: Tensor) -> Reconstruction:
        """The outputs by their meaning.

        Args:
            image: (B, C, H, W) or (B, M * C, H, W) in [-1, 1].
        """
        latent, addressing = self.encode(image), None
        if self.memory is not None:
            addressing = self.memory.addressing(latent)
            latent = addressing @ self.memory.slots
        output = self.decode(latent).unflatten(1, (self.members, -1))
        if self.backbone != "ae_u":
            return Reconstruction(output, None, addressing)
        mean, log_variance = output.chunk(2, dim=2)
        return Reconstruction(mean, log_variance, None)

    def encode(self, image: Tensor) -> Tensor:
        """The latent vectors (M, B, latent) of images.

        Args:
            image: (B, C, H, W) or (B, M * C, H, W) in [-1, 1].

        Raises:
            ValueError: when they have another size or number of channels.
        """
        if image.shape[1] not in (self.in_channels, self.members * self.in_channels):
            raise ValueError(f"the images have {image.shape[1]} channels; the network was built for {self.in_channels}")
        if (image.shape[2], image.shape[3]) != self.image_size:
            raise ValueError(
                f"the images are {image.shape[2]} x {image.shape[3]} pixels; the network was built for "
                f"{self.image_size[0]} x {self.image_size[1]}"
            )
        # Images that all members share need no copies: one group of all their filters.
        groups = image.shape[1] // self.in_channels
        x = self.encoder(F.conv2d(image, self.first.weight, stride=2, padding=1, groups=groups))
        return self.to_latent(x.contiguous().unflatten(1, (self.members, -1)).flatten(2).transpose(0, 1))

    def decode(self, latent: Tensor) -> Tensor:
        """The outputs (B, M * maps, H, W) of latent vectors (M, B, latent)."""
        x = self.from_latent(latent).transpose(0, 1).flatten(1)
        output: Tensor = self.decoder(x.unflatten(1, (-1, self.bottom[0], self.bottom[1])))
        return output


def _norm(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


class _Linear(nn.Module):
    """M linear layers: (M, B, inputs) to (M, B, outputs)."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # as torch.nn.Linear
        # Not as torch.nn.Linear keeps it: the gradient of its transpose would be copied in each backward pass.
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias[:, None], x, self.weight)


class _Bottleneck(nn.Module):
    """M times a linear layer, batch norm, ReLU, and a linear layer: (M, B, inputs) to (M, B, outputs)."""

    def __init__(self, members: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.members = members
        self.widen = _Linear(members, inputs, hidden)
        self.norm = nn.BatchNorm1d(members * hidden)
        self.narrow = _Linear(members, hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu_(self.norm(self.widen(x).transpose(0, 1).flatten(1)))
        narrow: Tensor = self.narrow(hidden.unflatten(1, (self.members, -1)).transpose(0, 1))
        return narrow


class _Memory(nn.Module):
    """M memories: latent vectors (M, B, latent) to mixtures of slots of the same shape."""

    def __init__(self, members: int, slots: int, latent: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(latent)
        self.slots = nn.Parameter(torch.empty(members, slots, latent).uniform_(-bound, bound))

    def addressing(self, latent: Tensor) -> Tensor:
        """The weights (M, B, slots) of the slots, by their products with the latent vectors."""
        return torch.softmax(latent @ self.slots.transpose(1, 2), dim=-1)

    def forward(self, latent: Tensor) -> Tensor:
        return self.addressing(latent) @ self.slots


class RefinementNetwork(nn.Module):
    """Discrepancy maps (B, C, H, W) to logits (B, 2, H, W) of normal and abnormal pixels.

    Args:
        in_channels: C, 2 for inter and intra discrepancy, 1 for one of them.
        channels: width of both hidden layers.

    Raises:
        ValueError: when the maps have another number of channels.

    Example:
        >>> RefinementNetwork()(torch.zeros(2, 2, 64, 64)).shape
        torch.Size([2, 2, 64, 64])
    """

    def __init__(self, in_channels: int = 2, channels: int = 128) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 2, 3, padding=1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        if maps.shape[1] != self.in_channels:
            raise ValueError(f"the maps have {maps.shape[1]} channels; the network was built for {self.in_channels}")
        logits: Tensor = self.layers(maps)
        return logits
