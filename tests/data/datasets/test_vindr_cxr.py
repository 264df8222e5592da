"""VinDr-CXR: three readers an image, in the challenge's table and in PhysioNet's pair of tables."""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from monai_sagan.cli import main
from monai_sagan.data.datasets import patients
from monai_sagan.data.datasets.vindr_cxr import NO_FINDING, TABLE, TABLE_1, read_vindr_cxr

COLUMNS = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")


def every(datalist):
    return [item for items in datalist.values() for item in items]


def stems(items):
    return [Path(item["image"]).stem for item in items]


def counted(datalist):
    kinds = [("normal", 0), ("unlabeled", 0), ("unlabeled", 1), ("test", 0), ("test", 1)]
    return tuple(sum(item["label"] == label for item in datalist[name]) for name, label in kinds)


def write_challenge(folder, rows):
    (folder / "train").mkdir(parents=True, exist_ok=True)
    for row in rows:
        (folder / "train" / f"{row.split(',')[0]}.dicom").touch()
    (folder / TABLE).write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return folder


def write_physionet(folder, labels, boxes, part="train"):
    (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for name in {row.split(",")[0] for row in labels}:
        path = folder / part / f"{name}.dicom"
        if not path.exists():
            path.touch()
    reader = "rad_id," if part == "train" else ""
    for name, columns, rows in (
        ("image_labels", f"{reader}COPD,{NO_FINDING}", labels),
        ("annotations", f"{reader}class_name,x_min,y_min,x_max,y_max", boxes),
    ):
        (folder / "annotations" / f"{name}_{part}.csv").write_text("\n".join([f"image_id,{columns}", *rows]) + "\n")
    return folder


def nothing(image, *readers):
    return [f"{image},{NO_FINDING},14,{reader},,,," for reader in readers]


def finding(image, reader, box="10,20,110,70"):
    return [f"{image},Cardiomegaly,3,{reader},{box}"]


MIXED = [
    *nothing("none", "R1", "R2", "R3"),
    *nothing("one", "R1", "R2"),
    *finding("one", "R3"),
    *nothing("two", "R1"),
    *finding("two", "R2"),
    *finding("two", "R3", "1.5,2,4,3"),
    *nothing("draw", "R1"),
    *finding("draw", "R2"),
]


@pytest.mark.parametrize(("agreement", "normal"), [("all", {"none"}), ("majority", {"none", "one"})])
def test_agreement_of_readers(tmp_path, agreement, normal):
    items = {
        Path(i["image"]).stem: i
        for i in every(read_vindr_cxr(write_challenge(tmp_path, MIXED), agreement=agreement).datalist)
    }
    assert {name for name, item in items.items() if item["label"] == 0} == normal
    assert items["two"]["boxes"] == [[10, 20, 100, 50], [1.5, 2, 2.5, 1]]
    assert all(items[name]["boxes"] == [] for name in normal)
    assert not any("patient" in item for item in items.values())  # nobody says whose they are


def test_the_same_from_both_forms(tmp_path):
    challenge = read_vindr_cxr(write_challenge(tmp_path / "a", MIXED)).datalist
    labels = [f"{name},{reader},0,1" for name, _, kind, reader, *_ in (row.split(",") for row in MIXED) if kind == "14"]
    labels += [f"{name},{reader},0,0" for name, _, kind, reader, *_ in (r.split(",") for r in MIXED) if kind != "14"]
    boxes = []
    for row in MIXED:
        name, kind, _, reader, *box = row.split(",")
        boxes.append(",".join([name, reader, kind, *box]))
    physionet = read_vindr_cxr(write_physionet(tmp_path / "b", labels, boxes)).datalist
    relative = [
        {name: [i | {"image": Path(i["image"]).name} for i in items] for name, items in datalist.items()}
        for datalist in (challenge, physionet)
    ]
    assert relative[0] == relative[1]


def test_a_finding_without_a_box(tmp_path):
    folder = write_physionet(tmp_path, ["a,R1,1,0", "b,R1,,1.0"], ["a,R1,No finding,,,,", "b,R1,No finding,,,,"])
    items = {Path(item["image"]).stem: item for item in every(read_vindr_cxr(folder).datalist)}
    assert items["a"]["label"] == 1
    assert "boxes" not in items["a"]
    assert (items["b"]["label"], items["b"]["boxes"]) == (0, [])


def test_official_test_part(tmp_path, refused):
    names = [f"n{i:02d}" for i in range(30)], [f"a{i:02d}" for i in range(30)]
    write_physionet(
        tmp_path,
        [f"{name},R1,{label},{1 - label}" for label, kind in enumerate(names) for name in kind],
        [f"{name},R1,Edema,1,2,3,4" for name in names[1]],
    )
    for name in ("t0", "t1", "t2"):
        (tmp_path / "test").mkdir(exist_ok=True)
        (tmp_path / "test" / f"{name}.dicom").touch()
    datalist, left_out, _ = read_vindr_cxr(tmp_path)
    assert left_out == {"of the official test part": 3}
    assert len(every(datalist)) == 60
    with refused("image_labels_test.csv", "is missing"):
        read_vindr_cxr(tmp_path, official_test=True)
    write_physionet(tmp_path, ["t0,0,1", "t1,1,0"], ["t1,Edema,1,2,3,4"], part="test")
    official, left_out, _ = read_vindr_cxr(tmp_path, official_test=True)
    assert left_out == {"in test/, but in no table": 1}
    assert [(Path(i["image"]).stem, i["label"], i["boxes"]) for i in official["test"]] == [
        ("t0", 0, []),
        ("t1", 1, [[1, 2, 2, 2]]),
    ]
    assert set(stems(official["normal"])) == set(stems(datalist["normal"]))
    assert set(stems(official["unlabeled"])) == set(stems(datalist["unlabeled"] + datalist["test"]))
    with refused("official_test", tmp_path):
        read_vindr_cxr(tmp_path, official_test=True, split_file=tmp_path / "lists.json")
    with refused("official_test"):
        read_vindr_cxr(write_challenge(tmp_path / "other", MIXED), official_test=True)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (finding("none", "R1")[0], ("none", "R1", "both")),
        (nothing("one", "R3")[0], ("one", "R3", "both")),
        (finding("two", "R2", "10,20,5,70")[0], ("two", "not four numbers")),
        (finding("two", "R2", "10,20,30,")[0], ("two", "not four numbers")),
        ("two,Cardiomegaly,fifteen,R2,1,2,3,4", ("two", "'fifteen'")),
        (",Cardiomegaly,3,R2,1,2,3,4", ("''",)),
    ],
)
def test_rows_that_contradict_each_other(tmp_path, refused, line, parts):
    with refused(tmp_path / TABLE, *parts):
        read_vindr_cxr(write_challenge(tmp_path, [*MIXED, line]))


def test_tables_that_contradict_each_other(tmp_path, refused):
    labels = ["a,R1,0,0", "b,R1,0,1"]
    for box, parts in (
        ("b,R1,Edema,1,2,3,4", ("b", "R1", "both")),
        ("c,R1,Edema,1,2,3,4", ("'c'", "image_labels_train.csv")),
        ("a,R2,Edema,1,2,3,4", ("'a'", "'R2'")),
        ("a,R1,Edema,,,,", ("a", "not four numbers")),
    ):
        with refused("annotations_train.csv", *parts):
            read_vindr_cxr(write_physionet(tmp_path, labels, [box]))


def test_options_are_checked(tmp_path, refused):
    with refused("agreement", "'most'", "majority"):
        read_vindr_cxr(write_challenge(tmp_path, MIXED), agreement="most")
    with refused("official_test", "'no'"):
        read_vindr_cxr(tmp_path, official_test="no")
    with refused(tmp_path / "nowhere", "data.json", TABLE, "image_labels_train.csv"):
        read_vindr_cxr(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def real_rows(real_data):
    with gzip.open(real_data / "labels" / "vinbigdata_train.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def challenge(real_data, real_rows, tmp_path_factory):
    """The challenge's own table, and images that exist by their names only."""
    folder = tmp_path_factory.mktemp("vindr")
    (folder / TABLE).write_bytes(gzip.decompress((real_data / "labels" / "vinbigdata_train.csv.gz").read_bytes()))
    (folder / "train").mkdir()
    for name in {row["image_id"] for row in real_rows}:
        os.link(folder / TABLE, folder / "train" / f"{name}.dicom")  # faster than so many files
    return folder


def test_real_table(challenge, real_rows):
    datalist, left_out, _ = read_vindr_cxr(challenge)
    assert counted(datalist) == TABLE_1 == (4000, 5606, 3394, 1000, 1000)
    items = every(datalist)
    assert [sum(item["label"] == label for item in items) for label in (0, 1)] == [10_606, 4394]
    assert len({item["image"] for item in items}) == len(items) == 15_000
    # One reader's box counts once, also where it stands for two findings.
    boxes = {tuple(row[name] for name in ("image_id", "rad_id", *COLUMNS[4:])) for row in real_rows if row["x_min"]}
    assert sum(len(item["boxes"]) for item in items) == len(boxes) == 31_931
    assert left_out == {}


def test_real_published_list_and_physionets_form(challenge, real_rows, real_data):
    """The published list holds just the images that the table calls so; PhysioNet's form of the rows says the same."""
    path = real_data / "splits" / "VinCXR.json"
    datalist = read_vindr_cxr(challenge, split_file=path).datalist
    assert counted(datalist) == TABLE_1
    lists = json.loads(path.read_text())
    assert stems(datalist["normal"]) == [Path(name).stem for name in lists["train"]["0"]]
    for name, part in (("unlabeled", lists["train"]["unlabeled"]), ("test", lists["test"])):
        assert stems(datalist[name]) == [Path(file).stem for label in "01" for file in part[label]]
    readings = {(row["image_id"], row["rad_id"]): row["class_id"] == "14" for row in real_rows}
    assert len(readings) == 45_000
    write_physionet(challenge, [f"{name},{reader},0,{int(none)}" for (name, reader), none in readings.items()], [])
    columns = ("image_id", "rad_id", "class_name", *COLUMNS[4:])
    with (challenge / "annotations" / "annotations_train.csv").open("a") as file:
        file.writelines(",".join(row[column] for column in columns) + "\n" for row in real_rows)
    try:
        assert read_vindr_cxr(challenge, split_file=path).datalist == datalist
    finally:
        for table in (challenge / "annotations").iterdir():
            table.unlink()


@pytest.fixture
def with_headers(tmp_path, write_dicom):
    """The challenge's layout with real headers: of 60 images each three are of one patient, or of nobody."""

    def write(named):
        names = [f"i{i:02d}" for i in range(60)]
        finding, nothing = "Cardiomegaly,3,R1,1,2,3,4", "No finding,14,R1,,,,"
        rows = [f"{name},{finding if i // 3 % 2 else nothing}" for i, name in enumerate(names)]
        columns = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
        (tmp_path / "set" / "train").mkdir(parents=True)
        (tmp_path / "set" / "train.csv").write_text("\n".join([columns, *rows]) + "\n")
        for i, name in enumerate(names):
            known = {"PatientID": f"p{i // 3}"} if named else {}
            write_dicom(tmp_path / "set" / "train" / f"{name}.dicom", np.zeros((8, 8), np.uint8), **known)
        return tmp_path / "set"

    return write


def test_images_are_split_by_the_patients_of_their_headers(with_headers, capsys):
    folder = with_headers(True)
    (folder / "train" / "i07.dicom").write_text("broken")
    datalist = read_vindr_cxr(folder).datalist
    places = {}
    for name, items in datalist.items():
        for item in items:
            places.setdefault(item.get("patient"), set()).add(name)
    assert len(places) == 21
    assert all(len(names) == 1 for patient, names in places.items() if patient)
    assert all(datalist.values())
    main(["data", str(folder)])
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert sum(int(lines[name][5]) for name in datalist) == 20


def test_headers_that_name_nobody_are_not_all_read(with_headers, monkeypatch):
    folder = with_headers(False)
    read = []
    run = patients.run_task
    monkeypatch.setattr(patients, "run_task", lambda task: read.extend(task.images) or run(task))
    assert not any("patient" in item for items in read_vindr_cxr(folder).datalist.values() for item in items)
    assert len(read) == 8


def test_pictures_in_place_of_dicom(tmp_path, caplog):
    """They are split as the DICOM files are; boxes, which are in pixels of files of unknown size, are left out."""
    labels = [f"{name},R1,{label},{1 - label}" for label in (0, 1) for name in (f"{label}{i:02d}" for i in range(20))]
    boxes = [f"1{i:02d},R1,Edema,1,2,300,400" for i in range(20)]
    folders = {"a": (write_challenge, MIXED), "b": (write_physionet, labels, boxes)}
    for name, (write, *rows) in folders.items():
        folder = write(tmp_path / name, *rows)
        wanted = read_vindr_cxr(folder).datalist
        for path in list((folder / "train").iterdir()):
            path.rename(path.with_suffix(".png"))
        caplog.clear()
        datalist = read_vindr_cxr(folder).datalist
        assert {n: stems(items) for n, items in datalist.items()} == {n: stems(items) for n, items in wanted.items()}
        assert [item["label"] for item in every(datalist)] == [item["label"] for item in every(wanted)]
        assert all(item["image"].endswith(".png") for item in every(datalist))
        assert all(item.get("boxes") == (None if item["label"] else []) for item in every(datalist))
        boxed = sum(bool(item.get("boxes")) for item in every(wanted))
        assert f"the boxes of {boxed} images are left out" in caplog.text
