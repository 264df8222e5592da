"""The values that a run is made with: three presets, and any value given beside them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, get_type_hints

from monai_sagan.data.cache import HowToDecode
from monai_sagan.errors import SaganError
from monai_sagan.networks.patches import check_grid

__all__ = ["PRESETS", "Settings", "resolve_flags", "resolve_settings"]


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a training run computes, apart from its data.

    The defaults are the paper's. Where it is silent the values are those of its published code; docs/differences.md
    tells each difference.

    Args:
        image_size: height and width, in pixels.
        in_channels: 1 for grey, 3 for color.
        preparation: of DICOM: "display" or "med_ad", see `monai_sagan.data.dicom`.
        min_foreground: images with a smaller share of pixels above their background are left out, 0 to 1.
        grid: rows and columns of patches.
        channels: width of both networks' first level.
        num_res_blocks: residual blocks in the generator's bottleneck.
        anatomical_consistency: patches and position codes; False is an ablation.
        abnormal_region_restoration: gates, skips and fusion; False is an ablation.
        gate_norm: "instance" or None, see `AttentionGate`.
        position_norm: "instance" or None, see `PositionBlock`.
        position_bits: "ceil" or "floor", see `position_code`.
        keep_prob: probability that a pixel keeps its restoration while training.
        batch_size: images of each stream in an iteration.
        max_iterations: critic updates.
        iterations_per_epoch: between validations, checkpoints and changes of the learning rate.
        learning_rate: of Adam, for both networks.
        learning_rate_decay: share of the run, at its end, over which the learning rate falls linearly to 0.
        critic_betas: of the critic's Adam; the generator's are 0.5 and 0.999. A critic whose gradient has died can
            take a thousand updates to come back with a second beta of 0.999, and a hundred with 0.99.
        critic_init: "torch" or "he", see `SaganDiscriminator`.
        n_critic: critic updates for each generator update.
        lambda_id: weight of the identity loss.
        lambda_rec: weight of the reconstruction loss.
        lambda_gp: weight of the gradient penalty.
        fake_source: "unlabeled" or "pseudo", see `SaganTrainer`.
        augment: rotate, scale and shift the training images a little.
        paired: the i-th unlabeled image always comes with the i-th normal one.
        ema_decay: keep an average of the generator's weights, which is then what is validated and saved: the share
            of the old average that each generator update leaves; 0 keeps none.
        map_passes: restorations of shifted copies that an anomaly map averages, 1 or a square number, see `restore`.
        map_smoothing: "none", "gaussian" or "guided", see `smooth_map`.
        map_sigma: standard deviation of the Gaussian, in pixels.
        mask_at_test: also report scores with the training mask left on, as the published code tests.
    """

    image_size: tuple[int, int] = (64, 64)
    in_channels: int = 1
    preparation: str = "med_ad"
    min_foreground: float = 0.0
    grid: tuple[int, int] = (2, 2)
    channels: int = 64
    num_res_blocks: int = 6
    anatomical_consistency: bool = True
    abnormal_region_restoration: bool = True
    gate_norm: str | None = None
    position_norm: str | None = "instance"
    position_bits: str = "ceil"
    keep_prob: float = 0.95
    batch_size: int = 64
    max_iterations: int = 100_000
    iterations_per_epoch: int = 1000
    learning_rate: float = 5e-5
    learning_rate_decay: float = 0.5
    critic_betas: tuple[float, float] = (0.5, 0.999)
    critic_init: str = "torch"
    n_critic: int = 2
    lambda_id: float = 1.0
    lambda_rec: float = 1.0
    lambda_gp: float = 10.0
    fake_source: str = "unlabeled"
    augment: bool = False
    paired: bool = False
    ema_decay: float = 0.0
    map_passes: int = 1
    map_smoothing: str = "none"
    map_sigma: float = 2.0
    mask_at_test: bool = False

    @property
    def epochs(self) -> int:
        """Epochs of the run: whole ones alone."""
        return self.max_iterations // self.iterations_per_epoch

    def generator(self) -> dict[str, Any]:
        """The arguments of `SaganGenerator`."""
        names = (
            *("in_channels", "channels", "num_res_blocks", "grid", "keep_prob", "gate_norm"),
            *("position_norm", "position_bits", "anatomical_consistency", "abnormal_region_restoration"),
        )
        return {name: getattr(self, name) for name in names}

    def mapping(self) -> dict[str, Any]:
        """How anomaly maps are made: arguments of `monai_sagan.engines.scoring.restore`."""
        smooth = {"kind": self.map_smoothing} | ({"sigma": self.map_sigma} if self.map_smoothing == "gaussian" else {})
        return {"passes": self.map_passes, "smooth": None if self.map_smoothing == "none" else smooth}

    def decoding(self) -> HowToDecode:
        """How files become the images that the networks see."""
        return HowToDecode(self.image_size, self.in_channels, self.preparation, self.min_foreground)


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "official": {
        "batch_size": 32,
        "gate_norm": "instance",
        "position_bits": "floor",
        "learning_rate_decay": 0.0,
        "paired": True,
        "mask_at_test": True,
    },
    "recommended": {
        "preparation": "display",
        "learning_rate": 2e-4,
        "learning_rate_decay": 0.0,
        "critic_betas": (0.5, 0.99),
        "critic_init": "he",
        "lambda_id": 10.0,
        "lambda_rec": 10.0,
        "augment": True,
        "map_smoothing": "gaussian",
    },
}

_CHOICES: dict[str, tuple[Any, ...]] = {
    "gate_norm": ("instance", None),
    "position_norm": ("instance", None),
    "position_bits": ("ceil", "floor"),
    "critic_init": ("torch", "he"),
    "fake_source": ("unlabeled", "pseudo"),
    "map_smoothing": ("none", "gaussian", "guided"),
    "in_channels": (1, 3),
    "preparation": ("display", "med_ad"),
}
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("channels", "batch_size", "max_iterations", "iterations_per_epoch", "n_critic"), (1, 10**9)),
    **dict.fromkeys(("lambda_id", "lambda_rec", "lambda_gp"), (0, 1e9)),
    "num_res_blocks": (0, 1000),
    "min_foreground": (0, 1),
    "map_passes": (1, 1024),
    "map_sigma": (1e-3, 1e3),
    "keep_prob": (1e-9, 1),
    "learning_rate": (1e-12, 1),
    "learning_rate_decay": (0, 1),
    "ema_decay": (0, 1 - 1e-9),
}


def resolve_settings(preset: str = "recommended", **values: Any) -> Settings:
    """The settings of ``preset`` (`PRESETS`), with every value that is given and not None in place of the preset's.

    ``gate_norm`` and ``position_norm`` are given as ``"instance"`` or ``"none"``. A run shorter than an epoch is one.

    Args:
        preset: ``"recommended"``, ``"paper"`` or ``"official"``.
        values: settings by their names; see `Settings`.

    Raises:
        SaganError: naming an unknown preset, or the value that is not of its type, range or choices.
    """
    if preset not in PRESETS:
        raise SaganError(f"preset is {preset!r}; use one of {', '.join(PRESETS)}")
    given = {name: value for name, value in values.items() if value is not None}
    merged = PRESETS[preset] | given
    types = get_type_hints(Settings)
    unknown = set(merged) - set(types)
    if unknown:
        raise SaganError(f"there is no setting {sorted(unknown)[0]!r}; the settings are {', '.join(types)}")
    typed = {name: _typed(name, value, types[name]) for name, value in merged.items()}
    if "max_iterations" in typed:
        typed.setdefault("iterations_per_epoch", min(typed["max_iterations"], Settings.iterations_per_epoch))
    settings = Settings(**typed)
    _check(settings)
    return settings


def resolve_flags(**values: Any) -> SimpleNamespace:
    """Options that are on or off, as booleans: ``true`` and ``false`` come from a command line as words.

    Args:
        values: booleans, or the words ``true`` and ``false``, by their names.

    Raises:
        SaganError: naming the value that is neither.
    """
    return SimpleNamespace(**{name: _typed(name, value, bool) for name, value in values.items()})


def _typed(name: str, value: Any, kind: Any) -> Any:
    if kind == tuple[int, int]:
        pair = (value, value) if isinstance(value, int) else value
        if isinstance(pair, (list, tuple)) and len(pair) == 2 and all(type(n) is int and n > 0 for n in pair):
            return (pair[0], pair[1])
        raise SaganError(f"{name} is {value!r}; give one whole number or two, for example 64 or [64, 64]")
    if kind == tuple[float, float]:
        if (
            isinstance(value, (list, tuple))
            and len(value) == 2
            and all(isinstance(n, (int, float)) and 0 <= n < 1 for n in value)
        ):
            return (float(value[0]), float(value[1]))
        raise SaganError(f"{name} is {value!r}; give two numbers from 0 up to 1, for example [0.5, 0.999]")
    if name.endswith("_norm") and value == "none":
        return None
    if kind is bool and isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a word")
    fits = type(value) is kind or (kind is float and type(value) is int) or (wanted == "a word" and type(value) is str)
    if not fits:
        raise SaganError(f"{name} is {value!r}; it is {wanted}")
    return float(value) if kind is float else value


def _check(settings: Settings) -> None:
    for name, choices in _CHOICES.items():
        if getattr(settings, name) not in choices:
            shown = ", ".join("none" if choice is None else str(choice) for choice in choices)
            raise SaganError(f"{name} is {getattr(settings, name)!r}; use one of {shown}")
    for name, (low, high) in _RANGES.items():
        if not low <= getattr(settings, name) <= high:
            raise SaganError(f"{name} is {getattr(settings, name)}; it lies between {low:g} and {high:g}")
    if settings.max_iterations % settings.iterations_per_epoch:
        below = settings.epochs * settings.iterations_per_epoch
        fitting = " or ".join(str(n) for n in (below, below + settings.iterations_per_epoch) if n)
        raise SaganError(
            f"max_iterations {settings.max_iterations} is not a multiple of iterations_per_epoch "
            f"{settings.iterations_per_epoch}; use {fitting}"
        )
    grid = settings.grid if settings.anatomical_consistency else (1, 1)
    try:
        check_grid(grid, *settings.image_size, stride=8)
    except ValueError as error:
        raise SaganError(str(error)) from None
    if min(settings.image_size) < 64:
        raise SaganError(f"image_size is {settings.image_size}; the critic needs 64 pixels or more a side")


def as_plain(settings: Settings) -> dict[str, Any]:
    """The settings as plain values that JSON and a checkpoint hold."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(settings).items()}
