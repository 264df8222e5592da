"""What every public network and block promises: found by its name, so that a new one is covered at once."""

from __future__ import annotations

import copy
import importlib
import inspect
import io
import pickle
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_sagan import networks
from monai_sagan.networks import SaganDiscriminator, SaganGenerator
from monai_sagan.networks.autoencoder import Autoencoders, RefinementNetwork
from monai_sagan.networks.blocks import (
    AttentionGate,
    DownBlock,
    FuseBlock,
    InstanceNorm,
    PositionBlock,
    ResidualBlock,
    UpBlock,
)
from monai_sagan.networks.classifier import LocationClassifier
from monai_sagan.networks.dense_predictor import DensePredictor, EncoderBlock, EnlargingBlock
from monai_sagan.networks.masked_autoencoder import MaskedAutoencoder
from monai_sagan.networks.patches import position_code
from monai_sagan.networks.plain_generator import PlainGenerator

MODULES = [
    importlib.import_module(f"{networks.__name__}.{info.name}") for info in pkgutil.iter_modules(networks.__path__)
]
PUBLIC = {
    name: getattr(module, name)
    for module in [networks, *MODULES]
    for name in getattr(module, "__all__", vars(module))  # of internal modules all that they define
    if inspect.isclass(getattr(module, name)) and issubclass(getattr(module, name), nn.Module)
    if hasattr(module, "__all__") or getattr(module, name).__module__ == module.__name__
}


@dataclass
class Row:
    """How a network is made, the shapes of its inputs, and what is known of it.

    Args:
        make: returns a tiny one.
        shapes: of its inputs, without the batch.
        idle: ends of names of parameters that an instance norm behind them takes the effect of.
        random: whether it draws while it trains.
        statistics: whether it gathers statistics while it trains, and uses them afterwards.
        constants: ends of names of what its state holds besides parameters and statistics.
        together: images (or patches) that belong together in a batch.
        refuses: shapes of inputs, with the batch, and what the error says.
    """

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    idle: tuple[str, ...] = ()
    random: bool = False
    statistics: bool = False
    constants: tuple[str, ...] = ()
    together: int = 1
    refuses: tuple[tuple[tuple[int, ...], str], ...] = ()


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch norms
SMALL_TRANSFORMER = {
    **{"in_channels": 1, "image_size": (32, 48), "patch": 8, "width": 8, "depth": 1, "heads": 2},
    **{"decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2},
}


class WithFixedMask(nn.Module):
    """A masked autoencoder that always sees the same patches."""

    def __init__(self) -> None:
        super().__init__()
        self.autoencoder = MaskedAutoencoder(**SMALL_TRANSFORMER)
        self.register_buffer("kept", torch.tensor([[0, 5, 7, 8, 11, 23]]), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.autoencoder(image, self.kept.expand(image.shape[0], -1))


BIASES_UNDER_NORM = (".mix.bias", ".gate.0.bias", ".skip.0.bias", ".attention.0.bias")

ROWS = {
    "SaganGenerator": Row(
        lambda: SaganGenerator(channels=4, num_res_blocks=1),
        ((1, 32, 48),),
        BIASES_UNDER_NORM,
        random=True,
        refuses=(
            ((1, 1, 33, 48), "an image height of 33 does not fit grid (2, 2)"),
            ((1, 1, 32, 8), "an image width of 8 does not fit grid (2, 2)"),
            ((1, 3, 32, 48), "the images have 3 channels; the network was built for 1"),
        ),
    ),
    "SaganDiscriminator": Row(
        lambda: SaganDiscriminator(channels=4, num_layers=3),
        ((1, 32, 48),),
        refuses=(
            ((1, 1, 4, 48), "images of 4 x 48 are too small"),
            ((1, 3, 32, 48), "the images have 3 channels; the network was built for 1"),
        ),
    ),
    "Autoencoders": Row(
        lambda: Autoencoders(2, image_size=(32, 48), backbone="memae", hidden=32),
        ((1, 32, 48),),
        ("widen.bias",),
        statistics=True,
        refuses=(
            ((1, 3, 32, 48), "the images have 3 channels; the network was built for 1"),
            ((1, 1, 48, 32), "the images are 48 x 32 pixels; the network was built for 32 x 48"),
        ),
    ),
    "RefinementNetwork": Row(
        lambda: RefinementNetwork(channels=8),
        ((2, 8, 12),),
        ("layers.0.bias", "layers.3.bias"),
        statistics=True,
        refuses=(((1, 1, 8, 12), "the maps have 1 channels; the network was built for 2"),),
    ),
    "PlainGenerator": Row(
        lambda: PlainGenerator(1, 4, 1),
        ((1, 32, 48),),
        refuses=(
            ((1, 1, 34, 48), "the images are 34 x 48 pixels; use sides that 4 divides"),
            ((1, 3, 32, 48), "the images have 3 channels; the network was built for 1"),
        ),
    ),
    "LocationClassifier": Row(
        lambda: LocationClassifier(channels=4),
        ((1, 32, 48),),
        statistics=True,
        refuses=(((1, 3, 32, 48), "the images have 3 channels; the network was built for 1"),),
    ),
    "MaskedAutoencoder": Row(
        WithFixedMask,
        ((1, 32, 48),),
        constants=("pos_embed", "decoder_pos_embed"),
        refuses=(
            ((1, 3, 32, 48), "the images have 3 channels; the network was built for 1"),
            ((1, 1, 32, 32), "the images are 32 x 32 pixels; the network was built for 32 x 48"),
        ),
    ),
    "DensePredictor": Row(
        DensePredictor,
        ((1, 64, 96),),
        statistics=True,
        refuses=(
            ((1, 1, 64, 80), "images of 64 x 80 do not fit; 32 must divide both sides"),
            ((1, 3, 64, 96), "the images have 3 channels; the network was built for 1"),
        ),
    ),
    "EncoderBlock": Row(lambda: EncoderBlock(6, 4, 2), ((6, 8, 12),), statistics=True),
    "EnlargingBlock": Row(lambda: EnlargingBlock(6, 4), ((6, 8, 12),), statistics=True),
    "AttentionGate": Row(
        lambda: AttentionGate(6), ((6, 8, 12), (6, 8, 12)), ("gate.0.bias", "skip.0.bias", "n.0.bias")
    ),
    "DownBlock": Row(lambda: DownBlock(6, 4), ((6, 8, 12),)),
    "FuseBlock": Row(lambda: FuseBlock(6, 4), ((6, 8, 12),)),
    "InstanceNorm": Row(lambda: InstanceNorm(6), ((6, 8, 12),)),
    "PositionBlock": Row(lambda: PositionBlock(6, position_code((2, 2))), ((6, 8, 12),), ("mix.bias",), together=4),
    "ResidualBlock": Row(lambda: ResidualBlock(6), ((6, 8, 12),)),
    "UpBlock": Row(lambda: UpBlock(6, 4), ((6, 8, 12),)),
}
each = pytest.mark.parametrize("name", ROWS)


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return ROWS[name].make()


def inputs(name: str, count: int = 4, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, *shape, generator=generator).tanh() for shape in ROWS[name].shapes)


def moved(tensors: tuple[Tensor, ...], *how: Any, **more: Any) -> tuple[Tensor, ...]:
    return tuple(tensor.to(*how, **more) for tensor in tensors)


def test_every_public_network_has_a_row():
    missing = PUBLIC.keys() - ROWS.keys()
    assert not missing, f"add a row to ROWS, with how it is made and what goes in, for: {', '.join(sorted(missing))}"
    assert ROWS.keys() <= PUBLIC.keys()


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_type_is_kept(name, dtype, training):
    result = network(name).to(dtype).train(training)(*moved(inputs(name), dtype))
    assert result.dtype == dtype
    assert result.isfinite().all()


@each
def test_device_is_kept(name):
    """On the device ``meta`` nothing is computed: a tensor that was made elsewhere would not go with the others."""
    expected = network(name)(*inputs(name)).shape
    for training in (True, False):
        result = network(name).to("meta").train(training)(*moved(inputs(name), "meta"))
        assert result.device.type == "meta"
        assert result.shape == expected


@each
def test_channels_last_is_kept_and_changes_nothing(name):
    plain, last = network(name).double().eval(), network(name).double().to(memory_format=torch.channels_last).eval()
    given = moved(inputs(name), torch.float64)
    result = last(*moved(given, memory_format=torch.channels_last))
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, plain(*given), rtol=0, atol=1e-11)


@each
def test_input_is_not_changed(name):
    given = inputs(name)
    before = copy.deepcopy(given)
    for training in (True, False):
        network(name).train(training)(*given)
    assert all(torch.equal(one, other) for one, other in zip(given, before, strict=True))


@each
def test_eval_is_deterministic_and_train_differs_by_its_draws_and_statistics_alone(name):
    module, given = network(name), inputs(name)
    restored = module.eval()(*given)
    assert torch.equal(module(*given), restored)
    module.train()
    torch.manual_seed(1)
    trained = module(*given)
    assert torch.equal(trained, restored) != (ROWS[name].random or ROWS[name].statistics)
    torch.manual_seed(1)
    assert torch.equal(module(*given), trained)
    assert torch.equal(module.eval()(*given), restored) != ROWS[name].statistics  # training left nothing else behind


@each
def test_gradients_reach_every_parameter_and_the_input(name):
    module = network(name).double().train()
    given = tuple(tensor.requires_grad_() for tensor in moved(inputs(name), torch.float64))
    result = module(*given)
    (
        result * torch.randn(result.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ).sum().backward()
    for label, parameter in module.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.isfinite().all(), label
        if label.endswith(ROWS[name].idle):
            assert parameter.grad.abs().max() < 1e-9, f"{label} is no longer idle"
        else:
            assert parameter.grad.abs().max() > 1e-6, label
    assert all(tensor.grad.abs().max() > 0 for tensor in given)


@each
def test_state_goes_round(name):
    """Through a file of plain weights, into a network that began elsewhere."""
    module, given = network(name).eval(), inputs(name)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1)
    other = ROWS[name].make().eval()
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(other(*given), module(*given))
    storages = [value.untyped_storage().data_ptr() for value in module.state_dict().values()]
    assert len(set(storages)) == len(storages)  # nothing is shared, which safetensors would refuse
    parameters = {label for label, _ in module.named_parameters()}
    others = {label.split(".")[-1] for label in set(module.state_dict()) - parameters}
    assert others == set(STATISTICS if ROWS[name].statistics else ROWS[name].constants)


@each
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_copies_compute_the_same_and_are_apart(name, duplicate):
    module, given = network(name).eval(), inputs(name)
    expected, twin = module(*given), duplicate(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert torch.equal(twin(*given), expected)


@each
def test_a_batch_equals_its_images_one_by_one(name):
    module, given = network(name).double().eval(), moved(inputs(name, 8), torch.float64)
    together, size = module(*given), ROWS[name].together
    alone = [module(*parts) for parts in zip(*(tensor.split(size) for tensor in given), strict=True)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=1e-11)


REFUSED = [(name, shape, says) for name, row in ROWS.items() for shape, says in row.refuses]


@pytest.mark.parametrize(("name", "shape", "says"), REFUSED)
@pytest.mark.parametrize("training", [True, False])
def test_images_that_do_not_fit_are_refused_in_one_line(name, shape, says, training):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (what it says comes next)
        network(name).train(training)(torch.zeros(shape))
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


# For other runtimes


@each
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_script_and_trace(name):
    module, given = network(name).eval(), inputs(name)
    expected = module(*given)
    for made in (torch.jit.script(module), torch.jit.trace(module, given)):
        assert torch.equal(made(*given), expected)


@each
def test_export(name):
    """For any batch size, where the images of a batch are not tied together."""
    module, free = network(name).eval(), ROWS[name].together == 1
    given = inputs(name)
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = tuple({0: batch} for _ in given) if free else None
    exported = torch.export.export(module, given, dynamic_shapes=shapes).module()
    for count in (1, 2, 5) if free else (4,):
        given = inputs(name, count)
        torch.testing.assert_close(exported(*given), module(*given), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in ROWS if name in networks.__all__])
def test_compiled_as_one_graph(name):
    module, given = network(name), inputs(name)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.manual_seed(1)
        expected = module(*given)
        torch.manual_seed(1)
        torch.testing.assert_close(compiled(*given), expected, rtol=0, atol=1e-6)
