"""Restoring and scoring in batches."""

from __future__ import annotations

import pytest
import torch

from monai_sagan import SaganGenerator
from monai_sagan.models.scorer import Scorer, in_precision
from monai_sagan.transforms.functional import anomaly_map, anomaly_score, smooth_map


def generator(**settings) -> SaganGenerator:
    torch.manual_seed(0)
    return SaganGenerator(channels=4, num_res_blocks=1, **settings)


def restore(network, images, batch_size=256, mask_seed=None, **options):
    """Images, restored versions and maps in batches."""
    for image, found in Scorer(network, images.shape[-2:], **options).batches(images, batch_size, mask_seed):
        yield image, found.restored, found.anomaly_map


def score(network, images, batch_size=256, mask_seed=None, **options):
    return Scorer(network, images.shape[-2:], **options).score(images, batch_size, mask_seed)


def pixels(count: int, channels: int = 1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, 64, 64), dtype=torch.uint8, generator=draw)


@pytest.mark.parametrize("channels", [1, 3])
def test_score_is_half_the_mean_difference(channels):
    network, images = generator(in_channels=channels), pixels(5, channels)
    scores = score(network, images)
    image = images.float() / 127.5 - 1
    with torch.no_grad():
        expected = (image - network.eval()(image)).abs().mean((1, 2, 3)) / 2
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)
    assert scores.dtype == torch.float32
    assert 0 < scores.min() < scores.max() < 1


def test_restore_gives_images_restored_and_maps():
    network, images = generator(), pixels(5)
    parts = list(restore(network, images, batch_size=2))
    assert [len(image) for image, _, _ in parts] == [2, 2, 1]
    image, restored, maps = (torch.cat(part) for part in zip(*parts, strict=True))
    assert image.min() == -1
    assert image.max() == 1
    torch.testing.assert_close(image, images.float() / 127.5 - 1, rtol=0, atol=1e-6)
    assert torch.equal(maps, (image - restored).abs() / 2)
    assert not restored.requires_grad


@pytest.mark.parametrize("mask_seed", [None, 3])
def test_scores_do_not_depend_on_the_batch_size(mask_seed):
    network, images = generator(), pixels(7)
    whole = score(network, images, batch_size=7, mask_seed=mask_seed)
    for batch_size in (1, 2, 3, 100):
        # What is left is float32's rounding: convolutions sum in another order for another batch size.
        torch.testing.assert_close(score(network, images, batch_size, mask_seed), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("passes", [1, 4])
def test_bfloat16_moves_scores_a_little(passes):
    network, images = generator(), pixels(4)
    _, wide, maps = (torch.cat(part) for part in zip(*restore(network, images, passes=passes), strict=True))
    parts = restore(network, images, passes=passes, amp=True)
    image, restored, found = (torch.cat(part) for part in zip(*parts, strict=True))
    assert {image.dtype, restored.dtype, found.dtype} == {torch.float32}
    assert 0 < (restored - wide).abs().mean() < 0.02  # bfloat16 keeps 8 bits
    torch.testing.assert_close(anomaly_score(found), anomaly_score(maps), rtol=0.01, atol=0)
    torch.testing.assert_close(score(network, images, passes=passes, amp=True), anomaly_score(found))


def test_scores_are_bitwise_repeatable():
    network, images = generator(), pixels(4)
    assert torch.equal(score(network, images, 2), score(network, images, 2))


def test_mask_follows_its_seed_alone():
    network, images = generator(keep_prob=0.5), pixels(4)
    first = score(network, images, mask_seed=1)
    torch.manual_seed(99)
    torch.rand(5)
    assert torch.equal(score(network, images, mask_seed=1), first)
    assert not torch.equal(score(network, images, mask_seed=2), first)
    assert not torch.equal(score(network, images), first)


def test_mask_is_off_whatever_mode_the_network_was_in():
    network, images = generator(keep_prob=0.5), pixels(2)
    assert torch.equal(score(network.train(), images), score(network.eval(), images))
    assert not network.training


def test_no_images_give_no_scores():
    scores = score(generator(), pixels(0))
    assert scores.shape == (0,)
    assert scores.dtype == torch.float32
    assert list(restore(generator(), pixels(0))) == []


class Recorder(torch.nn.Module):
    """Returns what ``restored`` makes of its images, and keeps them."""

    def __init__(self, restored=lambda image: image) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.restored, self.seen = restored, []

    def forward(self, image):
        self.seen.append(image)
        return self.restored(image)


@pytest.mark.parametrize(("passes", "shift", "steps"), [(4, 1, (-1, 1)), (9, 2, (-2, 0, 2)), (16, 3, (-3, -1, 1, 3))])
def test_copies_are_shifted_on_a_lattice(passes, shift, steps):
    network, images = Recorder(), pixels(2)
    list(restore(network, images, passes=passes, shift=shift))
    copies = network.seen[0].unflatten(0, (2, passes))
    image = images.float() / 127.5 - 1
    inner = slice(8, -8)
    for k, (down, right) in enumerate((d, r) for d in steps for r in steps):
        moved = image.roll((down, right), (2, 3))
        torch.testing.assert_close(copies[:, k, :, inner, inner], moved[..., inner, inner], rtol=0, atol=1e-6)
    assert torch.equal(copies[:, 0, :, -shift - 1], copies[:, 0, :, -1])  # moved up: the last row is repeated


@pytest.mark.parametrize(("passes", "shift"), [(4, 1), (9, 5), (25, 16)])
def test_pixelwise_networks_do_not_notice_the_passes(passes, shift):
    network = Recorder(lambda image: image**3)
    parts = zip(restore(network, pixels(3, 3)), restore(network, pixels(3, 3), passes=passes, shift=shift), strict=True)
    for one, many in parts:
        for a, b in zip(one, many, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_passes_average_restorations_and_maps():
    network, images = generator(), pixels(2)
    ((image, restored, maps),) = restore(network, images, passes=4, shift=1)
    backs = []
    for down, right in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        rows, cols = ((torch.arange(64) - n).clamp(0, 63) for n in (down, right))
        with torch.no_grad():
            backs.append(network.eval()(image[:, :, rows][..., cols]).roll((-down, -right), (2, 3)))
    inner = (..., slice(1, -1), slice(1, -1))  # all copies show it
    torch.testing.assert_close(restored[inner], torch.stack(backs).mean(0)[inner], rtol=0, atol=1e-5)
    expected = torch.stack([anomaly_map(image, back) for back in backs]).mean(0)
    torch.testing.assert_close(maps[inner], expected[inner], rtol=0, atol=1e-5)
    # The corner is in one copy alone, the one that moved it inwards.
    torch.testing.assert_close(restored[..., 0, 0], backs[3][..., 0, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("mask_seed", [None, 3])
def test_passes_do_not_depend_on_the_batch_size(mask_seed):
    network, images = generator(), pixels(5)
    whole = score(network, images, 100, mask_seed, passes=4)
    for batch_size in (1, 8, 12):
        torch.testing.assert_close(score(network, images, batch_size, mask_seed, passes=4), whole, rtol=0, atol=1e-6)


def test_each_pass_draws_a_mask_of_its_own():
    network = Recorder(lambda image: torch.where(torch.rand_like(image) < 0.5, torch.zeros_like(image), image))
    ((image, restored, _),) = restore(network, pixels(1), mask_seed=1, passes=9)
    share = (restored / image)[..., 1:-1, 1:-1]
    ninths = (share * 9).round()
    torch.testing.assert_close(share * 9, ninths, rtol=0, atol=1e-3)
    assert {3, 4, 5, 6} <= set(ninths.unique().tolist())


def test_passes_and_masks_follow_the_seed():
    network, images = generator(keep_prob=0.5), pixels(2)
    first = score(network, images, mask_seed=1, passes=4)
    assert torch.equal(score(network, images, mask_seed=1, passes=4), first)
    assert not torch.equal(score(network, images, mask_seed=2, passes=4), first)


def test_one_pass_is_bitwise_what_it_was():
    network, images = generator(), pixels(3)
    image = images.float().div_(127.5).sub_(1)
    with torch.inference_mode():
        expected = network.eval()(image)
    ((_, restored, maps),) = restore(network, images, passes=1, shift=5)
    assert torch.equal(restored, expected)
    assert torch.equal(maps, anomaly_map(image, expected))


@pytest.mark.parametrize("smooth", [{"kind": "gaussian", "sigma": 2.0}, {"kind": "guided", "radius": 3}])
def test_smoothing_is_that_of_the_transform(smooth):
    network, images = generator(), pixels(3)
    ((image, restored, maps),) = restore(network, images, smooth=smooth)
    expected = smooth_map(anomaly_map(image, restored), image=image, **smooth)
    assert torch.equal(maps, expected)
    assert torch.equal(score(network, images, smooth=smooth), anomaly_score(expected))


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"passes": 0}, ("passes is 0", "4, 9, 16")),
        ({"passes": -4}, ("passes is -4",)),
        ({"passes": 5}, ("passes is 5",)),
        ({"passes": 16, "shift": 1}, ("shift is 1", "2 to 16")),
        ({"passes": 4, "shift": 17}, ("shift is 17", "1 to 16")),
        ({"smooth": {"kind": "median"}}, ("median",)),
    ],
)
def test_options_that_make_no_sense_are_refused(options, parts, refused):
    with refused(*parts):
        score(generator(), pixels(1), **options)


@pytest.fixture(params=["as it is", "generic", "of cuDNN", "of convolutions"])
def precision(request):
    """Each of torch's ways to set it, undone afterwards."""
    places = {"generic": torch.backends, "of cuDNN": torch.backends.cudnn, "of convolutions": torch.backends.cudnn.conv}
    place = places.get(request.param)
    kept = place and place.fp32_precision
    if place:
        place.fp32_precision = "tf32"
    yield
    if place:
        place.fp32_precision = kept


@pytest.mark.usefixtures("precision")
@pytest.mark.parametrize(("device", "amp"), [("cuda", False), ("cpu", False), ("cpu", True)])
def test_float32_is_float32_on_a_gpu_too(device, amp):
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    assert before != "ieee"
    with in_precision(device, amp):
        assert convolutions.fp32_precision == ("ieee" if device == "cuda" else before)
        assert torch.is_autocast_enabled(device) == amp
    assert convolutions.fp32_precision == before
