"""Blocks of the generator: each maps feature maps (N, C, H, W) to feature maps."""

# No `from __future__ import annotations` here: torch.jit.script cannot read the annotated buffer as a string.
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InstanceNorm(nn.Module):
    """Instance normalization without running statistics, so that ``train()`` and ``eval()`` compute the same.

    Equal to ``torch.nn.InstanceNorm2d``, but written as plain reductions: these keep the channels-last layout of their
    input, in which convolutions run about twice as fast on a CPU. Sums are divided afterwards because the gradient of a
    mean is expanded to full size in the other layout, which halves the speed.

    Args:
        channels: C of the input (N, C, H, W).
        affine: learn a scale and a shift per channel.
        eps: added to the variance.
    """

    def __init__(self, channels: int, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        # statistics of bfloat16 values need more digits than bfloat16 has
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        count = x.shape[2] * x.shape[3]
        mean = wide.sum(dim=(2, 3), keepdim=True) / count
        if not torch.jit.is_scripting() and _compiling_gradients():
            return self._compiled(wide - mean.detach(), count).to(x.dtype)
        centered = wide - mean
        variance = (centered * centered).sum(dim=(2, 3), keepdim=True) / count
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None and self.bias is not None:
            scale = scale * self.weight[:, None, None]
            return torch.addcmul(self.bias[:, None, None], centered, scale).to(x.dtype)
        return (centered * scale).to(x.dtype)

    @torch.jit.unused
    def _compiled(self, x: Tensor, count: int) -> Tensor:
        """Normalize an input whose mean is 0 up to rounding, with one read less in the backward pass.

        Normalization cancels the constant subtracted before, which therefore needs no gradient. The remaining mean
        carries it, in sums that the compiler fuses with the others.
        """
        mean = x.sum(dim=(2, 3), keepdim=True) / count
        variance = (x * x).sum(dim=(2, 3), keepdim=True) / count - mean * mean
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None and self.bias is not None:
            scale = scale * self.weight[:, None, None]
            return torch.addcmul(self.bias[:, None, None] - mean * scale, x, scale)
        return (x - mean) * scale


@torch.jit.unused
def _compiling_gradients() -> bool:
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting() and torch.is_grad_enabled()


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=(kernel - 1) // 2, bias=bias)


class DownBlock(nn.Sequential):
    """Convolution, instance norm and ReLU, by default 4 x 4 with stride 2, which halves height and width."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 4, stride: int = 2) -> None:
        super().__init__(
            _conv(in_channels, out_channels, kernel, stride), InstanceNorm(out_channels), nn.ReLU(inplace=True)
        )


class UpBlock(nn.Sequential):
    """Transposed 4 x 4 convolution that doubles height and width, instance norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(in_channels, out_channels, 4, 2, padding=1, bias=False),
            InstanceNorm(out_channels),
            nn.ReLU(inplace=True),
        )


class ResidualBlock(nn.Module):
    """Residual block ``x + f(x)`` with two 3 x 3 convolutions; the shape stays the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels, channels, 3),
            InstanceNorm(channels),
            nn.ReLU(inplace=True),
            _conv(channels, channels, 3),
            InstanceNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class FuseBlock(nn.Module):
    """Fuse concatenated feature maps into fewer channels: a convolution and a residual one."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix = DownBlock(in_channels, out_channels, kernel=3, stride=1)
        self.body = nn.Sequential(_conv(out_channels, out_channels, 3), InstanceNorm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(x)
        return x + self.body(x)


class PositionBlock(nn.Module):
    """Mix the position code of each patch into its features by a 1 x 1 convolution (Sec. 2.2).

    The input is (N, channels, h, w); the patches of an image follow each other.

    Args:
        channels: of the input.
        code: of the patches, (patches, bits).
        norm: ``"instance"`` normalizes after the convolution, as the published code does. The code is constant over a
            patch, so this normalization cancels its effect exactly; ``None`` does not.

    Raises:
        ValueError: for another ``norm``.
    """

    codes: Tensor

    def __init__(self, channels: int, code: Tensor, norm: str | None = "instance") -> None:
        super().__init__()
        if norm not in ("instance", None):
            raise ValueError(f"position norm is {norm!r}; use 'instance' or None")
        self.register_buffer("codes", code, persistent=False)  # not "code", which torch.export's modules have
        self.mix = _conv(channels + code.shape[1], channels, 1, bias=True)
        self.norm = nn.Identity() if norm is None else InstanceNorm(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        count, bits = self.codes.shape
        code = self.codes.to(x.dtype).repeat(n // count, 1).reshape(n, bits, 1, 1).expand(n, bits, h, w)
        return F.relu(self.norm(self.mix(torch.cat([x, code], dim=1))))


class AttentionGate(nn.Module):
    """Attention gate (Eq. 8 and 9): multiply ``skip`` by an attention map in (0, 1).

    Args:
        channels: of both inputs (N, channels, h, w).
        norm: ``"instance"`` normalizes after each of the three 1 x 1 convolutions, the one-channel attention
            map included, as the published code does: its mean over a patch is then about 0.5 with or without an
            anomaly. ``None`` is Eq. 8 as printed.

    Raises:
        ValueError: for another ``norm``.
    """

    def __init__(self, channels: int, norm: str | None = "instance") -> None:
        super().__init__()
        if norm not in ("instance", None):
            raise ValueError(f"gate norm is {norm!r}; use 'instance' or None")
        hidden = channels // 2

        def project(in_channels: int, out_channels: int) -> nn.Sequential:
            layers: list[nn.Module] = [_conv(in_channels, out_channels, 1, bias=True)]
            if norm is not None:
                layers.append(InstanceNorm(out_channels, affine=False))
            return nn.Sequential(*layers)

        self.gate = project(channels, hidden)
        self.skip = project(channels, hidden)
        self.attention = project(hidden, 1)

    def forward(self, gate: Tensor, skip: Tensor) -> Tensor:
        return skip * torch.sigmoid(self.attention(F.relu(self.gate(gate) + self.skip(skip))))
