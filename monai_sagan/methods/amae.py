"""AMAE-style: two masked autoencoders, one of normal and one of abnormal images, differ where an image is abnormal.

AMAE (https://arxiv.org/abs/2307.12721) has no public code, and its paper leaves much open, so this is a re-creation
whose results are not AMAE's. The paper says: a vision transformer is pretrained as a masked autoencoder of chest
X-rays; stage 1 trains a light classifier of its frozen features on synthetic anomalies; stage 2 pseudo-labels the
unlabeled images and adapts two autoencoders, a normative and an anomalous one. All of this is an assumption of ours:

- Pretraining: on the normal and unlabeled images of the run, 75 % of the patches hidden, mean squared error of hidden
  pixels without normalizing patches, AdamW (0.9, 0.95), weight decay 0.05, 5 % warm-up, cosine. Published weights of
  chest X-rays are an option, and are then trained further.
- Synthetic anomalies: a square of another normal image is blended in, as SAGAN does it; half the images have one.
- Classifier: one linear layer on the mean token of all patches, nothing hidden, binary cross-entropy, Adam 1e-3.
- Pseudo-labels: the classifier's lowest 20 % of the unlabeled training images are normal, its highest 20 % abnormal.
  The two thresholds are kept, and images are judged by them as they come, augmented.
- Adaptation: both autoencoders start from the pretrained one, encoders included, and train at a tenth of its rate: the
  normative one on normal and pseudo-normal images, the anomalous one on pseudo-abnormal ones.
- Score: for each of 16 fixed random masks the mean absolute difference of both restorations over hidden pixels,
  averaged over masks; the anomaly map is the same by pixel. An option takes the difference of squared errors instead.
- Batch size, lengths of the stages, augmentation; in the preset ``recommended`` image size, network and score, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from monai_sagan.errors import SaganError
from monai_sagan.methods.amae_network import PairedAutoencoders
from monai_sagan.methods.amae_stages import Adaptation, Classifying, Pretraining
from monai_sagan.methods.method import Computing, Detection, Method, Stage
from monai_sagan.options import option
from monai_sagan.settings import Settings

__all__ = ["Amae", "AmaeOptions"]

RECOMMENDED: dict[str, Any] = {
    "image_size": (64, 64),
    "in_channels": 1,
    "preparation": "display",
    "batch_size": 16,
    "max_iterations": 1500,
    "iterations_per_epoch": 25,
    "learning_rate": 3e-3,
    "pretraining_share": 0.6,
    "score": "error",  # of the two the one with the higher AUCp on training images
    "augment": True,
    "patch": 8,
    "width": 96,
    "depth": 4,
    "heads": 4,
    "decoder_width": 64,
    "decoder_depth": 2,
    "decoder_heads": 4,
}


@dataclass(frozen=True)
class AmaeOptions(Settings):
    """What an AMAE-style run computes; the defaults are the published backbone's."""

    image_size: tuple[int, int] = option((224, 224), "height and width, in pixels", low=64)
    in_channels: int = option(3, "1 for grey, 3 for color", choices=(1, 3))
    max_iterations: int = option(20_000, "updates, of all stages", low=3)
    iterations_per_epoch: int = option(100, "updates between validations and checkpoints", low=1)
    learning_rate: float = option(
        1.5e-4, "of AdamW while pretraining, at its highest; later a tenth", low=1e-12, high=1
    )
    patch: int = option(16, "side of a patch, in pixels", low=2)
    width: int = option(384, "of the encoder's tokens", low=4)
    depth: int = option(12, "blocks of the encoder", low=1)
    heads: int = option(6, "of the encoder", low=1)
    decoder_width: int = option(512, "of the decoder's tokens", low=4)
    decoder_depth: int = option(2, "blocks of the decoder", low=1)
    decoder_heads: int = option(16, "of the decoder", low=1)
    mask_ratio: float = option(0.75, "share of the patches that are hidden", low=0.05, high=0.95)
    test_masks: int = option(16, "masks that a score averages", low=1, high=1024)
    score: str = option(
        "discrepancy",
        "how restorations are compared: their absolute difference, or the difference of their squared errors",
        choices=("discrepancy", "error"),
    )
    pseudo_share: float = option(
        0.2, "share of the unlabeled images that pass for normal, and that pass for abnormal", low=0.01, high=0.5
    )
    head_rate: float = option(1e-3, "learning rate of the classifier's Adam", low=1e-12, high=1)
    pretraining_share: float = option(0.7, "share of the updates", low=0.01, high=0.98)
    classifier_share: float = option(0.1, "share of the updates", low=0.01, high=0.98)
    weights: str | None = option(None, "file of published weights (`model` of a masked autoencoder) to start from")

    def autoencoder(self) -> dict[str, Any]:
        """The arguments of `MaskedAutoencoder`."""
        names = ("in_channels", "image_size", "patch", "width", "depth", "heads")
        return {name: getattr(self, name) for name in (*names, "decoder_width", "decoder_depth", "decoder_heads")}


class Amae(Method):
    """Restorations by a normative and an anomalous masked autoencoder differ where an image is abnormal."""

    title = "AMAE-style"
    Options = AmaeOptions
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "recommended": RECOMMENDED,
        "quick": RECOMMENDED | {"max_iterations": 300, "iterations_per_epoch": 25},
    }
    streams = ("normal", "unlabeled", "pseudo")
    stages_count = 3

    def check(self, settings: AmaeOptions) -> None:
        """Patches must fill the image, heads divide the widths, and the first two stages leave time for the last."""
        height, across = settings.image_size
        if height % settings.patch or across % settings.patch:
            raise SaganError(
                f"image_size is {height} x {across}; patches of {settings.patch} pixels do not fill it, change patch"
            )
        if height * across == settings.patch**2:
            raise SaganError(f"patch is {settings.patch}, as large as the image; lower it")
        for name, heads in (("width", settings.heads), ("decoder_width", settings.decoder_heads)):
            if getattr(settings, name) % heads or getattr(settings, name) % 4:
                raise SaganError(f"{name} is {getattr(settings, name)}; its {heads} heads and 4 must divide it")
        if settings.pretraining_share + settings.classifier_share >= 1:
            raise SaganError("pretraining_share and classifier_share leave nothing for the adaptation; lower them")

    def network(self, settings: AmaeOptions) -> PairedAutoencoders:
        """Three autoencoders, a classifier, thresholds and masks."""
        return PairedAutoencoders(settings.autoencoder(), settings.test_masks, settings.mask_ratio, settings.score)

    def detect(self, network: nn.Module, image: Tensor) -> Detection:
        """The mean absolute difference of both restorations of hidden patches, over fixed masks."""
        return Detection(*network(image))

    def stages(self, network: Any, settings: AmaeOptions, computing: Computing) -> Sequence[Stage]:
        """Pretraining, the classifier for pseudo-labels, and the adaptation of two copies."""
        return [kind(network, settings, computing) for kind in (Pretraining, Classifying, Adaptation)]
