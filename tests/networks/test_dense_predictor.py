"""The encoder-decoder that finds synthetic anomalies."""

from __future__ import annotations

import json

import torch
from golden import golden, made_from_names
from torch import nn

from monai_sagan.networks.dense_predictor import DensePredictor


def test_parameters_are_as_many_as_published():
    assert sum(p.numel() for p in DensePredictor().parameters()) == 11_491_440
    assert sum(p.numel() for p in DensePredictor(3).parameters()) == 11_491_440 + 2 * 64 * 49


def test_it_equals_the_published_one():
    arrays = golden("methods.npz")
    published = made_from_names(json.loads(str(arrays["synthetic_encoder_decoder.shapes"])))
    network = DensePredictor().eval()
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    assert len(names) == len(published)
    own = dict(zip(names, published.values(), strict=True))
    missing = network.load_state_dict(own, strict=False)
    assert not missing.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)
    with torch.no_grad():
        found = network(torch.from_numpy(arrays["synthetic_encoder_decoder.x"])).sigmoid()
    torch.testing.assert_close(found, torch.from_numpy(arrays["synthetic_encoder_decoder.out"]), rtol=0, atol=1e-5)


def test_initial_weights():
    """Kaiming's of the fan out for convolutions, the framework's for transposed ones, batch norm without effect."""
    torch.manual_seed(0)
    network = DensePredictor()
    last = network.encoder[-1].body[3].weight
    assert abs(last.std().item() / (2 / (512 * 9)) ** 0.5 - 1) < 0.01
    transposed = network.decoder[0].body[0].weight
    assert transposed.abs().max() <= (64 * 9) ** -0.5 + 1e-6
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(bool((norm.weight == 1).all() and (norm.bias == 0).all()) for norm in norms)
