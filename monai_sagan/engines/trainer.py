"""SAGAN's training loop as a MONAI trainer."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer, SimpleInferer
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn

from monai_sagan import losses
from monai_sagan.distributed import average_gradients, mean_of_processes, rank_and_count
from monai_sagan.engines.captured import CapturedStep, CudaGraph, EventOutput, Step, can_capture
from monai_sagan.engines.compiled import check_engine, compile_for
from monai_sagan.seeds import step_seed

__all__ = ["SaganTrainer", "prepare_sagan_batch"]

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor, Tensor]


def prepare_sagan_batch(batch: dict[str, Tensor], device: torch.device, non_blocking: bool, **kwargs: Any) -> Batch:
    """The images ``normal``, ``unlabeled`` and ``pseudo`` of a batch, each (B, C, H, W) in [-1, 1], on ``device``.

    Args:
        batch: has the three under these names.
        device: where to train.
        non_blocking: copy while the device computes, from pinned memory.
        kwargs: further arguments of ``torch.Tensor.to``.
    """

    def to_device(image: Tensor) -> Tensor:
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        return plain.to(device=device, non_blocking=non_blocking, **kwargs)

    return to_device(batch["normal"]), to_device(batch["unlabeled"]), to_device(batch["pseudo"])


class SaganTrainer(Trainer):
    """Train a generator and a critic; an iteration is one critic update, the generator follows each ``n_critic``-th.

    ``engine.state.output`` holds detached scalars on the device: ``critic`` (Eq. 7 without its penalty),
    ``gradient_penalty``, and from the last generator update ``adversarial``, ``identity``, ``reconstruction`` and
    their weighted sum ``loss``; and the images ``image`` (fake, normal, pseudo) and ``pred`` (restored) of that
    update. MONAI's iteration events fire, so stock handlers attach.

    Every draw of an iteration is a function of ``seed`` and the iteration's number: the trainer seeds torch's global
    generator at each. The ``set_step(iterations_done)`` of a ``train_data_loader`` that has one is called before
    each batch; so a resumed run repeats the interrupted one, on a CPU bit for bit.

    Args:
        device: where to train.
        max_epochs: an epoch is ``epoch_length`` iterations.
        train_data_loader: gives dictionaries of ``normal``, ``unlabeled`` and ``pseudo`` images, the latter made
            of the former ``normal`` ones.
        network: the generator.
        optimizer: of the generator's parameters.
        discriminator: the critic.
        discriminator_optimizer: of the critic's parameters.
        n_critic: critic updates for each generator update.
        lambda_id: weight of the identity loss.
        lambda_rec: weight of the reconstruction loss.
        lambda_gp: weight of the gradient penalty.
        fake_source: ``"unlabeled"``: the critic's fakes are restored unlabeled images; ``"pseudo"``: restored
            pseudo-anomalies, for training without unlabeled images (Table 4, row 0_u).
        seed: of all draws.
        amp: run the networks in bfloat16; norms, the losses and the sum of image and change stay in float32.
        engine: ``"eager"`` runs the networks operation by operation; ``"compiled"`` has `torch.compile` fuse them, for
            minutes once, to the same results up to rounding, and on a GPU replays whole iterations as CUDA graphs, see
            `CapturedStep`: their events then fire one after another at the end, when all weights are updated, and
            gradients are those of the graph that was captured last.
        inferer: how the generator is called.
        prepare_batch: makes the three images of a batch, see `prepare_sagan_batch`.
        train_handlers: handlers with an ``attach`` method.
        decollate: split outputs into single images after each iteration, which nothing here needs.
        kwargs: further arguments of ``monai.engines.Trainer``.

    Raises:
        ValueError: for an unknown ``fake_source`` or ``n_critic`` below 1.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable[dict[str, Tensor]],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        discriminator: nn.Module,
        discriminator_optimizer: torch.optim.Optimizer,
        *,
        n_critic: int = 2,
        lambda_id: float = 1.0,
        lambda_rec: float = 1.0,
        lambda_gp: float = 10.0,
        fake_source: str = "unlabeled",
        seed: int = 0,
        amp: bool = False,
        engine: str = "eager",
        inferer: Inferer | None = None,
        prepare_batch: Callable[..., Batch] = prepare_sagan_batch,
        train_handlers: Sequence[Any] | None = None,
        decollate: bool = False,
        **kwargs: Any,
    ) -> None:
        if fake_source not in ("unlabeled", "pseudo"):
            raise ValueError(f"fake_source is {fake_source!r}; use 'unlabeled' or 'pseudo'")
        if n_critic < 1:
            raise ValueError(f"n_critic is {n_critic}; it counts critic updates, at least 1")
        self.network = network
        self.optimizer = optimizer
        self.discriminator = discriminator
        self.discriminator_optimizer = discriminator_optimizer
        self.n_critic = n_critic
        self.lambda_id = lambda_id
        self.lambda_rec = lambda_rec
        self.lambda_gp = lambda_gp
        self.fake_source = fake_source
        self.seed = seed
        self._last_output: dict[str, Any] = {}
        self._takes_uniform = "uniform" in inspect.signature(network.forward).parameters
        self.bfloat16 = amp  # MONAI's own `amp` is float16 with a scaler
        self.engine = check_engine(engine)
        logger.info(f"engine {self.engine} on {device}, {'bfloat16' if amp else 'float32'}")
        self._generate = compile_for(self.engine, network, device)
        self._critic_losses = compile_for(self.engine, self._critic_losses_eager, device)
        self._generator_losses = compile_for(self.engine, self._generator_losses_eager, device)
        self._run_step: Step = self._step
        if self.engine == "compiled" and can_capture(device, rank_and_count()[1]):
            self._capture()
        self.inferer = SimpleInferer() if inferer is None else inferer
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            prepare_batch=prepare_batch,
            handlers=train_handlers,
            decollate=decollate,
            **kwargs,
        )
        if hasattr(train_data_loader, "set_step"):
            set_step = train_data_loader.set_step
            self.add_event_handler(Events.GET_BATCH_STARTED, lambda engine: set_step(engine.state.iteration))

    def _iteration(self, engine: Any, batchdata: dict[str, Tensor]) -> dict[str, Any]:
        state = engine.state
        torch.manual_seed(step_seed(self.seed, state.iteration))
        for network in (self.network, self.discriminator):
            if not network.training:  # as after a validation; walking through all layers takes time
                network.train()
        normal, unlabeled, pseudo = engine.prepare_batch(batchdata, state.device, engine.non_blocking, **self.to_kwargs)
        fake = unlabeled if self.fake_source == "unlabeled" else pseudo
        generator_too = state.iteration % self.n_critic == 0
        alpha = _draw(normal[:, :1, :1, :1])
        gates = [_draw(x[:, :1]) for x in _streams(generator_too, normal, fake, pseudo)] if self._takes_uniform else []
        state.output = dict(self._last_output)  # ignite empties it at each batch
        for event, output in self._run_step(generator_too, normal, fake, pseudo, alpha, *gates):
            state.output |= output
            engine.fire_event(event)
        self._last_output = dict(state.output)
        return self._last_output

    def _step(
        self, generator_too: bool, normal: Tensor, fake: Tensor, pseudo: Tensor, alpha: Tensor, *gates: Tensor
    ) -> Iterator[EventOutput]:
        """The paper's algorithm, one iteration on given images and draws: yields MONAI's events and what is new."""
        streams = _streams(generator_too, normal, fake, pseudo)
        images, uniform = torch.cat(streams), {"uniform": torch.cat(gates)} if gates else {}
        with torch.set_grad_enabled(generator_too), self._precision():  # the critic's update needs no graph of this
            restored = self.inferer(images, self._generate, **uniform).float()
        parts = restored.split([len(stream) for stream in streams])

        # The critic, Eq. 7: normal images score high, restored ones low, with a gradient of norm 1 in between.
        self.discriminator.requires_grad_(True)
        distance, penalty = self._critic_losses(normal, parts[0].detach(), alpha)
        _descend(self.discriminator_optimizer, distance + self.lambda_gp * penalty)
        shown = _of_all_processes(critic=distance, gradient_penalty=penalty)

        # The generator, Eq. 3 to 6: restored images pass for normal, normal ones stay, pseudo-anomalies vanish.
        if generator_too:
            yield IterationEvents.FORWARD_COMPLETED, shown | {Keys.IMAGE: images, Keys.PRED: restored.detach()}
            self.discriminator.requires_grad_(False)
            terms = self._generator_losses(normal, *parts)
            loss = terms["adversarial"] + self.lambda_id * terms["identity"] + self.lambda_rec * terms["reconstruction"]
            shown = _of_all_processes(loss=loss, **terms)
            yield IterationEvents.LOSS_COMPLETED, {Keys.LOSS: shown.pop("loss")}
            _descend(self.optimizer, loss)
            yield IterationEvents.BACKWARD_COMPLETED, {}
        yield IterationEvents.MODEL_COMPLETED, shown

    def _critic_losses_eager(self, normal: Tensor, restored: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        with self._precision():
            scores = self.discriminator(torch.cat([normal, restored])).float()
            penalty = losses.gradient_penalty(self.discriminator, normal, restored, alpha)
        return losses.critic(*scores.split([len(normal), len(restored)])), penalty

    def _generator_losses_eager(
        self, normal: Tensor, restored_fake: Tensor, restored_normal: Tensor, restored_pseudo: Tensor
    ) -> dict[str, Tensor]:
        with self._precision():
            fake_scores = self.discriminator(restored_fake).float()
        return {
            "adversarial": losses.adversarial(fake_scores),
            "identity": losses.identity(restored_normal, normal),
            "reconstruction": losses.reconstruction(restored_pseudo, normal),
        }

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.state.device.type, torch.bfloat16, enabled=self.bfloat16)

    def _capture(self, graph: Callable[[torch.device], Any] = CudaGraph) -> None:
        """From now on replay iterations as graphs."""
        self._run_step = CapturedStep(
            self._step,
            [self.discriminator_optimizer, self.optimizer],
            lambda: (self.lambda_id, self.lambda_rec, self.lambda_gp, self.bfloat16),
            graph,
        )


def _streams(generator_too: bool, normal: Tensor, fake: Tensor, pseudo: Tensor) -> list[Tensor]:
    """The images that the generator restores in an iteration."""
    return [fake, normal, pseudo] if generator_too else [fake]


def _draw(like: Tensor) -> Tensor:
    """Uniform numbers of a tensor's shape (B, ...); of several processes each takes its part of one draw for all."""
    rank, count = rank_and_count()
    n = len(like)
    return torch.rand(count * n, *like.shape[1:], device=like.device)[rank * n : (rank + 1) * n]


def _of_all_processes(**values: Tensor) -> dict[str, Tensor]:
    """Losses of this process's images as those of all images, detached."""
    found = {name: value.detach() for name, value in values.items()}
    if rank_and_count()[1] > 1:
        found = {name: value.clone() for name, value in found.items()}
        mean_of_processes(list(found.values()))
    return found


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])
    optimizer.step()
