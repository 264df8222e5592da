"""MONAI trainers: one for the stages of any method, and SAGAN's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import Trainer
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from monai_sagan.distributed import rank_and_count
from monai_sagan.engines.captured import CapturedStep, CudaGraph, Step, can_capture
from monai_sagan.engines.compiled import check_engine, compile_for
from monai_sagan.engines.stages import Placed, Stages
from monai_sagan.methods.gan import GanStage
from monai_sagan.methods.method import Computing
from monai_sagan.seeds import step_seed

__all__ = ["SaganTrainer", "StagedTrainer"]

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor, Tensor]


def prepare_images(
    batch: dict[str, Tensor], device: torch.device, non_blocking: bool, **kwargs: Any
) -> dict[str, Tensor]:
    """Move all tensors of a batch to ``device``, as plain tensors; ``kwargs`` go to ``torch.Tensor.to``."""
    return {
        name: (image.as_tensor() if isinstance(image, MetaTensor) else image).to(
            device=device, non_blocking=non_blocking, **kwargs
        )
        for name, image in batch.items()
        if torch.is_tensor(image)
    }


def prepare_sagan_batch(batch: dict[str, Tensor], device: torch.device, non_blocking: bool, **kwargs: Any) -> Batch:
    """Move the images ``normal``, ``unlabeled`` and ``pseudo`` of a batch to ``device``."""
    names = ("normal", "unlabeled", "pseudo")
    images = prepare_images({name: batch[name] for name in names}, device, non_blocking, **kwargs)
    return images["normal"], images["unlabeled"], images["pseudo"]


class StagedTrainer(Trainer):
    """Train the stages of a method one after another in a single ignite run.

    ``engine.state.output`` holds the outputs of the steps: detached scalars on the device, and images. MONAI's
    iteration events fire, so its handlers attach. All draws depend on ``seed`` and the iteration only, and
    ``train_data_loader.set_step(iterations_done)``, if present, is called before each batch; so a resumed run repeats
    the interrupted one, bit for bit on a CPU.

    >>> from monai_sagan.data.batches import TrainingBatches
    >>> from monai_sagan.engines.stages import make_stages
    >>> from monai_sagan.methods import find_method, resolve_settings
    >>> settings = resolve_settings("paper", channels=4, num_res_blocks=1, max_iterations=2)
    >>> network = find_method("sagan").network(settings)
    >>> images = torch.zeros(8, 1, 64, 64, dtype=torch.uint8)
    >>> batches = TrainingBatches(images, images, batch_size=4, length=2)
    >>> trainer = StagedTrainer("cpu", settings.epochs, batches, make_stages(network, settings))
    >>> trainer.run()
    >>> trainer.state.iteration
    2

    Args:
        device: where to train.
        max_epochs: an epoch is ``epoch_length`` iterations.
        train_data_loader: yields dictionaries of images (B, C, H, W) in [-1, 1] by stream.
        stages: of a method, see `monai_sagan.engines.stages.make_stages`.
        seed: of all draws.
        engine: with ``"compiled"`` a GPU replays complete iterations as CUDA graphs, see `CapturedStep`: their events
            fire at the end, when all weights are updated, and gradients are those of the graph captured last.
        prepare_batch: moves the images of a batch to the device, see `prepare_images`.
        train_handlers: handlers with an ``attach`` method.
        decollate: split outputs into single images after each iteration; nothing in this package needs it.
        kwargs: further arguments of ``monai.engines.Trainer``.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable[dict[str, Tensor]],
        stages: Stages,
        *,
        seed: int = 0,
        engine: str = "eager",
        prepare_batch: Callable[..., dict[str, Tensor]] = prepare_images,
        train_handlers: Sequence[Any] | None = None,
        decollate: bool = False,
        **kwargs: Any,
    ) -> None:
        self.stages = stages
        self.seed = seed
        self._current: Placed | None = None
        self._last_output: dict[str, Any] = {}
        self._steps: dict[int, Step] = {}
        if check_engine(engine) == "compiled" and can_capture(device, rank_and_count()[1]):
            self._capture()
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
        placed = self._enter(state.iteration)
        stage = placed.stage
        torch.manual_seed(step_seed(self.seed, state.iteration))
        for module in stage.modules.values():
            if not module.training:  # as after a validation; walking through all layers takes time
                module.train()
        batch = engine.prepare_batch(batchdata, state.device, engine.non_blocking, **self.to_kwargs)
        variant, inputs = stage.draw(batch, state.iteration)
        state.output = dict(self._last_output)  # ignite empties it at each batch
        step: Step = self._steps.get(placed.first, stage.step)
        for event, output in step(variant, *inputs):
            state.output |= output
            engine.fire_event(event)
        self._last_output = dict(state.output)
        return self._last_output

    def _enter(self, iteration: int) -> Placed:
        """Return the stage of an iteration, prepared at its start and with its learning rate set."""
        length = self.state.epoch_length or 1
        placed = self.stages.at((iteration - 1) // length + 1)
        stage, done = placed.stage, iteration - 1 - placed.first * length
        if placed is not self._current:
            self._current, self._last_output = placed, {}
            for other in self.stages:
                for module in other.modules.values():
                    module.requires_grad_(False).eval()
            for module in stage.modules.values():
                module.requires_grad_(True)
            if done == 0:
                torch.manual_seed(step_seed(self.seed, iteration))
                stage.begin(self.data_loader)  # type: ignore[arg-type]
        rate = stage.learning_rate(done, (placed.end - placed.first) * length, length)
        if rate is not None:
            for optimizer in stage.optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = rate
        return placed

    def _capture(self, graph: Callable[[torch.device], Any] = CudaGraph) -> None:
        """Replay iterations as graphs from now on."""
        for placed in self.stages.placed:
            stage = placed.stage
            self._steps[placed.first] = CapturedStep(stage.step, [*stage.optimizers.values()], stage.fixed, graph)


def _of_gan(name: str) -> property:
    """An attribute of a trainer's `GanStage` as one of the trainer."""

    def get(trainer: Any) -> Any:
        """The value in use; it may be set while training."""
        return getattr(trainer.gan, name)

    return property(get, lambda trainer, value: setattr(trainer.gan, name, value))


class SaganTrainer(StagedTrainer):
    """Train SAGAN: each iteration updates the critic, and every ``n_critic``-th one the generator, too.

    ``engine.state.output`` holds detached scalars on the device: ``critic`` (Eq. 7 without its penalty),
    ``gradient_penalty``, and from the last generator update ``adversarial``, ``identity``, ``reconstruction`` and
    their weighted sum ``loss``; and the images ``image`` (fake, normal, pseudo) and ``pred`` (restored) of that
    update. See `StagedTrainer` for events, draws and resuming.

    >>> from monai_sagan import SaganDiscriminator, SaganGenerator
    >>> from monai_sagan.data.batches import TrainingBatches
    >>> images = torch.zeros(8, 1, 64, 64, dtype=torch.uint8)
    >>> batches = TrainingBatches(images, images, batch_size=4, length=2)
    >>> generator, critic = SaganGenerator(channels=4, num_res_blocks=1), SaganDiscriminator(channels=4)
    >>> optimizers = [torch.optim.Adam(network.parameters(), 2e-4) for network in (generator, critic)]
    >>> trainer = SaganTrainer("cpu", 1, batches, generator, optimizers[0], critic, optimizers[1])
    >>> trainer.run()
    >>> trainer.state.output["pred"].shape  # one generator update: unlabeled, normal and pseudo-anomaly images
    torch.Size([12, 1, 64, 64])

    Args:
        device: where to train.
        max_epochs: an epoch is ``epoch_length`` iterations.
        train_data_loader: yields dictionaries of ``normal``, ``unlabeled`` and ``pseudo`` images, the latter made
            of the ``normal`` ones.
        network: the generator.
        optimizer: of the generator.
        discriminator: the critic.
        discriminator_optimizer: of the critic.
        n_critic: critic updates for each generator update.
        lambda_id: weight of the identity loss.
        lambda_rec: weight of the reconstruction loss.
        lambda_gp: weight of the gradient penalty.
        fake_source: ``"unlabeled"``: the critic's fakes are restored unlabeled images; ``"pseudo"``: restored
            pseudo-anomalies, for training without unlabeled images (Table 4, row 0_u).
        seed: of all draws.
        amp: run the networks in bfloat16; norms, the losses and the sum of image and change stay in float32.
        engine: ``"compiled"`` fuses operations by `torch.compile`, which takes minutes once, with the same results up
            to rounding, and on a GPU replays complete iterations; ``"eager"`` does not.
        inferer: calls the generator.
        prepare_batch: moves the images of a batch to the device, see `prepare_sagan_batch`.
        kwargs: further arguments of `StagedTrainer` and of ``monai.engines.Trainer``.

    Raises:
        ValueError: for an unknown ``fake_source`` or ``n_critic`` below 1.
    """

    n_critic, fake_source = _of_gan("n_critic"), _of_gan("fake_source")
    lambda_id, lambda_rec, lambda_gp = _of_gan("lambda_id"), _of_gan("lambda_rec"), _of_gan("lambda_gp")

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
        amp: bool = False,
        engine: str = "eager",
        inferer: Inferer | None = None,
        prepare_batch: Callable[..., Batch] = prepare_sagan_batch,
        **kwargs: Any,
    ) -> None:
        self.network, self.optimizer = network, optimizer
        self.discriminator, self.discriminator_optimizer = discriminator, discriminator_optimizer
        logger.info(f"engine {check_engine(engine)} on {device}, {'bfloat16' if amp else 'float32'}")
        self.gan = GanStage(
            network,
            optimizer,
            discriminator,
            discriminator_optimizer,
            Computing(
                torch.device(device), amp, partial(compile_for, engine, device=device), inferer or SimpleInferer()
            ),
            n_critic=n_critic,
            lambda_id=lambda_id,
            lambda_rec=lambda_rec,
            lambda_gp=lambda_gp,
            fake_source=fake_source,
        )
        super().__init__(
            device,
            max_epochs,
            train_data_loader,
            Stages([self.gan], max_epochs),
            engine=engine,
            prepare_batch=partial(_by_name, prepare_batch),
            **kwargs,
        )


def _by_name(prepare_batch: Callable[..., Batch], *args: Any, **kwargs: Any) -> dict[str, Tensor]:
    return dict(zip(("normal", "unlabeled", "pseudo"), prepare_batch(*args, **kwargs), strict=True))
