"""Any dataset in the Med-AD layout: the pixels that Pillow gives, resumable, nothing lost on the way."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_sagan.data import prepare as module
from monai_sagan.data.datasets.med_ad import read_med_ad
from monai_sagan.data.prepare import prepare
from monai_sagan.output_folder import hold_folder


@pytest.fixture
def datalist(tmp_path, write_dicom):
    """Files of several formats, two of one name in different folders, a volume, and notes on some of them."""
    rng = np.random.default_rng(0)
    source = tmp_path / "source"
    (source / "b").mkdir(parents=True)
    for name in ("a.png", "c.png", "d.png", "b/a.png", "e.jpg"):
        Image.fromarray(rng.integers(0, 256, (40, 80), np.uint8)).save(source / name)
    Image.fromarray(rng.integers(0, 256, (40, 80, 3), np.uint8)).save(source / "color.png")
    write_dicom(source / "x.y.dcm", rng.integers(0, 4096, (40, 80), np.uint16), BitsStored=12, PatientID="Jane")
    nibabel.save(nibabel.Nifti1Image(rng.integers(0, 99, (16, 18, 4), np.int16), np.eye(4)), source / "v.nii.gz")
    mask = np.zeros((40, 80), np.uint8)
    mask[10:20, 40:] = 1
    Image.fromarray(mask).save(source / "mask.png")
    boxes = {"boxes": [[40.0, 10.0, 40.0, 10.0]], "mask": str(source / "mask.png"), "view": "AP"}

    def item(name, label, **more):
        return {"image": str(source / name), "label": label} | more

    return {
        "normal": [item("a.png", 0, patient="p1"), item("b/a.png", 0), item("color.png", 0)],
        "unlabeled": [item("c.png", 0), item("x.y.dcm", 1), item("v.nii.gz#z1", 0), item("v.nii.gz#z3", 0)],
        "test": [item("d.png", 0, boxes=[]), item("e.jpg", 1, **boxes)],
    }


def test_what_is_written_reads_back(datalist, tmp_path):
    folder = prepare(datalist, tmp_path / "out", image_size=32)
    names = {path.name for path in (folder / "images").iterdir()}
    assert names == {"a.png", "b-a.png", "color.png", "c.png", "x.png", "v_z1.png", "v_z3.png", "d.png", "e.png"}
    found = read_med_ad(folder).datalist
    for split, items in datalist.items():
        assert sorted(item["label"] for item in found[split]) == sorted(item["label"] for item in items)
    first = found["normal"][0]
    assert (first["image"], first["patient"]) == (str(folder / "images" / "a.png"), "p1")
    for source, name in ((datalist["normal"][1], "b-a.png"), (datalist["normal"][2], "color.png")):
        with Image.open(source["image"]) as image, Image.open(folder / "images" / name) as got:
            assert got.mode == image.mode
            wanted = image.resize((32, 32), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(np.asarray(got), np.asarray(wanted))


def test_notes_come_along_in_the_new_pixels(datalist, tmp_path):
    folder = prepare(datalist, tmp_path / "out", image_size=32)
    notes = json.loads((folder / "items.json").read_text())
    assert notes["e.png"]["boxes"] == [[16.0, 8.0, 16.0, 8.0]]
    assert notes["e.png"]["view"] == "AP"
    assert notes["d.png"]["boxes"] == []
    assert notes["x.png"]["patient"]
    assert "Jane" not in (folder / "items.json").read_text()
    with Image.open(folder / notes["e.png"]["mask"]) as mask:
        shown = np.asarray(mask)
    assert shown.shape == (32, 32)
    assert set(np.unique(shown)) == {0, 255}
    assert (shown[8:16, 16:] == 255).all()
    assert shown.sum() == 255 * 8 * 16


def test_unlabeled_images_whose_labels_nobody_knows(datalist, tmp_path):
    for item in datalist["unlabeled"]:
        item["label"] = None
    folder = prepare(datalist, tmp_path / "out", image_size=32)
    assert json.loads((folder / "data.json").read_text())["train"]["unlabeled"] == [
        *("c.png", "x.png", "v_z1.png", "v_z3.png")
    ]
    assert [item["label"] for item in read_med_ad(folder).datalist["unlabeled"]] == [None] * 4


def test_test_images_whose_labels_nobody_knows(datalist, tmp_path):
    known = [item["label"] for item in datalist["test"]]
    datalist["test"][0]["label"] = None
    folder = prepare(datalist, tmp_path / "out", image_size=32)
    labels = [item["label"] for item in read_med_ad(folder).datalist["test"]]
    assert sorted(labels, key=str) == sorted([None, *known[1:]], key=str)


def test_the_same_command_goes_on(datalist, tmp_path, monkeypatch):
    run, asked = module.run_tasks, []

    def some(tasks, jobs=None):
        asked.append(len(tasks))
        for i, result in enumerate(run(tasks, jobs)):
            if len(asked) == 1 and i == 3:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(module, "run_tasks", some)
    with pytest.raises(KeyboardInterrupt):
        prepare(datalist, tmp_path / "out", image_size=32)
    assert not (tmp_path / "out" / "data.json").exists()
    with (tmp_path / "out" / "prepared.jsonl").open("a") as file:
        file.write('{"image": "half a li')
    (tmp_path / "out" / "images" / ".a.png.123").touch()
    finished = [tmp_path / "out" / "images" / name for name in ("a.png", "b-a.png", "color.png")]
    times = [path.stat().st_mtime_ns for path in finished]
    folder = prepare(datalist, tmp_path / "out", image_size=32)
    assert asked == [8, 5]  # files; the volume's slices are one
    done = [json.loads(line)["image"] for line in (folder / "prepared.jsonl").read_text().splitlines()]
    assert sorted(done) == sorted(item["image"] for items in datalist.values() for item in items)
    assert [path.stat().st_mtime_ns for path in finished] == times
    assert not list((folder / "images").glob(".*"))
    wanted = prepare(datalist, tmp_path / "other", image_size=32)
    for name in ("data.json", "items.json", "skipped.csv"):
        assert (folder / name).read_text() == (wanted / name).read_text()


def test_bad_images_are_listed(datalist, tmp_path, refused):
    bad = datalist["unlabeled"][0]["image"]
    with open(bad, "wb"):
        pass
    with refused("1 of 9 images", "--check", bad):
        prepare(datalist, tmp_path / "out", image_size=32)
    assert not (tmp_path / "out" / "data.json").exists()
    folder = prepare(datalist, tmp_path / "out", image_size=32, max_unreadable=0.2)
    with (folder / "skipped.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["image", bad]
    assert len(read_med_ad(folder).datalist["unlabeled"]) == 3
    Image.new("L", (9, 9), 50).save(bad)  # restored
    prepare(datalist, tmp_path / "out", image_size=32)
    assert len(read_med_ad(folder).datalist["unlabeled"]) == 4


def test_folders_that_hold_something_else(datalist, tmp_path, refused):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with refused(tmp_path / "out", "not empty"):
        prepare(datalist, tmp_path / "out")
    prepare(datalist, tmp_path / "begun", image_size=32)
    with refused(tmp_path / "begun", "with other options"):
        prepare(datalist, tmp_path / "begun", image_size=64)
    with refused(tmp_path / "out" / "mine", "new folder"):
        prepare(datalist, tmp_path / "out" / "mine")
    assert os.listdir(tmp_path / "out") == ["mine"]


def test_a_disk_that_is_full_is_no_bad_image(datalist, tmp_path):
    """The limit on the size of files stands for the disk's."""
    script = (
        "import resource, sys, json\n"
        "from monai_sagan.data.prepare import prepare\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))\n"
        "prepare(json.loads(sys.argv[1]), sys.argv[2], image_size=400)\n"
    )
    arguments = [sys.executable, "-c", script, json.dumps(datalist), str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert "SaganError: cannot write to" in done.stderr
    assert not (tmp_path / "out" / "data.json").exists()
    prepare(datalist, tmp_path / "out", image_size=400)
    assert len(read_med_ad(tmp_path / "out").datalist["test"]) == 2


def test_two_at_once(datalist, tmp_path, refused):
    prepare(datalist, tmp_path / "out", image_size=32)
    with hold_folder(tmp_path / "out", "prepared dataset"), refused(f"process {os.getpid()}", tmp_path / "out"):
        prepare(datalist, tmp_path / "out", image_size=32)


def test_a_mask_that_is_broken_costs_the_mask(datalist, tmp_path):
    mask = datalist["test"][1]["mask"]
    with open(mask, "wb"):
        pass
    folder = prepare(datalist, tmp_path / "out", image_size=32)
    assert mask in (folder / "skipped.csv").read_text()
    assert len(read_med_ad(folder).datalist["test"]) == 2
    assert "mask" not in json.loads((folder / "items.json").read_text())["e.png"]


def test_every_mark_of_a_mask_of_16_bits_counts(datalist, tmp_path):
    labels = np.zeros((40, 80), np.uint16)
    labels[:20], labels[20:, :40] = 1, 60_000
    Image.fromarray(labels).save(datalist["test"][1]["mask"])
    folder = prepare(datalist, tmp_path / "out", image_size=32)
    with Image.open(folder / "masks" / "e.png") as mask:
        assert (np.asarray(mask) > 0).mean() == 0.75


@pytest.mark.parametrize(("values", "said"), [({"image_size": 0}, "image_size is 0"), ({"max_unreadable": 7}, "is 7")])
def test_values_out_of_range(datalist, tmp_path, values, said, refused):
    with refused(said):
        prepare(datalist, tmp_path / "out", **values)
    assert not (tmp_path / "out").exists()


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_what_changed_since_or_is_gone_is_written_anew(datalist, tmp_path):
    folder = prepare(datalist, tmp_path / "out", image_size=32)
    kept = (folder / "images" / "c.png").stat().st_mtime_ns
    wanted = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    (folder / "images" / "d.png").unlink()
    (folder / "images" / "v_z1.png").unlink()
    Image.new("L", (80, 40), 99).save(datalist["normal"][0]["image"])
    marked = np.zeros((40, 80), np.uint8)
    marked[:, :40] = 1
    Image.fromarray(marked).save(datalist["test"][1]["mask"])
    prepare(datalist, folder, image_size=32)
    found = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    assert (pixels_of(folder / "images" / "a.png") == 99).all()
    assert {name for name in wanted if wanted[name] != found[name]} == {"a.png"}
    assert found.keys() == wanted.keys()
    assert (folder / "images" / "c.png").stat().st_mtime_ns == kept
    assert (pixels_of(folder / "masks" / "e.png")[:, :16] == 255).all()


def test_damaged_notes(datalist, tmp_path, refused):
    folder = prepare(datalist, tmp_path / "out", image_size=32)
    lists = (folder / "data.json").read_text()
    lines = (folder / "prepared.jsonl").read_bytes().splitlines()
    lines[1], lines[3], lines[4] = b"{", b"\xff\x00", b"[1]"
    (folder / "prepared.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    prepare(datalist, folder, image_size=32)
    assert (folder / "data.json").read_text() == lists
    for content in (b"", b"{", b"\xff"):
        (folder / "prepared.json").write_bytes(content)
        with refused(folder / "prepared.json", "damaged", "remove the folder"):
            prepare(datalist, folder, image_size=32)


def test_a_call_that_was_killed_before_its_note(datalist, tmp_path, refused):
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / ".prepared.json.123").touch()
    (tmp_path / "out" / ".lock").touch()
    assert len(read_med_ad(prepare(datalist, tmp_path / "out", image_size=32)).datalist["normal"]) == 3
    (tmp_path / "mine" / "images").mkdir(parents=True)
    (tmp_path / "mine" / "images" / "mine.png").touch()
    with refused("not empty"):
        prepare(datalist, tmp_path / "mine", image_size=32)


def test_what_is_left_out_is_said(datalist, tmp_path, caplog, refused):
    empty, broken = datalist["unlabeled"][0]["image"], datalist["normal"][1]["image"]
    Image.new("L", (80, 40), 3).save(empty)
    os.unlink(broken)
    for _ in range(2):
        caplog.clear()
        folder = prepare(datalist, tmp_path / "out", image_size=32, max_unreadable=0.2, min_foreground=0.05)
        (line,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
        assert line == (
            f"skipped 1 unreadable images, 1 images with too little foreground: {folder / 'skipped.csv'} lists them"
        )
        with (folder / "skipped.csv").open(newline="") as file:
            rows = dict(csv.reader(file))
        assert rows[broken] == f"{broken} is not there; restore it or leave it out"
        assert rows[empty] == "foreground 0.000 of the image, below 0.05"
        assert sum(map(len, read_med_ad(folder).datalist.values())) == 7
    with refused("with other options"):
        prepare(datalist, tmp_path / "out", image_size=32, max_unreadable=0.2)
    with refused("min_foreground is 2"):
        prepare(datalist, tmp_path / "new", min_foreground=2)


def test_a_folder_that_an_earlier_version_began(datalist, tmp_path, refused):
    """It read some files as other pixels: what it wrote is not mixed with what this one writes."""
    folder = prepare(datalist, tmp_path / "out", image_size=32)
    note = folder / "prepared.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"version": 1}))
    with refused(folder, "reads some files differently", "name a new folder"):
        prepare(datalist, folder, image_size=32)
