"""Settings common to all methods."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from monai_sagan.data.formats.tasks import HowToDecode
from monai_sagan.options import option, typed

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Settings of every run: images, batches, iterations, anomaly maps.

    A method adds its own options in a subclass; `monai_sagan.options.describe` lists types, ranges and defaults.

    Example:
        >>> Settings(image_size=(128, 128)).decoding().image_size
        (128, 128)
    """

    method: str = option("sagan", "the method to train, see [methods](methods.md)")

    image_size: tuple[int, int] = option((64, 64), "height and width, in pixels", low=64)
    in_channels: int = option(1, "1 for grey, 3 for color", choices=(1, 3))
    preparation: str = option("med_ad", "of DICOM, see [your data](data.md)", choices=("display", "med_ad"))
    min_foreground: float = option(
        0.0, "smallest share of pixels above the background; other images are skipped", low=0, high=1
    )
    batch_size: int = option(64, "images of each stream in an iteration", low=1)
    max_iterations: int = option(100_000, "critic updates", low=1)
    iterations_per_epoch: int = option(
        1000, "critic updates between validations, checkpoints and changes of the learning rate", low=1
    )
    learning_rate: float = option(5e-5, "of Adam, for both networks", low=1e-12, high=1)
    augment: bool = option(False, "rotate, scale and shift the training images a little")
    paired: bool = option(False, "pair the i-th unlabeled image with the i-th normal one")
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

    @property
    def epochs(self) -> int:
        """Number of complete epochs of the run."""
        return self.max_iterations // self.iterations_per_epoch

    def mapping(self) -> dict[str, Any]:
        """Arguments of `monai_sagan.models.scorer.Scorer` for anomaly maps."""
        smooth = {"kind": self.map_smoothing} | ({"sigma": self.map_sigma} if self.map_smoothing == "gaussian" else {})
        return {"passes": self.map_passes, "smooth": None if self.map_smoothing == "none" else smooth}

    def decoding(self) -> HowToDecode:
        """How files are decoded to images for the networks."""
        return HowToDecode(self.image_size, self.in_channels, self.preparation, self.min_foreground)


def resolve_flags(**values: Any) -> SimpleNamespace:
    """Convert the words ``true`` and ``false`` of a command line to booleans.

    Raises:
        SaganError: naming a value that is neither.
    """
    return SimpleNamespace(**{name: typed(name, value, bool) for name, value in values.items()})


def as_plain(settings: Settings) -> dict[str, Any]:
    """Convert settings to plain values for JSON and checkpoints."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(settings).items()}
