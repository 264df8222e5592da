"""What every method promises, whatever it is: found by its name, so that a new one is covered at once."""

from __future__ import annotations

import itertools

import pytest
import torch
from ignite.engine import Events
from tiny import TINY, tiny

from monai_sagan.data.batches import TrainingBatches
from monai_sagan.engines import StagedTrainer
from monai_sagan.engines.stages import Stages, checkpoint_objects, make_stages
from monai_sagan.handlers import AverageWeights, ResumeCheckpoint
from monai_sagan.methods import METHODS, find_method, make_network, resolve_settings
from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import describe_trained, load_trained
from monai_sagan.options import describe

each = pytest.mark.parametrize("method", TINY)
NORMALS_ONLY = [name for name in TINY if "unlabeled" not in find_method(name).streams]


class StoppedError(Exception):
    """A run that was killed."""


class Run:
    """A training run with everything that a checkpoint holds."""

    def __init__(self, method, folder, pixels, unlabeled_seed=1, **values):
        self.settings = tiny(method, ema_decay=0.5, **values)
        torch.manual_seed(0)
        self.network = make_network(self.settings)
        self.stages: Stages = make_stages(self.network, self.settings)
        self.average = AverageWeights(self.network, 0.5, self.stages.update_interval, self.stages.epochs_before_last)
        objects = checkpoint_objects(self.stages, average=self.average)
        length = self.settings.iterations_per_epoch
        data = TrainingBatches(
            pixels(12),
            pixels(12, seed=unlabeled_seed),
            self.settings.batch_size,
            length,
            streams=find_method(method).streams,
        )
        checkpoint = ResumeCheckpoint(folder / "checkpoint.pt", objects, self.stages.plan())
        self.trainer = StagedTrainer(
            "cpu", self.settings.epochs, data, self.stages, train_handlers=[self.average, checkpoint]
        )
        self.seen: dict[int, dict[str, float]] = {}
        self.stop_at: int | None = None
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._watch)

    def _watch(self, engine):
        output = engine.state.output
        self.seen[engine.state.iteration] = {
            str(k): v.item() for k, v in output.items() if torch.is_tensor(v) and not v.ndim
        }
        if engine.state.iteration == self.stop_at:
            raise StoppedError

    def run(self, stop_at=None):
        self.stop_at = stop_at
        if stop_at is None:
            self.trainer.run()
        else:
            with pytest.raises(StoppedError):
                self.trainer.run()
        return self


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An undisturbed run of each method."""
    import numpy as np

    def pixels(count, seed=0):
        return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 1, 64, 64), np.uint8))

    runs = {}

    def of(method):
        if method not in runs:
            runs[method] = Run(method, tmp_path_factory.mktemp("run"), pixels).run()
        return runs[method]

    of.pixels = pixels
    return of


@each
def test_a_run_changes_the_network_and_its_losses_are_finite(method, finished):
    run = finished(method)
    torch.manual_seed(0)
    untrained = make_network(run.settings).state_dict()
    assert not same(untrained, run.network.state_dict())
    assert len(run.seen) == run.settings.max_iterations
    values = [value for losses in run.seen.values() for value in losses.values()]
    assert values
    assert torch.tensor(values).isfinite().all()


@each
def test_detections_are_finite_and_do_not_depend_on_the_batch(method, finished):
    run = finished(method)
    scorer = Scorer.of(run.network.eval(), run.settings).eval()
    image = finished.pixels(5, seed=3).float() / 127.5 - 1
    with torch.inference_mode():
        together, again = scorer(image), scorer(image)
        alone = [scorer(one[None]) for one in image]
    assert together.anomaly_map.shape == (5, 1, 64, 64)
    assert together.score.shape == (5,)
    assert together.anomaly_map.dtype == together.score.dtype == torch.float32
    assert together.anomaly_map.isfinite().all()
    assert together.score.isfinite().all()
    assert torch.equal(together.anomaly_map, again.anomaly_map)
    assert torch.equal(together.score, again.score)
    for name in ("anomaly_map", "score"):
        apart = torch.cat([getattr(one, name) for one in alone])
        torch.testing.assert_close(apart, getattr(together, name), atol=1e-5, rtol=1e-4)
    if together.restored is not None:
        assert together.restored.shape == image.shape
        assert together.restored.abs().max() <= 1


@pytest.mark.parametrize("method", NORMALS_ONLY)
def test_a_method_of_normals_alone_never_reads_unlabeled_images(method, finished, tmp_path):
    other = Run(method, tmp_path, finished.pixels, unlabeled_seed=9).run()
    assert same(finished(method).network.state_dict(), other.network.state_dict())


def interruptions():
    """Within each stage, at its end, and at the first iteration of the next."""
    for method in TINY:
        count = find_method(method).stages_count
        ends = [6 * (i + 1) for i in range(count)]
        for end in ends:
            yield from ((method, at) for at in (end - 2, end, end + 1) if at < ends[-1])


@pytest.mark.parametrize(("method", "stop_at"), list(interruptions()))
def test_an_interrupted_run_equals_an_undisturbed_one(method, stop_at, finished, tmp_path):
    expected = finished(method)
    Run(method, tmp_path, finished.pixels).run(stop_at)
    found = Run(method, tmp_path, finished.pixels).run()
    assert found.seen == {at: losses for at, losses in expected.seen.items() if at in found.seen}
    assert same(expected.network.state_dict(), found.network.state_dict())
    assert same(expected.average.state_dict(), found.average.state_dict())
    for name, thing in expected.stages.states().items():
        theirs = found.stages.states()[name]
        assert flat(thing.state_dict()) == flat(theirs.state_dict()), name


def flat(state):
    """A state's tensors and numbers as plain values, by their place."""
    if isinstance(state, dict):
        return {key: flat(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [flat(value) for value in state]
    return state.tolist() if torch.is_tensor(state) else state


@each
def test_the_model_file_brings_the_network_back(method, finished, tmp_path):
    run = finished(method)
    content = describe_trained(run.network, run.settings, finished.pixels(20), 6)
    torch.save(content, tmp_path / "model.pt")
    trained = load_trained(tmp_path / "model.pt")
    assert trained.settings == run.settings
    assert same(run.network.state_dict(), trained.network.state_dict())
    torch.testing.assert_close(trained.score(finished.pixels(20))[0], content["valid_normal_scores"])


@each
def test_maps_can_be_averaged_and_smoothed(method, finished):
    run = finished(method)
    image = finished.pixels(2, seed=4).float() / 127.5 - 1
    for how in ({"passes": 4}, {"smooth": {"kind": "gaussian", "sigma": 1}}, {"smooth": {"kind": "guided"}}):
        scorer = Scorer(run.network.eval(), (64, 64), find_method(method).detect, **how).eval()
        with torch.inference_mode():
            found = scorer(image)
        assert found.anomaly_map.shape == (2, 1, 64, 64)
        assert found.anomaly_map.isfinite().all()
        assert found.score.isfinite().all()


@each
def test_presets_and_options(method, refused):
    found = find_method(method)
    assert {"paper", "recommended", "quick"} <= set(found.presets)
    for preset in found.presets:
        assert resolve_settings(preset, method).method == method
    assert all(row.help and "\n" not in row.help for row in describe(found.Options))
    with refused("unknown option 'no_such_option'; the options are", describe(found.Options)[-1].name):
        resolve_settings("recommended", method, no_such_option=1)


@pytest.mark.parametrize(("method", "channels"), list(itertools.product(METHODS, (1, 3))))
def test_images_that_a_method_cannot_take_are_refused_in_one_line(method, channels, refused):
    """Any size is either taken or refused before anything is built."""
    from monai_sagan.errors import SaganError

    for size in ([64, 64], [96, 64], [70, 70], [64, 65]):
        refusal = ""
        try:
            settings = tiny(method, image_size=size, in_channels=channels)
        except SaganError as error:
            refusal = str(error)
        if refusal:
            assert "\n" not in refusal
            assert size != [64, 64]
            continue
        image = torch.zeros(1, channels, *size)
        with torch.inference_mode():
            found = find_method(method).detect(make_network(settings).eval(), image)
        assert found.anomaly_map.shape == (1, 1, *size)
