"""Which patient an image is of: as tables and file names write it, and what names it."""

from __future__ import annotations

import pytest

from monai_sagan.data.datasets.patient_ids import alike_ids, clean_id, name_subjects, patient_sources, subject_of


@pytest.mark.parametrize(
    ("path", "subject"),
    [
        ("normal/sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", "sub-01"),
        ("normal/sub-01/ses-2/anat/T1w.nii.gz", "sub-01"),
        ("sub-OAS3A_ses-d01_T1w.nii.gz#z41", "sub-OAS3A"),
        ("deep/Sub-01/IM0001", "sub-01"),
        ("group_sub-7.png", "sub-7"),
        ("sub-07", "sub-07"),
        ("study\\sub-01\\a.png", "sub-01"),
        ("sub-01/sub-02_T1w.nii", "sub-02"),
        ("sub-01/sub-01-slice3.png", "sub-01"),
        ("sub-01-slice3.png", None),  # not by the rules: the label would be cut off somewhere
        ("asub-01.png", None),
        ("ses-2/T1w.nii.gz", None),
        ("sub-_x.png", None),
        ("sub01.png", None),
    ],
)
def test_subjects_of_bids(path, subject):
    assert subject_of(path) == subject


def test_only_names_below_the_dataset_count():
    items = [{"image": f"/data/sub-9/./set/{name}"} for name in ("a.png", "sub-1/b.png")]
    items.append({"image": "/data/sub-9/set/sub-1/c.png", "patient": "p"})
    assert [item.get("patient") for item in name_subjects(items, "/data/sub-9/set/")] == [None, "sub-1", "p"]
    assert name_subjects([{"image": "sub-1.png"}], ".")[0]["patient"] == "sub-1"


def test_ids_as_spreadsheets_write_them():
    assert {clean_id(text) for text in ("1", "1.0", " 1", "1.00 ")} == {"1"}
    assert [clean_id(text) for text in ("01", "1.5", "P1.0", "A 7", "0")] == ["01", "1.5", "P1.0", "A 7", "0"]
    assert {clean_id(text) for text in ("", " ", "nan", "NaN", "None", "n/a", "NA", "unknown", "<NA>")} == {""}


def test_ids_that_are_alike():
    assert alike_ids({"1", "01", "P7", "p07", "10", "100", "2"}) == [("01", "1"), ("P7", "p07")]
    assert alike_ids({"1", "2", "x10", "x1"}) == []


def test_what_names_patients():
    items = [
        {"image": "a.png", "patient": "7", "patient_column": "Subject ID"},
        {"image": "sub-1/a.dcm", "patient": "sub-1"},
        {"image": "b.dcm"},
        {"image": "c.dcm", "patient": "hash"},
        {"image": "d.nii.gz#z1", "patient": "d.nii.gz"},
        {"image": "e.png", "patient": "p1"},
        {"image": "f.png"},
    ]
    found = patient_sources(items, {name: {"patient": "hash"} for name in ("b.dcm", "c.dcm", "sub-1/a.dcm")})
    assert found.pop("the column Subject ID") == found.pop("the file name (sub-...)") == 1
    assert found == {
        "the DICOM header": 2,
        "the volume (each counts as a patient)": 1,
        "the dataset's own table or list": 1,
    }
