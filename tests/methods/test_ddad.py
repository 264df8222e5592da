"""DDAD: its maps and losses by hand, what each ensemble sees, and both stages in one run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from monai.engines import SupervisedEvaluator
from monai.handlers import ValidationHandler
from torch import Tensor

from monai_sagan.data.batches import TrainingBatches
from monai_sagan.engines import StagedTrainer
from monai_sagan.engines.stages import make_stages
from monai_sagan.errors import SaganError
from monai_sagan.handlers import ResumeCheckpoint
from monai_sagan.methods import Computing, find_method, make_network, resolve_settings
from monai_sagan.methods.ddad import AutoencodersStage, DdadOptions, RefinementStage, autoencoder_losses
from monai_sagan.methods.discrepancy import DiscrepancyNetwork, discrepancy_maps, focal_loss
from monai_sagan.networks.autoencoder import BACKBONES, Autoencoders, Reconstruction

TINY = DdadOptions(
    method="ddad", image_size=(32, 32), batch_size=8, members=2, hidden=32, max_iterations=4, iterations_per_epoch=2,
    refinement_share=0.5, refinement_batch_size=3, learning_rate=1e-3,
)  # fmt: skip
backbones = pytest.mark.parametrize("backbone", BACKBONES)


def pixels(count: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 1, 32, 32), generator=draw, dtype=torch.uint8)


class Run:
    """A training run of tiny networks.

    Args:
        settings: of the method.
        unlabeled: what its second stream holds.
    """

    def __init__(self, settings: DdadOptions = TINY, unlabeled: Tensor | None = None, **more: Any) -> None:
        torch.manual_seed(0)
        self.network = make_network(settings)
        self.stages = make_stages(self.network, settings)
        streams = find_method("ddad").streams
        unlabeled = pixels(24, 2) if unlabeled is None else unlabeled
        length = settings.iterations_per_epoch
        self.batches = TrainingBatches(pixels(12, 1), unlabeled, settings.batch_size, length, streams=streams)
        self.trainer = StagedTrainer("cpu", settings.epochs, self.batches, self.stages, **more)

    def state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def part_of(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.startswith(name)}


# Formulas


def example(log_variance: float | None = None) -> tuple[Tensor, Reconstruction]:
    """An image of two pixels, ensembles of two."""
    image = torch.tensor([0.5, -0.5]).view(1, 1, 1, 2)
    values = torch.tensor([[0.1, 0.2], [0.3, 0.2], [0.4, -0.4], [0.8, -0.2]]).view(1, 4, 1, 1, 2)
    spread = None if log_variance is None else torch.full_like(values, 7.0)
    if spread is not None:
        spread[:, 2] = log_variance  # ensemble B alone counts
        spread[:, 3] = math.log(3 * math.exp(log_variance))
    return image, Reconstruction(values, spread, None)


def test_maps_by_hand():
    maps = discrepancy_maps(*example())
    for name, expected in {
        "restored": [0.6, -0.3],
        "rec": [0.01, 0.04],
        "inter": [0.4, 0.5],
        "intra": [math.sqrt(0.08), math.sqrt(0.02)],
    }.items():
        torch.testing.assert_close(getattr(maps, name), torch.tensor(expected).view(1, 1, 1, 2))


def test_maps_with_variances_by_hand():
    plain, maps = discrepancy_maps(*example()), discrepancy_maps(*example(math.log(0.2)))
    variance = (0.2 + 0.6) / 2
    torch.testing.assert_close(maps.rec, plain.rec / variance)
    torch.testing.assert_close(maps.inter, plain.inter / math.sqrt(variance))
    torch.testing.assert_close(maps.intra, plain.intra / math.sqrt(variance))
    assert all(x.isfinite().all() for x in discrepancy_maps(*example(-200.0)))


def test_maps_are_means_over_channels():
    image, found = torch.randn(2, 3, 4, 4), Reconstruction(torch.randn(2, 6, 3, 4, 4), None, None)
    maps = discrepancy_maps(image, found)
    single = [
        discrepancy_maps(image[:, c : c + 1], Reconstruction(found.mean[:, :, c : c + 1], None, None)) for c in range(3)
    ]
    for name in ("rec", "inter", "intra"):
        torch.testing.assert_close(getattr(maps, name), sum(getattr(one, name) for one in single) / 3)
    torch.testing.assert_close(maps.intra, found.mean[:, 3:].std(1).mean(1, keepdim=True))


def test_losses_by_hand():
    image = torch.tensor([0.5, -0.5]).view(1, 1, 1, 1, 2).repeat(1, 2, 1, 1, 1)
    mean = torch.tensor([[0.5, 0.5], [0.3, -0.5]]).view(1, 2, 1, 1, 2)
    torch.testing.assert_close(autoencoder_losses(image, Reconstruction(mean, None, None)), torch.tensor([0.5, 0.02]))
    spread = torch.tensor([[0.0, math.log(2)], [math.log(4), 1.0]]).view_as(mean)
    expected = torch.tensor([(0 + 1 / 2 + math.log(2)) / 2, (0.04 / 4 + math.log(4) + 1) / 2])
    torch.testing.assert_close(autoencoder_losses(image, Reconstruction(mean, spread, None)), expected)
    weights = torch.tensor([[[0.5, 0.5]], [[1.0, 0.0]]])
    expected = torch.tensor([0.5 + 2e-4 * math.log(2), 0.02])
    torch.testing.assert_close(autoencoder_losses(image, Reconstruction(mean, None, weights)), expected)


def test_focal_loss_by_hand():
    p = torch.tensor([[0.9, 0.2], [0.6, 0.5]]).view(1, 1, 2, 2)  # of abnormal pixels
    mask = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    logits = torch.cat([1 - p, p], dim=1).log()
    terms = [-((1 - q) ** 2) * math.log(q) for q in (0.9, 0.2, 0.4, 0.5)]
    assert focal_loss(logits, mask).item() == pytest.approx(sum(terms) / 4, rel=1e-4)
    certain = torch.tensor([-100.0, 100.0]).view(1, 2, 1, 1)
    assert focal_loss(certain, torch.zeros(1, 1, 1, 1)).item() == pytest.approx(-math.log(2e-5), rel=1e-3)
    assert abs(focal_loss(certain, torch.ones(1, 1, 1, 1)).item()) < 1e-8


# What each stage sees


def numbered(first: int, count: int) -> Tensor:
    """Images that hold their own number."""
    return torch.arange(first, first + count).float().view(-1, 1, 1, 1).expand(-1, 1, 32, 32)


def autoencoders_stage(share: float) -> AutoencodersStage:
    stage = AutoencodersStage(Autoencoders(6, image_size=(32, 32), hidden=32), 1e-3, Computing())
    stage.mixture.unlabeled_share.fill_(share)
    return stage


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_each_member_gets_images_of_its_own(share):
    stage, seen = autoencoders_stage(share), []
    for iteration in range(40):
        torch.manual_seed(iteration)
        _, (image,) = stage.draw({"normal": numbered(0, 12), "unlabeled": numbered(100, 12)}, iteration)
        assert image.shape == (4, 6, 32, 32)
        assert torch.equal(image[:, :, :1, :1].expand_as(image), image)
        numbers = image[:, :, 0, 0].T.reshape(2, 12)
        assert sorted(numbers[1].tolist()) == list(range(12))  # ensemble B: each normal image once, for one member
        assert len(set(numbers[0].tolist())) == 12
        seen.append(numbers)
    found = torch.stack(seen)
    assert len(found[:, 1, 0].unique()) > 6  # in a new order each time
    of_a = found[:, 0]
    assert (of_a >= 100).float().mean().item() == pytest.approx(share, abs=0.06)
    for stream, expected in ((of_a[of_a < 100], 1 - share), (of_a[of_a >= 100] - 100, share)):
        if expected:
            counts = torch.bincount(stream.long(), minlength=12).float()
            assert (counts / counts.sum() - 1 / 12).abs().max() < 0.06


def test_share_of_unlabeled_images_is_that_of_the_data():
    run = Run()
    run.stages.placed[0].stage.begin(run.batches)
    assert run.stages.states()["mixture"].unlabeled_share.item() == pytest.approx(24 / 36)


def test_squares():
    network = DiscrepancyNetwork(Autoencoders(4, hidden=32))
    stage = RefinementStage(network, 64, 1e-4, Computing())
    normal = torch.arange(80.0).view(-1, 1, 1, 1).expand(-1, 1, 64, 64)
    torch.manual_seed(0)
    draws = [stage.draw({"normal": normal, "unlabeled": normal}, 0)[1] for _ in range(20)]
    image, mask = (torch.cat(parts) for parts in zip(*draws, strict=True))
    own = torch.arange(64.0).repeat(20).view(-1, 1, 1, 1)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(torch.where(mask == 0, image, own), own.expand_as(image))
    has_square = mask.amax(dim=(1, 2, 3)) > 0
    assert has_square.float().mean().item() == pytest.approx(0.5, abs=0.06)
    rows, cols = (mask[has_square, 0].amax(dim) for dim in (2, 1))
    for line in (rows, cols):
        first, end = line.argmax(1), 64 - line.flip(1).argmax(1)
        assert torch.equal(line.sum(1).long(), end - first)  # one stretch
        whole = (first > 0) & (end < 64)
        center, half = ((first + end) // 2)[whole], ((end - first) // 2)[whole]
        assert (half.min(), half.max()) == (3, 12)
        assert center.min() >= 6
        assert center.max() <= 56
    changed = image[has_square].where(mask[has_square] == 1, torch.nan).flatten(1).nanmean(1)
    shares = (changed - own[has_square].flatten()).abs()
    assert (shares > 0).all()  # never of the image itself


# Training


@backbones
def test_both_stages_in_one_run(backbone):
    run = Run(replace(TINY, backbone=backbone))
    before, seen = run.state(), []
    run.trainer.add_event_handler("ITERATION_COMPLETED", lambda e: seen.append((set(e.state.output), run.state())))
    run.trainer.run()
    assert [names for names, _ in seen] == [{"loss", "ensemble_a", "ensemble_b"}] * 2 + [{"loss"}] * 2
    states = [before, *(state for _, state in seen)]
    for i in range(2):
        assert same(part_of(states[i], "refinement"), part_of(states[i + 1], "refinement"))
        assert not same(part_of(states[i], "autoencoders"), part_of(states[i + 1], "autoencoders"))
        assert same(part_of(states[i + 2], "autoencoders"), part_of(states[i + 3], "autoencoders"))
        assert not same(part_of(states[i + 2], "refinement"), part_of(states[i + 3], "refinement"))


def test_validation_does_not_set_frozen_autoencoders_to_training():
    plain, run = (Run(replace(TINY, max_iterations=8, refinement_share=0.75)) for _ in range(2))
    data = [{"image": torch.zeros(1, 1, 32, 32), "label": torch.zeros(1)}]
    ValidationHandler(interval=1, validator=SupervisedEvaluator("cpu", data, run.network)).attach(run.trainer)
    for each in (plain, run):
        each.trainer.run()
    assert same(plain.state(), run.state())


@backbones
def test_ensemble_b_never_sees_unlabeled_images(backbone):
    settings = replace(TINY, backbone=backbone, refine=False, discrepancy="inter")
    runs = [Run(settings, pixels(24, seed)) for seed in (2, 3)]
    for run in runs:
        run.trainer.run()
    for name, value in runs[0].state().items():
        if not value.ndim:
            continue
        (a, b), (other_a, other_b) = value.chunk(2), runs[1].state()[name].chunk(2)
        assert torch.equal(b, other_b), name
        assert not torch.equal(a, other_a), name


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_repeats_the_interrupted_one(tmp_path, stop):
    """In either stage."""
    settings = replace(TINY, max_iterations=8)
    whole, first, second = Run(settings), Run(settings), Run(settings)
    for run, epochs in ((whole, 4), (first, stop), (second, 4)):
        run.trainer.state.max_epochs = epochs
        if run is not whole:
            ResumeCheckpoint(tmp_path / "checkpoint.pt", run.stages.states(), run.stages.plan()).attach(run.trainer)
        run.trainer.run()
    assert second.trainer.state.iteration == 8
    assert same(whole.state(), second.state())


# The method


@backbones
@pytest.mark.parametrize(
    ("discrepancy", "refine"),
    [("dual", True), ("inter", True), ("intra", True), ("inter", False), ("intra", False), ("rec", False)],
)
def test_detection(backbone, discrepancy, refine):
    settings = replace(TINY, backbone=backbone, discrepancy=discrepancy, refine=refine)
    method, network = find_method("ddad"), make_network(settings)
    image = pixels(5, 1).float() / 127.5 - 1
    network.train()(image)  # some statistics
    found = method.detect(network.eval(), image)
    assert found.anomaly_map.shape == (5, 1, 32, 32)
    assert found.score is None
    maps = discrepancy_maps(image, network.autoencoders.reconstruct(image))
    torch.testing.assert_close(found.restored, maps.restored.clamp(-1, 1))
    if refine:
        chosen = {"dual": [maps.inter, maps.intra], "inter": [maps.inter], "intra": [maps.intra]}[discrepancy]
        expected = torch.softmax(network.refinement(torch.cat(chosen, 1)), 1)[:, 1:]
    else:
        expected = getattr(maps, discrepancy)
    torch.testing.assert_close(found.anomaly_map, expected)
    alone = torch.cat([method.detect(network, one).anomaly_map for one in image.split(1)])
    torch.testing.assert_close(alone, found.anomaly_map, rtol=1e-4, atol=1e-5)
    exported = torch.export.export(network, (image,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    torch.testing.assert_close(exported.module()(image[:2])[0], found.anomaly_map[:2], rtol=1e-4, atol=1e-5)


def test_presets_and_their_stages():
    paper, modest = (resolve_settings(preset, "ddad") for preset in ("paper", "recommended"))
    assert paper.member_images == 64
    assert modest.max_iterations < paper.max_iterations
    stages = make_stages(make_network(modest), modest)
    assert [(one.stage.name, one.end) for one in stages.placed] == [("autoencoders", 5), ("refinement", 8)]
    unrefined = replace(modest, refine=False, discrepancy="rec")
    assert [one.stage.name for one in make_stages(make_network(unrefined), unrefined).placed] == ["autoencoders"]
    assert make_network(unrefined).refinement is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 72}, "image_size is 72 x 72; DDAD-ASR takes multiples of 16 pixels"),
        ({"batch_size": 100}, "batch_size 100 is not a multiple of the 3 members of an ensemble; use 99 or 102"),
        ({"batch_size": 2}, "batch_size 2 is not a multiple of the 3 members of an ensemble; use 6"),
        ({"batch_size": 3}, "batch_size 3 leaves 3 members one image each, too few for batch norm; raise it"),
        ({"batch_size": 6}, "refinement_batch_size 8 is larger than batch_size 6; lower it"),
        ({"discrepancy": "rec"}, "discrepancy is rec and refine true; use dual, inter or intra"),
        ({"refine": False}, "discrepancy is dual and refine false; use inter, intra or rec"),
        ({"backbone": "vae"}, "backbone is 'vae'; use one of ae, ae_u, memae"),
    ],
)
def test_options_that_do_not_fit(values, message):
    with pytest.raises(SaganError) as error:
        resolve_settings("paper", "ddad", **values)
    assert str(error.value) == message
