"""What holds for every dataset reader, over one table: a row more covers a reader more.

Each row writes a small copy of the layout as its owner ships it. Images whose names start with n are normal, with a
abnormal, and of those with u nobody knows.
"""

from __future__ import annotations

import copy
import gzip
import inspect
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from monai_sagan.data.datalist import make_splits
from monai_sagan.data.datasets import folder, image_table, lag, med_ad, rsna, vindr_cxr
from monai_sagan.data.datasets.items import Reading
from monai_sagan.data.datasets.layouts import LAYOUTS, read_dataset
from monai_sagan.data.formats.decode import read_image

NORMAL, ABNORMAL = ([f"{kind}{i:02d}" for i in range(count)] for kind, count in (("n", 20), ("a", 12)))


@dataclass
class Reader:
    """A row of the table.

    Args:
        name: of the reader's layout.
        read: the reader.
        write: writes a copy into a folder; returns how many images of each kind are read of it.
        options: of the reader.
        seed: the option that changes the split, if any.
        broken: name of a defect -> what causes it, and what the message names (None: it does no harm).
    """

    name: str
    read: Callable
    write: Callable[[Path], tuple[int, ...]]
    options: dict = field(default_factory=dict)
    seed: str | None = None
    broken: dict = field(default_factory=dict)


def touch(folder, names, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}{suffix}").touch()


def write_table(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    random.Random(0).shuffle(rows)
    path.write_text("\n".join([columns, *rows]) + "\n")


def edit(name, old, new, count=1):
    """A defect: another text in a file."""

    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, count))

    return change


def add(name, line):
    """A defect: one more line in a table."""
    return lambda folder: (folder / name).write_text((folder / name).read_text() + line + "\n")


def remove(name):
    """A defect: a file that is missing."""
    return lambda folder: (folder / name).unlink()


def remove_all(pattern):
    """A defect: images that are all missing, as in a wrong folder."""

    def change(folder):
        for path in list(folder.glob(pattern)):
            path.unlink()

    return change


def write_med_ad(folder):
    lists = {
        "train": {"0": ["n00.png", "n01.png"], "unlabeled": {"0": ["n02.png"], "1": ["a00.png", "a01.png"]}},
        "test": {"0": ["n03.png"], "1": ["a02.png"]},
    }
    touch(folder / "images", ["n00", "n01", "n02", "n03", "a00", "a01", "a02"], ".png")
    (folder / "data.json").write_text(json.dumps(lists))
    (folder / "items.json").write_text(json.dumps({"n00.png": {"patient": "p0"}, "a02.png": {"patient": "p1"}}))
    return 2, 1, 2, 1, 1


def write_rsna(folder):
    third = [f"z{i}" for i in range(5)]
    boxes = {name: 1 + i % 2 for i, name in enumerate(ABNORMAL)}
    classes = [f"{name},{rsna.OPACITY}" for name in ABNORMAL for _ in range(boxes[name])]
    classes += [f"{name},{rsna.NORMAL}" for name in NORMAL] + [f"{name},{rsna.THIRD}" for name in third]
    labels = [f"{name},{10.5 * i},20,30,40,1" for name in ABNORMAL for i in range(boxes[name])]
    write_table(folder / rsna.CLASSES, "patientId,class", classes)
    write_table(
        folder / rsna.LABELS, "patientId,x,y,width,height,Target", labels + [f"{n},,,,,0" for n in NORMAL + third]
    )
    touch(folder / rsna.IMAGES, [*NORMAL, *ABNORMAL, *third], ".dcm")
    return 9, 9, 10, 2, 2


def write_vindr_challenge(folder):
    rows = [f"{name},{vindr_cxr.NO_FINDING},14,R{reader},,,," for name in NORMAL for reader in range(3)]
    rows += [f"{name},Cardiomegaly,3,R{reader},1.5,2,30,40" for name in ABNORMAL for reader in range(3)]
    write_table(folder / vindr_cxr.TABLE, "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max", rows)
    touch(folder / "train", NORMAL + ABNORMAL, ".dicom")
    return 8, 10, 9, 2, 3


def write_vindr_physionet(folder):
    for part, normal, abnormal, readers in (
        ("train", NORMAL, ABNORMAL, ["R1", "R2", "R3"]),
        ("test", ["n90", "n91", "n92"], ["a90", "a91"], [""]),
    ):
        column = "rad_id," if part == "train" else ""
        labels, boxes = [], []
        for name in normal + abnormal:
            for reader in readers:
                who = f"{name},{reader}," if column else f"{name},"
                normal_row = name in normal
                labels.append(f"{who}{int(not normal_row)},0,{int(normal_row)}")
                boxes.append(f"{who}No finding,,,," if normal_row else f"{who}Cardiomegaly,1.5,2,30,40")
        other = "Other disease" if part == "train" else "Other diseases"
        path = folder / "annotations"
        write_table(path / f"image_labels_{part}.csv", f"image_id,{column}Cardiomegaly,{other},No finding", labels)
        write_table(path / f"annotations_{part}.csv", f"image_id,{column}class_name,x_min,y_min,x_max,y_max", boxes)
        touch(folder / part, normal + abnormal, ".dicom")
    return 8, 10, 9, 2, 3


def write_vindr_official_test(folder):
    write_vindr_physionet(folder)
    return 8, 12, 12, 3, 2


def write_lag(folder):
    for kind, names in ((lag.NORMAL, NORMAL), (lag.ABNORMAL, ABNORMAL)):
        touch(folder / kind / "image", names, ".jpg")
        touch(folder / kind / "attention_map", names, ".jpg")
        touch(folder / kind / "label", names, ".txt")
    return 10, 5, 6, 5, 6


def write_lag_archive(folder):
    counts = write_lag(folder / lag.ARCHIVE)
    for kind in (lag.NORMAL, lag.ABNORMAL):
        inner = folder / lag.ARCHIVE / kind
        for path in (inner / "image").iterdir():
            path.rename(inner / path.name)
        (inner / "image").rmdir()
    return counts


def write_folder(folder):
    touch(folder / "normal" / "deep" / "er", ["n00.png", "n01.JPG", "notes.txt"])
    touch(folder / "normal", ["n02.dcm", ".hidden.png"])
    touch(folder / "unlabeled", ["u00.tif", "u01.bmp", "u02.webp"])
    touch(folder / "test" / "normal", ["n03.jpeg"])
    touch(folder / "test" / "abnormal", ["a00.tiff", "a01.png"])
    return 3, 0, 0, 1, 2


def write_folder_benchmark(folder):
    write_folder(folder)
    for path in (folder / "unlabeled").iterdir():
        path.unlink()
    touch(folder / "unlabeled" / "normal", ["n10.png"])
    touch(folder / "unlabeled" / "abnormal", ["a10.png", "a11.png"])
    return 3, 1, 2, 1, 2


def write_table_of_splits(folder):
    rows = [
        *("x/n00.png,normal,,p0,F,43.5", "x/n01.png,normal,0,p0,F,44", "x/u00.png,unlabeled,,p1,M,"),
        *("x/a00.png,unlabeled,abnormal,,M,0", "x/n02.png,test,Normal,p2,,", "x/a01.png,test,1,p3,F,90"),
    ]
    write_table(folder / "images.csv", "image,split,label,patient,sex,age", rows)
    touch(folder / "x", ["n00.png", "n01.png", "u00.png", "a00.png", "n02.png", "a01.png"])
    return 2, 0, 1, 1, 1


def write_table_of_labels(folder):
    """Two normal images a patient; the last three of these patients have abnormal ones, too."""
    rows = [f"{name}.png,0,p{i // 2}" for i, name in enumerate(NORMAL)]
    rows += [f"{name}.png,1,p{7 + i // 2}" for i, name in enumerate(ABNORMAL)] + ["u00.png,,p77"]
    write_table(folder / "images.csv", "file,label,patient", rows)
    touch(folder, [*NORMAL, *ABNORMAL, "u00"], ".png")
    return 8, 8, 10, 4, 2


PHYSIONET = "annotations/image_labels_train.csv"
BOXES = "annotations/annotations_train.csv"
VINDR_BROKEN = {
    "missing file": (remove("train/n03.dicom"), None),
    "no images": (remove_all("train/*.dicom"), ("train/", "31 more images", "are not there")),
    "file of no table": (lambda folder: touch(folder / "train", ["n99.dicom"]), None),
}
RSNA_BROKEN = {
    "missing table": (remove(rsna.LABELS), (rsna.LABELS, "is missing")),
    "missing column": (edit(rsna.CLASSES, "class", "kind"), (rsna.CLASSES, "no column class")),
    "duplicate class row": (add(rsna.CLASSES, f"n03,{rsna.NORMAL}"), None),
    "duplicate box": (add(rsna.LABELS, "a00,0.0,20,30,40,1"), None),
    "unknown class": (edit(rsna.CLASSES, f"n03,{rsna.NORMAL}", "n03,normal"), (rsna.CLASSES, "n03", "'normal'")),
    "two classes": (add(rsna.CLASSES, f"n03,{rsna.OPACITY}"), (rsna.CLASSES, "n03", "two classes")),
    "missing file": (remove(f"{rsna.IMAGES}/a03.dcm"), None),
    "no images": (remove_all(f"{rsna.IMAGES}/*.dcm"), (f"{rsna.IMAGES}/", "31 more images", "are not there")),
    "missing class table": (remove(rsna.CLASSES), (rsna.CLASSES, "is missing")),
}

READERS = {
    "med_ad": Reader(
        "med_ad",
        med_ad.read_med_ad,
        write_med_ad,
        broken={
            "missing table": (remove("data.json"), ("data.json", "is missing")),
            "missing column": (edit("data.json", '"unlabeled"', '"mixed"'), ("data.json", "lacks a list")),
            "duplicate row": (edit("data.json", '"n02.png"', '"n02.png", "n00.png"'), ("n00.png", "listed twice")),
            "unknown class": (edit("data.json", '"1": ["a02', '"2": ["a02'), ("data.json", "'2'")),
            "missing file": (remove("images/n03.png"), None),
            "no images": (remove_all("images/*"), ("images/a00.png", "6 more images", "data.json", "not there")),
        },
    ),
    "rsna": Reader("rsna", rsna.read_rsna, write_rsna, seed="split_seed", broken=RSNA_BROKEN),
    "vindr_cxr challenge": Reader(
        "vindr_cxr",
        vindr_cxr.read_vindr_cxr,
        write_vindr_challenge,
        seed="split_seed",
        broken=VINDR_BROKEN
        | {
            "missing table": (remove("train.csv"), ("train.csv", "is missing", "annotations/")),
            "missing column": (edit("train.csv", "rad_id", "reader"), ("train.csv", "no column rad_id")),
            "duplicate row": (add("train.csv", "a00,Cardiomegaly,3,R0,1.5,2,30,40"), None),
            "duplicate healthy row": (add("train.csv", "n00,No finding,14,R0,,,,"), None),
            "unknown class": (add("train.csv", "a00,Broken rib,15,R0,1,2,3,4"), ("train.csv", "a00", "'15'")),
            "class of another name": (add("train.csv", "a00,No finding,3,R0,1,2,3,4"), ("train.csv", "a00", "'3'")),
        },
    ),
    "vindr_cxr physionet": Reader(
        "vindr_cxr",
        vindr_cxr.read_vindr_cxr,
        write_vindr_physionet,
        seed="split_seed",
        broken=VINDR_BROKEN
        | {
            "missing table": (remove(BOXES), (BOXES, "is missing")),
            "missing column": (edit(PHYSIONET, "No finding", "Nothing"), (PHYSIONET, "no column No finding")),
            "duplicate row": (add(PHYSIONET, "n00,R1,0,0,1"), None),
            "duplicate box": (add(BOXES, "a00,R1,Cardiomegaly,1.5,2,30,40"), None),
            "unknown class": (add(PHYSIONET, "n00,R1,0,0,maybe"), (PHYSIONET, "n00", "'maybe'")),
        },
    ),
    "vindr_cxr official test": Reader(
        "vindr_cxr",
        vindr_cxr.read_vindr_cxr,
        write_vindr_official_test,
        {"official_test": True},
        seed="split_seed",
        broken=VINDR_BROKEN
        | {
            "missing test file": (remove("test/a90.dicom"), None),
            "no test images": (remove_all("test/*.dicom"), ("test/", "4 more images", "are not there")),
        },
    ),
    "lag": Reader(
        "lag",
        lag.read_lag,
        write_lag,
        seed="resplit",
        broken={
            "missing folder": (
                lambda folder: (folder / lag.NORMAL).rename(folder / "healthy"),
                (lag.NORMAL, "no images"),
            ),
            "two classes": (
                lambda folder: touch(folder / lag.NORMAL / "image", ["a03.jpg"]),
                ("a03", lag.NORMAL, lag.ABNORMAL),
            ),
            "other files": (lambda folder: touch(folder / lag.NORMAL / "image", ["Thumbs.db", "._n1.jpg"]), None),
        },
    ),
    "lag archive": Reader("lag", lag.read_lag, write_lag_archive, seed="resplit"),
    "folder": Reader(
        "folder",
        folder.read_folder,
        write_folder,
        broken={
            "missing folder": (
                lambda folder: (folder / "unlabeled").rename(folder / "mixed"),
                ("no folder", "unlabeled", "test/abnormal/"),
            ),
            "no images": (lambda folder: [p.unlink() for p in (folder / "unlabeled").iterdir()], ("no images in",)),
            "other files": (lambda folder: touch(folder / "unlabeled", ["Thumbs.db", ".DS_Store", "DICOMDIR"]), None),
            "images in other places": (lambda folder: touch(folder / "Test" / "normal", ["n77.png"]), None),
            "named pipe": (lambda folder: os.mkfifo(folder / "normal" / "pipe"), None),
        },
    ),
    "folder benchmark": Reader(
        "folder",
        folder.read_folder,
        write_folder_benchmark,
        broken={
            "system files": (lambda folder: touch(folder / "unlabeled", ["Thumbs.db", "desktop.ini", "x.txt"]), None)
        },
    ),
    "table of splits": Reader(
        "table",
        image_table.read_table,
        write_table_of_splits,
        broken={
            "missing table": (remove("images.csv"), ("no table", "images.csv")),
            "missing column": (edit("images.csv", "image", "picture"), ("images.csv", "no column image or path")),
            "duplicate row": (add("images.csv", "x/n00.png,normal,,p0,F,43.5"), ("n00.png", "listed twice")),
            "unknown class": (edit("images.csv", "abnormal", "ill"), ("images.csv", "a00.png", "'ill'")),
            "unknown split": (edit("images.csv", "unlabeled", "train"), ("images.csv", "'train'")),
            "missing file": (remove("x/n02.png"), None),
            "no images": (remove_all("x/*.png"), ("5 more files", "not there")),
        },
    ),
    "table of labels": Reader(
        "table",
        image_table.read_table,
        write_table_of_labels,
        seed="split_seed",
        broken={
            "missing column": (edit("images.csv", "label", "class"), ("images.csv", "split", "label")),
            "unknown class": (edit("images.csv", "n03.png,0", "n03.png,2"), ("images.csv", "n03.png", "'2'")),
        },
    ),
}  # fmt: skip
BROKEN = [(name, defect) for name, reader in READERS.items() for defect in reader.broken]


@pytest.fixture
def dataset(tmp_path):
    """Read a row's layout, written again: the folder, what it holds, the datalist."""

    def written(name):
        counts = READERS[name].write(tmp_path / "set")
        return tmp_path / "set", counts, read(name, tmp_path / "set")

    return written


def read(name, folder, **options):
    return READERS[name].read(folder, **READERS[name].options, **options).datalist


def every(datalist):
    return [item for items in datalist.values() for item in items]


def counted(datalist):
    """Normal, unlabeled normal, unlabeled abnormal, test normal, test abnormal."""
    kinds = [("normal", 0), ("unlabeled", 0), ("unlabeled", 1), ("test", 0), ("test", 1)]
    return tuple(sum(item["label"] == label for item in datalist[name]) for name, label in kinds)


def test_every_layout_has_a_row():
    assert {reader.name for reader in READERS.values()} == set(LAYOUTS)


@pytest.mark.parametrize("name", READERS)
def test_what_is_read(dataset, name):
    _, counts, datalist = dataset(name)
    assert list(datalist) == ["normal", "unlabeled", "test"]
    assert counted(datalist) == counts
    items = every(datalist)
    names = [Path(item["image"]).name for item in items]
    assert len(names) == len(set(names)) == len({item["image"] for item in items})
    assert all(item["label"] == {"n": 0, "a": 1, "u": None}[file[0]] for item, file in zip(items, names, strict=True))
    assert {item["label"] for item in datalist["normal"]} <= {0}
    assert all(isinstance(item["image"], str) and Path(item["image"]).is_file() for item in items)
    assert pickle.loads(pickle.dumps(datalist)) == datalist
    assert json.loads(json.dumps(datalist)) == datalist


@pytest.mark.parametrize("name", READERS)
def test_the_result_is_a_reading(tmp_path, name):
    """One type for all; options come back as they were given, and only reasons that apply are named."""
    folder, reader = tmp_path / "set", READERS[name]
    reader.write(folder)
    options = {"shares": [0.4, 0.4, 0.2]} if reader.read is image_table.read_table else {}
    options = json.loads(json.dumps(reader.options | options))
    given = copy.deepcopy(options)
    found = reader.read(folder, **options)
    assert type(found) is Reading
    assert options == given
    assert all(isinstance(reason, str) and reason and count > 0 for reason, count in found.left_out.items())
    assert all(isinstance(text, str) and text for note in found.notes.items() for text in note)
    required = [p.name for p in inspect.signature(reader.read).parameters.values() if p.default is p.empty]
    assert required == ["dataset_dir"]


@pytest.mark.parametrize("name", ["med_ad", "rsna", "vindr_cxr physionet", "folder"])
def test_images_left_out_are_counted_with_a_reason(tmp_path, name):
    folder = tmp_path / "set"
    READERS[name].write(folder)
    before = READERS[name].read(folder).left_out
    place = {"med_ad": "images", "rsna": rsna.IMAGES, "vindr_cxr physionet": "train", "folder": "test/normal/../other"}
    touch(folder / place[name], ["x99"], {"med_ad": ".png", "folder": ".png", "rsna": ".dcm"}.get(name, ".dicom"))
    after = READERS[name].read(folder).left_out
    assert sum(after.values()) == sum(before.values()) + 1


@pytest.mark.parametrize("name", READERS)
def test_patients_and_boxes(dataset, name):
    _, _, datalist = dataset(name)
    places = {}
    for split, items in datalist.items():
        for item in items:
            if "patient" in item:
                places.setdefault(item["patient"], set()).add(split)
            for box in item.get("boxes", []):
                assert item["label"] == 1
                assert len(box) == 4
                assert box[2] > 0
                assert box[3] > 0
            assert "boxes" not in item or bool(item["boxes"]) == item["label"]
    assert all(len(splits) == 1 for splits in places.values())


@pytest.mark.parametrize("name", READERS)
def test_seed_decides(dataset, refused, name):
    folder, counts, datalist = dataset(name)
    assert read(name, str(folder)) == datalist
    seed = READERS[name].seed
    if seed:
        first, second = read(name, folder, **{seed: 1}), read(name, folder, **{seed: 2})
        assert first == read(name, folder, **{seed: 1})
        assert counted(first) == counted(second) == counts
        chosen = [{item["image"] for item in lists["unlabeled"]} for lists in (datalist, first, second)]
        assert chosen[0] != chosen[1] != chosen[2] != chosen[0]
        for value in ("one", 0.5, True):
            with refused("seed", value):
                read(name, folder, **{seed: value})


@pytest.mark.parametrize(("name", "defect"), BROKEN)
def test_broken(dataset, refused, name, defect):
    folder, _, datalist = dataset(name)
    cause, parts = READERS[name].broken[defect]
    cause(folder)
    if parts is None:
        assert read(name, folder) == datalist
    else:
        with refused(*parts):
            read(name, folder)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", READERS)
def test_tables_saved_by_other_programs(dataset, name, encoding):
    folder, _, datalist = dataset(name)
    for path in [*folder.rglob("*.csv"), *folder.rglob("*.json")]:
        path.write_bytes((path.read_text().replace("\n", "\r\n") + "\r\n\r\n").encode(encoding))
    assert read(name, folder) == datalist


@pytest.mark.parametrize("pack", ["gz", "zip"])
@pytest.mark.parametrize("name", READERS)
def test_packed_tables(dataset, name, pack):
    folder, _, datalist = dataset(name)
    for path in list(folder.rglob("*.csv")):
        if pack == "gz":
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        else:
            with zipfile.ZipFile(path.with_name(f"{path.name}.zip"), "w") as archive:
                archive.write(path, path.name)
                archive.writestr(f"__MACOSX/._{path.name}", b"")
        path.unlink()
    assert read_dataset(folder, **READERS[name].options).datalist == datalist


@pytest.mark.parametrize("name", READERS)
def test_letters_of_column_names_do_not_matter(dataset, name):
    folder, _, datalist = dataset(name)
    for path in folder.rglob("*.csv"):
        header, *rows = path.read_text().split("\n")
        path.write_text("\n".join([header.title(), *rows]))
    assert read(name, folder) == datalist


@pytest.mark.parametrize("name", READERS)
def test_a_missing_image_is_listed_and_refused_when_it_is_read(dataset, refused, name, caplog):
    folder, _, datalist = dataset(name)
    path = Path(every(datalist)[0]["image"])
    path.unlink()
    if READERS[name].name in ("lag", "folder"):  # without a table nobody misses it; a link that leads nowhere is one
        path.symlink_to(path.parent / "nowhere")
    assert read(name, folder) == datalist
    with refused(path, "not there"):
        read_image(path)
    if READERS[name].name not in ("lag", "folder"):
        assert "count as unreadable" in caplog.text


@pytest.mark.parametrize("content", [b"", b"just some text\n" * 20])
@pytest.mark.parametrize("name", READERS)
def test_broken_images_are_listed_and_refused_when_they_are_read(dataset, refused, name, content):
    folder, _, datalist = dataset(name)
    path = Path(every(datalist)[0]["image"])
    path.write_bytes(content)
    assert read(name, folder) == datalist
    with refused(path, "not a readable image"):
        read_image(path)


@pytest.mark.parametrize("name", READERS)
def test_layout_is_recognized(dataset, name):
    folder, _, datalist = dataset(name)
    found = read_dataset(folder, **READERS[name].options)
    assert found.layout == READERS[name].name
    assert found.evidence
    assert found.datalist == datalist
    assert all(count > 0 for count in found.left_out.values())


@pytest.mark.parametrize("name", [name for name in READERS if not name.startswith(("med_ad", "table", "folder"))])
def test_splits_can_be_made(dataset, name):
    _, _, datalist = dataset(name)
    splits = make_splits(datalist, anomaly_ratio=0.5, valid_fraction=0.2)
    assert splits["test"] == datalist["test"]


@pytest.mark.parametrize("name", READERS)
def test_no_folder(tmp_path, refused, name):
    with refused(tmp_path / "nowhere"):
        read(name, tmp_path / "nowhere")
