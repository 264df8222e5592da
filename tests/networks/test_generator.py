"""The generator as a whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_sagan import SaganGenerator
from monai_sagan.networks.patches import merge_patches, split_patches


def generator(**settings) -> SaganGenerator:
    torch.manual_seed(0)
    return SaganGenerator(**({"channels": 4, "num_res_blocks": 1} | settings))


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).tanh()


def names(network: nn.Module) -> set[str]:
    return {name for name, _ in network.named_parameters()}


def test_published_size():
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in SaganGenerator().parameters()) == 44_758_979


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize(
    ("grid", "size"),
    [((1, 1), (64, 64)), ((2, 2), (64, 64)), ((2, 2), (48, 80)), ((3, 2), (48, 64)), ((4, 4), (64, 96))],
)
def test_shape_and_range(in_channels, grid, size):
    image = images(2, in_channels, *size)
    for network in (
        generator(in_channels=in_channels, grid=grid),
        generator(in_channels=in_channels, grid=grid).eval(),
    ):
        restored = network(image)
        assert restored.shape == image.shape
        assert restored.abs().max() < 1


@pytest.mark.parametrize("settings", [{}, {"grid": (1, 2)}, {"position_norm": None}, {"keep_prob": 1.0}])
def test_checkpoints_change_no_number(settings):
    image, uniform = images(5, 1, 32, 32), torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    found = []
    for checkpoint_images in (None, 2, 9):
        network = generator(checkpoint_images=checkpoint_images, **settings).double()
        restored = network(image.double(), uniform)
        restored.square().mean().backward()
        with torch.no_grad():
            torch.testing.assert_close(network(image.double(), uniform), restored)
        found.append((restored, [parameter.grad for parameter in network.parameters()]))
    for restored, grads in found[1:]:
        torch.testing.assert_close(restored, found[0][0])
        torch.testing.assert_close(grads, found[0][1])


def test_checkpoints_keep_less():
    kept = []
    for checkpoint_images in (None, 1):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):  # noqa: B023
            generator(checkpoint_images=checkpoint_images)(images(4, 1, 64, 64))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 50


@pytest.mark.parametrize("count", [0, -1])
def test_checkpoints_of_no_image(count):
    with pytest.raises(ValueError, match=f"checkpoint_images is {count}; it counts images, at least 1"):
        generator(checkpoint_images=count)


def test_smallest_patches_are_finite():
    network = generator(grid=(4, 4))
    restored = network(images(2, 1, 32, 32))
    restored.sum().backward()
    assert restored.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 1, 65, 64), r"image height of 65 does not fit grid \(2, 2\).*use 64 or 80"),
        ((1, 1, 64, 72), r"image width of 72 does not fit grid \(2, 2\).*use 64 or 80"),
        ((1, 1, 8, 64), r"image height of 8 does not fit grid \(2, 2\).*use 16"),
        ((1, 3, 64, 64), "the images have 3 channels; the network was built for 1"),
    ],
)
def test_images_that_do_not_fit(shape, says):
    with pytest.raises(ValueError, match=says):
        generator()(images(*shape))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"keep_prob": 0}, "keep_prob is 0"),
        ({"keep_prob": 1.1}, "keep_prob is 1.1"),
        ({"output": "relu"}, "output is 'relu'"),
        ({"gate_norm": "batch"}, "gate norm is 'batch'"),
        ({"position_bits": "round"}, "rounding is 'round'"),
        ({"grid": (0, 2)}, "no patches"),
    ],
)
def test_wrong_arguments(settings, says):
    with pytest.raises(ValueError, match=says):
        generator(**settings)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 16])
def test_eval_is_bitwise_the_same_whatever_is_beside_an_image(batch_size):
    network, image = generator().eval(), images(batch_size, 1, 64, 64)
    with torch.no_grad():
        restored = network(image)
        assert torch.equal(network(image), restored)
        for place in {0, batch_size // 2, batch_size - 1}:
            others = images(batch_size, 1, 64, 64, seed=1)
            others[place] = image[0]
            assert torch.equal(network(others)[place], restored[0])


# How a convolution sums depends on the batch size (its library chooses), so float32 differs in its last digits there;
# float64 shows that nothing else depends on it.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-5), (torch.float64, 1e-11)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_eval_does_not_depend_on_the_batch_size(layout, dtype, tolerance):
    plain, network = generator().to(dtype).eval(), generator().to(dtype).to(memory_format=layout).eval()
    image = images(16, 1, 64, 64).to(dtype)
    with torch.no_grad():
        alone = torch.cat([plain(one) for one in image.split(1)])
        for batch_size in (1, 2, 3, 5, 16):
            batches = image.to(memory_format=layout).split(batch_size)
            restored = torch.cat([network(batch) for batch in batches])
            torch.testing.assert_close(restored, alone, rtol=0, atol=tolerance)


def test_without_the_gate_training_computes_what_eval_does():
    network, image = generator(keep_prob=1), images(2, 1, 64, 64)
    assert torch.equal(network.train()(image), network.eval()(image))


@pytest.mark.parametrize("keep_prob", [0.95, 0.5])
def test_training_differs_by_the_bernoulli_mask_alone(keep_prob):
    network, image = generator(keep_prob=keep_prob), images(8, 1, 64, 64)
    with torch.no_grad():
        trained, restored = network.train()(image), network.eval()(image)
    masked = trained == torch.tanh(2 * image)
    assert torch.equal(trained[~masked], restored[~masked])
    assert masked.float().mean().item() == pytest.approx(1 - keep_prob, abs=0.012)  # 4 standard deviations at 0.5


def test_mask_is_new_each_time_and_follows_the_seed():
    network, image = generator(), images(1, 1, 64, 64)
    torch.manual_seed(1)
    first, second = network(image), network(image)
    torch.manual_seed(1)
    assert torch.equal(network(image), first)
    assert not torch.equal(first, second)


def test_mask_takes_all_channels_of_a_pixel():
    image = images(2, 3, 64, 64)
    masked = generator(in_channels=3, keep_prob=0.5)(image) == torch.tanh(2 * image)
    assert torch.equal(masked.all(dim=1), masked.any(dim=1))
    assert 0.4 < masked.float().mean() < 0.6


def test_no_change_gives_tanh():
    network, image = generator().eval(), images(2, 1, 64, 64)
    nn.init.zeros_(network.to_image.weight)
    assert torch.equal(network(image), torch.tanh(image))


def test_the_sum_leaves_an_image_without_change_as_it_is():
    network, image = generator(output="sum"), images(2, 1, 64, 64)
    nn.init.zeros_(network.to_image.weight)
    for mode in (True, False):
        assert torch.equal(network.train(mode)(image), image)


def test_the_sum_and_the_tanh_are_of_the_same_change():
    image = images(2, 1, 64, 64)
    uniform = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for mode in (True, False):
            restored = generator(output="sum").train(mode)(image, uniform)
            bent = generator().train(mode)(image, uniform)
            masked = (uniform >= 0.95) & mode
            assert torch.equal(restored[masked], image[masked])
            inside = ~masked & (restored.abs() < 1)
            torch.testing.assert_close(bent[inside], restored[inside].tanh())
            assert inside.float().mean() > 0.5


def test_the_sum_stays_in_range_in_evaluation_mode():
    network, image = generator(output="sum"), images(2, 1, 64, 64)
    with torch.no_grad():
        network.to_image.weight.mul_(30)
        trained, restored = network(image, torch.zeros(2, 1, 64, 64)), network.eval()(image)
    assert trained.abs().max() > 1
    assert torch.equal(restored, trained.clamp(-1, 1))


def patch_outputs(network: SaganGenerator, image: torch.Tensor) -> torch.Tensor:
    """The output's patches (B, 4, pixels)."""
    with torch.no_grad():
        return split_patches(network(image), 2, 2).reshape(len(image), 4, -1)


def without_position_norm() -> SaganGenerator:
    network = generator().eval()
    for position in network.position:
        position.norm = nn.Identity()
    return network


def spread(patches: torch.Tensor) -> float:
    return (patches - patches[:, :1]).abs().max().item()


def test_equal_patches_differ_only_through_the_code():
    network, image = without_position_norm(), images(2, 1, 32, 32).tile(1, 1, 2, 2)
    patches = patch_outputs(network, image)
    assert min((patches[:, a] - patches[:, b]).abs().max() for a in range(4) for b in range(a)) > 1e-3
    with torch.no_grad():
        for position, width in zip(network.position, (8, 16, 32), strict=True):
            position.mix.weight[:, width:] = 0
    assert spread(patch_outputs(network, image)) < 1e-6


def test_the_published_norm_cancels_the_code():
    # A patch's code is one number all over a channel; after the 1 x 1 convolution it still is, and the instance norm
    # that follows subtracts it. So in the published network the code changes nothing but the rounding.
    network, image = generator().double().eval(), images(2, 1, 32, 32).double().tile(1, 1, 2, 2)
    assert spread(patch_outputs(network, image)) < 1e-9
    assert spread(patch_outputs(without_position_norm().double(), image)) > 1e-3


def test_moving_patches_with_their_codes_moves_the_output():
    network, image = without_position_norm(), images(1, 1, 64, 64)
    patches, order = patch_outputs(network, image), [2, 0, 3, 1]
    moved = merge_patches(split_patches(image, 2, 2)[order], 2, 2)
    assert (patch_outputs(network, moved) - patches[:, order]).abs().max() > 1e-3
    for position in network.position:
        position.codes = position.codes[order]
    torch.testing.assert_close(patch_outputs(network, moved), patches[:, order], rtol=0, atol=1e-6)


def test_without_anatomical_consistency_there_are_no_patches_and_no_code():
    network, full = generator(anatomical_consistency=False), generator()
    assert names(full) - names(network) == {f"position.{i}.mix.{leaf}" for i in range(3) for leaf in ("weight", "bias")}
    assert names(network) < names(full)
    assert not list(network.buffers())
    image = images(1, 1, 24, 40)  # fits no 2 x 2 patches
    restored = network.eval()(image)
    assert restored.shape == image.shape
    image[..., :4, :4] += 0.5  # across what would be the patches' borders, far pixels feel it
    assert (network(image) - restored)[..., 12:, 20:].abs().max() > 1e-4


def test_with_patches_a_pixel_is_felt_in_its_patch_only():
    network, image = generator().eval(), images(1, 1, 64, 64)
    restored = network(image)
    image[..., 5, 5] += 0.5
    change = (network(image) - restored).abs()
    assert change[..., :32, :32].max() > 1e-4
    change[..., :32, :32] = 0
    assert change.max() == 0


def test_without_abnormal_region_restoration_the_decoder_is_plain():
    network, full = generator(abnormal_region_restoration=False), generator()
    gone = {name for name in names(full) if name.startswith(("decoder.gates", "decoder.fuse", "decoder.to_full_size"))}
    assert names(full) - names(network) == gone | {n for n in names(full) if n.startswith("decoder.up.")} - names(
        network
    )
    assert not gone & names(network)
    assert {name.split(".")[1] for name in names(network) if name.startswith("decoder")} == {"up"}
    assert network(images(2, 1, 64, 64)).shape == (2, 1, 64, 64)


def test_gate_norm_changes_the_output_but_no_weights():
    plain, normed = generator(gate_norm=None).eval(), generator().eval()
    assert names(plain) == names(normed)
    plain.load_state_dict(normed.state_dict())
    assert (plain(images(1, 1, 64, 64)) - normed(images(1, 1, 64, 64))).abs().max() > 1e-4


@pytest.mark.parametrize(("position_bits", "bits"), [("floor", 4), ("ceil", 5)])
def test_position_bits(position_bits, bits):
    network = generator(grid=(3, 3), position_bits=position_bits)
    assert [block.mix.in_channels - block.mix.out_channels for block in network.position] == [bits] * 3
    assert network(images(1, 1, 72, 48)).shape == (1, 1, 72, 48)


@pytest.mark.parametrize("gate_norm", ["instance", None])
def test_gradients_reach_every_parameter(gate_norm):
    network = generator(gate_norm=gate_norm).train()
    (network(images(4, 1, 64, 64)) - images(4, 1, 64, 64, seed=1)).square().sum().backward()
    # An instance norm takes away the bias of the convolution in front of it; only rounding is left of its gradient.
    idle = ("position.", "decoder.gates.") if gate_norm else ("position.",)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if not (name.startswith(idle) and name.endswith("bias")):
            assert parameter.grad.abs().max() > 1e-4, name


def test_channels_last_stays():
    network = generator().to(memory_format=torch.channels_last)
    layouts = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(
                lambda _, __, y, name=name: layouts.update({name: y.is_contiguous(memory_format=torch.channels_last)})
            )
    network(images(2, 1, 64, 64))
    assert len(layouts) > 20
    assert all(layouts.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "settings",
    [{"gate_norm": None}, {"anatomical_consistency": False}, {"abnormal_region_restoration": False}, {"output": "sum"}],
    ids=str,
)
def test_script_equals_eager(settings):
    network = generator(**settings).eval()
    script = torch.jit.script(network)
    for batch_size in (2, 1):
        image = images(batch_size, 1, 64, 64)
        assert torch.equal(script(image), network(image))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("output", ["tanh", "sum"])
def test_script_trains_like_eager(output):
    network, image = generator(output=output).train(), images(2, 1, 64, 64)
    script = torch.jit.script(network)
    torch.manual_seed(1)
    restored = network(image)
    torch.manual_seed(1)
    assert torch.equal(script(image), restored)


def test_state_dict_is_the_parameters_alone():
    network = generator()
    assert set(network.state_dict()) == names(network)
    for name in network.state_dict():
        assert not name.endswith(("running_mean", "running_var", "num_batches_tracked", ".codes"))


def test_without_its_norm_the_position_code_tells_equal_patches_apart():
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)).repeat(1, 1, 2, 2) * 2 - 1
    spreads = {}
    for norm in ("instance", None):
        torch.manual_seed(0)
        network = SaganGenerator(channels=4, num_res_blocks=1, position_norm=norm).double().eval()
        with torch.no_grad():
            patches = network(image.double()).unfold(2, 32, 32).unfold(3, 32, 32).reshape(4, 32, 32)
        spreads[norm] = (patches - patches[0]).abs().max().item()
    assert spreads["instance"] < 1e-9
    assert spreads[None] > 1e-4
