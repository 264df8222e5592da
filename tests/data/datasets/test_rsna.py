"""RSNA in both layouts: the challenge's own tables with their quirks, and the prepared one."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_sagan.data.datasets.items import split_published
from monai_sagan.data.datasets.rsna import CLASSES, IMAGES, LABELS, NORMAL, OPACITY, TABLE_1, THIRD, read_rsna
from monai_sagan.data.formats.decode import read_image


@pytest.fixture
def kaggle(tmp_path):
    """As the challenge ships it: a row a box in both tables, empty boxes for healthy images, rows in no order."""

    def write(normal=20, opacity=12, third=5):
        classes, labels = ["patientId,class"], ["patientId,x,y,width,height,Target"]
        for prefix, count, kind in [("n", normal, NORMAL), ("o", opacity, OPACITY), ("z", third, THIRD)]:
            for i in range(count):
                name = f"{prefix}{i:02d}"
                for box in range(1 + i % 2 if kind == OPACITY else 1):
                    classes.insert(1, f"{name},{kind}")
                    row = f"{name},{100.0 + box},{i},20.5,30,1" if kind == OPACITY else f"{name},,,,,0"
                    labels.append(row)
        (tmp_path / IMAGES).mkdir()
        for row in classes[1:]:
            (tmp_path / IMAGES / f"{row.split(',')[0]}.dcm").touch()
        (tmp_path / CLASSES).write_text("\n".join(classes) + "\n")
        (tmp_path / LABELS).write_text("\n".join(labels) + "\n")
        return tmp_path

    return write


def every(datalist):
    return [item for items in datalist.values() for item in items]


def stems(items):
    return [Path(item["image"]).stem for item in items]


def counted(datalist):
    kinds = [("normal", 0), ("unlabeled", 0), ("unlabeled", 1), ("test", 0), ("test", 1)]
    return tuple(sum(item["label"] == label for item in datalist[name]) for name, label in kinds)


def append(path, line):
    with path.open("a") as file:
        file.write(line + "\n")


def without_row(path, start):
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith(start)) + "\n")


def test_boxes_and_patients_come_along(kaggle):
    items = {item["patient"]: item for item in every(read_rsna(kaggle()).datalist)}
    assert all(Path(item["image"]).stem == name for name, item in items.items())
    assert items["n03"]["boxes"] == []
    assert items["o02"]["boxes"] == [[100.0, 2.0, 20.5, 30.0]]
    assert items["o03"]["boxes"] == [[100.0, 3.0, 20.5, 30.0], [101.0, 3.0, 20.5, 30.0]]


def test_third_class(kaggle, refused):
    folder = kaggle()
    plain, left_out, _ = read_rsna(folder)
    assert left_out == {f"of the class {THIRD}": 5}
    assert not any(name.startswith("z") for name in stems(every(plain)))
    for kind, label in (("normal", 0), ("abnormal", 1)):
        datalist, left_out, _ = read_rsna(folder, third_class=kind)
        assert left_out == {}
        third = [item for item in every(datalist) if item["patient"].startswith("z")]
        assert [item["label"] for item in third] == [label] * 5
        assert not any("boxes" in item for item in third)  # where they are abnormal, nobody says
        assert len(every(datalist)) == 37
    mixed = read_rsna(folder, third_class="unlabeled").datalist
    assert (mixed["normal"], mixed["test"]) == (plain["normal"], plain["test"])
    assert stems(mixed["unlabeled"]) == stems(plain["unlabeled"]) + [f"z{i:02d}" for i in range(5)]
    assert counted(mixed) == (9, 9, 15, 2, 2)
    with refused("third_class", "'all'", "unlabeled"):
        read_rsna(folder, third_class="all")


@pytest.mark.parametrize(
    ("line", "table", "parts"),
    [
        (f"o03,{NORMAL}", CLASSES, ("o03", "two classes")),
        ("o03,,,,,0", LABELS, ("o03", "both Target 0 and Target 1")),
        ("n03,1,2,3,4,1", LABELS, ("n03", "both Target 0 and Target 1")),
        ("n03,1,2,3,4,0", LABELS, ("n03", "a box and Target 0")),
        ("n03,1,2,3,4,yes", LABELS, ("n03", "'yes'")),
        (",1,2,3,4,1", LABELS, ("''",)),
        (",Normal", CLASSES, ("''",)),
    ],
)
def test_rows_that_contradict_each_other(kaggle, line, table, parts, refused):
    folder = kaggle()
    append(folder / table, line)
    with refused(folder / table, *parts):
        read_rsna(folder)


@pytest.mark.parametrize(
    ("name", "kind", "row", "target"),
    [
        ("n03", NORMAL, "n03,1,2,3,4,1", 1),
        ("z03", THIRD, "z03,1,2,3,4,1", 1),
        ("o03", OPACITY, "o03,,,,,0", 0),
    ],
)
def test_tables_that_contradict_each_other(kaggle, name, kind, row, target, refused):
    folder = kaggle()
    without_row(folder / LABELS, f"{name},")
    append(folder / LABELS, row)
    with refused(name, kind, CLASSES, f"Target {target}", LABELS):
        read_rsna(folder)


def test_rows_that_the_class_table_lacks(kaggle):
    """With Target 1 an image is of the class Lung Opacity; with Target 0 nobody knows, unless a list says it."""
    folder = kaggle()
    for name in ("n03", "o03", "z03"):
        without_row(folder / CLASSES, name)
    datalist, left_out, _ = read_rsna(folder)
    assert set(stems(every(datalist))) == {f"n{i:02d}" for i in range(20) if i != 3} | {f"o{i:02d}" for i in range(12)}
    assert {item["patient"]: item for item in every(datalist)}["o03"]["label"] == 1
    assert left_out == {f"of the class {THIRD}": 4, f"of no class: not in {CLASSES}, and Target 0": 2}
    listed = {"train": {"0": ["n03.png"], "unlabeled": {"1": ["o03.png"]}}, "test": {}}
    (folder / "lists.json").write_text(json.dumps(listed))
    datalist = read_rsna(folder, split_file=folder / "lists.json").datalist
    assert [(item["patient"], item["label"]) for item in every(datalist)] == [("n03", 0), ("o03", 1)]


def test_published_list(kaggle, refused):
    folder = kaggle()
    lists = {"train": {"0": ["n05.png", "n01"], "unlabeled": ["o07.png", "n00.jpg"]}, "test": {"1": ["o01.dcm"]}}
    path = folder / "lists.json"

    def write(lists):
        path.write_text(json.dumps(lists))

    write(lists)
    datalist, left_out, _ = read_rsna(folder, split_file=path)
    assert {name: stems(items) for name, items in datalist.items()} == {
        "normal": ["n05", "n01"],
        "unlabeled": ["o07", "n00"],
        "test": ["o01"],
    }
    assert [item["label"] for item in every(datalist)] == [0, 0, 1, 0, 1]  # from the tables where the list has none
    assert datalist["test"][0]["boxes"]
    assert left_out == {f"of the class {THIRD}": 5, f"not in {path}": 27}
    assert read_rsna(folder, split_file=str(path), split_seed=3).datalist == datalist
    more = read_rsna(folder, split_file=path, third_class="unlabeled").datalist["unlabeled"]
    assert stems(more) == ["o07", "n00", *(f"z{i:02d}" for i in range(5))]
    with refused("third_class", path):
        read_rsna(folder, split_file=path, third_class="abnormal")
    for name, parts in (
        ("z01.png", ("not a normal or abnormal image",)),
        ("n05.dcm", ("n05", "twice")),
        ("o02", ("o02", "label 0")),
    ):
        write(lists | {"test": {"0": [name]}})
        with refused(path, *parts):
            read_rsna(folder, split_file=path)
    with refused(folder / "none.json", "is missing"):
        read_rsna(folder, split_file=folder / "none.json")


def test_pixels_of_the_challenge_are_read(tmp_path, write_dicom):
    (tmp_path / IMAGES).mkdir()
    names = [f"p{i}" for i in range(9)]
    for i, name in enumerate(names):
        write_dicom(tmp_path / IMAGES / f"{name}.dcm", np.full((80, 80), i, np.uint8))
    kinds = [NORMAL] * 5 + [OPACITY] * 4
    rows = [f"{name},{kind}" for name, kind in zip(names, kinds, strict=True)]
    (tmp_path / CLASSES).write_text("\n".join(["patientId,class", *rows]))
    (tmp_path / LABELS).write_text("patientId,x,y,width,height,Target\np8,1,2,3,4,1\n")
    datalist = read_rsna(tmp_path).datalist
    assert sum(map(len, datalist.values())) == 9
    for item in every(datalist):
        assert (np.asarray(read_image(item["image"])) == int(item["patient"][1])).all()


def test_neither_layout(tmp_path, refused):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with refused(folder, "images/", "data.json", IMAGES, CLASSES, LABELS, "bundles/phantom/train.json"):
            read_rsna(folder)


@pytest.mark.parametrize(("table", "column"), [(CLASSES, "class"), (CLASSES, "patientId"), (LABELS, "Target")])
def test_missing_column(kaggle, table, column, refused):
    folder = kaggle()
    text = (folder / table).read_text()
    (folder / table).write_text(text.replace(column, "other", 1))
    with refused(folder / table, f"no column {column}"):
        read_rsna(folder)


def test_missing_images(kaggle, refused, caplog):
    """A missing image moves no other one to another split; without any the archive is not unpacked."""
    folder = kaggle()
    wanted = read_rsna(folder).datalist
    (folder / IMAGES / "o03.dcm").unlink()
    assert read_rsna(folder).datalist == wanted
    assert f"{folder / IMAGES / 'o03.dcm'} and 0 more" in caplog.text
    shutil.rmtree(folder / IMAGES)
    with refused(folder / IMAGES, "31 more"):
        read_rsna(folder)


def test_images_of_no_table(kaggle):
    folder = kaggle()
    wanted = read_rsna(folder).datalist
    for name in ("x1.dcm", "x2.dcm", "readme.txt", "._n01.dcm"):
        (folder / IMAGES / name).touch()
    datalist, left_out, _ = read_rsna(folder)
    assert datalist == wanted
    assert left_out == {"in no table": 2, f"of the class {THIRD}": 5}


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"patientId,class\n\xff\xfe,Normal\n", b"PK\x03\x04zip"])
def test_unreadable_table(kaggle, content, refused):
    folder = kaggle()
    (folder / CLASSES).write_bytes(content)
    with refused(folder / CLASSES):
        read_rsna(folder)


@pytest.mark.parametrize("box", [",,,", "1,2,3,wide", "1,2,,", "1,2,0,5", "1,2,3,-4", "nan,2,3,4", "1,2,inf,4"])
def test_broken_box(kaggle, box, refused):
    folder = kaggle()
    append(folder / LABELS, f"o00,{box},1")
    with refused(folder / LABELS, "o00", "not four numbers"):
        read_rsna(folder)


def test_the_whole_challenge_is_split_as_published():
    normal, opacity = (
        [{"image": f"{label} {i}", "label": label} for i in range(n)] for label, n in enumerate((8851, 6012))
    )
    assert counted(split_published(normal, opacity, TABLE_1, seed=0)) == (3851, 4000, 5012, 1000, 1000)


@pytest.fixture(scope="module")
def challenge(real_data, tmp_path_factory):
    """The challenge's own tables, and images that exist by their names only."""
    folder = tmp_path_factory.mktemp("rsna")
    with gzip.open(real_data / "labels" / f"{CLASSES}.gz") as file:
        (folder / CLASSES).write_bytes(file.read())
    with zipfile.ZipFile(real_data / "labels" / f"{LABELS}.zip") as archive:
        archive.extract(LABELS, folder)
    (folder / IMAGES).mkdir()
    for name in {line.split(",")[0] for line in (folder / LABELS).read_text().splitlines()[1:]}:
        os.link(folder / LABELS, folder / IMAGES / f"{name}.dcm")  # faster than so many files
    return folder


def test_real_tables(challenge):
    """The class table that is public lacks 79 of 26,684 images, of which 12 with Target 1 are known to be abnormal."""
    datalist, left_out, _ = read_rsna(challenge)
    items = every(datalist)
    assert [sum(item["label"] == label for item in items) for label in (0, 1)] == [8818, 6012]
    assert len({item["image"] for item in items}) == len(items) == 14_830
    assert counted(datalist) == (3837, 3985, 5012, 996, 1000)
    assert all(bool(item["boxes"]) == item["label"] for item in items)
    assert sum(len(item["boxes"]) for item in items) == 9555
    assert left_out == {f"of the class {THIRD}": 11_787, f"of no class: not in {CLASSES}, and Target 0": 67}
    assert len(items) + sum(left_out.values()) == 26_684


def test_the_published_list_of_the_real_challenge(challenge, real_data):
    """The list tells what the class table lacks: 33 normal and 12 abnormal images; so 34 are of the third class."""
    path = real_data / "splits" / "RSNA.json"
    datalist, left_out, _ = read_rsna(challenge, split_file=path)
    assert counted(datalist) == (3851, 4000, 5012, 1000, 1000)
    assert sum(counted(datalist)) == 8851 + 6012
    assert sum(left_out.values()) == 11_821
    assert left_out == {f"of the class {THIRD}": 11_787, f"not in {path}": 34}
    lists = json.loads(path.read_text())
    assert stems(datalist["normal"]) == [Path(name).stem for name in lists["train"]["0"]]
    for name, part in (("unlabeled", lists["train"]["unlabeled"]), ("test", lists["test"])):
        assert stems(datalist[name]) == [Path(file).stem for label in "01" for file in part[label]]
    in_classes = {line.split(",")[0] for line in (challenge / CLASSES).read_text().splitlines()[1:]}
    lacking = [item["label"] for item in every(datalist) if item["patient"] not in in_classes]
    assert (lacking.count(0), lacking.count(1)) == (33, 12)
    assert sum(len(item["boxes"]) for item in every(datalist)) == 9555


@pytest.mark.parametrize(("suffix", "size"), [(".png", 256), (".jpg", 512), (".PNG", 1024)])
def test_pictures_in_place_of_dicom(kaggle, suffix, size, caplog):
    """They are split as the DICOM files are, with the boxes in their own pixels; what is not square has none."""
    folder = kaggle()
    wanted = read_rsna(folder).datalist
    for path in list((folder / IMAGES).iterdir()):
        path.unlink()
        Image.new("L", (size, size)).save(path.with_suffix(suffix))
    Image.new("L", (size, size // 2)).save(folder / IMAGES / f"o05{suffix}")
    (folder / IMAGES / f"o07{suffix}").unlink()
    (folder / IMAGES / f"o09{suffix}").write_text("broken")
    datalist = read_rsna(folder).datalist
    assert {name: stems(items) for name, items in datalist.items()} == {n: stems(items) for n, items in wanted.items()}
    assert all(Path(item["image"]).suffix == suffix for item in every(datalist))
    items, before = ({item["patient"]: item for item in every(found)} for found in (datalist, wanted))
    assert items["n03"]["boxes"] == []
    assert items["o03"]["boxes"] == [[number * size / 1024 for number in box] for box in before["o03"]["boxes"]]
    assert "boxes" not in items["o05"]
    assert "boxes" not in items["o09"]
    assert "2 files of" in caplog.text
    assert f"o07{suffix} and 0 more" in caplog.text


def test_dicom_comes_before_pictures(kaggle):
    folder = kaggle()
    wanted = read_rsna(folder).datalist
    for name in ("o03.png", "n01.jpg"):
        (folder / IMAGES / name).touch()
    assert read_rsna(folder).datalist == wanted


def test_no_images_of_any_kind(kaggle, refused):
    folder = kaggle()
    shutil.rmtree(folder / IMAGES)
    with refused(folder / IMAGES, "unpack the archive again, or put PNG or JPEG files of the same names there"):
        read_rsna(folder)
