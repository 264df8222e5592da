"""Iterations captured as graphs: what a replay does, tried on the CPU with graphs of recorded operations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from recorded_graph import RecordedGraph
from torch import Tensor

from monai_sagan import SaganDiscriminator, SaganGenerator, SaganTrainer
from monai_sagan.data.batches import TrainingBatches
from monai_sagan.engines.captured import WARM_UP, CapturedStep, can_capture
from monai_sagan.handlers import History, StopOnNonFinite

RATE = 2**-10  # the same number in 32 and in 64 bits


class Graphs(list[RecordedGraph]):
    """Makes graphs, and keeps them."""

    def __call__(self, device: torch.device) -> RecordedGraph:
        self.append(RecordedGraph())
        return self[-1]


@pytest.fixture
def graphs() -> Graphs:
    return Graphs()


def trainer(
    graphs: Graphs | None = None,
    rate: float = RATE,
    epochs: int = 1,
    length: int = 14,
    batch_size: int = 2,
    **settings: Any,
) -> SaganTrainer:
    """A trainer; with ``graphs`` it captures its iterations."""
    torch.manual_seed(0)
    generator = SaganGenerator(channels=4, num_res_blocks=1)
    critic = SaganDiscriminator(channels=4, init="he")
    optimizers = [torch.optim.Adam(n.parameters(), rate, (0.5, 0.999), fused=True) for n in (generator, critic)]
    pixels = torch.randint(0, 256, (16, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = TrainingBatches(pixels[:8], pixels[8:], batch_size, length)
    run = SaganTrainer("cpu", epochs, data, generator, optimizers[0], critic, optimizers[1], **settings)
    if graphs is not None:
        run._capture(graphs)
    return run


def outputs_of(run: SaganTrainer) -> list[dict[str, Any]]:
    """Run; what each iteration gave out, numbers as numbers."""
    seen: list[dict[str, Any]] = []
    run.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: seen.append({str(k): v for k, v in engine.state.output.items()})
    )
    run.run()
    return seen


def everything(run: SaganTrainer) -> list[Tensor]:
    """Weights and the optimizers' states."""
    networks = [*run.network.parameters(), *run.discriminator.parameters()]
    optimizers = (run.optimizer, run.discriminator_optimizer)
    return networks + [x for o in optimizers for state in o.state.values() for x in state.values()]


def assert_equal(one: SaganTrainer, other: SaganTrainer) -> list[dict[str, Any]]:
    """Run both: each output of each iteration, and all that they leave behind, is the same bit for bit."""
    found, expected = outputs_of(one), outputs_of(other)
    assert len(found) == len(expected) > 0
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True), 1):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert torch.equal(ours[name], value), (number, name)
    for ours, theirs in zip(everything(one), everything(other), strict=True):
        assert torch.equal(ours, theirs)
    return found


@pytest.mark.parametrize("n_critic", [1, 2, 3])
def test_replayed_iterations_equal_eager_ones(n_critic, graphs):
    settings = {"n_critic": n_critic, "length": 20, "lambda_id": 2.0}
    assert_equal(trainer(graphs, **settings), trainer(**settings))
    of_critic, of_both = 20 - 20 // n_critic, 20 // n_critic
    assert sorted(graph.replays for graph in graphs) == sorted(n - WARM_UP for n in (of_critic, of_both) if n)


def test_a_learning_rate_that_falls_reaches_the_graphs(graphs):
    runs = [trainer(graphs, epochs=8, length=2), trainer(epochs=8, length=2)]
    for run in runs:
        stage = run.stages.placed[0].stage
        stage.rate, stage.decay = RATE, 0.5
    assert_equal(*runs)
    assert [graph.replays for graph in graphs] == [5, 5]
    assert runs[0].optimizer.param_groups[0]["lr"] == RATE / 4  # a plain number, as handlers and checkpoints know it
    assert runs[0].optimizer.param_groups[0]["capturable"] is False


def test_handlers_find_what_they_find_of_eager_iterations(tmp_path, graphs):
    found = []
    for name, run in (("captured", trainer(graphs)), ("eager", trainer())):
        fired = []
        for event in list(IterationEvents)[:4]:
            run.add_event_handler(
                event,
                lambda engine, event, fired=fired: fired.append((event.name, sorted(map(str, engine.state.output)))),
                event,
            )
        History(tmp_path / f"{name}.csv", interval=3).attach(run)
        StopOnNonFinite(interval=5).attach(run)
        outputs_of(run)
        found.append((fired, (tmp_path / f"{name}.csv").read_text()))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["lambda_id", "lambda_rec", "lambda_gp"])
def test_other_weights_of_the_losses_are_captured_anew(name, graphs):
    def raise_weight(engine: SaganTrainer) -> None:
        setattr(engine, name, 20.0)

    runs = [trainer(graphs, length=24), trainer(length=24)]
    for run in runs:
        run.add_event_handler(Events.ITERATION_COMPLETED(once=12), raise_weight)
    assert_equal(*runs)
    assert [graph.replays for graph in graphs] == [3, 3, 3, 3]


def test_loaded_optimizers_are_captured_anew(graphs):
    def load(engine: SaganTrainer) -> None:
        state = engine.optimizer.state_dict()
        engine.optimizer.load_state_dict({"state": {}, "param_groups": state["param_groups"]})

    runs = [trainer(graphs, length=20), trainer(length=20)]
    for run in runs:
        run.add_event_handler(Events.ITERATION_COMPLETED(once=10), load)
    assert_equal(*runs)
    assert sorted(graph.replays for graph in graphs) == [2, 2, 2, 2]


def test_a_step_that_cannot_be_captured_goes_on_as_it_is(caplog, graphs):
    class Asking(SaganGenerator):
        def forward(self, image: Tensor, uniform: Tensor | None = None) -> Tensor:
            assert float(image.sum()) != 0.123  # waits for the device
            return super().forward(image, uniform)

    runs = [trainer(graphs), trainer()]
    runs[0].network.__class__ = Asking
    assert_equal(*runs)
    assert sum(graph.replays for graph in graphs) == 0
    told = [record.message for record in caplog.records if "no CUDA graph" in record.message]
    assert told == [
        "no CUDA graph of the training step (operation not permitted when stream is capturing); training continues "
        "without it, more slowly"
    ] * len(graphs)


def test_a_step_that_draws_is_seen(caplog, graphs):
    run = trainer(graphs)
    run.network.decoder.register_forward_pre_hook(lambda *_: torch.rand(1) and None)
    outputs_of(run)  # the recorded graph refuses draws, which would not be those of the seed
    assert caplog.text.count("draws); training continues without it") == len(graphs)


def test_a_usual_learning_rate_is_rounded(graphs):
    found, expected = outputs_of(trainer(graphs, 5e-5)), outputs_of(trainer(rate=5e-5))
    for ours, theirs in zip(found, expected, strict=True):
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-2, atol=1e-3)


def test_adam_that_keeps_state_on_the_host_is_said(caplog, graphs):
    runs = [trainer(graphs), trainer()]
    for run in runs:
        for optimizer in (run.optimizer, run.discriminator_optimizer):
            optimizer.param_groups[0]["fused"] = False
    assert_equal(*runs)
    assert "no CUDA graph of the training step" in caplog.text
    assert "make Adam with fused=True" in caplog.text


def test_what_is_captured():
    assert can_capture("cuda", 1)
    assert can_capture(torch.device("cuda", 1), 1)
    assert not can_capture("cpu", 1)
    assert not can_capture("cuda", 2)


def test_any_step_can_be_captured(graphs):
    """Variants by name, inputs of any number, one optimizer that only one of them steps."""

    def run(captured: bool) -> tuple[list[Tensor], Tensor]:
        weight = torch.ones(3, requires_grad=True)
        optimizer = torch.optim.Adam([weight], RATE, fused=True)

        def step(variant: str, *inputs: Tensor):
            loss = sum((weight * x).square().sum() for x in inputs)
            if variant == "learn":
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            yield variant, {"loss": loss.detach()}

        call = CapturedStep(step, [optimizer], graph=graphs) if captured else step
        inputs = torch.arange(30.0).reshape(10, 3) / 30
        names = ["learn", "look"] * 5
        found = [
            dict(call(v, x, x + 1) if v == "learn" else call(v, x))[v]["loss"]
            for v, x in zip(names, inputs, strict=True)
        ]
        return found, weight.detach()

    (found, weight), (expected, wanted) = run(True), run(False)
    assert torch.equal(torch.stack(found), torch.stack(expected))
    assert torch.equal(weight, wanted)
    assert [graph.replays for graph in graphs] == [2, 2]
