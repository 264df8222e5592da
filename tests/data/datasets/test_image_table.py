"""One table of one's own: paths, splits or labels, and what else is known."""

from __future__ import annotations

import gzip
import logging
import os
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_sagan.data.datasets.folder import read_folder
from monai_sagan.data.datasets.image_table import read_table


@pytest.fixture
def write(tmp_path):
    """Write a table and the files that it names; returns the folder."""

    def written(text, name="images.csv", files=("a.png", "b.png", "c.png", "d.png")):
        for file in files:
            (tmp_path / file).touch()
        (tmp_path / name).write_text(text)
        return tmp_path

    return written


def names(items):
    return [Path(item["image"]).name for item in items]


def test_all_columns(write):
    folder = write(
        "split,image,label,patient,view,sex,age,site,mask,comment\n"
        "normal,a.png,,p1,PA,F,7,A,,x\n"
        "unlabeled,b.png,,,,,,,,\n"
        'test,c.png,Abnormal,p2,AP,M,0.5,"B, C",d.png,y\n'
    )
    assert read_table(folder).datalist == {
        "normal": [
            {
                "image": str(folder / "a.png"),
                "label": 0,
                "patient": "p1",
                "view": "PA",
                "sex": "F",
                "site": "A",
                "age": 7,
            }
        ],
        "unlabeled": [{"image": str(folder / "b.png"), "label": None}],
        "test": [
            {"image": str(folder / "c.png"), "label": 1, "patient": "p2", "view": "AP", "sex": "M", "site": "B, C"}
            | {"mask": str(folder / "d.png"), "age": 0.5}
        ],
    }


def test_where_the_table_is(write, refused):
    folder = write("path,split\na.png,normal\n", name="mine.txt")
    wanted = read_table(folder / "mine.txt").datalist
    assert names(wanted["normal"]) == ["a.png"]
    assert read_table(str(folder), table="mine.txt").datalist == wanted
    with refused(folder / "images.csv", "--dataset_dir"):
        read_table(folder)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_separators(write, mark):
    folder = write("file;split;label\na.png;normal;0\nb.png;test;1\n".replace(";", mark))
    assert names(read_table(folder).datalist["test"]) == ["b.png"]


def test_other_column_of_images(write, refused):
    folder = write("image,picture,split\nx.png,a.png,normal\n")
    assert names(read_table(folder, image_column="picture").datalist["normal"]) == ["a.png"]
    with refused("images.csv", "no column photo"):
        read_table(folder, image_column="photo")


def test_slices_and_absolute_paths(write, tmp_path_factory):
    far = tmp_path_factory.mktemp("far") / "v.nii.gz"
    far.touch()
    folder = write(f"image,split\n{far}#z3,normal\n{far}#z4,normal\nodd#1.png,normal\n", files=["odd#1.png"])
    assert [item["image"] for item in read_table(folder).datalist["normal"]] == [
        f"{far}#z3",
        f"{far}#z4",
        str(folder / "odd#1.png"),
    ]


def test_split_by_label_and_patient(write):
    files = [f"{i:03d}.png" for i in range(300)]
    rows = [f"{file},{int(i >= 200)},p{i // 3}" for i, file in enumerate(files)]
    folder = write("\n".join(["image,label,patient", *rows]), files=files)
    datalist = read_table(folder).datalist
    places = {}
    for split, items in datalist.items():
        for item in items:
            places.setdefault(item["patient"], set()).add(split)
    assert all(len(splits) == 1 for splits in places.values())
    assert len(places) == 100
    counts = {name: [[i["label"] for i in items].count(label) for label in (0, 1)] for name, items in datalist.items()}
    wanted = {"normal": [80, 0], "unlabeled": [80, 80], "test": [40, 20]}
    assert all(abs(counts[name][k] - wanted[name][k]) <= 3 for name in wanted for k in (0, 1))
    more = read_table(folder, shares=(0.7, 0.3, 0.0)).datalist
    assert more["test"] == []
    assert abs(len(more["normal"]) - 140) <= 3


def test_patients_of_many_images_reach_the_test(write):
    files = [f"{i:02d}.png" for i in range(24)]
    rows = [f"{file},{int(i >= 12)},p{i // 3}" for i, file in enumerate(files)]
    test = read_table(write("\n".join(["image,label,patient", *rows]), files=files)).datalist["test"]
    assert [item["label"] for item in test].count(1) == 3  # 2.4 of 12 are wanted, and each patient has three


def test_test_images_need_no_label(write):
    datalist = read_table(write("image,split,label\na.png,test,\nb.png,test,1\n")).datalist
    assert [item["label"] for item in datalist["test"]] == [None, 1]
    assert [item["label"] for item in read_table(write("image,split\na.png,test\n")).datalist["test"]] == [None]


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.6, 0.1), (-0.2, 1.0, 0.2), (0.0, 0.0, 1.0), 1, "abc", None])
def test_shares_are_checked(write, shares, refused):
    with refused("shares"):
        read_table(write("image,label\na.png,0\n"), shares=shares)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ("no row or no column image or path or file",)),
        ("image,split\n", ("no row",)),
        ("image,patient\na.png,p\n", ("neither a column split nor a column label",)),
        ("image,image,split\na.png,b.png,normal\n", ("more than one column image",)),
        ("image,split\n,normal\n", ("a row without image",)),
        ("image,split\na.png,\n", ("a.png", "split ''")),
        ("image,split\na.png,valid\n", ("a.png", "split 'valid'", "unlabeled")),
        ("image,split,label\na.png,normal,1\n", ("a.png", "split normal")),
        ("image,label\na.png,2\n", ("a.png", "label '2'")),
        ("image,label,age\na.png,1,old\n", ("a.png", "age 'old'")),
        ("image,label,age\na.png,1,-3\n", ("a.png", "age '-3'")),
        ("image,label\na.png,1\nx/../a.png,0\n", ("a.png", "listed twice")),
        ("image,label\nx.png,1\ny.png,0\n", ("x.png", "1 more")),
        ("image,label,mask\na.png,1,no.png\n", ("no.png", "0 more")),
        ('image,label\n"a.png,1\n', ("images.csv",)),
        ("image,label\na.png\x00,1\n", ("images.csv",)),
    ],
)
def test_broken_tables(write, refused, text, parts):
    folder = write(text)
    with refused(folder, *parts):
        read_table(folder)


def test_table_of_another_encoding(write, refused):
    folder = write("")
    (folder / "images.csv").write_bytes("image,label\ncafé.png,1\n".encode("utf-16"))
    with refused(folder / "images.csv", "UTF-8"):
        read_table(folder)


def test_patients_that_only_the_files_know(tmp_path, write_dicom):
    """Slices of a volume and DICOM files of a patient stay together, also those without a label."""
    volumes = [tmp_path / f"v{i}.nii" for i in range(6)]
    for volume in volumes:
        volume.touch()
    rows = [f"{volume.name}#z{k},{label}" for volume in volumes for k, label in enumerate((0, 1, ""))]
    for i in range(24):
        write_dicom(
            tmp_path / (f"{i}.dcm" if i % 3 else f"{i}"), np.full((8, 8), i, np.uint8), PatientID=f"patient {i // 4}"
        )
        rows.append(f"{i}{'.dcm' * (i % 3 > 0)},{('0', '0', '1', '')[i % 4]}")
    (tmp_path / "broken.dcm").touch()
    (tmp_path / "images.csv").write_text("\n".join(["image,label", "broken.dcm,0", *rows]))
    datalist, left_out, _ = read_table(tmp_path, shares=(0.4, 0.3, 0.3))
    sides = {}
    for name, items in datalist.items():
        for item in items:
            if "patient" in item:
                sides.setdefault(item["patient"], set()).add("test" if name == "test" else "training")
    assert len(sides) == 12
    assert all(len(side) == 1 for side in sides.values())
    tested = sum(side == {"test"} for side in sides.values())
    assert left_out == {"without a label, of a patient in the test": tested}
    assert tested > 1


def test_volumes_are_slices(tmp_path):
    for i in range(3):
        volume = np.random.default_rng(i).integers(0, 99, (12, 14, 10), np.int16)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / f"v{i}.nii.gz")
    (tmp_path / "images.csv").write_text(
        "image,split,label\nv0.nii.gz,normal,\nv1.nii.gz,unlabeled,\nv2.nii.gz,test,1\n"
    )
    datalist = read_table(tmp_path, slice_axis=0, slice_range=[0.25, 0.75]).datalist
    for i, (name, label) in enumerate((("normal", 0), ("unlabeled", None), ("test", 1))):
        path = str(tmp_path / f"v{i}.nii.gz")
        assert datalist[name] == [{"image": f"{path}#x{k}", "label": label, "patient": path} for k in range(3, 9)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"slice_axis": 3}, "slice_axis is 3"),
        ({"slice_axis": "z"}, "slice_axis is 'z'"),
        ({"slice_range": 5}, "slice_range is 5; it is two shares"),
        ({"slice_range": [0.7, 0.2]}, "slice_range is [0.7, 0.2]"),
        ({"slice_range": "ab"}, "slice_range is 'ab'"),
        ({"slice_range": [0, 0.5, 1]}, "slice_range is [0, 0.5, 1]"),
    ],
)
@pytest.mark.parametrize("read", [read_table, read_folder])
def test_slices_are_checked(write, refused, options, said, read):
    folder = write("image,label\na.png,1\nb.png,0\n")
    with refused(said):
        read(folder, **options)


def test_a_volume_and_one_of_its_slices(tmp_path, refused):
    volume = np.random.default_rng(0).integers(0, 99, (8, 10, 6), np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "v.nii.gz")
    (tmp_path / "images.csv").write_text("image,split,label\nv.nii.gz,normal,\nv.nii.gz#z2,test,1\n")
    with refused(tmp_path / "v.nii.gz#z2", "listed twice", "with its volume"):
        read_table(tmp_path)


def test_packed_tables(write, refused):
    """A table is read from its archive where it is the only one there; else it has to be unpacked."""
    folder = write("image,label\na.png,1\nb.png,0\n")
    wanted = read_table(folder).datalist
    text = (folder / "images.csv").read_text()
    (folder / "images.csv").unlink()
    with zipfile.ZipFile(folder / "images.csv.zip", "w") as archive:
        archive.writestr("deep/images.csv", text)
        archive.writestr("other.csv", "x")
    assert read_table(folder).datalist == read_table(folder / "images.csv.zip").datalist == wanted
    with zipfile.ZipFile(folder / "images.csv.zip", "w") as archive:
        archive.writestr("one.csv", text)
        archive.writestr("other.csv", "x")
    with refused(folder / "images.csv.zip", "holds 2 files", "unpack"):
        read_table(folder)
    for content in (b"", b"no archive", b"PK\x03\x04"):
        (folder / "images.csv.zip").write_bytes(content)
        with refused(folder / "images.csv", "unpack"):
            read_table(folder)
    (folder / "images.csv.gz").write_bytes(gzip.compress(text.encode())[:-12])
    with refused(folder / "images.csv", "unpack"):
        read_table(folder)


def test_column_names_in_other_letters(write, refused):
    wanted = read_table(write("image,label\na.png,1\nb.png,0\n")).datalist
    assert read_table(write("Path,LABEL\na.png,1\nb.png,0\n")).datalist == wanted
    assert read_table(write("path,label,Label\na.png,1,7\nb.png,0,8\n")).datalist == wanted  # the very name comes first
    with refused("more than one column label"):
        read_table(write("path,LABEL,Label\na.png,1,7\n"))


USUAL = ["patient_id", "Patient ID", "PatientID", "patient-id", "subject", "Subject_ID", "participant_id", "PATIENT"]


@pytest.mark.parametrize("column", USUAL)
def test_usual_names_of_the_column_of_patients(write, column):
    """All images of a patient are in one split, however the id was saved; the column is named."""
    files = [f"{i:03d}.png" for i in range(60)]
    rows = [f"{file},{int(i >= 40)},{(' {}', '{}.0', '{}')[i % 3].format(i // 3)}" for i, file in enumerate(files)]
    folder = write("\n".join([f"image,label,{column}", *rows]), files=files)
    datalist, _, notes = read_table(folder)
    places = {}
    for split, items in datalist.items():
        for item in items:
            places.setdefault(item["patient"], set()).add(split)
    assert places.keys() == {str(i) for i in range(20)}
    assert all(len(splits) == 1 for splits in places.values())
    assert column in notes["columns"]


def test_columns_that_were_not_read_are_listed(write, caplog):
    folder = write("image,split,Finding,Age Group,Subject\na.png,normal,x,y,7\n")
    with caplog.at_level(logging.INFO):
        datalist, _, notes = read_table(folder)
    (item,) = datalist["normal"]
    assert (item["patient"], item["patient_column"]) == ("7", "Subject")
    assert notes == {"columns": "image, split, patient (Subject); not read: Finding, Age Group"}
    assert f"{folder / 'images.csv'}, columns: {notes['columns']}" in caplog.text


def test_columns_of_patients_that_disagree(write, refused):
    """The documented column decides; without it two columns must group the images alike."""
    rows = "a.png,normal,{},{}\nb.png,normal,{},{}\nc.png,normal,{},{}\n"
    header = "image,split,{},{}\n"

    def patients(columns, *ids):
        folder = write(header.format(*columns) + rows.format(*ids))
        return [item.get("patient") for item in read_table(folder).datalist["normal"]]

    both = ("patient_id", "subject_id")
    assert patients(both, 1, "x", "1.0", "x", 2, "y") == ["1", "1", "2"]
    assert patients(both, 1, "x", 1, "", 2, "y") == ["1", "1", "2"]
    for ids in ((1, "x", 1, "y", 2, "y"), (1, "x", 2, "x", 3, "y"), (1, "", "", "x", 2, "y")):
        with refused("images.csv", "by patient_id than by subject_id", "rename"):
            patients(both, *ids)
        assert patients(("subject", "patient"), *ids) == [ids[i] or None for i in (1, 3, 5)]
    assert patients(("patient", "subject"), "", "x", "nan", "x", "", "y") == ["x", "x", "y"]
    with refused("more than one column patient_id"):
        patients(("Patient ID", "PatientID"), 1, 1, 1, 1, 1, 1)


def test_file_names_name_patients_where_no_column_does(write):
    """Sessions, contrasts and slices of a subject are of one patient."""
    files = ["sub-01_ses-1_T1w.png", "sub-01_ses-2_T2w.png", "sub-02.png", "other.png"]
    rows = [f"{file},normal,{patient}" for file, patient in zip(files, ("a", "b", "", "c"), strict=True)]
    named = read_table(
        write("\n".join(["image,split", *(row.rpartition(",")[0] for row in rows)]), files=files)
    ).datalist
    assert [item.get("patient") for item in named["normal"]] == ["sub-01", "sub-01", "sub-02", None]
    by_column = read_table(write("\n".join(["image,split,patient", *rows]), files=files)).datalist
    assert [item.get("patient") for item in by_column["normal"]] == ["a", "b", None, "c"]


def test_volumes_of_a_subject_are_one_patient(tmp_path):
    for session in (1, 2):
        volume = nibabel.Nifti1Image(np.random.default_rng(0).integers(0, 99, (8, 8, 4), np.int16), np.eye(4))
        nibabel.save(volume, tmp_path / f"sub-1_ses-{session}_T1w.nii.gz")
    (tmp_path / "images.csv").write_text("image,label\nsub-1_ses-1_T1w.nii.gz,0\nsub-1_ses-2_T1w.nii.gz,0\n")
    items = [item for items in read_table(tmp_path).datalist.values() for item in items]
    assert len(items) == 8
    assert {item["patient"] for item in items} == {"sub-1"}


@pytest.mark.parametrize("column", ["Image Path", "image_path", "FilePath", "filename", "File Name", "imageFile"])
def test_usual_names_of_the_column_of_images(write, column, refused):
    wanted = read_table(write("image,LABEL\na.png,1\nb.png,0\n")).datalist
    assert read_table(write(f"{column},Label\na.png,1\nb.png,0\n")).datalist == wanted
    assert read_table(write(f"{column},label,image\nx,1,a.png\ny,0,b.png\n")).datalist == wanted
    with refused("images.csv", "no column image, but", "rename"):
        read_table(write("image_path,image_name,label\na.png,b.png,1\n"))


def test_what_a_table_without_a_needed_column_has(write, refused):
    with refused("neither a column split nor a column label", "class, Weight"):
        read_table(write("image,class,Weight\na.png,1,3\n"))
    with refused("no column image or path or file (it has picture, label)"):
        read_table(write("picture,label\na.png,1\n"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_encodings_and_separators(write, refused, encoding, mark):
    """With its byte order mark, or in UTF-8, a table is read; otherwise the cause is named."""
    folder = write("", files=("café.png", "b.png"))
    text = "image,label,patient\r\ncafé.png,1,7\r\nb.png,0,8\r\n".replace(",", mark)
    bom = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    wanted = ["b.png", "café.png"]
    for content in (text, f"sep={mark}\r\n{text}", f'"sep={mark}"\r\n{text}'):
        (folder / "images.csv").write_bytes((bom + content).encode(encoding))
        datalist = read_table(folder).datalist
        assert sorted(names([item for items in datalist.values() for item in items])) == wanted
    if bom:
        (folder / "images.csv").write_bytes(text.encode(encoding))
        with refused(folder / "images.csv", "UTF-16 without its mark", "UTF-8"):
            read_table(folder)


def test_a_table_in_windows_1252(write, refused):
    folder = write("", files=("café.png",))
    (folder / "images.csv").write_bytes("image,label\na.png,0\ncafé.png,1\n".encode("cp1252"))
    with refused(folder / "images.csv", "not in UTF-8", "line 3", "0xe9", "'é'", "save it again as CSV in UTF-8"):
        read_table(folder)


@pytest.mark.skipif(os.name == "nt", reason="backslashes are separators there")
def test_paths_of_windows(write, refused):
    """Relative ones are read, unless a file has the backslash in its name; those with a drive are named."""
    folder = write("", files=("a.png", "odd\\b.png"))
    (folder / "x").mkdir()
    for name in ("c.png", "m.png", "v.png"):
        (folder / "x" / name).touch()
    write("image,split,mask\na.png,normal,x\\m.png\nodd\\b.png,normal,\nx\\c.png,normal,\nx\\v.png#3,normal,\n")
    items = read_table(folder).datalist["normal"]
    inside = [item["image"].removeprefix(f"{folder}/") for item in items]
    assert inside == ["a.png", "odd\\b.png", "x/c.png", "x/v.png#3"]
    assert items[0]["mask"] == str(folder / "x" / "m.png")
    for path in ("C:\\data\\a.png", "D:/data/a.png", "\\\\server\\share\\a.png"):
        with refused(f"{os.path.normpath(path)} and 0 more", "Windows", "paths start at the table's folder"):
            read_table(write(f"image,split\n{path},normal\n"))
