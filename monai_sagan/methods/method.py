"""What a method is: a network, how it detects anomalies, and the stages of its training."""

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
    """What a method finds in images (B, C, H, W).

    Args:
        anomaly_map: (B, 1, H, W), finite; higher is more abnormal.
        score: (B,), finite; None stands for the map's mean, after smoothing.
        restored: healthy versions of the images, (B, C, H, W) in [-1, 1]; None of methods that do not restore.
    """

    anomaly_map: Tensor
    score: Tensor | None = None
    restored: Tensor | None = None


@dataclass(frozen=True)
class Computing:
    """Where and how a stage computes.

    Args:
        device: of the networks and the batches.
        amp: run networks in bfloat16; losses stay in float32.
        compile: compiles a function or module of tensors without optimizer steps, or returns it unchanged.
        inferer: how networks are called on images while training.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    amp: bool = False
    compile: Callable[[Any], Any] = lambda code: code
    inferer: Inferer = field(default_factory=SimpleInferer)

    def precision(self) -> torch.autocast:
        """The context in which networks run."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)


class Stage(ABC):
    """A stretch of training iterations with one training step.

    The trainer calls `begin` once, then for each iteration `draw` and `step`. Before `begin` and `draw` it seeds
    torch's global generator by the run's seed and the iteration, so a resumed run repeats the interrupted one.
    """

    name = "train"
    share = 1.0  # of the run's iterations; stages begin and end with epochs
    update_interval = 1  # iterations between updates of the network that is validated

    modules: Mapping[str, nn.Module]  # what is trained or filled, in training mode; the checkpoint has them by name
    optimizers: Mapping[str, torch.optim.Optimizer]  # of ``modules``, likewise

    def begin(self, batches: TrainingBatches) -> None:  # noqa: B027  nothing to do is the usual case
        """Prepare ``modules`` from all training images; results live in their buffers and parameters."""

    def learning_rate(self, done: int, total: int, epoch_length: int) -> float | None:
        """The rate of all optimizers after ``done`` of the stage's ``total`` iterations; None leaves them alone."""
        return None

    def fixed(self) -> tuple[Any, ...]:
        """Values that `step` depends on besides its inputs; where they change a captured step is captured again."""
        return ()

    @abstractmethod
    def draw(self, batch: Mapping[str, Tensor], iteration: int) -> tuple[Any, list[Tensor]]:
        """The variant of this iteration's step, which is hashable, and its inputs: everything random is drawn here.

        Args:
            batch: images (B, C, H, W) in [-1, 1] by stream, on the device.
            iteration: of the run, from 1.
        """

    @abstractmethod
    def step(self, variant: Any, *inputs: Tensor) -> Iterator[EventOutput]:
        """Update once; yield MONAI's events with detached outputs.

        It draws nothing and waits for no device, so that a GPU can replay it.
        """


class Method(ABC):
    """What can be trained: subclass it in one file, and add one row to the registry.

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
    map_words: ClassVar[str] = "|image - restored| / 2"  # what an anomaly map shows
    streams: ClassVar[tuple[str, ...]]  # of "normal", "unlabeled", "pseudo": no other images are read in training
    stages_count: ClassVar[int] = 1

    def check(self, settings: Any) -> None:  # noqa: B027  nothing to check is the usual case
        """Raise a SaganError where options do not go together, such as an image size that the network cannot take."""

    @abstractmethod
    def network(self, settings: Any) -> nn.Module:
        """The network with everything that `detect` needs: its state_dict is the model file."""

    @abstractmethod
    def detect(self, network: nn.Module, image: Tensor) -> Detection:
        """Detect anomalies in images (B, C, H, W) in [-1, 1]; pure, each image by itself, and traceable."""

    @abstractmethod
    def stages(self, network: nn.Module, settings: Any, computing: Computing) -> Sequence[Stage]:
        """The stages of training ``network``, in their order; further networks are made here."""
