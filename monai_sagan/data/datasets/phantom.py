"""Phantoms: generated chest images with opacities in the lungs, so that everything runs with no downloaded data.

Anatomy is drawn in unit coordinates: x and y run from -1 to 1, x to the image's right (the patient's left), y down;
the image size only says how finely a patient is sampled.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_sagan.data.datasets.items import Datalist
from monai_sagan.data.datasets.med_ad import read_med_ad
from monai_sagan.errors import SaganError
from monai_sagan.files import build_folder

__all__ = ["phantom_image"]

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

VERSION = 3  # of the files: raise it when the same arguments would write others

PHANTOM_COUNTS = dict(
    train_normal=600, unlabeled_normal=240, unlabeled_abnormal=360, test_normal=200, test_abnormal=200
)

_PATIENT = {  # the ends between which each variable is drawn; lengths in unit coordinates, angles in radians
    "shift_x": (-0.071, 0.071), "shift_y": (-0.062, 0.062), "tilt": (-0.085, 0.085), "size": (0.91, 1.08),
    "breadth": (0.975, 1.025), "flank": (0.873, 0.975), "shoulder": (-0.912, -0.805), "lung_width": (0.68, 0.79),
    "lung_top": (-0.823, -0.71), "lung_base": (0.605, 0.778), "dome": (0.125, 0.243), "liver": (0.045, 0.115),
    "air": (0.6, 0.75), "medial": (0.092, 0.158), "heart_x": (0.095, 0.178), "heart_y": (0.22, 0.33),
    "heart_width": (0.265, 0.395), "heart_height": (0.36, 0.482), "bubble": (0.0, 0.2), "bone": (0.035, 0.092),
    "rib_spacing": (0.141, 0.179), "rib_phase": (0.0, 1.0), "rib_bend": (0.325, 0.575),
    "clavicle_y": (-0.623, -0.532), "clavicle_slope": (0.075, 0.325), "vessels": (0.028, 0.065),
    "brighter_right": (-0.015, 0.015), "brighter_down": (-0.015, 0.015), "gamma": (0.9, 1.15), "mean": (102.0, 122.0),
    "sd": (57.0, 67.0), "grain": (3.0, 4.5),
}  # fmt: skip


WARP = 0.04  # of all of a patient's anatomy, in unit coordinates: no two are built alike


def _soft(depth: Array, ramp: float) -> Array:
    """A smooth step over ``depth``: 0 outside, 1/2 at 0, 1 inside, with a slope ``ramp`` wide."""
    t: Array = np.clip(0.5 + depth / ramp, 0, 1)
    return t * t * (3 - 2 * t)


def _field(rng: np.random.Generator, axis: Array, frequency: float, waves: int = 24) -> Array:
    """A smooth random field (n, n) of mean 0 and variance 1, with up to ``frequency`` cycles a unit length."""
    angle, phase = rng.uniform(0, 2 * np.pi, (2, waves))
    pace = 2j * np.pi * frequency * np.sqrt(rng.uniform(0.1, 1, waves))
    across, down = np.exp(np.outer(pace * np.cos(angle), axis)), np.exp(np.outer(axis, pace * np.sin(angle)))
    return np.asarray((down * np.exp(1j * phase) @ across).real * np.sqrt(2 / waves))


def _diaphragm(p: SimpleNamespace, x: Array) -> Array:
    dome = p.dome * (1 - ((np.abs(x) - 0.34) / 0.36) ** 2)
    return np.asarray(p.lung_base - dome - p.liver * _soft(-x, 0.2))


def _lung_depth(p: SimpleNamespace, x: Array, y: Array) -> Array:
    """How deep points lie inside the lung fields that heart and aorta leave free; negative outside."""
    side, fall = np.abs(x), np.clip((y - p.lung_top) / (p.lung_base - p.lung_top), 0, 1)
    spread = np.sqrt(1 - (1 - fall) ** 3)
    outer = 0.34 + (p.lung_width - 0.34) * spread - side
    inner = side - 0.34 + (0.34 - p.medial) * spread
    slant = (x - p.heart_x - 0.35 * (y - p.heart_y)) / p.heart_width
    heart = (np.hypot(slant, (y - p.heart_y) / p.heart_height) - 1) * p.heart_width
    aorta = np.hypot(x - 0.5 * p.medial, y + 0.25) - 0.5 * p.medial - 0.06
    return np.asarray(np.minimum.reduce([outer, inner, heart, aorta, _diaphragm(p, x) - y, y - p.lung_top]))


def _chest(p: SimpleNamespace, x: Array, y: Array, ramp: float) -> tuple[Array, Array]:
    """Brightness (n, n) of the body as if it held no air, and its bones (n, n), 0 to about 1."""
    side, below = np.abs(x), y - _diaphragm(p, x)
    shoulder = y - p.shoulder - 0.15 * side - 0.45 * (_soft(side - 0.28, 0.25) - 1)
    wall = np.minimum(shoulder, p.flank + 0.4 * _soft(-0.42 - y, 0.25) + 0.04 * y - side)
    tissue = 0.3 + 0.22 * _soft(wall - 0.15, 0.4) + 0.16 * np.exp(-((x / 0.4) ** 2)) + 0.1 * _soft(below, 0.15)
    tissue += _soft(0.1 - side, 0.08) * (0.08 + 0.03 * np.cos(2 * np.pi * y / (0.9 * p.rib_spacing)))
    tissue -= 0.1 * _soft(0.05 - side, 0.06) * _soft(-0.3 - y, 0.2)  # the windpipe's air, then the stomach's
    tissue -= p.bubble * _soft(1 - np.hypot((x - 0.4) / 0.18, (below - 0.14) / 0.1), 0.6)
    courses = y - p.rib_bend * side**2 + 0.1 * side, y + 0.8 * side - 0.3 * side**2
    behind, front = (_soft(np.cos(2 * np.pi * (c / p.rib_spacing + p.rib_phase)) - 0.3, 1.0) for c in courses)
    ribs = (0.55 + 0.4 * _soft(side - 0.5, 0.4)) * behind + 0.3 * _soft(side - 0.35, 0.3) * front
    ribs *= _soft(side - 0.12, 0.08) * _soft(p.lung_width + 0.04 - side, 0.08) * _soft(0.7 - y, 0.4)
    clavicle = y - p.clavicle_y + p.clavicle_slope * side - 0.06 * np.sin(5 * side)
    bones = np.maximum(ribs, 1.2 * _soft(0.03 - np.abs(clavicle), 0.05) * _soft(side - 0.08, 0.08))
    return tissue * _soft(wall, ramp), bones * _soft(wall, ramp)


def _opacities(p: SimpleNamespace, rng: np.random.Generator, axis: Array, x: Array, y: Array) -> list[Array]:
    """One or two irregular blobs (n, n), 0 to 1, each centered well inside a lung."""
    blobs = []
    for largest in ((0.30,), (0.24, 0.24))[rng.integers(2)]:
        radius, stretch = rng.uniform(0.14, largest), rng.uniform(0.8, 1.25)
        spots = rng.uniform(-0.8, 0.8, (2, 256))
        u, v = spots[:, np.argmax(_lung_depth(p, *spots) > 0.45 * radius)]
        ragged = np.clip(0.3 * _field(rng, axis, 0.8 / radius), -0.6, 0.6)
        blobs.append(_soft(1 - np.hypot((x - u) * stretch, (y - v) / stretch) / radius + ragged, 1.0))
    return blobs


def _letter(rng: np.random.Generator, axis: Array) -> Mask:
    """Where (n, n) a burnt-in L stands near a corner, in strokes of a pixel or more: 255 is in every image."""
    down, across = rng.choice((-1, 1), 2) * rng.uniform(0.72, 0.85, 2)
    height, width = np.maximum((0.2, 0.12), np.array((10, 6)) / len(axis))
    v, u = (axis[:, None] - down) / height, (axis - across) / width
    return np.asarray((np.abs(v) <= 0.5) & (np.abs(u) <= 0.5) & ((v > 0.3) | (u < -0.15)))


def _expose(p: SimpleNamespace, image: Array, noise: Array, letter: Mask) -> NDArray[np.uint8]:
    """The film, of the patient's mean and standard deviation even after clipping: neither may tell of a lesion."""
    image = np.maximum(image, 0) ** p.gamma
    image, gain, offset = image - image.mean(), p.sd / image.std(), p.mean
    for _ in range(7):
        film = np.where(letter, 255, np.clip(gain * image + offset + p.grain * noise, 0, 255))
        gain, offset = gain * p.sd / film.std(), offset + p.mean - film.mean()
    return np.asarray(film.round().astype(np.uint8))


def phantom_image(seed: int, index: int, abnormal: bool, image_size: int = 64) -> tuple[NDArray[np.uint8], Mask]:
    """Draw patient ``index`` of ``seed``: an image (n, n) of 0 .. 255, and where (n, n) its lesions are, if abnormal.

    The same patient has the same anatomy, exposure and letter with lesions and without, and at every size.

    >>> image, lesions = phantom_image(seed=0, index=3, abnormal=True)
    >>> image.shape, bool(lesions.any())
    ((64, 64), True)

    Args:
        seed: of all patients.
        index: of the patient, from 0.
        abnormal: whether to draw lesions.
        image_size: n, the side in pixels.
    """
    patient, lesion, film = map(np.random.default_rng, np.random.SeedSequence((seed, index)).spawn(3))
    p = SimpleNamespace(**{name: patient.uniform(*ends) for name, ends in _PATIENT.items()})
    axis = (np.arange(image_size) + 0.5) * (2 / image_size) - 1
    across, down, cos, sin = axis - p.shift_x, axis[:, None] - p.shift_y, np.cos(p.tilt), np.sin(p.tilt)
    x, y = (across * cos + down * sin) / (p.size * p.breadth), (down * cos - across * sin) / p.size * p.breadth
    x, y = (along + WARP * _field(patient, axis, 1.0) for along in (x, y))
    ramp = max(0.05, 2 / image_size)
    tissue, bones = _chest(p, x, y, ramp)
    lung, hilum = _soft(_lung_depth(p, x, y), ramp), _soft(0.25 - np.hypot(np.abs(x) - 0.12, y - 0.05), 0.5)
    vessels = p.vessels * (0.3 + hilum) * _soft(_field(patient, axis, 4.0), 3.0)
    image = tissue * (1 - p.air * lung) + lung * vessels + p.bone * bones
    image *= 1 + p.brighter_right * x + p.brighter_down * y
    mask = np.zeros(image.shape, dtype=bool)
    for blob in _opacities(p, lesion, axis, x, y) if abnormal else ():
        image += lesion.uniform(0.6, 0.95) * blob * lung * (tissue - image)
        mask |= blob * lung > 0.5
    return _expose(p, image, film.standard_normal(image.shape), _letter(patient, axis)), mask


def lesion_boxes(mask: Mask) -> list[list[int]]:
    """The boxes [x, y, width, height], in pixels, of the connected parts of a mask (H, W); corners connect."""
    from scipy.ndimage import find_objects, label

    parts = find_objects(label(mask, np.ones((3, 3)))[0])
    return [[x.start, y.start, x.stop - x.start, y.stop - y.start] for y, x in parts]


def write_phantom(
    dataset_dir: str | os.PathLike[str], seed: int = 0, image_size: int = 64, counts: dict[str, int] = PHANTOM_COUNTS
) -> Path:
    """Write phantoms in Med-AD's layout (``images/``, ``data.json``) and return their folder, which appears at once.

    ``masks/`` shows the lesions of abnormal images (0 and 255), ``items.json`` names mask and boxes of each image, and
    ``phantom.json`` says how all was made. If they are there already, nothing happens; several processes may ask at
    the same time.

    Args:
        dataset_dir: the folder; it is made if it is not there.
        seed: of all patients.
        image_size: side of the images in pixels.
        counts: how many images of each group; the groups are those of `PHANTOM_COUNTS`.

    Raises:
        SaganError: if the folder cannot be written or holds anything else, such as the phantoms of another version of
            this package, or ``counts`` has other groups than `PHANTOM_COUNTS`.
    """
    if counts.keys() != PHANTOM_COUNTS.keys():
        raise SaganError(f"counts has the groups {sorted(counts)}; give {sorted(PHANTOM_COUNTS)}")
    folder = Path(dataset_dir).resolve()
    recipe = {"version": VERSION, "seed": seed, "image_size": image_size, "counts": counts}
    if _holds(folder, recipe):
        return folder
    try:
        with build_folder(folder) as draft:
            _draw_all(draft, recipe)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY and _holds(folder, recipe):  # another process was first
            return folder
        reason = error.strerror or error
        raise SaganError(f"cannot write to {folder} ({reason}); make room or name a new folder") from None
    return folder


def _holds(folder: Path, recipe: dict[str, Any]) -> bool:
    """Whether the folder holds the phantoms of this recipe; False if it is empty or not there."""
    # Emptiness comes first: were another process to fill the folder in between, its files would look like a stranger's.
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    _check_version(folder)
    note = folder / "phantom.json"
    if note.is_file() and (folder / "data.json").is_file() and json.loads(note.read_text()) == recipe:
        return True
    raise SaganError(f"{folder} holds something else than the phantoms of {recipe}; name a new folder or delete it")


def _check_version(folder: Path) -> None:
    try:
        version = json.loads((folder / "phantom.json").read_text())["version"]
    except (FileNotFoundError, NotADirectoryError):
        return
    except (ValueError, KeyError, TypeError):
        version = "unknown"
    if version != VERSION:
        raise SaganError(
            f"{folder} holds phantoms made by another version of this package (their version is {version}, now it is "
            f"{VERSION}); name a new folder or delete it"
        )


def _draw_all(folder: Path, recipe: dict[str, Any]) -> None:
    seed, counts = recipe["seed"], recipe["counts"]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    items: dict[str, dict[str, Any]] = {}
    names: dict[str, list[str]] = {group: [] for group in PHANTOM_COUNTS}
    groups = np.repeat([*PHANTOM_COUNTS], [counts[group] for group in PHANTOM_COUNTS])
    for index, group in enumerate(np.random.default_rng(seed).permutation(groups)):  # no name hints at its group
        name, ill = f"{index:06d}.png", group.endswith("_abnormal")
        names[group].append(name)
        image, mask = phantom_image(seed, index, ill, recipe["image_size"])
        Image.fromarray(image).save(folder / "images" / name)
        items[name] = {"boxes": lesion_boxes(mask)}
        if ill:
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / name)
            items[name]["mask"] = f"masks/{name}"
    train, normal, abnormal, *test = names.values()
    splits = {"train": {"0": train, "unlabeled": {"0": normal, "1": abnormal}}, "test": {"0": test[0], "1": test[1]}}
    (folder / "phantom.json").write_text(json.dumps(recipe))
    (folder / "items.json").write_text(json.dumps(items))
    (folder / "data.json").write_text(json.dumps(splits))


def read_phantom(dataset_dir: str | os.PathLike[str], seed: int = 0, image_size: int = 64) -> Datalist:
    """The datalist of `read_med_ad` for phantoms, written first if they are not there.

    Args:
        dataset_dir: the folder; it is made if it is not there.
        seed: of all patients.
        image_size: side of the images in pixels.

    Raises:
        SaganError: if the folder holds the phantoms of another version of this package; see also `write_phantom`.
    """
    if not (Path(dataset_dir) / "data.json").is_file():
        write_phantom(dataset_dir, seed, image_size)
    _check_version(Path(dataset_dir))
    return read_med_ad(Path(dataset_dir)).datalist
