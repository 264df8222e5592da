"""A vision transformer that restores the hidden patches of an image: a masked autoencoder.

MONAI has one, `MaskedAutoEncoderViT`. It draws its masks within its forward pass and needs the package einops. This one
takes the visible patches as an input, so that draws are apart from steps, and an exported graph has fixed masks. Its
parameters bear the names of the published code (https://github.com/facebookresearch/mae), so published weights fit.
"""

# No `from __future__ import annotations` here: torch.jit.script cannot read the annotated buffers as strings.
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MaskedAutoencoder"]


class MaskedAutoencoder(nn.Module):
    """Restore images (B, C, H, W) in [-1, 1] from some of their patches (https://arxiv.org/abs/2111.06377).

    The defaults are those of https://arxiv.org/abs/2210.12843, whose weights are published: ViT-S/16 and its decoder.

    Args:
        in_channels: C.
        image_size: H and W, in pixels.
        patch: side of a patch, in pixels.
        width: of the encoder's tokens.
        depth: blocks of the encoder.
        heads: of the encoder.
        decoder_width: of the decoder's tokens.
        decoder_depth: blocks of the decoder.
        decoder_heads: of the decoder.

    Raises:
        ValueError: when patches do not fill the image, or the heads or 4 do not divide a width.

    Example:
        >>> network = MaskedAutoencoder(1, (64, 64), 8, 32, 2, 4, 32, 1, 4)
        >>> kept = torch.arange(16).expand(2, -1)
        >>> network(torch.zeros(2, 1, 64, 64), kept).shape
        torch.Size([2, 1, 64, 64])
    """

    pos_embed: Tensor
    decoder_pos_embed: Tensor

    def __init__(
        self,
        in_channels: int = 3,
        image_size: Sequence[int] = (224, 224),
        patch: int = 16,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        decoder_width: int = 512,
        decoder_depth: int = 2,
        decoder_heads: int = 16,
    ) -> None:
        super().__init__()
        height, across = image_size
        if height % patch or across % patch:
            raise ValueError(f"patches of {patch} pixels do not fill images of {height} x {across}")
        for tokens, parts in ((width, heads), (decoder_width, decoder_heads)):
            if tokens % parts or tokens % 4:
                raise ValueError(f"a width of {tokens} is not divisible by its {parts} heads and by 4")
        self.in_channels, self.patch = in_channels, patch
        self.rows, self.cols = height // patch, across // patch
        self.patches = self.rows * self.cols
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(in_channels, width, patch, patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_embed = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.decoder_blocks = nn.ModuleList(
            TransformerBlock(decoder_width, decoder_heads) for _ in range(decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder_width, patch * patch * in_channels)
        self.register_buffer("pos_embed", _positions(self.rows, self.cols, width))
        self.register_buffer("decoder_pos_embed", _positions(self.rows, self.cols, decoder_width))
        self.apply(_initialize)
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, image: Tensor, kept: Tensor) -> Tensor:
        """Restored images (B, C, H, W), of which the hidden patches are of use.

        Args:
            image: (B, C, H, W) in [-1, 1].
            kept: numbers of the visible patches (B, K), row by row.
        """
        tokens = self._embed(image)
        places = kept[:, :, None]
        visible = self._encode(tokens.gather(1, places.expand(-1, -1, tokens.shape[2])))
        seen = self.decoder_embed(visible)
        all_tokens = self.mask_token.to(seen.dtype).expand(seen.shape[0], self.patches, -1)
        all_tokens = all_tokens.scatter(1, places.expand(-1, -1, seen.shape[2]), seen[:, 1:])
        decoded = torch.cat([seen[:, :1], all_tokens], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            decoded = block(decoded)
        return self._image(self.decoder_pred(self.decoder_norm(decoded[:, 1:])))

    def features(self, image: Tensor) -> Tensor:
        """Mean tokens (B, width) of the patches of images (B, C, H, W) in [-1, 1], all of them visible."""
        return self._encode(self._embed(image))[:, 1:].mean(1)

    def hidden(self, kept: Tensor) -> Tensor:
        """1 where a pixel is hidden and 0 where it is visible: float masks (B, 1, H, W).

        Args:
            kept: numbers of the visible patches (B, K), row by row.
        """
        ones = torch.ones(kept.shape[0], self.patches, device=kept.device)
        mask = ones.scatter(1, kept, 0.0).reshape(-1, 1, self.rows, self.cols)
        return mask.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)

    def _embed(self, image: Tensor) -> Tensor:
        if image.shape[1] != self.in_channels:
            raise ValueError(f"the images have {image.shape[1]} channels; the network was built for {self.in_channels}")
        if image.shape[2] != self.rows * self.patch or image.shape[3] != self.cols * self.patch:
            raise ValueError(
                f"the images are {image.shape[2]} x {image.shape[3]} pixels; the network was built for "
                f"{self.rows * self.patch} x {self.cols * self.patch}"
            )
        return self.patch_embed["proj"](image).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]

    def _encode(self, tokens: Tensor) -> Tensor:
        first = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([first.to(tokens.dtype), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def _image(self, patches: Tensor) -> Tensor:
        """Patches (B, N, P * P * C), each pixel by pixel and its channels last, as in the published code."""
        side = self.patch
        cells = patches.reshape(-1, self.rows, self.cols, side, side, self.in_channels)
        return cells.permute(0, 5, 1, 3, 2, 4).reshape(-1, self.in_channels, self.rows * side, self.cols * side)


class TransformerBlock(nn.Module):
    """Attention among tokens (B, N, width) and two layers on each, both added to their normalized input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(tokens))))


class Attention(nn.Module):
    """Self-attention of tokens (B, N, width) with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        parts = self.qkv(tokens).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


def _positions(rows: int, cols: int, width: int) -> Tensor:
    """Sines and cosines of the patches' places (1, 1 + rows * cols, width), zeros first for the class token."""
    rates = torch.exp(-math.log(10_000) * torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, col = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    angles = [place.flatten()[:, None] * rates for place in (col, row)]
    code = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()
    return torch.cat([torch.zeros_like(code[:1]), code])[None]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))  # as of a linear layer
