"""A torch_export archive that holds anything but tensors and torch's operators is refused before torch reads it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import zipfile

import pytest
import torch

from monai_sagan.artifact import open_artifact
from monai_sagan.artifact.archive import CONFIGS, PROGRAM, SAMPLES, checked_archive
from monai_sagan.models.facts import digest, seal


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def harm(tmp_path):
    """A folder that code in an archive would make."""
    return tmp_path / "harm"


@pytest.fixture
def tampered(exported, tmp_path):
    """An artifact some of whose archive's entries were changed, by functions from bytes to bytes; resealed."""

    def make(**changes):
        folder = shutil.copytree(exported("color", "torch_export"), tmp_path / "artifact", dirs_exist_ok=True)
        with zipfile.ZipFile(exported("color", "torch_export") / "model.pt2") as source:
            content = {name.split("/", 1)[1]: source.read(name) for name in source.namelist()}
        for name, change in changes.items():
            content[name] = change(content.get(name, b""))
        with zipfile.ZipFile(folder / "model.pt2", "w") as target:
            for name, data in content.items():
                target.writestr(f"model/{name}", data)
        facts = json.loads((folder / "artifact.json").read_text())
        facts["files"]["model.pt2"] = digest(folder / "model.pt2")
        (folder / "artifact.json").write_text(seal(facts))
        return folder

    return make


def test_what_is_exported_holds_no_pickle_and_opens(exported):
    path = exported("color", "torch_export") / "model.pt2"
    with zipfile.ZipFile(path) as archive:
        assert [archive.read(name) for name in archive.namelist() if name.endswith((".pt", ".pkl"))] == [b""]
    assert zipfile.is_zipfile(checked_archive(path))


def test_a_harmful_archive_would_do_harm(tampered, harm):
    """Torch itself runs the code: what is refused below is refused for a reason."""
    folder = tampered(**{SAMPLES: lambda _: saved((Harmful(harm),))})
    with contextlib.suppress(Exception):
        torch.export.load(folder / "model.pt2")
    assert harm.exists()


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_pickled_code_is_refused(tampered, harm, refused):
    def pickled(name):
        def change(data):
            config = json.loads(data)
            config["config"]["extra"] = {"path_name": name, "use_pickle": True, "is_param": False, "tensor_meta": None}
            return json.dumps(config).encode()

        return change

    weights, constants = CONFIGS
    pickles = {
        SAMPLES: {SAMPLES: lambda _: saved((Harmful(harm),))},
        "weight_0": {weights: pickled("weight_0"), "data/weights/weight_0": lambda _: saved(Harmful(harm))},
        "opaque_obj_0": {
            constants: pickled("opaque_obj_0"),
            "data/constants/opaque_obj_0": lambda _: pickle.dumps(Harmful(harm)),
        },
        "data/weights/model.pt": {"data/weights/model.pt": lambda _: saved({"a": Harmful(harm)})},
        "data/constants/model.pt": {"data/constants/model.pt": lambda _: saved({"a": Harmful(harm)})},
        "serialized_state_dict.pt": {"serialized_state_dict.pt": lambda _: saved({"a": Harmful(harm)})},
        "data/aotinductor": {"data/aotinductor/model/a.so": lambda _: b"code"},
        "extra/": {"extra/a": lambda _: b"text"},
    }
    for name, changes in pickles.items():
        with refused("model.pt2 holds", name, "none of it was executed"):
            open_artifact(tampered(**changes))
    assert not harm.exists()


def test_code_in_the_program_is_refused(tampered, harm, refused):
    code = f"__import__('os').mkdir({str(harm)!r})"

    def changed(change):
        def apply(data):
            program = json.loads(data)
            change(program, program["graph_module"]["graph"]["nodes"][0])
            return json.dumps(program).encode()

        return {PROGRAM: apply}

    def formula(program, text):
        for value in program["graph_module"]["graph"]["sym_int_values"].values():
            value["as_expr"] = {"expr_str": text, "hint": None}

    def spec(program, text):
        for entry in program["graph_module"]["module_call_graph"]:
            if entry["signature"]:
                entry["signature"]["in_spec"] = entry["signature"]["in_spec"].replace("builtins.tuple", text)

    changes = {
        "guards_code": lambda program, node: program.update(guards_code=[code]),
        "__import__": lambda program, node: node.update(metadata={"nn_module_stack": code}),
        "torch.os.mkdir": lambda program, node: node.update(target="torch.os.mkdir"),
        "_operator.methodcaller": lambda program, node: node.update(target="_operator.methodcaller"),
        "torch.ops.higher_order.cond": lambda program, node: node.update(target="torch.ops.higher_order.cond"),
        "a/file": lambda program, node: node["inputs"][0].update(arg={"as_string": "a/file"}),
        "afile": lambda program, node: node["inputs"][0].update(arg={"as_string": "afile"}),
        "x=1;": lambda program, node: node.update(name="x=1;"),
        "Integer(1).": lambda program, node: formula(program, "Integer(1).func"),
        "os.mkdir": lambda program, node: formula(program, "Mul('os.mkdir', 1)"),
        "eval": lambda program, node: formula(program, "eval(1)"),
        "antigravity.A": lambda program, node: spec(program, "antigravity.A"),
    }
    for name, change in changes.items():
        with refused("model.pt2 holds", name, "none of it was executed"):
            open_artifact(tampered(**changed(change)))
    assert not harm.exists()


def test_what_is_no_such_archive(tampered, refused):
    for changes in ({PROGRAM: lambda _: b"{}"}, {PROGRAM: lambda _: b"["}, {CONFIGS[0]: lambda _: b"[]"}):
        with refused("model.pt2 cannot be loaded"):
            open_artifact(tampered(**changes))


@pytest.mark.parametrize("name", ["data.pkl", "constants.pkl", "traced_inputs.pkl"])
def test_pickled_code_in_torchscript_is_not_run(exported, tmp_path, harm, refused, name):
    folder = shutil.copytree(exported("color", "torchscript"), tmp_path / "artifact")
    with zipfile.ZipFile(folder / "model.ts") as source:
        content = {entry: source.read(entry) for entry in source.namelist()}
    with zipfile.ZipFile(folder / "model.ts", "w") as target:
        for entry, data in content.items():
            target.writestr(entry, pickle.dumps(Harmful(harm), 2) if entry.endswith(f"/{name}") else data)
    facts = json.loads((folder / "artifact.json").read_text())
    facts["files"]["model.ts"] = digest(folder / "model.ts")
    (folder / "artifact.json").write_text(seal(facts))
    if name == "traced_inputs.pkl":  # torch does not read it to run a model
        open_artifact(folder)
    else:
        with refused("model.ts cannot be loaded"):
            open_artifact(folder)
    assert not harm.exists()
