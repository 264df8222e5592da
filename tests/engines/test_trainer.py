"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.handlers import (
    CheckpointSaver,
    LrScheduleHandler,
    StatsHandler,
    TensorBoardStatsHandler,
    ValidationHandler,
)
from monai.inferers import SimpleInferer
from torch import nn

from monai_sagan import SaganDiscriminator, SaganGenerator, SaganTrainer
from monai_sagan.seeds import step_seed

CRITIC = {"critic", "gradient_penalty"}
GENERATOR = {"adversarial", "identity", "reconstruction", "loss"}
IMAGES = {"image", "pred"}


def batches(count: int, size: int = 2, wrap: Callable[..., Any] = torch.Tensor.float) -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(0)
    keys = ("normal", "unlabeled", "pseudo")
    return [{key: wrap(torch.randn(size, 1, 64, 64, generator=draw).tanh()) for key in keys} for _ in range(count)]


def trainer(
    data: Iterable[Any], keep_prob: float = 0.95, lr: float = 0.01, epochs: int = 1, **settings
) -> SaganTrainer:
    torch.manual_seed(0)
    network = SaganGenerator(channels=4, num_res_blocks=1, keep_prob=keep_prob)
    critic = SaganDiscriminator(channels=4)
    optimizers = [torch.optim.SGD(part.parameters(), lr) for part in (network, critic)]
    return SaganTrainer("cpu", epochs, data, network, optimizers[0], critic, optimizers[1], **settings)


def parameters(network: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def gradients(network: nn.Module) -> list[torch.Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def scalars(output: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in output.items() if value.ndim == 0}


def losses_of(engine: SaganTrainer) -> list[dict[str, float]]:
    """Run; the scalars of every iteration."""
    seen: list[dict[str, float]] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(scalars(engine.state.output)))
    engine.run()
    return seen


@pytest.mark.parametrize("n_critic", [1, 2, 3])
def test_generator_follows_every_n_critic_th_critic_update(n_critic):
    engine = trainer(batches(6), n_critic=n_critic)
    state = {"generator": parameters(engine.network), "critic": parameters(engine.discriminator)}
    moved: dict[str, list[int]] = {"generator": [], "critic": []}

    def compare(engine: SaganTrainer) -> None:
        for name, network in (("generator", engine.network), ("critic", engine.discriminator)):
            now = parameters(network)
            if not same(now, state[name]):
                moved[name].append(engine.state.iteration)
            state[name] = now

    engine.add_event_handler(Events.ITERATION_COMPLETED, compare)
    engine.run()
    assert moved == {"generator": list(range(n_critic, 7, n_critic)), "critic": [1, 2, 3, 4, 5, 6]}


def test_every_parameter_is_trained():
    engine = trainer(batches(2), lr=1.0)
    before = {name: value.clone() for name, value in engine.network.named_parameters()}
    engine.run()
    still = {name for name, value in engine.network.named_parameters() if torch.equal(value, before[name])}
    # Biases in front of an instance norm, which takes them away, get rounding as their gradient, or nothing.
    assert all(name.endswith("bias") and name.startswith(("position", "decoder.gates")) for name in still)


def test_critic_update_leaves_the_generator_alone():
    engine = trainer(batches(1))
    before = parameters(engine.network)
    engine.run()
    assert all(gradient is None for gradient in gradients(engine.network))
    assert same(parameters(engine.network), before)
    assert all(gradient is not None for gradient in gradients(engine.discriminator))


def test_generator_update_leaves_the_critic_alone():
    engine, states = trainer(batches(2)), []
    for event in (IterationEvents.FORWARD_COMPLETED, IterationEvents.BACKWARD_COMPLETED):
        engine.add_event_handler(
            event, lambda engine: states.append((parameters(engine.discriminator), gradients(engine.discriminator)))
        )
    engine.run()
    assert len(states) == 2
    assert same(states[0][0], states[1][0])
    assert same(states[0][1], states[1][1])


def test_critic_learns_again_after_a_generator_update():
    engine = trainer(batches(3), lr=0.1)
    seen = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(parameters(engine.discriminator)))
    engine.run()
    assert not same(seen[1], seen[2])


def test_output():
    engine, outputs = trainer(batches(3), lambda_id=2, lambda_rec=3), []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
    engine.run()
    assert [set(output) for output in outputs] == [CRITIC, CRITIC | GENERATOR | IMAGES, CRITIC | GENERATOR | IMAGES]
    for output in outputs:
        assert not any(value.requires_grad for value in output.values())
        assert all(value.ndim == 0 for name, value in output.items() if name not in IMAGES)
        assert all(type(value) is torch.Tensor and value.isfinite().all() for value in output.values())
    first, second, third = outputs
    assert second["loss"] == second["adversarial"] + 2 * second["identity"] + 3 * second["reconstruction"]
    assert all(third[name] is second[name] for name in GENERATOR | IMAGES)  # kept between the generator's updates
    assert all(third[name] != second[name] != first[name] for name in CRITIC)
    batch = engine.data_loader[1]
    assert torch.equal(second["image"], torch.cat([batch[key] for key in ("unlabeled", "normal", "pseudo")]))
    assert second["pred"].shape == (6, 1, 64, 64)


def test_losses_are_of_the_images_given_out():
    engine = trainer(batches(2))
    engine.run()
    output = engine.state.output
    normal, restored = output["image"][2:4], output["pred"]
    assert output["identity"].item() == pytest.approx((restored[2:4] - normal).abs().mean().item())
    assert output["reconstruction"].item() == pytest.approx((restored[4:] - normal).square().mean().item())
    assert output["adversarial"].item() == pytest.approx(-engine.discriminator(restored[:2]).mean().item(), rel=1e-4)


def test_iteration_events():
    engine, fired = trainer(batches(2), epochs=2), []
    for event in IterationEvents:
        engine.add_event_handler(event, lambda engine, event: fired.append((engine.state.iteration, event.name)), event)
    engine.run()
    both = ["FORWARD_COMPLETED", "LOSS_COMPLETED", "BACKWARD_COMPLETED", "MODEL_COMPLETED"]
    expected = {1: both[3:], 2: both, 3: both[3:], 4: both}
    assert fired == [(iteration, name) for iteration, names in expected.items() for name in names]


def test_what_the_events_find():
    engine, found = trainer(batches(2)), {}
    before = parameters(engine.network)
    for event in list(IterationEvents)[:4]:
        engine.add_event_handler(
            event,
            lambda engine, event: found.update(
                {event.name: (set(engine.state.output), same(parameters(engine.network), before))}
            ),
            event,
        )
    engine.run()
    assert found["FORWARD_COMPLETED"] == (CRITIC | IMAGES, True)
    assert found["LOSS_COMPLETED"] == (CRITIC | IMAGES | {"loss"}, True)
    assert found["BACKWARD_COMPLETED"] == (CRITIC | IMAGES | {"loss"}, False)
    assert found["MODEL_COMPLETED"] == (CRITIC | GENERATOR | IMAGES, False)


def test_the_seed_decides_every_bit():
    engines = [trainer(batches(4), seed=seed) for seed in (5, 5, 6)]
    seen = []
    for engine, noise in zip(engines, (1, 2, 3), strict=True):
        torch.manual_seed(noise)
        torch.rand(noise)
        seen.append(losses_of(engine))
    assert seen[0] == seen[1]
    assert same(parameters(engines[0].network), parameters(engines[1].network))
    assert all(one != other for one, other in zip(seen[0], seen[2], strict=True))


def test_iterations_draw_differently():
    data = batches(1) * 2
    seen = losses_of(trainer(data, lr=0.0))  # without learning, only the draws can change a loss
    assert seen[0]["gradient_penalty"] != seen[1]["gradient_penalty"]


class Steps:
    """A loader that is told its step: batch ``i`` of ``data`` at step ``i``."""

    def __init__(self, data: list[dict[str, Any]], length: int) -> None:
        self.data, self.length, self.told = data, length, []

    def __len__(self) -> int:
        return self.length

    def set_step(self, step: int) -> None:
        self.told.append(step)

    def __iter__(self):
        while True:
            yield self.data[self.told[-1]]


def test_loader_is_told_the_step():
    loader = Steps(batches(4), length=2)
    trainer(loader, epochs=2).run()
    assert loader.told == [0, 1, 2, 3]


def test_resumed_run_repeats_the_interrupted_one():
    whole, half = trainer(Steps(batches(4), 2), epochs=2), trainer(Steps(batches(4), 2), epochs=1)
    seen = losses_of(whole)
    half.run()
    rest = trainer(Steps(batches(4), 2), epochs=2)
    rest.network.load_state_dict(half.network.state_dict())
    rest.discriminator.load_state_dict(half.discriminator.state_dict())
    rest.load_state_dict({"epoch": 1, "epoch_length": 2, "max_epochs": 2})
    resumed = losses_of(rest)
    assert rest.data_loader.told == [2, 3]
    assert resumed[1] == seen[3]
    assert {name: seen[2][name] for name in CRITIC} == resumed[0]
    assert same(parameters(rest.network), parameters(whole.network))
    assert same(parameters(rest.discriminator), parameters(whole.discriminator))


def test_pseudo_as_fakes_never_reads_the_unlabeled():
    pseudo = [batch | {"unlabeled": batch["pseudo"]} for batch in batches(2)]
    blind = [batch | {"unlabeled": torch.full_like(batch["pseudo"], math.nan)} for batch in batches(2)]
    expected = losses_of(trainer(pseudo))
    assert losses_of(trainer(blind, fake_source="pseudo")) == expected
    assert losses_of(trainer(batches(2))) != expected


def test_meta_tensors_and_loaders_train_alike():
    expected = losses_of(trainer(batches(2)))
    assert losses_of(trainer(batches(2, wrap=MetaTensor))) == expected
    items = [{key: image[i] for key, image in batch.items()} for batch in batches(2, wrap=MetaTensor) for i in range(2)]
    loader = DataLoader(Dataset(items), batch_size=2)
    engine = trainer(loader)
    assert losses_of(engine) == expected
    assert type(engine.state.output["pred"]) is torch.Tensor


def test_own_inferer_and_batches():
    class Counting(SimpleInferer):
        calls = 0

        def __call__(self, inputs, network, *args, **kwargs):
            Counting.calls += 1
            return super().__call__(inputs, network, *args, **kwargs)

    def from_tuple(batch, device, non_blocking, **kwargs):
        return batch["normal"], batch["unlabeled"], batch["pseudo"] * 0

    zeros = [batch | {"pseudo": torch.zeros_like(batch["pseudo"])} for batch in batches(2)]
    engine = trainer(batches(2), inferer=Counting(), prepare_batch=from_tuple)
    assert losses_of(engine) == losses_of(trainer(zeros))
    assert Counting.calls == 2  # one pass for all three streams


def test_networks_are_put_into_training_mode():
    engine = trainer(batches(1))
    engine.network.eval()
    engine.discriminator.eval()
    engine.run()
    assert engine.network.training
    assert engine.discriminator.training


def test_bfloat16_on_the_cpu():
    engine, kinds = trainer(batches(2), amp=True), set()
    engine.network.to_image.register_forward_hook(lambda module, args, output: kinds.add(output.dtype))
    seen, exact = losses_of(engine), losses_of(trainer(batches(2)))
    assert kinds == {torch.bfloat16}
    assert all(math.isfinite(value) for losses in seen for value in losses.values())
    assert all(parameter.isfinite().all() for parameter in engine.network.parameters())
    assert {parameter.dtype for parameter in engine.network.parameters()} == {torch.float32}
    assert engine.state.output["pred"].dtype == torch.float32
    assert seen[1] == pytest.approx(exact[1], rel=0.05, abs=0.02)
    assert seen != exact


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fake_source": "normal"}, "fake_source is 'normal'; use 'unlabeled' or 'pseudo'"),
        ({"n_critic": 0}, "n_critic is 0; it counts critic updates, at least 1"),
    ],
)
def test_wrong_arguments(settings, says):
    with pytest.raises(ValueError, match=says):
        trainer(batches(1), **settings)


def test_stats_handler(capsys):
    handler = StatsHandler(name="test_stats_handler", output_transform=scalars)
    seen = losses_of(trainer(batches(3), train_handlers=[handler]))
    lines = [line for line in capsys.readouterr().out.splitlines() if "Iter:" in line]
    assert len(lines) == 3
    for line, losses in zip(lines, seen, strict=True):
        for name, value in losses.items():
            assert f"{name}: {value:.4f}" in line


def test_tensor_board_handler(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    engine = trainer(batches(3))
    handler = TensorBoardStatsHandler(
        log_dir=str(tmp_path), output_transform=scalars, epoch_event_writer=lambda *_: None
    )
    handler.attach(engine)
    seen = losses_of(engine)
    handler.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    shown = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    assert shown["critic"] == pytest.approx({i: losses["critic"] for i, losses in enumerate(seen, start=1)})
    assert shown["loss"] == pytest.approx({i: seen[i - 1]["loss"] for i in (2, 3)})


def test_checkpoint_saver(tmp_path):
    engine = trainer(batches(2), epochs=2)
    save = {"network": engine.network, "critic_optimizer": engine.discriminator_optimizer, "trainer": engine}
    CheckpointSaver(str(tmp_path), save, save_final=True, save_interval=1).attach(engine)
    engine.run()
    assert {path.name for path in Path(tmp_path).iterdir()} == {
        "checkpoint_epoch=1.pt",
        "checkpoint_epoch=2.pt",
        "checkpoint_final_iteration=4.pt",
    }
    saved = torch.load(tmp_path / "checkpoint_final_iteration=4.pt", weights_only=True)
    assert same(list(saved["network"].values()), list(engine.network.state_dict().values()))


def test_lr_schedule_handler():
    engine = trainer(batches(2), epochs=2, lr=0.01)
    for optimizer in (engine.optimizer, engine.discriminator_optimizer):
        LrScheduleHandler(torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1), print_lr=False).attach(engine)
    engine.run()
    rates = [group["lr"] for o in (engine.optimizer, engine.discriminator_optimizer) for group in o.param_groups]
    assert rates == pytest.approx([0.0001, 0.0001])


def test_validation_does_not_disturb_training():
    plain, engine = trainer(batches(2), epochs=2), trainer(batches(2), epochs=2)
    data = [{"image": torch.zeros(1, 1, 64, 64), "label": torch.zeros(1)}]
    modes: list[bool] = []
    engine.network.register_forward_hook(lambda network, args, output: modes.append(network.training))
    ValidationHandler(interval=1, validator=SupervisedEvaluator("cpu", data, engine.network)).attach(engine)
    assert losses_of(engine) == losses_of(plain)
    assert modes == [True, True, False] * 2
    assert same(parameters(engine.network), parameters(plain.network))


def plain_loop(network: nn.Module, critic: nn.Module, data: list[dict[str, torch.Tensor]], lr: float, seed: int):
    """The published algorithm once more, written straight down; the losses of each iteration."""
    weights = {"id": 2.0, "rec": 3.0, "gp": 10.0}
    seen = []
    for iteration, batch in enumerate(data, start=1):
        normal, unlabeled, pseudo = batch["normal"], batch["unlabeled"], batch["pseudo"]
        torch.manual_seed(step_seed(seed, iteration))
        alpha = torch.rand(len(normal), 1, 1, 1)

        fake = network(unlabeled).detach()
        mixed = (alpha * normal + (1 - alpha) * fake).requires_grad_()
        slope = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)[0]
        penalty = ((slope.pow(2).sum(dim=(1, 2, 3)).sqrt() - 1) ** 2).mean()
        distance = critic(fake).mean() - critic(normal).mean()
        descend(critic, distance + weights["gp"] * penalty, lr)
        seen.append({"critic": distance.item(), "gradient_penalty": penalty.item()})

        if iteration % 2 == 0:
            adversarial = -critic(network(unlabeled)).mean()
            identity = (network(normal) - normal).abs().mean()
            reconstruction = ((network(pseudo) - normal) ** 2).mean()
            loss = adversarial + weights["id"] * identity + weights["rec"] * reconstruction
            descend(network, loss, lr)
            terms = {"adversarial": adversarial, "identity": identity, "reconstruction": reconstruction, "loss": loss}
            seen[-1] |= {name: term.item() for name, term in terms.items()}
    return seen


def descend(network: nn.Module, loss: torch.Tensor, lr: float) -> None:
    steps = torch.autograd.grad(loss, list(network.parameters()))
    with torch.no_grad():
        for parameter, step in zip(network.parameters(), steps, strict=True):
            parameter -= lr * step


@pytest.fixture
def in_float64(monkeypatch):
    """Everything in float64, the trainer's own conversions to float32 too."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("in_float64")
def test_same_mathematics_as_a_plain_loop():
    # In float32 the generator's gradients differ by 0.2 % already, for its instance norms magnify rounding.
    data, lr = batches(4, size=3, wrap=torch.Tensor.double), 0.05
    engine, other = (trainer(data, 1, lr, lambda_id=2, lambda_rec=3, seed=7) for _ in range(2))
    start = {"network": parameters(engine.network), "discriminator": parameters(engine.discriminator)}
    seen = losses_of(engine)
    for iteration, expected in enumerate(plain_loop(other.network, other.discriminator, data, lr, seed=7)):
        for name, value in expected.items():
            assert seen[iteration][name] == pytest.approx(value, rel=1e-8), (iteration, name)
    for part in start:
        ours, theirs = parameters(getattr(engine, part)), parameters(getattr(other, part))
        for first, one, two in zip(start[part], ours, theirs, strict=True):
            assert one.dtype == torch.float64
            # What the four iterations changed is compared, not only what was there before.
            assert (one - two).norm() <= 1e-7 * (two - first).norm() + 1e-13
