"""The engine that is chosen, and what it is chosen by."""

from __future__ import annotations

from importlib import import_module

import pytest

from monai_sagan.engines.compiled import choose_engine, compile_for, compiling_pays, has_bfloat16_matrix_units
from monai_sagan.errors import SaganError


@pytest.mark.parametrize("units", [True, False])
def test_compiling_is_chosen_where_it_pays(units):
    assert compiling_pays("cpu", True, 2000, units) is units
    assert not compiling_pays("cpu", True, 1999, units)
    assert not compiling_pays("cpu", False, 100_000, units)
    assert not compiling_pays("cuda", True, 100_000, units)


def test_auto_is_what_pays():
    wanted = "compiled" if has_bfloat16_matrix_units() else "eager"
    assert choose_engine("auto", "cpu", True, 2000) == wanted
    assert choose_engine("auto", "cpu", False, 2000) == "eager"


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_choice_stands(engine):
    assert choose_engine(engine, "cpu", True, 1) == choose_engine(engine, "cuda", False, 10_000) == engine


def test_another_word_is_named():
    with pytest.raises(SaganError, match="engine is 'fast'; use one of eager, compiled, auto"):
        choose_engine("fast", "cpu", False, 1)


def test_a_torch_that_cannot_tell_has_no_units(monkeypatch):
    monkeypatch.delattr("torch.cpu.get_capabilities", raising=False)
    assert not has_bfloat16_matrix_units()
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    assert has_bfloat16_matrix_units()


@pytest.mark.parametrize(("device", "forced"), [("cpu", None), ("cuda:0", {"force_layout_optimization": True})])
def test_channels_stay_last_on_cuda(monkeypatch, device, forced):
    asked = []
    monkeypatch.setattr("torch.compile", lambda code, **options: asked.append(options["options"]))
    compile_for("compiled", abs, device)
    assert asked == [forced]


def test_the_compiler_knows_the_option():
    assert hasattr(import_module("torch._inductor.config"), "force_layout_optimization")
