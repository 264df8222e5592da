"""An image, and beside it the same image under its anomaly map."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.pictures.notice import RESEARCH_ONLY

SIDE = 512  # longest side of the shown image
MARGIN, LINE, BAR, LABELS = 14, 22, 16, 96
LEAST_WIDTH = 620  # for the words above narrow images
GROUND, INK, FAINT = (18, 18, 20), (240, 240, 240), (165, 165, 170)
LEVELS = (0.0, 0.35, 0.7, 1.0)
RAMP = ((70, 0, 90), (200, 20, 60), (255, 120, 0), (255, 235, 70))
OPACITY = 0.65  # at the top of the scale, falling to 0: well restored parts stay as they are
CONTOUR = (60, 230, 255)


class Colors(NamedTuple):
    """Two values of anomaly maps that define the colors, both measured on validation normals."""

    scale: float  # at the top of the color scale: 99.9 % of the pixels are below
    pixel_threshold: float  # along the contour: 99 % of the pixels are below


def draw_overlay(
    picture: Pixels, anomaly_map: Pixels, colors: Colors, title: str, words: Sequence[tuple[str, bool]]
) -> Image.Image:
    """The picture (H, W) or (H, W, 3), the same under its anomaly map (h, w), the color scale; lines of text above.

    Each line of ``words`` says whether it is highlighted.
    """
    image = _enlarged(Image.fromarray(picture).convert("RGB"))
    width, height = image.size
    values = np.asarray(Image.fromarray(anomaly_map.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC))
    lines = [(title, INK), *((line, RAMP[-1] if loud else FAINT) for line, loud in words), (RESEARCH_ONLY, INK)]
    top = MARGIN + LINE * len(lines) + MARGIN // 2
    total = max(2 * width + 4 * MARGIN + BAR + LABELS, LEAST_WIDTH)
    canvas = Image.new("RGB", (total, top + max(height, 160) + MARGIN), GROUND)
    draw = ImageDraw.Draw(canvas)
    for number, (line, ink) in enumerate(lines):
        _write(draw, (MARGIN, MARGIN + LINE * number), line, ink, total - 2 * MARGIN)
    canvas.paste(image, (MARGIN, top))
    canvas.paste(_colored(image, values, colors), (2 * MARGIN + width, top))
    _draw_scale(canvas, draw, (3 * MARGIN + 2 * width, top), max(height, 160), colors)
    return canvas


def _enlarged(image: Image.Image) -> Image.Image:
    factor = SIDE / max(image.size)
    size = (max(round(image.width * factor), 1), max(round(image.height * factor), 1))
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def _colored(image: Image.Image, values: Pixels, colors: Colors) -> Image.Image:
    level = np.clip(values * (255 / max(colors.scale, 1e-12)), 0, 255).astype(np.uint8)
    ramp, opacity = _ramp()
    mixed = Image.composite(Image.fromarray(ramp[level]), image, Image.fromarray(opacity[level]))
    # A contour that runs outside the region, two pixels wide.
    mask = Image.fromarray(values > colors.pixel_threshold)
    inside = np.asarray(mask)
    edge = np.zeros_like(inside)
    for axis in (0, 1):
        for step in (1, -1, 2, -2):
            edge |= _moved(inside, step, axis) & ~inside
    mixed.paste(CONTOUR, mask=Image.fromarray(edge))
    return mixed


def _moved(mask: Pixels, step: int, axis: int) -> Pixels:
    """The mask shifted by some pixels."""
    moved = np.roll(mask, step, axis)
    np.moveaxis(moved, axis, 0)[slice(None, step) if step > 0 else slice(step, None)] = False
    return moved


@functools.cache
def _ramp() -> tuple[Pixels, Pixels]:
    """Colors (256, 3) and opacities (256,), uint8, from nothing to the top of the scale."""
    level = np.linspace(0, 1, 256)
    ramp = np.stack([np.interp(level, LEVELS, channel) for channel in zip(*RAMP, strict=True)], axis=1)
    return ramp.round().astype(np.uint8), (level**2.5 * OPACITY * 255).round().astype(np.uint8)


def _draw_scale(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], height: int, colors: Colors
) -> None:
    """The color scale as it looks over a dark grey, its ends in numbers, the contour's value as a line across."""
    left, top = corner
    levels = np.linspace(colors.scale, 0, height)[:, None].repeat(BAR, 1)
    grey = Image.new("RGB", (BAR, height), (64, 64, 64))
    canvas.paste(_colored(grey, levels, Colors(colors.scale, np.inf)), (left, top))
    at = round(top + (height - 1) * (1 - min(colors.pixel_threshold / max(colors.scale, 1e-12), 1)))
    draw.line([(left, at), (left + BAR, at)], CONTOUR, 2)
    text = left + BAR + 6
    # The two values may lie close to each other: the lower one's words go below its line.
    for y, value, meaning, ink in (
        (top - 4, colors.scale, "99.9 %", FAINT),
        (max(at + 2, top + 2 * LINE), colors.pixel_threshold, "99 %", CONTOUR),
    ):
        _write(draw, (text, y), f"{value:.3g}", ink, LABELS)
        _write(draw, (text, y + LINE - 5), "normal pixels:", ink, LABELS, small=True)
        _write(draw, (text, y + 2 * LINE - 13), f"{meaning} below", ink, LABELS, small=True)
    _write(draw, (text, top + height - LINE + 4), "0", FAINT, LABELS)


def _write(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    ink: tuple[int, int, int],
    width: int,
    small: bool = False,
) -> None:
    font = _font(12 if small else 16)
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    cut, shown = 0, text
    while draw.textlength(shown, font) > width and cut < len(text) - 2:
        cut += 1
        keep = len(text) - cut
        shown = f"{text[: keep // 2]}…{text[len(text) - (keep + 1) // 2 :]}"
    draw.text(corner, shown, ink, font)


@functools.cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
