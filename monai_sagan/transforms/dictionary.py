"""Transforms of dictionaries of images (C, H, W)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform, Randomizable
from monai.utils import convert_to_tensor

from monai_sagan.transforms import array
from monai_sagan.transforms.array import AnomalyMap, PatchPositionEncoding, RandForeignPatchInterpolation
from monai_sagan.transforms.functional import anomaly_score

__all__ = [
    "AnomalyMapd",
    "PatchPositionEncodingd",
    "RandCutPasted",
    "RandForeignPatchInterpolationd",
    "RandNaturalSyntheticAnomalyd",
    "RandPatchInterpolationd",
    "RandPoissonPatchd",
]


def _partner(data: Mapping[Hashable, Any], key: str, transform: object) -> Any:
    """The second image of a key."""
    if key not in data:
        raise KeyError(f"{type(transform).__name__} finds no {key!r} among {', '.join(map(str, data))}")
    return data[key]


def _check_names(transform: MapTransform, **names: str) -> None:
    """Raise if several keys would write their results under one name."""
    for argument, name in names.items():
        if len(transform.keys) > 1 and name.format(key="a") == name.format(key="b"):
            keys = ", ".join(map(str, transform.keys))
            raise ValueError(f"{argument} is {name!r} for all of {keys}; write '{{key}}' in it, as '{{key}}_{name}'")


class RandForeignPatchInterpolationd(Randomizable, MapTransform):
    """Dictionary form of `RandForeignPatchInterpolation`, with the source image under a second key.

    In all keys ``{key}`` stands for the image's own key: with several keys each needs its own results, such as
    ``"{key}_pseudo"``; ``"{key}"`` replaces the image. All images get the same square.

    Args:
        keys: images to make pseudo-anomalies of.
        source_key: of the source image, of the same shape, which is never optional.
        pseudo_key: of the blended image.
        mask_key: of the mask.
        core: see `RandForeignPatchInterpolation`.
        size: see `RandForeignPatchInterpolation`.
        opacity: see `RandForeignPatchInterpolation`.
        allow_missing_keys: skip missing images.

    >>> transform = RandForeignPatchInterpolationd("image").set_random_state(seed=0)
    >>> result = transform({"image": torch.zeros(1, 64, 64), "source": torch.ones(1, 64, 64)})
    >>> sorted(result)
    ['image', 'pseudo', 'pseudo_mask', 'source']
    """

    backend = RandForeignPatchInterpolation.backend

    def __init__(
        self,
        keys: KeysCollection,
        source_key: str = "source",
        pseudo_key: str = "pseudo",
        mask_key: str = "pseudo_mask",
        core: float = 0.6,
        size: tuple[float, float] = (0.05, 0.2),
        opacity: tuple[float, float] = (0.0, 1.0),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        _check_names(self, pseudo_key=pseudo_key, mask_key=mask_key)
        self.source_key = source_key
        self.pseudo_key = pseudo_key
        self.mask_key = mask_key
        self.transform = RandForeignPatchInterpolation(core, size, opacity)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandForeignPatchInterpolationd:
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        self.transform.randomize()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize()
        for key in self.key_iterator(result):
            source = _partner(data, self.source_key.format(key=key), self)
            pseudo, mask = self.transform(data[key], source, randomize=False)
            result[self.pseudo_key.format(key=key)] = pseudo
            result[self.mask_key.format(key=key)] = mask
        return result


class _RandSyntheticAnomalyd(Randomizable, MapTransform):
    """What the dictionary forms of synthetic anomalies share: a subclass names its array form."""

    backend = RandForeignPatchInterpolation.backend
    array_form: Any

    def __init__(
        self,
        keys: KeysCollection,
        pseudo_key: str = "pseudo",
        label_key: str = "pseudo_label",
        value_range: tuple[float, float] = (-1.0, 1.0),
        object_level: int = 20,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        _check_names(self, pseudo_key=pseudo_key, label_key=label_key)
        self.pseudo_key = pseudo_key
        self.label_key = label_key
        self.transform = self.array_form(value_range, object_level)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Any:
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        self.transform.randomize()

    def _partners(self, data: Mapping[Hashable, Any], key: Hashable) -> list[Any]:
        return []

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize()
        for key in self.key_iterator(result):
            pseudo, label = self.transform(data[key], *self._partners(data, key), randomize=False)
            result[self.pseudo_key.format(key=key)] = pseudo
            result[self.label_key.format(key=key)] = label
        return result


class RandCutPasted(_RandSyntheticAnomalyd):
    """Dictionary form of `RandCutPaste`.

    Args:
        keys: images to make anomalies in; all get patches by the same draws.
        pseudo_key: where the changed image goes; ``{key}`` stands for the image's own key, and ``"{key}"`` replaces
            the image. Of several keys each needs a place of its own, such as ``"{key}_pseudo"``.
        label_key: where the labels go, written alike.
        value_range: see `RandCutPaste`.
        object_level: see there.
        allow_missing_keys: skip images that are not there.

    Raises:
        ValueError: when several keys would write to the same place.
        KeyError: when an image is not there.
    """

    array_form = array.RandCutPaste


class _RandForeignAnomalyd(_RandSyntheticAnomalyd):
    """Patches come from another image, under a second key."""

    def __init__(
        self,
        keys: KeysCollection,
        source_key: str = "source",
        pseudo_key: str = "pseudo",
        label_key: str = "pseudo_label",
        value_range: tuple[float, float] = (-1.0, 1.0),
        object_level: int = 20,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, pseudo_key, label_key, value_range, object_level, allow_missing_keys)
        self.source_key = source_key

    def _partners(self, data: Mapping[Hashable, Any], key: Hashable) -> list[Any]:
        return [_partner(data, self.source_key.format(key=key), self)]


class RandPatchInterpolationd(_RandForeignAnomalyd):
    """Dictionary form of `RandPatchInterpolation`: the other image comes under a second key.

    Args:
        keys: images to make anomalies in; all get patches by the same draws.
        source_key: the other image, of the same shape; ``{key}`` stands for the image's own key.
        pseudo_key: where the changed image goes, written alike: ``"{key}"`` replaces the image. Of several keys each
            needs a place of its own, such as ``"{key}_pseudo"``.
        label_key: where the labels go, written alike.
        value_range: see `RandPatchInterpolation`.
        object_level: see there.
        allow_missing_keys: skip images that are not there; the other image must be.

    Raises:
        ValueError: when several keys would write to the same place.
        KeyError: when an image, or the other one, is not there.
    """

    array_form = array.RandPatchInterpolation


class RandPoissonPatchd(_RandForeignAnomalyd):
    """Dictionary form of `RandPoissonPatch`: the other image comes under a second key.

    Args:
        keys: images to make anomalies in; all get patches by the same draws.
        source_key: the other image, of the same shape; ``{key}`` stands for the image's own key.
        pseudo_key: where the changed image goes, written alike: ``"{key}"`` replaces the image. Of several keys each
            needs a place of its own, such as ``"{key}_pseudo"``.
        label_key: where the labels go, written alike.
        value_range: see `RandPoissonPatch`.
        object_level: see there.
        allow_missing_keys: skip images that are not there; the other image must be.

    Raises:
        ValueError: when several keys would write to the same place.
        KeyError: when an image, or the other one, is not there.
    """

    array_form = array.RandPoissonPatch


class RandNaturalSyntheticAnomalyd(_RandForeignAnomalyd):
    """Dictionary form of `RandNaturalSyntheticAnomaly`: the other image comes under a second key.

    Args:
        keys: images to make anomalies in; all get patches by the same draws.
        source_key: the other image, of the same shape; ``{key}`` stands for the image's own key.
        pseudo_key: where the changed image goes, written alike: ``"{key}"`` replaces the image. Of several keys each
            needs a place of its own, such as ``"{key}_pseudo"``.
        label_key: where the labels go, written alike.
        value_range: see `RandNaturalSyntheticAnomaly`.
        object_level: see there.
        allow_missing_keys: skip images that are not there; the other image must be.

    Raises:
        ValueError: when several keys would write to the same place.
        KeyError: when an image, or the other one, is not there.
    """

    array_form = array.RandNaturalSyntheticAnomaly


class PatchPositionEncodingd(MapTransform):
    """Dictionary form of `PatchPositionEncoding`.

    Args:
        keys: images to append the code to.
        grid: see `PatchPositionEncoding`.
        rounding: see `PatchPositionEncoding`.
        allow_missing_keys: skip missing images.

    >>> PatchPositionEncodingd("image")({"image": torch.zeros(1, 64, 64)})["image"].shape
    torch.Size([4, 64, 64])
    """

    backend = PatchPositionEncoding.backend

    def __init__(
        self,
        keys: KeysCollection,
        grid: tuple[int, int] = (2, 2),
        rounding: str = "ceil",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = PatchPositionEncoding(grid, rounding)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result


class AnomalyMapd(MapTransform):
    """Dictionary form of `AnomalyMap`, which adds the score as well.

    In all keys ``{key}`` stands for the image's own key: with several keys each needs its own results, such as
    ``"{key}_map"``.

    Args:
        keys: the images in [-1, 1].
        restored_key: of their restored versions, which are never optional.
        map_key: of the anomaly map (1, H, W).
        score_key: of the anomaly score, the map's mean.
        allow_missing_keys: skip missing images.

    >>> result = AnomalyMapd()({"image": torch.ones(1, 2, 2), "pred": torch.zeros(1, 2, 2)})
    >>> result["anomaly_score"]
    tensor(0.5000)
    """

    backend = AnomalyMap.backend

    def __init__(
        self,
        keys: KeysCollection = "image",
        restored_key: str = "pred",
        map_key: str = "anomaly_map",
        score_key: str = "anomaly_score",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        _check_names(self, map_key=map_key, score_key=score_key)
        self.restored_key = restored_key
        self.map_key = map_key
        self.score_key = score_key
        self.transform = AnomalyMap()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            anomaly_map = self.transform(data[key], _partner(data, self.restored_key.format(key=key), self))
            result[self.map_key.format(key=key)] = anomaly_map
            plain: torch.Tensor = convert_to_tensor(anomaly_map, track_meta=False)
            score = anomaly_score(plain)
            result[self.score_key.format(key=key)] = score.numpy() if isinstance(anomaly_map, np.ndarray) else score
        return result
