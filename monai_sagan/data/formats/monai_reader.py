"""A MONAI reader for image files of any format that `monai_sagan.data.formats.decode` knows."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys, ensure_tuple

from monai_sagan.data.formats.decode import Decoded, decode_file, is_image_file, split_fragment
from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.errors import SaganError

__all__ = ["RadiographReader"]

GREY_MODES = ("1", "L", "LA")
Name = str | PathLike[str]


class RadiographReader(ImageReader):
    """Radiographs, photographs and slices for `monai.transforms.LoadImage`, not transposed, float32 from 0 to 255.

    ``path#fragment`` names a frame or a slice. The pixels are those of `monai_sagan.data.formats.decode.read_image`,
    and the file's description is part of the meta data. Several files are stacked as channels.

    >>> from monai.transforms import LoadImage
    >>> from PIL import Image
    >>> Image.new("L", (3, 2), 7).save("a.png")
    >>> LoadImage(reader=RadiographReader(), ensure_channel_first=True)("a.png").shape
    torch.Size([1, 2, 3])

    Args:
        preparation: of DICOM, ``"display"`` or ``"med_ad"``, see `monai_sagan.data.formats.dicom`.
        channels: 1 converts to grey, 3 to color, None keeps each image as it is.

    Raises:
        SaganError: for other ``channels``.
    """

    def __init__(self, preparation: str = "display", channels: int | None = None) -> None:
        super().__init__()
        if channels not in (1, 3, None):
            raise SaganError(
                f"channels is {channels!r}; it is 1 for grey, 3 for color or None to keep each image as it is"
            )
        self.preparation = preparation
        self.channels = channels

    def verify_suffix(self, filename: Sequence[Name] | Name) -> bool:
        """Whether all names are those of image files."""
        return all(is_image_file(split_fragment(name)[0]) for name in ensure_tuple(filename))

    def read(self, data: Sequence[Name] | Name, **kwargs: Any) -> list[tuple[str, Decoded | SaganError]]:
        """The decoded files. An error waits for `get_data`: one raised here makes LoadImage try other readers."""
        return [(str(name), next(decode_file([str(name)], self.preparation))) for name in ensure_tuple(data)]

    def get_data(self, img: Sequence[tuple[str, Decoded | SaganError]]) -> tuple[Pixels, dict[str, Any]]:
        """Float32 (H, W), (H, W, 3), or of several files (N, H, W), (H, W, 3 N); and the first one's meta data.

        Raises:
            SaganError: naming the file that is unreadable, or that differs in size or color from the first.
        """
        images: list[Pixels] = []
        meta: dict[str, Any] = {}
        for name, decoded in img:
            if isinstance(decoded, SaganError):
                raise decoded
            images.append(self._pixels(decoded))
            meta = meta or decoded.description | {
                MetaKeys.SPATIAL_SHAPE: np.asarray(images[0].shape[:2]),
                "filename_or_obj": name,
            }
            if images[-1].shape != images[0].shape:
                raise SaganError(
                    f"{name} is {images[-1].shape} while {img[0][0]} is {images[0].shape}; load them apart"
                )
        color = images[0].ndim == 3
        stacked = len(images) > 1 and not color
        # NaN is MONAI's sign for "no channel axis".
        meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = -1 if color else 0 if stacked else float("nan")
        return (np.stack(images) if stacked else np.concatenate(images, axis=-1) if color else images[0]), meta

    def _pixels(self, decoded: Decoded) -> Pixels:
        grey = self.channels == 1 or (self.channels is None and decoded.image.mode in GREY_MODES)
        return np.asarray(decoded.image.convert("L" if grey else "RGB"), np.float32)
