"""Splits: exact ratios, no leaks, and no influence of what a choice must not see."""

from __future__ import annotations

import copy

import pytest

from monai_sagan.data.datalist import SPLITS, make_splits
from monai_sagan.data.datasets.items import split_published
from monai_sagan.errors import SaganError


def items_of(prefix, count, label):
    return [{"image": f"{prefix}{i:03d}.png", "label": label} for i in range(count)]


def dataset(normal=200, unlabeled_normal=300, unlabeled_abnormal=300, test=20):
    return {
        "normal": items_of("n", normal, 0),
        "unlabeled": items_of("u", unlabeled_normal, 0) + items_of("v", unlabeled_abnormal, 1),
        "test": items_of("t", test, 0) + items_of("s", test, 1),
    }


def images(items):
    return [item["image"] for item in items]


def abnormal(items):
    return sum(item["label"] for item in items)


@pytest.mark.parametrize(
    ("ratio", "train", "valid"),
    [
        (0, (180, 0), (30, 0)),
        (0.2, (180, 36), (37, 7)),
        (0.35, (180, 63), (46, 16)),
        (0.6, (180, 108), (50, 30)),
        (1.0, (180, 180), (30, 30)),
    ],
)
def test_anomaly_ratio_is_exact(ratio, train, valid):
    splits = make_splits(dataset(), anomaly_ratio=ratio)
    for name, (size, wanted) in (("train_unlabeled", train), ("valid_unlabeled", valid)):
        assert (len(splits[name]), abnormal(splits[name])) == (size, wanted)
        assert wanted == round(ratio * size)


@pytest.mark.parametrize("ratio", [0, 0.2, 0.35, 0.6, 1])
@pytest.mark.parametrize("size", [1, 7, 19, 100])
def test_unlabeled_size_with_a_ratio(ratio, size):
    splits = make_splits(dataset(), anomaly_ratio=ratio, unlabeled_size=size)
    assert len(splits["train_unlabeled"]) == size
    assert abs(abnormal(splits["train_unlabeled"]) - ratio * size) <= 0.5


def test_abnormal_images_are_mixed_in():
    labels = [item["label"] for item in make_splits(dataset(), anomaly_ratio=0.5)["train_unlabeled"]]
    assert 0 < sum(labels[: len(labels) // 2]) < sum(labels)


def test_a_scarce_kind_decides_the_size():
    splits = make_splits(dataset(unlabeled_normal=300, unlabeled_abnormal=20), anomaly_ratio=0.6)
    assert (len(splits["train_unlabeled"]), abnormal(splits["train_unlabeled"])) == (30, 18)


def test_without_a_ratio_all_are_taken():
    splits = make_splits(dataset(unlabeled_normal=90, unlabeled_abnormal=10))
    assert {name: len(splits[name]) for name in SPLITS} == {
        "train_normal": 180,
        "train_unlabeled": 90,
        "valid_normal": 20,
        "valid_unlabeled": 10,
        "test": 40,
    }
    assert len(make_splits(dataset(), unlabeled_size=17)["train_unlabeled"]) == 17


def test_missing_images_are_counted(refused):
    few = dataset(unlabeled_normal=20, unlabeled_abnormal=5)  # 18 and 4 to train on
    with refused("12 unlabeled abnormal", "4 are there", "8 are missing"):
        make_splits(few, anomaly_ratio=0.6, unlabeled_size=20)
    with refused("24 unlabeled normal", "18 are there", "6 are missing"):
        make_splits(few, anomaly_ratio=0.2, unlabeled_size=30)
    with refused("100 unlabeled", "23 are there", "77 are missing"):
        make_splits(few, unlabeled_size=100)
    with refused("anomaly_ratio 1.0", "missing"):
        make_splits(dataset(unlabeled_abnormal=0), anomaly_ratio=1.0)
    with refused("anomaly_ratio 0.6", "missing"):
        make_splits(dataset(unlabeled_abnormal=1), anomaly_ratio=0.6)


@pytest.mark.parametrize("ratio", [-0.1, 1.5, float("nan")])
def test_ratio_bounds(ratio, refused):
    with refused(f"anomaly_ratio is {ratio}"):
        make_splits(dataset(), anomaly_ratio=ratio)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan")])
def test_valid_fraction_bounds(fraction, refused):
    with refused(f"valid_fraction is {fraction}"):
        make_splits(dataset(), valid_fraction=fraction)


@pytest.mark.parametrize("size", [0, -5, 2.5, "many", True])
@pytest.mark.parametrize("ratio", [None, 0.5])
def test_unlabeled_size_is_a_count(size, ratio, refused):
    with refused(f"unlabeled_size is {size!r}"):
        make_splits(dataset(), anomaly_ratio=ratio, unlabeled_size=size)


def test_a_ratio_needs_labels(refused):
    datalist = dataset()
    datalist["unlabeled"][3]["label"] = None
    with refused("labels are known"):
        make_splits(datalist, anomaly_ratio=0.5)
    assert len(make_splits(datalist)["train_unlabeled"]) == 540


@pytest.mark.parametrize("ratio", [None, 0.35])
def test_no_image_is_in_two_splits(ratio):
    splits = make_splits(dataset(), anomaly_ratio=ratio)
    names = [name for split in SPLITS for name in images(splits[split])]
    assert len(names) == len(set(names))
    assert set(splits) == set(SPLITS)


def with_patients(count=40, each=5):
    """Each patient has images of every kind in every list but the test's."""
    datalist = dataset(0, 0, 0, 3)
    for patient in range(count):
        for i in range(each):
            name = f"{patient}_{i}.png"
            datalist["normal"].append({"image": f"n{name}", "label": 0, "patient": patient})
            for label in (0, 1):
                datalist["unlabeled"].append({"image": f"u{label}{name}", "label": label, "patient": patient})
    return datalist


@pytest.mark.parametrize("ratio", [None, 0.4])
@pytest.mark.parametrize("seed", range(5))
def test_patients_are_on_one_side(ratio, seed):
    splits = make_splits(with_patients(), anomaly_ratio=ratio, seed=seed)
    trained, validated = (
        {item["patient"] for kind in ("normal", "unlabeled") for item in splits[f"{side}_{kind}"]}
        for side in ("train", "valid")
    )
    assert not trained & validated
    assert len(splits["valid_normal"]) == 20  # 4 of 40 patients, whole


@pytest.mark.parametrize("seed", range(5))
def test_patients_of_both_lists_count_towards_the_share(seed):
    datalist = with_patients()
    datalist["normal"] = [item for item in datalist["normal"] if item["patient"] < 20]
    splits = make_splits(datalist, seed=seed)
    assert (len(splits["valid_normal"]), len(splits["valid_unlabeled"])) == (10, 40)  # 2 and 4 patients, whole


@pytest.mark.parametrize("seed", range(20))
def test_a_large_patient_overruns_no_share(seed):
    """As where 30 pictures and one volume of 300 slices are normal: the volume trains."""
    datalist = dataset(30, 40, 10, 3)
    datalist["normal"] += [{"image": f"v#z{i}", "label": 0, "patient": "volume"} for i in range(300)]
    splits = make_splits(datalist, seed=seed)
    assert len(splits["valid_normal"]) == 30  # of the 33 that are a tenth: as near as whole patients allow
    assert {item.get("patient") for item in splits["valid_normal"]} == {None}


@pytest.mark.parametrize("seed", range(5))
def test_some_patient_validates_however_large_each_is(seed):
    datalist = dataset(0, 40, 10, 3)
    for patient, count in (("a", 300), ("b", 280), ("c", 310)):
        datalist["normal"] += [{"image": f"{patient}#z{i}", "label": 0, "patient": patient} for i in range(count)]
    splits = make_splits(datalist, seed=seed)
    assert {item["patient"] for item in splits["valid_normal"]} == {"b"}


def test_unknown_patients_are_not_one_patient():
    datalist = dataset()
    for item in datalist["normal"]:
        item["patient"] = None
    assert len(make_splits(datalist)["valid_normal"]) == 20


def test_a_patient_may_have_a_number_that_is_also_a_place_in_the_list():
    datalist = {"normal": items_of("n", 20, 0), "unlabeled": items_of("u", 20, 0), "test": []}
    datalist["normal"][0]["patient"] = 7
    splits = make_splits(datalist)
    assert sorted(images(splits["train_normal"] + splits["valid_normal"])) == images(datalist["normal"])
    assert len(splits["valid_normal"]) == len(splits["valid_unlabeled"]) == 2


@pytest.mark.parametrize("ratio", [None, 0.6])
def test_the_seed_alone_decides(ratio):
    datalist = dataset()
    first = make_splits(datalist, anomaly_ratio=ratio, seed=3)
    assert make_splits(copy.deepcopy(datalist), anomaly_ratio=ratio, seed=3) == first
    other = make_splits(datalist, anomaly_ratio=ratio, seed=4)
    for name in SPLITS[:4]:
        assert set(images(first[name])) != set(images(other[name]))
    assert first["test"] == other["test"]


def test_choices_without_a_ratio_see_no_labels():
    datalist, flipped, unknown = dataset(), dataset(), dataset()
    for item in flipped["unlabeled"]:
        item["label"] = 1 - item["label"]
    for item in unknown["unlabeled"]:
        item["label"] = None
    for size in (None, 50):
        chosen = [make_splits(d, unlabeled_size=size, seed=1) for d in (datalist, flipped, unknown)]
        for name in SPLITS:
            assert images(chosen[0][name]) == images(chosen[1][name]) == images(chosen[2][name])


def test_the_test_split_is_never_touched():
    datalist = dataset()
    before = copy.deepcopy(datalist)
    for seed in range(3):
        splits = make_splits(datalist, anomaly_ratio=0.6, valid_fraction=0.3, seed=seed)
        assert splits["test"] == before["test"]
    assert datalist == before
    del datalist["test"]
    assert make_splits(datalist)["test"] == []


def test_empty_parts_are_named(refused):
    for name in ("normal", "unlabeled"):
        for empty in ({name: []}, {name: None}):
            with refused(f"no {name} images"):
                make_splits(dataset() | empty)
    with refused("train_normal is empty"):
        make_splits(dataset(normal=1))
    with refused("train_unlabeled is empty"):
        make_splits(dataset(unlabeled_normal=1, unlabeled_abnormal=0))


COUNTS = (50, 40, 30, 10, 20)


def published(normal, abnormal, seed=0):
    return split_published(items_of("n", normal, 0), items_of("a", abnormal, 1), COUNTS, seed)


def counted(datalist):
    labels = {name: [item["label"] for item in items] for name, items in datalist.items()}
    kinds = [("normal", 0), ("unlabeled", 0), ("unlabeled", 1), ("test", 0), ("test", 1)]
    return tuple(labels[name].count(label) for name, label in kinds)


def test_published_counts_are_exact_where_the_totals_are():
    datalist = published(100, 50)
    assert counted(datalist) == COUNTS
    names = [name for items in datalist.values() for name in images(items)]
    assert len(names) == len(set(names)) == 150
    assert all(item["label"] == 0 for item in datalist["normal"])


def test_published_counts_in_proportion():
    assert counted(published(200, 100)) == (100, 80, 60, 20, 40)
    assert counted(published(10, 5)) == (5, 4, 3, 1, 2)
    for normal, abnormal in ((97, 53), (33, 1), (0, 0)):
        datalist = published(normal, abnormal)
        assert sum(len(items) for items in datalist.values()) == normal + abnormal


def test_published_splits_by_seed():
    assert published(100, 50, 1) == published(100, 50, 1)
    for label in (0, 1):
        tests = [{i["image"] for i in published(100, 50, seed)["test"] if i["label"] == label} for seed in (1, 2)]
        assert tests[0] != tests[1]


def test_the_word_none_takes_the_images_as_they_are():
    items = [{"image": str(i), "label": None} for i in range(20)]
    datalist = {"normal": [{"image": f"n{i}", "label": 0} for i in range(20)], "unlabeled": items, "test": []}
    assert make_splits(datalist, "none") == make_splits(datalist, None)
    with pytest.raises(SaganError, match="anomaly_ratio is 'many'"):
        make_splits(datalist, "many")
