"""The values that a run is made with: three presets, and any value given beside them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from monai_sagan.data.formats.tasks import HowToDecode
from monai_sagan.errors import SaganError
from monai_sagan.methods.options import option, resolve, typed
from monai_sagan.networks.patches import check_grid

__all__ = ["PRESETS", "Settings", "resolve_flags", "resolve_settings"]


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a training run computes, apart from its data.

    The defaults are the paper's. Where it is silent the values are those of its published code; docs/differences.md
    lists each difference. `monai_sagan.methods.options.describe` returns the types, ranges and defaults.

    Example:
        >>> Settings(channels=8).generator()["channels"]
        8
    """

    image_size: tuple[int, int] = option((64, 64), "height and width, in pixels", low=64)
    in_channels: int = option(1, "1 for grey, 3 for color", choices=(1, 3))
    preparation: str = option("med_ad", "of DICOM, see [your data](data.md)", choices=("display", "med_ad"))
    min_foreground: float = option(
        0.0, "images with a smaller share of pixels above their background are left out", low=0, high=1
    )
    grid: tuple[int, int] = option((2, 2), "rows and columns of patches", low=1)
    channels: int = option(64, "width of both networks' first level", low=1)
    num_res_blocks: int = option(6, "residual blocks in the generator's bottleneck", low=0, high=1000)
    anatomical_consistency: bool = option(True, "patches and position codes; false is an ablation")
    abnormal_region_restoration: bool = option(True, "gates, skips and fusion; false is an ablation")
    gate_norm: str | None = option(None, "norm in the attention gates, see `AttentionGate`", choices=("instance", None))
    position_norm: str | None = option(
        "instance", "norm behind the position code, see `PositionBlock`", choices=("instance", None)
    )
    position_bits: str = option("ceil", "rounding of the code's bits, see `position_code`", choices=("ceil", "floor"))
    keep_prob: float = option(0.95, "probability that a pixel keeps its restoration while training", low=1e-9, high=1)
    batch_size: int = option(64, "images of each stream in an iteration", low=1)
    max_iterations: int = option(100_000, "critic updates", low=1)
    iterations_per_epoch: int = option(
        1000, "critic updates between validations, checkpoints and changes of the learning rate", low=1
    )
    learning_rate: float = option(5e-5, "of Adam, for both networks", low=1e-12, high=1)
    learning_rate_decay: float = option(
        0.5, "share of the run, at its end, over which the learning rate falls linearly to 0", low=0, high=1
    )
    critic_betas: tuple[float, float] = option(
        (0.5, 0.999),
        "of the critic's Adam; a critic whose gradient has died recovers ten times sooner with a second one of 0.99",
        low=0,
        high=1 - 1e-9,
    )
    critic_init: str = option("torch", "initial weights, see `SaganDiscriminator`", choices=("torch", "he"))
    n_critic: int = option(2, "critic updates for each generator update", low=1)
    lambda_id: float = option(1.0, "weight of the identity loss", low=0, high=1e9)
    lambda_rec: float = option(1.0, "weight of the reconstruction loss", low=0, high=1e9)
    lambda_gp: float = option(10.0, "weight of the gradient penalty", low=0, high=1e9)
    fake_source: str = option(
        "unlabeled",
        "the critic's fakes: pseudo trains without unlabeled images (Table 4, row 0_u)",
        choices=("unlabeled", "pseudo"),
    )
    augment: bool = option(False, "rotate, scale and shift the training images a little")
    paired: bool = option(False, "the i-th unlabeled image always comes with the i-th normal one")
    ema_decay: float = option(
        0.0,
        "average the generator's weights, to validate and save: share of the old average kept at each update; 0 is off",
        low=0,
        high=1 - 1e-9,
    )
    map_passes: int = option(
        1, "restorations of shifted copies that an anomaly map averages: 1 or a square number", low=1, high=1024
    )
    map_smoothing: str = option("none", "of anomaly maps, see `smooth_map`", choices=("none", "gaussian", "guided"))
    map_sigma: float = option(2.0, "standard deviation of the Gaussian, in pixels", low=1e-3, high=1e3)
    mask_at_test: bool = option(False, "also report scores with the training mask left on, as the published code tests")

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
        """How anomaly maps are made: arguments of `monai_sagan.models.scorer.Scorer`."""
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
    if "max_iterations" in merged:
        iterations = typed("max_iterations", merged["max_iterations"], int)
        merged.setdefault("iterations_per_epoch", min(iterations, Settings.iterations_per_epoch))
    settings = resolve(Settings, merged)
    _check(settings)
    return settings


def resolve_flags(**values: Any) -> SimpleNamespace:
    """Options that are on or off, as booleans: ``true`` and ``false`` come from a command line as words.

    Args:
        values: booleans, or the words ``true`` and ``false``, by their names.

    Raises:
        SaganError: naming the value that is neither.
    """
    return SimpleNamespace(**{name: typed(name, value, bool) for name, value in values.items()})


def _check(settings: Settings) -> None:
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


def as_plain(settings: Settings) -> dict[str, Any]:
    """The settings as plain values that JSON and a checkpoint hold."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(settings).items()}
