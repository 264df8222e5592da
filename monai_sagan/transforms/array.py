"""Transforms of one image (C, H, W): NumPy arrays, tensors and MetaTensors, with results of the same type.

Floating-point values keep their type, whole numbers become float32. The geometry, a MetaTensor's metadata and its
applied operations are kept. Nothing is changed in place. Wrong inputs raise TypeError or ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms.transform import Randomizable, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch import Tensor

from monai_sagan.networks.patches import position_code
from monai_sagan.networks.value_range import warn_of_range
from monai_sagan.transforms import functional, synthesis

__all__ = [
    "AnomalyMap",
    "PatchPositionEncoding",
    "RandCutPaste",
    "RandForeignPatchInterpolation",
    "RandNaturalSyntheticAnomaly",
    "RandPatchInterpolation",
    "RandPoissonPatch",
]


def _plain(image: NdarrayOrTensor, name: str, batched: bool = False) -> Tensor:
    """The image as a plain floating-point tensor; ``name`` is what an error calls it."""
    if not isinstance(image, np.ndarray | Tensor):
        raise TypeError(f"{name} is a {type(image).__name__}; give a NumPy array or a tensor (C, H, W)")
    if image.ndim != 3 and not (batched and image.ndim == 4):
        wanted = "(C, H, W) or (B, C, H, W)" if batched else "(C, H, W)"
        raise ValueError(f"{name} has the shape {tuple(image.shape)}; give {wanted}, grey images with C = 1")
    if 0 in image.shape:
        raise ValueError(f"{name} has the shape {tuple(image.shape)}, which has no pixels")
    if image.is_complex() if isinstance(image, Tensor) else image.dtype.kind not in "biuf":
        raise TypeError(f"{name} holds {image.dtype}; give real numbers")
    if isinstance(image, np.ndarray) and not (image.flags.writeable and image.dtype.isnative):
        image = image.astype(image.dtype.newbyteorder("="))  # torch takes neither memory-mapped nor swapped ones
    tensor: Tensor = convert_to_tensor(image, track_meta=False)
    return tensor if tensor.is_floating_point() else tensor.float()


def _same_shape(image: NdarrayOrTensor, other: NdarrayOrTensor, name: str) -> None:
    if image.shape != other.shape:
        raise ValueError(f"image has shape {tuple(image.shape)}, {name} {tuple(other.shape)}; they must be equal")


def _like(result: Tensor, image: NdarrayOrTensor) -> Any:
    """``result`` as the kind of array and on the device that ``image`` is, with its meta data if it has any."""
    return convert_to_dst_type(result, dst=image, dtype=result.dtype)[0]


def _are_shares(*values: Any) -> bool:
    return all(isinstance(value, Real) and 0 <= float(value) <= 1 for value in values)


class RandForeignPatchInterpolation(Randomizable, Transform):
    """Make a pseudo-anomaly: blend a random square of another image into an image, at the same place.

    Called as ``transform(image, source)`` with two images (C, H, W) of one shape and any range, it returns the
    blended image and the mask (1, H, W) of the square. After Foreign Patch Interpolation,
    https://arxiv.org/abs/2011.04197, with the sizes of SAGAN's published code.

    Args:
        core: share of height and width, in the middle, in which the square's center lies.
        size: least and greatest half side of the square, as shares of the shorter image side.
        opacity: least and greatest share of ``source`` in the square.

    >>> transform = RandForeignPatchInterpolation().set_random_state(seed=0)
    >>> pseudo, mask = transform(torch.zeros(1, 64, 64), torch.ones(1, 64, 64))
    >>> pseudo.shape, bool((pseudo > 0).eq(mask > 0).all())
    (torch.Size([1, 64, 64]), True)
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        core: float = 0.6,
        size: tuple[float, float] = (0.05, 0.2),
        opacity: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        if not _are_shares(core):
            raise ValueError(f"core is {core}; it is a share from 0 to 1")
        for name, pair in (("size", size), ("opacity", opacity)):
            if not isinstance(pair, Sequence) or len(pair) != 2 or not _are_shares(*pair) or pair[0] > pair[1]:
                raise ValueError(f"{name} is {pair}; it is two shares from 0 to 1, the least first")
        self.core = core
        self.size = size
        self.opacity = opacity
        self.uniform = torch.zeros(1, 4)

    def randomize(self, data: Any = None) -> None:
        self.uniform = torch.tensor(self.R.random_sample((1, 4)), dtype=torch.float32)

    def __call__(
        self, image: NdarrayOrTensor, source: NdarrayOrTensor, randomize: bool = True
    ) -> tuple[NdarrayOrTensor, NdarrayOrTensor]:
        own, other = _plain(image, "image"), _plain(source, "source")
        _same_shape(image, source, "source")
        if randomize:
            self.randomize()
        blended, mask = functional.foreign_patch(
            own[None], other.to(own)[None], self.uniform, self.core, self.size, self.opacity
        )
        return _like(blended[0], image), _like(mask[0], image)


class _RandSyntheticAnomaly(Randomizable, Transform):
    """What the four kinds of `monai_sagan.transforms.synthesis` share: a subclass names its recipe."""

    backend = [TransformBackends.TORCH]
    recipe: synthesis.Recipe
    uniform: Tensor
    object_level: int
    value_range: tuple[float, float]

    def __init__(self, value_range: tuple[float, float] = (-1.0, 1.0), object_level: int = 20) -> None:
        if not isinstance(value_range, Sequence) or len(value_range) != 2 or not value_range[0] < value_range[1]:
            raise ValueError(f"value_range is {value_range}; it is two numbers, black and white, for example (0, 255)")
        if not isinstance(object_level, Integral) or not 0 <= object_level < 255:
            raise ValueError(f"object_level is {object_level}; it is a grey level, a whole number from 0 to 254")
        self.value_range = value_range
        self.object_level = object_level
        self.uniform = torch.zeros(1, synthesis.UNIFORM_NUMBERS)

    def randomize(self, data: Any = None) -> None:
        self.uniform = torch.tensor(self.R.random_sample((1, synthesis.UNIFORM_NUMBERS)), dtype=torch.float32)
        self.uniform.clamp_(max=1 - 2**-24)  # rounding may reach 1

    def _synthesize(
        self, image: NdarrayOrTensor, source: NdarrayOrTensor, randomize: bool
    ) -> tuple[NdarrayOrTensor, NdarrayOrTensor]:
        own, other = _plain(image, "image"), _plain(source, "source")
        _same_shape(image, source, "source")
        if randomize:
            self.randomize()
        made, label = synthesis.synthesize(
            own[None],
            other.to(own)[None],
            self.uniform.to(own.device),
            self.recipe,
            object_level=self.object_level,
            value_range=self.value_range,
        )
        return _like(made[0], image), _like(label[0], image)


class RandCutPaste(_RandSyntheticAnomaly):
    """Paste one to three patches of an image elsewhere in it; the labels of changed pixels are 1.

    Called as ``transform(image)`` with an image (C, H, W), it returns the changed image and the labels (1, H, W). After
    CutPaste, https://arxiv.org/abs/2104.04015, with the patches of `monai_sagan.transforms.synthesis`.

    Args:
        value_range: of the image: black and white. Blending is computed in its 256 grey levels.
        object_level: patches lie on what is brighter than this grey level of 255.

    Raises:
        TypeError: when the image is not an array or tensor of real numbers.
        ValueError: when it is not (C, H, W), or for an argument out of its range.

    Example:
        >>> made, label = RandCutPaste().set_random_state(0)(torch.rand(1, 64, 64))
        >>> made.shape, label.unique()
        (torch.Size([1, 64, 64]), tensor([0., 1.]))
    """

    recipe = synthesis.CUTPASTE

    def __call__(self, image: NdarrayOrTensor, randomize: bool = True) -> tuple[NdarrayOrTensor, NdarrayOrTensor]:
        return self._synthesize(image, image, randomize)


class _RandForeignAnomaly(_RandSyntheticAnomaly):
    """A synthetic anomaly whose patches come from another image."""

    def __call__(
        self, image: NdarrayOrTensor, source: NdarrayOrTensor, randomize: bool = True
    ) -> tuple[NdarrayOrTensor, NdarrayOrTensor]:
        return self._synthesize(image, source, randomize)


class RandPatchInterpolation(_RandForeignAnomaly):
    """Mix one to three patches of another image in, on its object; changed pixels have the opacity as their label.

    Called as ``transform(image, source)`` with two images (C, H, W), it returns the changed image and the labels
    (1, H, W) in [0, 1]. This is Foreign Patch Interpolation (https://arxiv.org/abs/2011.04197) as Natural Synthetic
    Anomalies compares with it; `RandForeignPatchInterpolation` mixes in one square anywhere, as SAGAN does.

    Args:
        value_range: of the images: black and white. Blending is computed in its 256 grey levels.
        object_level: patches lie on what is brighter than this grey level of 255.

    Raises:
        TypeError: when an image is not an array or tensor of real numbers.
        ValueError: when an image is not (C, H, W), the two differ in shape, or for an argument out of its range.
    """

    recipe = synthesis.FPI


class RandPoissonPatch(_RandForeignAnomaly):
    """Clone one to three patches of another image in without seams; changed pixels have the opacity as their label.

    Called as ``transform(image, source)`` with two images (C, H, W), it returns the changed image and the labels
    (1, H, W) in [0, 1]. After Poisson Image Interpolation, https://arxiv.org/abs/2107.02622.

    Args:
        value_range: of the images: black and white. Blending is computed in its 256 grey levels.
        object_level: patches lie on what is brighter than this grey level of 255.

    Raises:
        TypeError: when an image is not an array or tensor of real numbers.
        ValueError: when an image is not (C, H, W), the two differ in shape, or for an argument out of its range.
    """

    recipe = synthesis.PII


class RandNaturalSyntheticAnomaly(_RandForeignAnomaly):
    """Clone one to three resized patches of another image in elsewhere; labels say how much a neighborhood changes.

    Called as ``transform(image, source)`` with two images (C, H, W), it returns the changed image and the labels
    (1, H, W) in [0, 1]. After Natural Synthetic Anomalies, https://arxiv.org/abs/2109.15222.

    Args:
        value_range: of the images: black and white. Blending is computed in its 256 grey levels.
        object_level: patches lie on what is brighter than this grey level of 255.

    Raises:
        TypeError: when an image is not an array or tensor of real numbers.
        ValueError: when an image is not (C, H, W), the two differ in shape, or for an argument out of its range.
    """

    recipe = synthesis.NSA


class PatchPositionEncoding(Transform):
    """Append the binary code of each patch's place as channels: (C, H, W) to (C + bits, H, W), values 0 and 1.

    As SAGAN's position encoding (Sec. 2.2) does inside its generator, for use in front of any other network.

    Args:
        grid: rows and columns of patches; must divide H and W.
        rounding: of the number of bits, ``"ceil"`` (the paper) or ``"floor"`` (its published code).

    >>> PatchPositionEncoding(grid=(2, 2))(np.zeros((1, 64, 64), np.float32)).shape
    (4, 64, 64)
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, grid: tuple[int, int] = (2, 2), rounding: str = "ceil") -> None:
        if not isinstance(grid, Sequence) or len(grid) != 2 or not all(isinstance(count, Integral) for count in grid):
            raise ValueError(f"grid is {grid}; it is two whole numbers, rows and columns of patches")
        position_code(grid, rounding)  # names a wrong argument before any image is there
        self.grid = grid
        self.rounding = rounding

    def __call__(self, image: NdarrayOrTensor) -> NdarrayOrTensor:
        return _like(functional.append_position_code(_plain(image, "image"), self.grid, self.rounding), image)


class AnomalyMap(Transform):
    """Half the absolute difference of an image and its restored version, averaged over channels: (1, H, W) in [0, 1].

    Called as ``transform(image, restored)`` with images (C, H, W) in [-1, 1]; batches (B, C, H, W) work too. The mean
    of the map is the anomaly score (`monai_sagan.transforms.functional.anomaly_score`). The first call warns of images
    that are not scaled to [-1, 1].

    >>> AnomalyMap()(np.ones((1, 2, 2)), np.zeros((1, 2, 2))).tolist()
    [[[0.5, 0.5], [0.5, 0.5]]]
    """

    backend = [TransformBackends.TORCH]

    _checks_range = True

    def __call__(self, image: NdarrayOrTensor, restored: NdarrayOrTensor) -> NdarrayOrTensor:
        own, other = _plain(image, "image", batched=True), _plain(restored, "restored", batched=True)
        _same_shape(image, restored, "restored")
        if self._checks_range:
            self._checks_range = False
            warn_of_range(own)
        return _like(functional.anomaly_map(own, other.to(own)), image)
