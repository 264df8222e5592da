"""Whatever a file is called, every verb comes to its end and its tables name the file."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_sagan.data.datasets.image_table import read_table
from monai_sagan.data.formats.decode import read_image
from monai_sagan.files import name_on_disk, shorten_name, write_text
from monai_sagan.pictures.heat_maps import _short

NAMES = [b"scan\xe9", "Röntgen".encode(), b"two\nlines", b"long" * 62, b'comma, "quote"', b"dollar$x^2$"]
SMALL = "--channels 4 --num_res_blocks 1 --max_iterations 2 --iterations_per_epoch 1 --batch_size 4"
TRAIN = f"--dataset_dir base {SMALL} --engine eager --device cpu --max_unreadable 1"
BUNDLE = Path(__file__).parents[1] / "bundles" / "folder"
RUN = "python -m monai.bundle run --config_file BUNDLE"
VERBS = {
    "train": f"{RUN}/train.json {TRAIN} --output_dir run",
    "evaluate": f"{RUN}/evaluate.json --dataset_dir base --run_dir run --output_dir out --max_unreadable 1",
    "inference": f"{RUN}/inference.json --dataset_dir base --model run/model.pt --output_dir inferred --device cpu",
    "report": "monai-sagan report run",
    "export": "monai-sagan export run/model.pt artifact",
    "predict": "monai-sagan predict artifact base predicted --jobs 1",
    "data": "monai-sagan data base --check --table items.csv --jobs 1",
    "prepare": "monai-sagan prepare base prepared --image_size 64 --max_unreadable 1 --jobs 1",
    "prepare again": "monai-sagan prepare base prepared --image_size 64 --max_unreadable 1 --jobs 1",
    "study": f"monai-sagan study study.json --config_file BUNDLE/train.json --output_dir study --seeds 0 {TRAIN}",
}
SCRIPT = """
import json, logging, os, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
os.chdir(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from command_line import carry_out
codes = {}
for verb, words in json.loads(sys.argv[3]).items():
    codes[verb] = carry_out([word.replace("BUNDLE", sys.argv[4]) for word in words.split()])
    with open("codes.json", "w") as file:
        json.dump(codes, file)
"""
LOCALES = {
    "utf-8": {"PYTHONIOENCODING": "utf-8:strict"},
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0"},
}


def write_images(folder):
    rng = np.random.default_rng(0)
    for part in ("normal", "unlabeled", "test/normal", "test/abnormal"):
        (folder / part).mkdir(parents=True)
        for i in range(12):
            name = NAMES[i] if i < len(NAMES) else str(i).encode()
            with open(os.path.join(os.fsencode(folder / part), name + b".png"), "wb") as file:
                Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(file, "PNG")
    for part in ("normal", "unlabeled", "test"):
        (folder / part / os.fsdecode(b"br\xf6ken.png")).write_bytes(b"broken")


def carry_out_all(place, locale):
    """All verbs, one after the other, in a process of their own: their exit codes, and what was said."""
    write_images(place / "base")
    (place / "study.json").write_text(json.dumps({"one": {}}))
    words = [sys.executable, "-c", SCRIPT, str(place), str(Path(__file__).parent), json.dumps(VERBS), str(BUNDLE)]
    environment = {name: value for name, value in os.environ.items() if name not in ("LC_ALL", "LANG", "LC_CTYPE")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[1]), **locale}
    ended = subprocess.run(words, capture_output=True, check=False, env=environment)
    said = (ended.stdout + ended.stderr).decode("utf-8", "backslashreplace")
    return json.loads((place / "codes.json").read_text()), said


def names_in(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [row["image"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("locale", LOCALES.values(), ids=LOCALES)
def test_every_verb_comes_to_its_end_and_names_each_file(tmp_path, locale):
    """One test, for the verbs build on each other: two workers would carry them all out twice."""
    codes, said = carry_out_all(tmp_path, locale)
    assert codes == dict.fromkeys(VERBS, 0) | {"data": 1}, said[-3000:]  # which reports the broken files
    assert "Logging error" not in said
    assert "Traceback" not in said
    assert "ken.png" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert "scan" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for table in ("run/scores.csv", "inferred/scores.csv", "predicted/scores.csv", "items.csv"):
        names = names_in(tmp_path / table)
        assert len(set(names)) == len(names) >= 24
        assert sum("ken.png" in name for name in names) == (3 if table == "items.csv" else 0)
        assert all(os.path.isfile(name_on_disk(str(tmp_path / name))) for name in names)
        assert {os.fsencode(name_on_disk(name)).split(b"/")[-1][:-4] for name in names} >= set(NAMES)
    for folder in ("run", "inferred", "predicted", "prepared"):
        names = names_in(tmp_path / folder / "skipped.csv")
        assert names
        assert all(os.path.isfile(name_on_disk(str(tmp_path / name))) for name in names)


def test_a_table_with_escaped_names_is_read(tmp_path):
    write_images(tmp_path / "base")
    names = [os.fsdecode(name + b".png") for name in NAMES if b"\n" not in name and b'"' not in name]
    lines = ["image,label", *(f"base/normal/{name},0" for name in names)]
    write_text(tmp_path / "images.csv", "\n".join(lines) + "\n")
    items = [item for part in read_table(tmp_path).datalist.values() for item in part]
    assert {Path(item["image"]).name for item in items} == set(names)
    assert all(read_image(item["image"]).size == (64, 64) for item in items)
    literal = tmp_path / "base" / "normal" / "scan\\udce9.png"  # a file that is called so is meant before all others
    Image.new("L", (3, 3)).save(literal)
    assert str(literal) in {item["image"] for part in read_table(tmp_path).datalist.values() for item in part}


def test_names_that_fit():
    assert shorten_name("a" * 180) == "a" * 180
    assert shorten_name("a" * 181) == "a" * 180
    assert len(shorten_name("ö" * 200).encode()) == 180
    assert shorten_name("scan\udce9") == "scan\udce9"


@pytest.mark.parametrize(
    ("name", "shown"), [("a.png", "a.png"), ("s\udce9.png", "s\\udce9.png"), ("a\nb.png", "a b.png")]
)
def test_a_name_as_a_title(name, shown):
    assert _short(name) == shown
    assert len(_short("x" * 300)) < 70
