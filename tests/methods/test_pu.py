"""The PU classifier: its losses and rate by hand, its step, and what it learns."""

from __future__ import annotations

import math

import pytest
import torch
from recorded_graph import RecordedGraph
from tiny import tiny

from monai_sagan.data.batches import TrainingBatches
from monai_sagan.engines import StagedTrainer
from monai_sagan.engines.stages import make_stages
from monai_sagan.methods import Computing, find_method, make_network, resolve_settings
from monai_sagan.methods.pu import logistic_loss, nnpu_loss, vpu_loss

LOSSES = ("logistic", "vpu", "nnpu")


def network_of(settings):
    torch.manual_seed(0)
    return make_network(settings)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_logistic_loss_by_hand():
    normal, unlabeled = torch.tensor([0.0, -1.0]), torch.tensor([2.0])
    expected = (-(math.log(sigmoid(0)) + math.log(sigmoid(1))) / 2 - math.log(sigmoid(2))) / 2
    assert float(logistic_loss(normal, unlabeled)) == pytest.approx(expected, abs=1e-6)


def test_nnpu_loss_by_hand():
    normal, unlabeled = torch.tensor([-2.0]), torch.tensor([1.0, -1.0])
    missed = sigmoid(-1.0) / 2 + sigmoid(1.0) / 2 - 0.5 * sigmoid(2.0)
    assert missed > 0
    expected = 0.5 * sigmoid(-2.0) + missed
    assert float(nnpu_loss(normal, unlabeled, 0.5)) == pytest.approx(expected, abs=1e-6)


def test_nnpu_raises_a_negative_risk_alone():
    normal = torch.tensor([-2.0], requires_grad=True)
    unlabeled = torch.tensor([4.0], requires_grad=True)
    loss = nnpu_loss(normal, unlabeled, 0.9)
    assert float(loss.detach()) == pytest.approx(0.9 * sigmoid(2.0) - sigmoid(-4.0), abs=1e-6)
    loss.backward()
    assert float(unlabeled.grad) > 0  # a step lowers the logit of unlabeled images
    assert float(normal.grad) == pytest.approx(-0.9 * sigmoid(2.0) * sigmoid(-2.0), abs=1e-6)


def test_vpu_loss_by_hand():
    normal, unlabeled, mixed = torch.tensor([-1.0]), torch.tensor([0.0, 2.0]), torch.tensor([0.5, 1.0])
    phi = [sigmoid(0), sigmoid(-2)]
    variational = math.log(sum(phi) / 2) - math.log(sigmoid(1))
    targets = [0.25 * p + 0.75 for p in phi]
    terms = [(math.log(t) - math.log(sigmoid(-z))) ** 2 for t, z in zip(targets, (0.5, 1.0), strict=True)]
    found = vpu_loss(normal, unlabeled, mixed, torch.tensor(0.25), 0.1)
    assert float(found) == pytest.approx(variational + 0.1 * sum(terms) / 2, abs=1e-6)


def test_vpu_stays_finite_where_mixing_leaves_the_unlabeled_image():
    unlabeled = torch.tensor([200.0], requires_grad=True)
    vpu_loss(torch.tensor([0.0]), unlabeled, unlabeled, torch.tensor(1.0)).backward()
    assert unlabeled.grad.isfinite().all()


def test_the_rate_goes_up_and_down_once():
    settings = tiny("pu")
    (stage,) = make_stages(network_of(settings), settings)
    rates = [stage.learning_rate(done, 1000, 10) for done in range(1000)]
    top = rates.index(max(rates))
    assert rates[0] == pytest.approx(settings.learning_rate / 25)
    assert max(rates) == pytest.approx(settings.learning_rate)
    assert top == 300
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < settings.learning_rate / 1000


def test_score_is_the_mean_logit_and_the_map_has_the_image_size():
    network = network_of(tiny("pu")).eval()
    image = torch.randn(3, 1, 64, 64).tanh()
    found = find_method("pu").detect(network, image)
    assert found.restored is None
    assert found.anomaly_map.shape == (3, 1, 64, 64)
    torch.testing.assert_close(found.score, network(image).mean((1, 2, 3)))
    # Bilinear weights of 8 x 8 pixels around each location are mirrored at the borders: the mean stays.
    torch.testing.assert_close(found.anomaly_map.logit().mean((1, 2, 3)), found.score)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_draws_nothing_and_reads_nothing(loss, random_pixels):
    """Recorded as a graph and run again on new inputs it does what it does at once."""
    settings = tiny("pu", loss=loss)
    data = TrainingBatches(random_pixels(8), random_pixels(8, seed=1), 4, 3, streams=("normal", "unlabeled"))
    states = []
    for recorded in (False, True):
        network = network_of(settings).train()
        (stage,) = find_method("pu").stages(network, settings, Computing())
        graph, kept = RecordedGraph(), None
        for iteration in range(1, 7):
            torch.manual_seed(iteration)
            variant, inputs = stage.draw(data.batch(iteration), iteration)
            if not recorded or iteration < 4:
                list(stage.step(variant, *inputs))
                continue
            if kept is None:
                kept = [value.clone() for value in inputs]
                graph.capture(lambda stage=stage, variant=variant, kept=kept: list(stage.step(variant, *kept)))
            for place, value in zip(kept, inputs, strict=True):
                place.copy_(value)
            graph.replay()
        assert graph.replays == (3 if recorded else 0)
        states.append(dict(network.named_parameters()))
    for name, value in states[0].items():  # the recorder does not see that batch norms write their statistics
        assert torch.equal(states[1][name], value), name


@pytest.mark.parametrize("loss", LOSSES)
def test_it_learns_what_unlabeled_images_alone_have(loss):
    """A bright square in half of the unlabeled images: no label says which."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(80, 120, (96, 1, 64, 64), generator=generator, dtype=torch.uint8)
    abnormal = pixels[64:]
    abnormal[:, :, 16:32, 16:32] = 220
    settings = resolve_settings(
        "recommended", "pu", channels=4, batch_size=16, max_iterations=30, iterations_per_epoch=10, loss=loss
    )
    network = network_of(settings)
    data = TrainingBatches(pixels[:32], pixels[32:], 16, 10, streams=("normal", "unlabeled"))
    StagedTrainer("cpu", settings.epochs, data, make_stages(network, settings)).run()
    found = find_method("pu").detect(network.eval(), pixels.float() / 127.5 - 1)
    assert found.score[64:].min() > found.score[:64].max()
    places = found.anomaly_map[64:].mean((0, 1))
    assert places[16:32, 16:32].mean() > places.mean()


def test_settings_that_do_not_fit_are_refused(refused):
    with refused("loss is 'hinge'; use one of logistic, vpu, nnpu"):
        resolve_settings("recommended", "pu", loss="hinge")
    with refused("normal_fraction is 1.5"):
        resolve_settings("recommended", "pu", normal_fraction=1.5)
    with refused("unknown option 'grid'"):
        resolve_settings("recommended", "pu", grid=[2, 2])
