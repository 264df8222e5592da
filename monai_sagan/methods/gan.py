"""The training step that SAGAN and Brainomaly share: a critic, and a generator that restores images."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn

from monai_sagan import losses
from monai_sagan.methods.method import Computing, EventOutput, Stage
from monai_sagan.methods.updates import descend, draw_uniform, of_all_processes
from monai_sagan.networks import SaganDiscriminator


class GanStage(Stage):
    """Update the critic in each iteration and the generator in every ``n_critic``-th one (algorithm of Sec. 2.1).

    Args:
        network: the generator.
        optimizer: of the generator's parameters.
        discriminator: the critic.
        discriminator_optimizer: of the critic's parameters.
        computing: where and how to compute.
        n_critic: critic updates for each generator update.
        lambda_id: weight of the identity loss.
        lambda_rec: weight of the reconstruction loss; None trains without pseudo-anomalies.
        lambda_gp: weight of the gradient penalty.
        fake_source: ``"unlabeled"``: the critic's fakes are restored unlabeled images; ``"pseudo"``: restored
            pseudo-anomalies.
        rate: learning rate of both optimizers; None keeps their own.
        decay: share of the run, at its end, over which ``rate`` falls linearly to 0, once an epoch.

    Raises:
        ValueError: for an unknown ``fake_source`` or ``n_critic`` below 1.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        discriminator: nn.Module,
        discriminator_optimizer: torch.optim.Optimizer,
        computing: Computing,
        *,
        n_critic: int = 2,
        lambda_id: float = 1.0,
        lambda_rec: float | None = 1.0,
        lambda_gp: float = 10.0,
        fake_source: str = "unlabeled",
        rate: float | None = None,
        decay: float = 0.0,
    ) -> None:
        if fake_source not in ("unlabeled", "pseudo"):
            raise ValueError(f"fake_source is {fake_source!r}; use 'unlabeled' or 'pseudo'")
        if n_critic < 1:
            raise ValueError(f"n_critic is {n_critic}; it counts critic updates, at least 1")
        self.network, self.optimizer = network, optimizer
        self.discriminator, self.discriminator_optimizer = discriminator, discriminator_optimizer
        self.modules = {"network": network, "discriminator": discriminator}
        self.optimizers = {"optimizer": optimizer, "discriminator_optimizer": discriminator_optimizer}
        self.computing = computing
        self.n_critic = self.update_interval = n_critic
        self.lambda_id, self.lambda_rec, self.lambda_gp = lambda_id, lambda_rec, lambda_gp
        self.fake_source = fake_source
        self.rate, self.decay = rate, decay
        self._takes_uniform = "uniform" in inspect.signature(network.forward).parameters
        self._generate = computing.compile(network)
        self._critic_losses = computing.compile(self._critic_losses_eager)
        self._generator_losses = computing.compile(self._generator_losses_eager)

    def learning_rate(self, done: int, total: int, epoch_length: int) -> float | None:
        """Constant, then once an epoch lower, linearly to 0."""
        if self.rate is None or not self.decay:
            return self.rate
        passed = done // epoch_length * epoch_length / total
        return self.rate * min(1.0, (1 - passed) / self.decay)

    def fixed(self) -> tuple[float | None, ...]:
        """The weights of the losses."""
        return self.lambda_id, self.lambda_rec, self.lambda_gp

    def draw(self, batch: Mapping[str, Tensor], iteration: int) -> tuple[tuple[bool, int], list[Tensor]]:
        """Decide on a generator update; draw the points of the gradient penalty and the Bernoulli gates."""
        generator_too = iteration % self.n_critic == 0
        images = [batch["normal"], batch[self.fake_source]]
        images += [] if self.lambda_rec is None else [batch["pseudo"]]
        alpha = draw_uniform(images[0][:, :1, :1, :1])
        gates = [draw_uniform(x[:, :1]) for x in _streams(generator_too, *images)] if self._takes_uniform else []
        return (generator_too, len(images)), [*images, alpha, *gates]

    def step(self, variant: tuple[bool, int], *inputs: Tensor) -> Iterator[EventOutput]:
        """One iteration of the paper's algorithm on given images and draws."""
        generator_too, count = variant
        normal, alpha, gates = inputs[0], inputs[count], inputs[count + 1 :]
        streams = _streams(generator_too, *inputs[:count])
        images, uniform = torch.cat(streams), {"uniform": torch.cat(gates)} if gates else {}
        with torch.set_grad_enabled(generator_too), self.computing.precision():  # the critic needs no graph of this
            restored = self.computing.inferer(images, self._generate, **uniform).float()
        parts = restored.split([len(stream) for stream in streams])

        # The critic, Eq. 7: normal images score high, restored ones low, with a gradient of norm 1 in between.
        self.discriminator.requires_grad_(True)
        distance, penalty = self._critic_losses(normal, parts[0].detach(), alpha)
        descend(self.discriminator_optimizer, distance + self.lambda_gp * penalty)
        shown = of_all_processes(critic=distance, gradient_penalty=penalty)

        # The generator, Eq. 3 to 6: restored images pass for normal, normal ones stay, pseudo-anomalies vanish.
        if generator_too:
            yield IterationEvents.FORWARD_COMPLETED, shown | {Keys.IMAGE: images, Keys.PRED: restored.detach()}
            self.discriminator.requires_grad_(False)
            terms = self._generator_losses(normal, *parts)
            loss = terms["adversarial"] + self.lambda_id * terms["identity"]
            if self.lambda_rec is not None:
                loss = loss + self.lambda_rec * terms["reconstruction"]
            shown = of_all_processes(loss=loss, **terms)
            yield IterationEvents.LOSS_COMPLETED, {Keys.LOSS: shown.pop("loss")}
            descend(self.optimizer, loss)
            yield IterationEvents.BACKWARD_COMPLETED, {}
        yield IterationEvents.MODEL_COMPLETED, shown

    def _critic_losses_eager(self, normal: Tensor, restored: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        with self.computing.precision():
            scores = self.discriminator(torch.cat([normal, restored])).float()
            penalty = losses.gradient_penalty(self.discriminator, normal, restored, alpha)
        return losses.critic(*scores.split([len(normal), len(restored)])), penalty

    def _generator_losses_eager(
        self, normal: Tensor, restored_fake: Tensor, restored_normal: Tensor, *restored_pseudo: Tensor
    ) -> dict[str, Tensor]:
        with self.computing.precision():
            fake_scores = self.discriminator(restored_fake).float()
        terms = {
            "adversarial": losses.adversarial(fake_scores),
            "identity": losses.identity(restored_normal, normal),
        }
        if restored_pseudo:
            terms["reconstruction"] = losses.reconstruction(restored_pseudo[0], normal)
        return terms


def _streams(generator_too: bool, normal: Tensor, fake: Tensor, *pseudo: Tensor) -> list[Tensor]:
    """The images that the generator restores in this iteration."""
    return [fake, normal, *pseudo] if generator_too else [fake]


def make_gan_stage(network: nn.Module, settings: Any, computing: Computing, **options: Any) -> GanStage:
    """A stage with a new critic and both optimizers, as the settings that all GAN methods share say."""
    layout: dict[str, Any] = {"memory_format": torch.channels_last}  # convolutions are faster
    critic = SaganDiscriminator(settings.in_channels, settings.channels, init=settings.critic_init)
    critic = critic.to(computing.device).to(**layout)
    rate = settings.learning_rate
    return GanStage(
        network,
        torch.optim.Adam(network.parameters(), rate, (0.5, 0.999), fused=True),
        critic,
        torch.optim.Adam(critic.parameters(), rate, settings.critic_betas, fused=True),
        computing,
        n_critic=settings.n_critic,
        lambda_id=settings.lambda_id,
        lambda_gp=settings.lambda_gp,
        rate=rate,
        **options,
    )
