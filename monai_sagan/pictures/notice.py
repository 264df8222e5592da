"""The notice on every picture of a result: for research only."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

RESEARCH_ONLY = "for research only, not a medical device"
WORDS = "research only"  # below small pictures
LEAST, PAD = 10, 3  # size of the letters and space beside them, in pixels
GROUND, INK = (18, 18, 20), (225, 225, 225)


def add_notice(picture: Image.Image) -> Image.Image:
    """The RGB picture above a strip "research only"; a very narrow one gets a margin at its right."""
    size = max(LEAST, picture.width // 16)
    font = ImageFont.load_default(size)
    width = max(picture.width, round(font.getlength(WORDS)) + 2 * PAD)
    strip = round(1.5 * size)
    canvas = Image.new("RGB", (width, picture.height + strip), GROUND)
    canvas.paste(picture)
    ImageDraw.Draw(canvas).text((PAD, picture.height + strip // 2), WORDS, INK, font, anchor="lm")
    return canvas
