"""The interface of a method: its network, its detection step and the stages of its training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from monai_sagan.data.batches import TrainingBatches
from monai_sagan.settings import Settings

__all__ = ["Computing", "Detection", "Method", "Stage"]

Code = TypeVar("Code", bound=Callable[..., Any])
EventOutput = tuple[IterationEvents, dict[str, Tensor]]  # an event of an iteration, and the outputs that are new at it


class Detection(NamedTuple):
    """The result of a method on images (B, C, H, W).

    >>> maps = torch.rand(2, 1, 64, 64)
    >>> Detection(maps, maps.amax((1, 2, 3))).score.shape
    torch.Size([2])

    Args:
        anomaly_map: (B, 1, H, W), finite; higher is more abnormal.
        score: (B,), finite; None means the mean of the smoothed map.
        restored: healthy versions of the images, (B, C, H, W) in [-1, 1]; None for methods that do not restore.
    """

    anomaly_map: Tensor
    score: Tensor | None = None
    restored: Tensor | None = None


@dataclass(frozen=True)
class Computing:
    """The device, precision and compiler of a stage.

    >>> with Computing(amp=True).precision():
    ...     nn.Linear(2, 2)(torch.zeros(1, 2)).dtype
    torch.bfloat16

    Args:
        device: of the networks and the batches.
        amp: run networks in bfloat16; losses stay in float32.
        compile: compiles a function or module of tensors without optimizer steps, or returns it unchanged.
        inferer: calls networks on images during training.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    amp: bool = False
    compile: Callable[[Any], Any] = lambda code: code
    inferer: Inferer = field(default_factory=SimpleInferer)

    def precision(self) -> torch.autocast:
        """The context in which networks run."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)


class Stage(ABC):
    """A phase of training with a single training step.

    The trainer calls `begin` once, then `draw` and `step` in each iteration. Before `begin` and `draw` it seeds torch's
    global generator from the run's seed and the iteration, so a resumed run repeats the interrupted one.

    >>> from monai.engines.utils import IterationEvents
    >>> class Fit(Stage):
    ...     def __init__(self, network):
    ...         optimizer = torch.optim.Adam(network.parameters(), fused=True)
    ...         self.modules, self.optimizers = {"network": network}, {"optimizer": optimizer}
    ...
    ...     def draw(self, batch, iteration):
    ...         return "fit", [batch["normal"]]
    ...
    ...     def step(self, variant, image):
    ...         loss = (self.modules["network"](image) - image).abs().mean()
    ...         self.optimizers["optimizer"].zero_grad()
    ...         loss.backward()
    ...         self.optimizers["optimizer"].step()
    ...         yield IterationEvents.MODEL_COMPLETED, {"loss": loss.detach()}
    >>> stage = Fit(nn.Conv2d(1, 1, 3, padding=1))
    >>> variant, inputs = stage.draw({"normal": torch.zeros(2, 1, 8, 8)}, iteration=1)
    >>> [list(output) for _, output in stage.step(variant, *inputs)]
    [['loss']]
    """

    name = "train"
    share = 1.0  # of the run's iterations; stages begin and end with epochs
    update_interval = 1  # iterations between updates of the network that is validated

    modules: Mapping[str, nn.Module]  # trained or filled here, by their names in the checkpoint
    optimizers: Mapping[str, torch.optim.Optimizer]  # of ``modules``, by their names in the checkpoint

    def begin(self, batches: TrainingBatches) -> None:  # noqa: B027  most stages need no preparation
        """Prepare ``modules`` from all training images; the results are their buffers and parameters."""

    def learning_rate(self, done: int, total: int, epoch_length: int) -> float | None:
        """The learning rate after ``done`` of the stage's ``total`` iterations; None keeps the optimizers' own."""
        return None

    def fixed(self) -> tuple[Any, ...]:
        """Values that `step` depends on besides its inputs; a change makes the trainer capture the step again."""
        return ()

    @abstractmethod
    def draw(self, batch: Mapping[str, Tensor], iteration: int) -> tuple[Any, list[Tensor]]:
        """Draw everything random; return the hashable variant of this iteration's step and its inputs.

        Args:
            batch: images (B, C, H, W) in [-1, 1] by stream, on the device.
            iteration: of the run, from 1.
        """

    @abstractmethod
    def step(self, variant: Any, *inputs: Tensor) -> Iterator[EventOutput]:
        """Update once; yield MONAI's events with detached outputs.

        It draws nothing and never waits for the device, so that a GPU can replay it.
        """


class Method(ABC):
    """Base class of all methods: subclass it in one file and add one row to the registry.

    Example:
        >>> from monai_sagan.methods import find_method, resolve_settings
        >>> method, settings = find_method("sagan"), resolve_settings("paper", channels=4, num_res_blocks=1)
        >>> network = method.network(settings).eval()
        >>> method.detect(network, torch.zeros(2, 1, 64, 64)).anomaly_map.shape
        torch.Size([2, 1, 64, 64])
    """

    title: ClassVar[str]  # in reports and tables
    Options: ClassVar[type[Settings]]  # a frozen dataclass that adds the method's own options to a run's settings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]  # values by name; "paper" and "recommended" at least
    restores: ClassVar[bool] = True  # whether `detect` returns restored images
    map_words: ClassVar[str] = "|image - restored| / 2"  # the quantity in an anomaly map
    streams: ClassVar[tuple[str, ...]]  # of "normal", "unlabeled", "pseudo"; training reads only these
    stages_count: ClassVar[int] = 1

    def check(self, settings: Any) -> None:  # noqa: B027  most methods have nothing to check
        """Raise a SaganError for options that contradict each other, such as an image size that does not fit."""

    @abstractmethod
    def network(self, settings: Any) -> nn.Module:
        """Build the network with everything that `detect` needs; the model file holds its state_dict."""

    @abstractmethod
    def detect(self, network: nn.Module, image: Tensor) -> Detection:
        """Detect anomalies in images (B, C, H, W) in [-1, 1], each independent of the others; traceable."""

    @abstractmethod
    def stages(self, network: nn.Module, settings: Any, computing: Computing) -> Sequence[Stage]:
        """Build the stages that train ``network``, in order, with any auxiliary networks."""
