"""AMAE-style training: masks and scores by hand, what each stage learns from, published weights."""

from __future__ import annotations

import argparse

import pytest
import torch
from recorded_graph import RecordedGraph
from tiny import tiny
from torch.nn.attention import SDPBackend, sdpa_kernel

from monai_sagan.data.batches import TrainingBatches
from monai_sagan.engines import StagedTrainer
from monai_sagan.engines.stages import make_stages
from monai_sagan.methods import Computing, find_method, make_network, resolve_settings
from monai_sagan.methods.amae_network import fixed_masks, visible
from monai_sagan.networks.mae_weights import load_mae_weights
from monai_sagan.networks.masked_autoencoder import MaskedAutoencoder


def network_of(**values):
    torch.manual_seed(0)
    return make_network(tiny("amae", **values))


def images(count, seed=0):
    return torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_visible_patches_are_those_of_the_lowest_numbers():
    uniform = torch.tensor([[0.9, 0.1, 0.5, 0.3], [0.2, 0.8, 0.6, 0.7]])
    assert visible(uniform, 0.5).tolist() == [[1, 3], [0, 2]]
    assert visible(uniform, 0.75).tolist() == [[1], [0]]
    assert visible(uniform, 0.95).shape == (2, 1)  # something is always visible
    assert visible(uniform, 0.05).shape == (2, 3)  # and something always hidden


def test_masks_at_test_are_the_same_for_every_run_and_apart_from_its_draws():
    torch.manual_seed(1)
    first, state = fixed_masks(16, 64, 0.75), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(fixed_masks(16, 64, 0.75), first)
    assert first.shape == (16, 16)
    assert len({tuple(sorted(mask)) for mask in first.tolist()}) == 16
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_mask_hides_all_pixels_but_those_of_visible_patches():
    autoencoder = network_of().pretrained  # 4 x 4 patches of 16 pixels
    hidden = autoencoder.hidden(torch.tensor([[0, 6]]))
    expected = torch.ones(1, 1, 64, 64)
    expected[..., :16, :16] = expected[..., 16:32, 32:48] = 0
    assert torch.equal(hidden, expected)


def test_hidden_pixels_do_not_reach_the_restoration():
    autoencoder, image, kept = network_of().pretrained, images(1), torch.tensor([[1, 4, 11]])
    changed = torch.where(autoencoder.hidden(kept) > 0, -image, image)
    assert torch.equal(autoencoder(changed, kept), autoencoder(image, kept))
    assert not torch.equal(autoencoder(-image, kept), autoencoder(image, kept))


def test_the_order_of_visible_patches_does_not_matter():
    autoencoder, image = network_of().pretrained, images(1)
    one, other = (autoencoder(image, torch.tensor([kept])) for kept in ([1, 4, 11], [11, 1, 4]))
    torch.testing.assert_close(one, other)


def test_restored_patches_lie_where_their_tokens_are():
    """With one pixel's bias alone every patch has that pixel."""
    autoencoder = network_of().pretrained
    with torch.no_grad():
        autoencoder.decoder_pred.weight.zero_()
        autoencoder.decoder_pred.bias.copy_(torch.arange(256.0))
    patch = torch.arange(256.0).reshape(16, 16)
    assert torch.equal(autoencoder(images(1), torch.tensor([[0]]))[0, 0], patch.repeat(4, 4))


def discrepancy(image, normative, abnormal):
    return (normative - abnormal).abs()


def error(image, normative, abnormal):
    return (image - normative) ** 2 - (image - abnormal) ** 2


@pytest.mark.parametrize("difference", [discrepancy, error])
def test_score_and_map_are_means_over_masks_of_hidden_pixels(difference):
    network, image = network_of(score=difference.__name__).eval(), images(2)
    map_sum, counts, scores = torch.zeros(2, 1, 64, 64), torch.zeros(1, 1, 64, 64), []
    for kept in network.kept:
        kept = kept[None].expand(2, -1)
        found = difference(image, network.normative(image, kept), network.abnormal(image, kept))
        hidden = network.normative.hidden(kept[:1])
        map_sum += found * hidden
        counts += hidden
        scores.append((found * hidden).sum((1, 2, 3)) / hidden.sum())
    found = find_method("amae").detect(network, image)
    assert found.restored is None
    torch.testing.assert_close(found.score, torch.stack(scores).mean(0))
    torch.testing.assert_close(found.anomaly_map, map_sum / counts.clamp(min=1))


def test_the_loss_is_the_mean_square_of_hidden_pixels():
    network = network_of()
    stage = make_stages(network, tiny("amae")).placed[0].stage
    image, kept = images(2), torch.tensor([[0, 3], [7, 9]])
    restored, hidden = network.pretrained(image, kept), network.pretrained.hidden(kept) > 0
    expected = [(restored[i][hidden[i]] - image[i][hidden[i]]).square().mean() for i in range(2)]
    torch.testing.assert_close(stage.errors(network.pretrained, image, kept), torch.stack(expected))


def test_stages_warm_up_and_cool_down_and_adaptation_is_ten_times_slower():
    first, second, third = make_stages(network_of(), tiny("amae", learning_rate=0.1))
    rates = [first.learning_rate(done, 1000, 10) for done in range(1000)]
    assert max(rates) == pytest.approx(0.1, rel=0.01)
    assert 45 <= rates.index(max(rates)) <= 55
    assert 0 < rates[-1] < 0.001
    assert second.learning_rate(5, 1000, 10) is None
    assert third.learning_rate(49, 1000, 10) == pytest.approx(0.1 * rates[49], rel=0.1)


def test_adaptation_starts_from_the_pretrained_and_labels_a_share_of_the_unlabeled(random_pixels):
    settings = tiny("amae", pseudo_share=0.25)
    network = network_of()
    stage = make_stages(network, settings).placed[2].stage
    data = TrainingBatches(random_pixels(12), random_pixels(12, seed=1), 4, 3, streams=find_method("amae").streams)
    stage.begin(data)
    for name, value in network.pretrained.state_dict().items():
        assert torch.equal(network.normative.state_dict()[name], value), name
        assert torch.equal(network.abnormal.state_dict()[name], value), name
    logits = network.classifier(network.pretrained.features(data.unlabeled.float() / 127.5 - 1))
    assert int((logits <= network.classifier.low).sum()) == 3
    assert int((logits >= network.classifier.high).sum()) == 3


@pytest.mark.parametrize(("low", "high"), [(-1e9, 1e9), (1e9, -1e9)])
def test_each_autoencoder_learns_from_its_own_images(low, high):
    """No image is pseudo-labelled, or each is both."""
    network = network_of().train()
    stage = make_stages(network, tiny("amae")).placed[2].stage
    network.classifier.low.fill_(low)
    network.classifier.high.fill_(high)
    _, inputs = stage.draw({"normal": images(2), "unlabeled": images(2, seed=1)}, 1)
    normal, unlabeled, kept = inputs
    errors = stage.errors(network.normative, torch.cat([normal, unlabeled]), kept).detach()
    wanted = errors.mean() if low > 0 else errors[:2].mean()
    abnormal = stage.errors(network.abnormal, unlabeled, kept[2:]).detach().mean() if high < 0 else torch.zeros(())
    outputs = {}
    for _, output in stage.step(None, *inputs):
        outputs |= output
    torch.testing.assert_close(outputs["normative"], wanted)
    torch.testing.assert_close(outputs["abnormal"], abnormal)
    assert any(p.grad.abs().max() > 0 for p in network.abnormal.parameters()) == (high < 0)
    assert all(p.grad is None for p in network.pretrained.parameters())


@pytest.mark.parametrize("number", [0, 1, 2])
@sdpa_kernel(SDPBackend.MATH)  # the others count as drawing, whether they drop anything or not
def test_a_step_draws_nothing_and_reads_nothing(number, random_pixels):
    """Recorded as a graph and run again on new inputs it does what it does at once."""
    settings = tiny("amae")
    data = TrainingBatches(random_pixels(8), random_pixels(8, seed=1), 4, 3, streams=find_method("amae").streams)
    found = []
    for recorded in (False, True):
        network = network_of().train()
        stage = find_method("amae").stages(network, settings, Computing())[number]
        stage.begin(data)
        graph, kept = RecordedGraph(), None
        for iteration in range(1, 7):
            torch.manual_seed(iteration)
            variant, inputs = stage.draw(data.batch(iteration), iteration)
            if not recorded or iteration < 4:
                list(stage.step(variant, *inputs))
                continue
            if kept is None:
                kept = [value.clone() for value in inputs]
                graph.capture(lambda stage=stage, kept=kept: list(stage.step(None, *kept)))
            for place, value in zip(kept, inputs, strict=True):
                place.copy_(value)
            graph.replay()
        found.append(network.state_dict())
    for name, value in found[0].items():
        assert torch.equal(found[1][name], value), name


def test_fixed_positions_stay_as_they_are(random_pixels):
    settings, network = tiny("amae"), network_of()
    before = network.pretrained.pos_embed.clone()
    data = TrainingBatches(random_pixels(8), random_pixels(8, seed=1), 4, 3, streams=find_method("amae").streams)
    StagedTrainer("cpu", settings.epochs, data, make_stages(network, settings)).run()
    for part in (network.pretrained, network.normative, network.abnormal):
        assert torch.equal(part.pos_embed, before)


def test_the_defaults_have_the_published_sizes_and_names():
    with torch.device("meta"):
        state = MaskedAutoencoder().state_dict()
    sizes = {name: tuple(value.shape) for name, value in state.items()}
    assert sizes["cls_token"] == (1, 1, 384)
    assert sizes["pos_embed"] == (1, 197, 384)
    assert sizes["patch_embed.proj.weight"] == (384, 3, 16, 16)
    assert sizes["blocks.11.attn.qkv.bias"] == (1152,)
    assert sizes["blocks.11.mlp.fc1.weight"] == (1536, 384)
    assert sizes["mask_token"] == (1, 1, 512)
    assert sizes["decoder_pos_embed"] == (1, 197, 512)
    assert sizes["decoder_blocks.1.attn.proj.weight"] == (512, 512)
    assert sizes["decoder_pred.weight"] == (768, 512)
    assert {"norm.weight", "decoder_embed.weight", "decoder_norm.bias"} <= set(sizes)


def weights_file(folder, change=lambda state: state, **others):
    torch.manual_seed(7)
    state = change(network_of().pretrained.state_dict())
    torch.save({"model": state, **others}, folder / "mae.pth")
    return folder / "mae.pth", state


def test_published_weights_are_where_pretraining_begins(tmp_path, random_pixels):
    path, _ = weights_file(tmp_path, lambda state: {k: v + 1 for k, v in state.items()}, args=argparse.Namespace(lr=1))
    settings, network = tiny("amae", weights=str(path)), network_of()
    expected = {name: value + 1 for name, value in network.pretrained.state_dict().items()}
    data = TrainingBatches(random_pixels(8), random_pixels(8, seed=1), 4, 3, streams=find_method("amae").streams)
    make_stages(network, settings).placed[0].stage.begin(data)
    for name, value in expected.items():
        assert torch.equal(network.pretrained.state_dict()[name], value), name


def test_weights_without_a_decoder_leave_ours(tmp_path):
    path, state = weights_file(
        tmp_path, lambda state: {k: v + 1 for k, v in state.items() if not k.startswith(("decoder_", "mask_"))}
    )
    network = network_of().pretrained
    before = network.decoder_pred.weight.clone()
    load_mae_weights(network, path)
    assert torch.equal(network.decoder_pred.weight, before)
    assert torch.equal(network.norm.weight, state["norm.weight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "norm.bias"}, "it lacks norm.bias"),
        (lambda s: {k: v for k, v in s.items() if k != "decoder_norm.bias"}, "it lacks decoder_norm.bias"),
        (lambda s: s | {"head.weight": torch.zeros(1)}, "it has a weight head.weight that the network lacks"),
        (lambda s: s | {"norm.bias": torch.zeros(3)}, "its norm.bias is (3,), here it is (8,)"),
        (lambda s: s | {"norm.bias": 3}, "its norm.bias is not a tensor"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(change, says, tmp_path, refused):
    path, _ = weights_file(tmp_path, change)
    with refused(path, says):
        load_mae_weights(network_of().pretrained, path)


def test_a_file_that_is_not_weights_is_refused(tmp_path, refused):
    torch.save({"model": print}, tmp_path / "code.pth")
    torch.save({"model": [1, 2]}, tmp_path / "list.pth")
    for file, says in (("code.pth", "holds code"), ("list.pth", "holds no weights"), ("none.pth", "no file")):
        with refused(file, says):
            load_mae_weights(network_of().pretrained, tmp_path / file)


def test_settings_that_do_not_fit_are_refused(refused):
    with refused("image_size is 64 x 72; patches of 16 pixels do not fill it"):
        resolve_settings("recommended", "amae", image_size=[64, 72], patch=16)
    with refused("width is 30"):
        resolve_settings("recommended", "amae", width=30)
    with refused("decoder_width is 50"):
        resolve_settings("recommended", "amae", decoder_width=50)
    with refused("patch is 64, as large as the image"):
        resolve_settings("recommended", "amae", patch=64)
    with refused("leave nothing for the adaptation"):
        resolve_settings("recommended", "amae", pretraining_share=0.6, classifier_share=0.4)
