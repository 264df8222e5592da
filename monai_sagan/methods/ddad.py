"""DDAD-ASR: two ensembles of autoencoders disagree about anomalies (https://doi.org/10.1016/j.media.2023.102794)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn

from monai_sagan.data.batches import TrainingBatches
from monai_sagan.errors import SaganError
from monai_sagan.methods.discrepancy import DISCREPANCIES, DiscrepancyNetwork, focal_loss
from monai_sagan.methods.method import Computing, Detection, EventOutput, Method, Stage
from monai_sagan.methods.updates import descend, draw_uniform, of_all_processes
from monai_sagan.networks.autoencoder import BACKBONES, Autoencoders, Reconstruction
from monai_sagan.options import option
from monai_sagan.settings import Settings
from monai_sagan.transforms.functional import foreign_patch

__all__ = ["AutoencodersStage", "Ddad", "DdadOptions", "RefinementStage", "autoencoder_losses"]

BETAS = (0.5, 0.999)  # of Adam
ENTROPY_WEIGHT = 2e-4  # of MemAE
WEIGHT_DECAY = 1e-4  # of the refinement network
SQUARE_CORE = 0.8  # share of height and width in which a synthetic square has its center
SQUARE_SHARE = 0.5  # of the images

RECOMMENDED: dict[str, Any] = {
    "preparation": "display",
    "batch_size": 96,
    "max_iterations": 8000,
    "refinement_share": 0.4,
}


@dataclass(frozen=True)
class DdadOptions(Settings):
    """Everything that decides what a DDAD run computes, apart from its data; the defaults are the published ones.

    Example:
        >>> DdadOptions().member_images
        64
    """

    batch_size: int = option(
        192, "images of each stream in an iteration; each autoencoder takes a batch of batch_size / members", low=1
    )
    max_iterations: int = option(78_000, "of both stages", low=1)
    learning_rate: float = option(5e-4, "of the autoencoders' Adam", low=1e-12, high=1)
    backbone: str = option("ae_u", "ae_u also predicts each pixel's variance; memae has a memory", choices=BACKBONES)
    members: int = option(3, "autoencoders in each of the two ensembles", low=2, high=64)
    latent: int = option(16, "numbers in the autoencoders' bottleneck", low=1)
    hidden: int = option(2048, "units between the features and the bottleneck, on both sides", low=1)
    memory_slots: int = option(25, "of memae", low=1)
    discrepancy: str = option(
        "dual", "dual is inter and intra, refined; rec is for refine false", choices=tuple(DISCREPANCIES)
    )
    refine: bool = option(True, "train a network on synthetic squares that turns discrepancies into probabilities")
    refinement_share: float = option(0.61, "of the iterations, for the refinement stage", low=1e-9, high=1 - 1e-9)
    refinement_batch_size: int = option(8, "images in an iteration of the refinement stage", low=1)
    refinement_learning_rate: float = option(1e-4, "of the refinement stage's Adam", low=1e-12, high=1)

    @property
    def member_images(self) -> int:
        """Images that each autoencoder takes in an iteration."""
        return self.batch_size // self.members


def autoencoder_losses(image: Tensor, found: Reconstruction) -> Tensor:
    """The loss (M,) of each member: mean squared error, with AE-U's variances or MemAE's entropy.

    Args:
        image: (B, M, C, H, W) in [-1, 1], each member's own.
        found: what the members made of them.
    """
    error = (image - found.mean.float()).square()
    if found.log_variance is not None:
        log_variance = found.log_variance.float()
        error = (-log_variance).exp() * error + log_variance
    losses = error.mean(dim=(0, 2, 3, 4))
    if found.addressing is not None:
        weights = found.addressing.float()
        losses = losses - ENTROPY_WEIGHT * (weights * (weights + 1e-12).log()).sum(2).mean(1)
    return losses


class _Mixture(nn.Module):
    """The share of unlabeled images among all training images, which a resumed run must know."""

    unlabeled_share: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unlabeled_share", torch.tensor(0.5))


class AutoencodersStage(Stage):
    """Train all autoencoders at once: K on normal and unlabeled images (ensemble A), K on normal ones (ensemble B).

    Each member gets images of its own: of a random order of a batch of K n images, the i-th member takes the i-th n. A
    place of ensemble A holds an unlabeled image by the share of those among all images, so that a member sees every
    image of both streams equally often.

    Args:
        autoencoders: 2 K of them.
        rate: learning rate.
        computing: where and how to compute.
        share: see `Stage`.
    """

    name = "autoencoders"

    def __init__(self, autoencoders: Autoencoders, rate: float, computing: Computing, share: float = 1.0) -> None:
        self.autoencoders, self.computing, self.share = autoencoders, computing, share
        self.mixture = _Mixture().to(computing.device)
        self.optimizer = torch.optim.Adam(autoencoders.parameters(), rate, BETAS, fused=True)
        self.modules = {"autoencoders": autoencoders, "mixture": self.mixture}
        self.optimizers = {"autoencoders_optimizer": self.optimizer}
        self._reconstruct = computing.compile(autoencoders.reconstruct)
        self._losses = computing.compile(autoencoder_losses)

    def begin(self, batches: TrainingBatches) -> None:
        """Count the images."""
        normal, unlabeled = batches.normal, batches.unlabeled
        assert unlabeled is not None  # it is one of the method's streams
        self.mixture.unlabeled_share.fill_(len(unlabeled) / (len(normal) + len(unlabeled)))

    def draw(self, batch: Mapping[str, Tensor], iteration: int) -> tuple[None, list[Tensor]]:
        """The images (n, 2 K * C, H, W) of all members."""
        normal, unlabeled = batch["normal"], batch["unlabeled"]
        k, count = self.autoencoders.members // 2, len(normal)
        uniform = draw_uniform(normal.new_empty(count, 4))
        order_a, order_b, order_unlabeled = uniform[:, :3].argsort(dim=0).unbind(1)
        is_unlabeled = uniform[:, 3] < self.mixture.unlabeled_share
        chosen = torch.cat([torch.where(is_unlabeled, count + order_unlabeled, order_a), order_b])
        chosen = chosen.view(2 * k, count // k).T.flatten()
        images = torch.cat([normal, unlabeled])[chosen]
        return None, [images.unflatten(0, (count // k, 2 * k)).flatten(1, 2)]

    def step(self, variant: None, *inputs: Tensor) -> Iterator[EventOutput]:
        """One update of each member by its own loss."""
        (image,) = inputs
        members = self.autoencoders.members
        with self.computing.precision():
            found = self.computing.inferer(image, self._reconstruct)
        losses = self._losses(image.unflatten(1, (members, -1)), found)
        descend(self.optimizer, losses.sum())  # members share no weights, so each follows its own loss
        ensemble_a, ensemble_b = losses.unflatten(0, (2, -1)).mean(1)
        shown = of_all_processes(loss=losses.mean(), ensemble_a=ensemble_a, ensemble_b=ensemble_b)
        yield IterationEvents.LOSS_COMPLETED, {Keys.LOSS: shown.pop("loss")}
        yield IterationEvents.MODEL_COMPLETED, shown


class RefinementStage(Stage):
    """Train the refinement network to find synthetic squares in the discrepancies of the frozen autoencoders.

    Half of the images get a square of another normal image, blended with a random opacity, see `foreign_patch`.

    Args:
        network: with both.
        images: of an iteration.
        rate: learning rate.
        computing: where and how to compute.
        share: see `Stage`.
    """

    name = "refinement"

    def __init__(
        self, network: DiscrepancyNetwork, images: int, rate: float, computing: Computing, share: float = 1.0
    ) -> None:
        refinement = network.refinement
        assert refinement is not None
        self.network, self.refinement, self.images = network, refinement, images
        self.computing, self.share = computing, share
        self.optimizer = torch.optim.Adam(refinement.parameters(), rate, BETAS, weight_decay=WEIGHT_DECAY, fused=True)
        self.modules = {"refinement": refinement}
        self.optimizers = {"refinement_optimizer": self.optimizer}
        self._discrepancy = computing.compile(network.discrepancy)
        self._refine = computing.compile(refinement)
        self._loss = computing.compile(focal_loss)

    def draw(self, batch: Mapping[str, Tensor], iteration: int) -> tuple[None, list[Tensor]]:
        """The images (B, C, H, W), and the masks (B, 1, H, W) of their squares."""
        # MONAI's evaluator leaves the network, and so the frozen part, in training mode.
        self.network.autoencoders.eval()
        normal = batch["normal"]
        image, count = normal[: self.images], len(normal)
        uniform = draw_uniform(normal.new_empty(len(image), 6))
        others = 1 + (uniform[:, 4] * (count - 1)).long()
        source = normal[(torch.arange(len(image), device=normal.device) + others) % count]
        blended, mask = foreign_patch(image, source, uniform[:, :4], core=SQUARE_CORE)
        has_square = (uniform[:, 5] < SQUARE_SHARE)[:, None, None, None]
        return None, [torch.where(has_square, blended, image), mask * has_square]

    def step(self, variant: None, *inputs: Tensor) -> Iterator[EventOutput]:
        """One update of the refinement network."""
        image, mask = inputs
        with self.computing.precision():
            with torch.no_grad():
                maps, _ = self._discrepancy(image)
            logits = self.computing.inferer(maps, self._refine).float()
        loss = self._loss(logits, mask)
        descend(self.optimizer, loss)
        yield IterationEvents.LOSS_COMPLETED, {Keys.LOSS: of_all_processes(loss=loss)["loss"]}
        yield IterationEvents.MODEL_COMPLETED, {}


class Ddad(Method):
    """Dual-distribution discrepancy: autoencoders of normal images, and of normal and unlabeled ones, disagree."""

    title = "DDAD-ASR"
    Options = DdadOptions
    map_words = "discrepancy of two ensembles of autoencoders, refined to a probability"
    presets = {
        "paper": {},
        "recommended": RECOMMENDED,
        "quick": RECOMMENDED | {"batch_size": 24, "max_iterations": 600, "iterations_per_epoch": 60},
    }
    streams = ("normal", "unlabeled")
    stages_count = 2

    def check(self, settings: DdadOptions) -> None:
        """The image size must fit the autoencoders' strides, the batch its members, the discrepancy its refinement."""
        height, width = settings.image_size
        if height % 16 or width % 16:
            raise SaganError(f"image_size is {height} x {width}; {self.title} takes multiples of 16 pixels")
        k, count = settings.members, settings.batch_size
        if count % k:
            fitting = " or ".join(
                str(n) for n in sorted({max(n, 2 * k) for n in (count // k * k, (count // k + 1) * k)})
            )
            raise SaganError(f"batch_size {count} is not a multiple of the {k} members of an ensemble; use {fitting}")
        if settings.member_images < 2:
            raise SaganError(f"batch_size {count} leaves {k} members one image each, too few for batch norm; raise it")
        if settings.refine and settings.refinement_batch_size > count:
            raise SaganError(
                f"refinement_batch_size {settings.refinement_batch_size} is larger than batch_size {count}; lower it"
            )
        if settings.refine == (settings.discrepancy == "rec") or (
            not settings.refine and settings.discrepancy == "dual"
        ):
            use = "dual, inter or intra" if settings.refine else "inter, intra or rec"
            raise SaganError(
                f"discrepancy is {settings.discrepancy} and refine {str(settings.refine).lower()}; use {use}"
            )

    def network(self, settings: DdadOptions) -> DiscrepancyNetwork:
        """The autoencoders and the refinement network."""
        autoencoders = Autoencoders(
            2 * settings.members,
            settings.in_channels,
            settings.image_size,
            settings.backbone,
            settings.latent,
            settings.memory_slots,
            settings.hidden,
        )
        return DiscrepancyNetwork(autoencoders, settings.discrepancy, settings.refine)

    def detect(self, network: nn.Module, image: Tensor) -> Detection:
        """The probability of abnormal pixels, or the discrepancy; restored is the mean of the normal ensemble."""
        anomaly_map, restored = network(image)
        return Detection(anomaly_map, None, restored)

    def stages(self, network: nn.Module, settings: DdadOptions, computing: Computing) -> Sequence[Stage]:
        """All autoencoders, then the refinement network."""
        assert isinstance(network, DiscrepancyNetwork)
        share = settings.refinement_share if settings.refine else 0.0
        stages: list[Stage] = [AutoencodersStage(network.autoencoders, settings.learning_rate, computing, 1 - share)]
        if settings.refine:
            stages.append(
                RefinementStage(
                    network, settings.refinement_batch_size, settings.refinement_learning_rate, computing, share
                )
            )
        return stages
