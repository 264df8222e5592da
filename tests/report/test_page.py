"""The page shows the values of a run's files, is self-contained, and is the same for the same files."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import chromium, cut_by_page_breaks, faults
from PIL import Image

from monai_sagan.errors import SaganError
from monai_sagan.metrics import conformal_p_values, delong, image_metrics, operating_points
from monai_sagan.pictures.maps import map_words
from monai_sagan.pictures.notice import RESEARCH_ONLY
from monai_sagan.report.page import LINKS, write_report
from monai_sagan.report.style import STYLE

FOLDER = "/secret/place/images"


class Reader(HTMLParser):
    """Checks that elements are closed, and collects texts and attributes."""

    EMPTY = ("meta", "img", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.texts, self.elements = [], [], []
        self.within, self.by_id = [], {}  # ids of the open elements; texts by id
        self.feed(page)
        self.close()
        assert not self.open
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in self.EMPTY:
            self.open.append(name)
            self.within.append(dict(attributes).get("id"))
            if self.within[-1]:
                assert self.within[-1] not in self.by_id
                self.by_id[self.within[-1]] = ""

    def handle_endtag(self, name):
        assert self.open.pop() == name
        self.within.pop()

    def handle_data(self, text):
        if "style" not in self.open:
            self.texts.append(text)
        for id in filter(None, self.within):
            self.by_id[id] += text.replace("\xa0", " ")

    def named(self, name):
        return [attributes for element, attributes in self.elements if element == name]


def png(width=192, height=64, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def make_run(tmp_path):
    """Write the folder of an evaluated run; ``change`` may alter its metrics, ``drop`` names files to leave out."""

    def make(name="run", labels=(0,) * 30 + (1,) * 30, change=None, drop=(), images=None, columns=True, pictures=3):
        folder = tmp_path / name
        (folder / "heatmaps" / "gallery").mkdir(parents=True)
        rng = np.random.default_rng(0)
        truth = np.array([label or 0 for label in labels])
        scores = rng.uniform(0.02, 0.03, len(labels)) + 0.004 * truth
        valid = rng.uniform(0.02, 0.03, 40)
        trivial = rng.uniform(0, 1, len(labels)) + 0.1 * truth
        images = images or [f"{FOLDER}/{i:03d}.png" for i in range(len(labels))]
        block = {"iteration": 400} | image_metrics(scores, labels)
        metrics = {
            "aucp": block | {"operating_points": operating_points(valid, scores, labels, (0.95, 0.9))},
            "last": block | {"iteration": 500},
            "baselines": {"mean_intensity": image_metrics(trivial, labels)},
            "n_normal": labels.count(0),
            "n_abnormal": labels.count(1),
            "versions": {"torch": "9.8.7", "commit": "abc123"},
            "warnings": [],
        }
        if change:
            change(metrics)
        p_values = conformal_p_values(valid, scores)
        with (folder / "scores.csv").open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            more = ["p_value", "score_last", "score_mean_intensity"] if columns else []
            rows.writerow(["image", "label", "score", *more])
            for i, label in enumerate(labels):
                rest = [p_values[i], scores[i], trivial[i]] if columns else []
                rows.writerow([images[i], "" if label is None else label, scores[i], *rest])
        split = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
        others = [{"image": f"{FOLDER}/t{i}.png", "label": 0, "patient": f"p{i // 2}"} for i in range(8)]
        pair = {"images": [others[0]["image"], images[0]]}
        audit = {
            "exact_duplicates": {"count": 1, "examples": [pair]},
            "normal_and_unlabeled": {"count": 2, "examples": [pair]},
            "near_duplicates": {"count": 0, "examples": []},
            "shared_patients": {"count": 0, "examples": []},
            "warnings": [f"the same pixels: {' and '.join(pair['images'])}"],
            "patients_by": {"the column Subject ID": 8},
            "cannot_know": ["labels are taken as they are"],
        }
        files = {
            "metrics.json": json.dumps(metrics),
            "splits.json": json.dumps({"test": split, "train_normal": others}),
            "audit.json": json.dumps(audit),
            "config.json": json.dumps({"seed": 7, "preset": "paper", "dataset_dir": "/secret/place", "grid": [2, 2]}),
            "skipped.csv": f"image,reason\n{FOLDER}/x.png,{FOLDER}/x.png is empty\n",
            "history.csv": "iteration,critic,aucp\n100,-0.5,\n200,-0.75,0.625\n",
        }
        for file, text in files.items():
            (folder / file).write_text(text)
        kinds = ["false positive", "false negative", "middle"]
        listed = [
            {"file": f"{i}.png", "image": images[i % len(images)], "label": i % 2, "score": 0.0125, "p_value": 0.25}
            | {"kind": kinds[i % 3], "rank": i + 1}
            for i in range(pictures)
        ]
        for i in range(pictures):
            (folder / "heatmaps" / "gallery" / f"{i}.png").write_bytes(png(seed=i))
        (folder / "heatmaps" / "gallery" / "gallery.json").write_text(json.dumps(listed))
        for file in drop:
            path = folder / file
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return folder

    return make


def read(folder):
    return Reader(write_report(folder).read_text(encoding="utf-8"))


def numbers(text):
    return [float(number) for number in re.findall(r"[-+]?\d+(?:\.\d+)?", text.replace("\N{MINUS SIGN}", "-"))]


def test_values_of_the_files(make_run):
    folder = make_run()
    page = read(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    auc, (low, high) = metrics["aucp"]["auc"], metrics["aucp"]["auc_ci95"]
    point = metrics["aucp"]["operating_points"][0]
    for id, values in {
        "verdict": [f"{auc:.3f}", f"{low:.3f}\N{EN DASH}{high:.3f}", "60", "30 normal", "30 abnormal"],
        "facts": ["60", "30 normal", "30 abnormal", "paper", "seed 7", RESEARCH_ONLY],
        "tile-auc": [f"{auc:.3f}", f"{low:.3f}\N{EN DASH}{high:.3f}"],
        "tile-ap": [f"{metrics['aucp']['ap']:.3f}", "0.500"],
        "tile-sensitivity": [f"{point['sensitivity']:.3f}", "95 %"],
        "row-mean_intensity": ["mean intensity", f"{metrics['baselines']['mean_intensity']['ap']:.3f}"],
        "row-last": [f"{metrics['last']['auc']:.3f}", "500"],
        "point-95": [f"{point['threshold']:.5f}", f"{round(point['sensitivity'] * 30)} of 30"],
        "split-train_normal": ["8", "4"],
        "audit-exact-duplicates": ["1 ", "t0.png", "000.png"],
        "audit-normal-and-unlabeled": ["2 ", "t0.png", "000.png"],
        "patients": ["the column Subject ID: 8 images"],
        "data": ["labels are taken as they are", "x.png is empty"],
        "gallery": ["normal, score 0.0125, p 0.25, rank 1 of 60"],
        "configuration": ["9.8.7", "abc123"],
        "setting-seed": ["7"],
    }.items():
        for value in values:
            assert value in page.by_id[id], (id, value)
    assert {"cases-false-positive", "cases-false-negative", "cases-middle", "no-localization"} <= page.by_id.keys()
    assert "place" in page.texts[page.texts.index(next(filter(str.strip, page.texts)))]


def test_sections_in_order_and_links_to_each(make_run):
    page = read(make_run())
    names = [attributes["id"] for attributes in page.named("section")]
    assert names == list(LINKS)
    assert [a["href"] for a in page.named("a")] == [f"#{name}" for name in names]
    headings = {attributes.get("id") for attributes in page.named("h2")}
    assert headings == {attributes["aria-labelledby"] for attributes in page.named("section")}


def test_nothing_from_outside_and_no_script(make_run):
    page = read(make_run())
    names = {name for name, _ in page.elements}
    assert not names & {"script", "link", "iframe", "object", "base", "form"}
    policy = next(meta["content"] for meta in page.named("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.named("img"))
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)


def test_who_does_not_see_is_told(make_run):
    page = read(make_run())
    assert all(image["alt"] for image in page.named("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.named("svg"))
    assert all(head["scope"] in ("col", "row", "rowgroup") for head in page.named("th"))
    assert len(page.named("caption")) == len(page.named("table"))
    assert ("html", {"lang": "en"}) in page.elements


def test_same_files_same_bytes_and_no_place(make_run, tmp_path):
    folder = make_run()
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first
    shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    other = write_report(tmp_path / "elsewhere" / "copy", tmp_path / "page.html")
    assert other == tmp_path / "page.html"
    assert other.read_bytes() == first
    assert str(tmp_path).encode() not in first
    assert b"/secret" not in first


def test_names_are_text(make_run):
    images = [f"{FOLDER}/{i}<script>alert('&\"')</script>.png" for i in range(60)]
    page = read(make_run(images=images))
    assert not page.named("script")
    assert "0<script>alert('&\"')</script>.png" in page.text


@pytest.mark.parametrize(
    "missing", ["splits.json", "audit.json", "config.json", "skipped.csv", "history.csv", "heatmaps"]
)
def test_what_is_missing_is_said(make_run, missing):
    id = f"no-{missing.split('.')[0]}"
    assert missing in read(make_run(drop=[missing])).by_id[id]
    assert id not in read(make_run("complete")).by_id


def test_the_least_that_a_run_has(make_run):
    def old(metrics):
        for name in ("baselines", "warnings", "versions"):
            del metrics[name]
        for name in ("aucp", "last"):
            metrics[name] = {key: metrics[name][key] for key in ("auc", "ap")}

    every = ["splits.json", "audit.json", "config.json", "skipped.csv", "history.csv", "heatmaps"]
    page = read(make_run(change=old, drop=every, columns=False))
    assert [attributes["id"] for attributes in page.named("section")] == list(LINKS)
    assert {"caution-no-interval", "baseline-none", "no-thresholds"} <= page.by_id.keys()
    assert "not recorded" in page.by_id["version-commit"]


def test_without_labels(make_run):
    page = read(make_run(labels=(None,) * 20))
    assert numbers(page.by_id["verdict"]) == [20]
    assert {"no-auc", "no-curves", "p-values"} <= page.by_id.keys()
    assert not {id for id in page.by_id if id.startswith(("tile-", "baseline-", "row-"))}
    assert "20 test images" in page.by_id["scores"]
    assert not re.search(r"AUC\W+0\.\d", page.text.split("Glossary")[0])


@pytest.mark.parametrize(("labels", "values"), [((0,) * 9, [9, 9]), ((1, 1, None), [3, 2]), ((0,), [1, 1])])
def test_one_kind_of_labels(make_run, labels, values):
    page = read(make_run(labels=labels))
    assert numbers(page.by_id["verdict"]) == values
    assert "no-auc" in page.by_id


@pytest.mark.parametrize(
    ("labels", "doubt"),
    [
        ((0,) * 30 + (1,) * 30, None),
        ((0, 1) * 30, "not-better-than-chance"),
        ((1,) * 30 + (0,) * 30, "worse-than-chance"),
        ((0,) + (1,) * 20, "no-interval"),
        ((0,) * 20 + (1,), "no-interval"),
    ],
)
def test_doubt_about_the_auc_stands_on_top(make_run, labels, doubt):
    """The scores rise with the place of the image; its label may have nothing to do with that, or the reverse."""
    folder = make_run(labels=labels, columns=False)
    scores = np.linspace(0.02, 0.03, len(labels))
    lines = [f"{i}.png,{label},{score:.8f}" for i, (label, score) in enumerate(zip(labels, scores, strict=True))]
    (folder / "scores.csv").write_text("\n".join(["image,label,score", *lines]) + "\n")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["aucp"] |= image_metrics(scores, labels)
    del metrics["baselines"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = read(folder)
    assert f"{metrics['aucp']['auc']:.3f}" in page.by_id["verdict"]
    doubts = {f"caution-{name}" for name in ("not-better-than-chance", "worse-than-chance", "no-interval")}
    assert doubts & page.by_id.keys() == ({f"caution-{doubt}"} if doubt else set())


def test_some_labels_unknown(make_run):
    page = read(make_run(labels=(0, 1, None) * 10))
    assert "30 test images (10 normal, 10 abnormal, 10 unlabeled)" in page.by_id["facts"]
    assert "10 normal images, 10 abnormal images, 10 unlabeled images" in page.by_id["scores"]


@pytest.mark.parametrize(("shift", "result"), [(3.0, "better"), (0.7, "similar"), (0.0, "worse")])
def test_comparison_with_the_best_baseline(make_run, shift, result):
    """On the same images: the baseline's scores are those of the model with noise, shifted by the label."""
    folder = make_run(labels=(0, 1) * 150, images=[f"{i}.png" for i in range(300)])
    table = [line.split(",") for line in (folder / "scores.csv").read_text().splitlines()]
    noise = np.random.default_rng(1).normal(0, 1.5, 300)
    for row, extra in zip(table[1:], noise, strict=True):
        row[5] = str(float(row[2]) / 0.004 + extra + shift * int(row[1]))
    (folder / "scores.csv").write_text("\n".join(map(",".join, table)) + "\n")
    metrics = json.loads((folder / "metrics.json").read_text())
    labels, scores, trivial = ([float(row[i]) for row in table[1:]] for i in (1, 2, 5))
    metrics["baselines"] = {"mean_intensity": image_metrics(trivial, labels)}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = read(folder)
    assert ("caution-baseline" in page.by_id) == (result != "worse")
    areas, covariance = delong([scores, trivial], labels)
    reach = 1.96 * np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    bounds = [areas[0] - areas[1] - reach, areas[0] - areas[1] + reach]
    np.testing.assert_allclose(numbers(page.by_id[f"baseline-{result}"])[-2:], bounds, atol=6e-4)


def test_without_the_scores_of_a_baseline(make_run):
    assert "baseline-below" in read(make_run(columns=False)).by_id


@pytest.mark.parametrize(("aucp", "care"), [((0.5, 0.6, 0.7), True), ((0.5, 0.8, 0.7), False), ((0.5, 0.7), False)])
def test_a_run_that_has_not_finished_rising(make_run, aucp, care):
    folder = make_run()
    rows = [f"{100 * i},-0.5,{value}" for i, value in enumerate(aucp)]
    (folder / "history.csv").write_text("\n".join(["iteration,critic,aucp", *rows]) + "\n")
    assert ("caution-still-rising" in read(folder).by_id) == care


def test_a_row_chosen_on_the_test_is_red_and_no_result(make_run):
    page = read(make_run(change=lambda m: m.update(oracle_test={"auc": 0.99, "ap": 0.98})))
    (row,) = (row for row in page.named("tr") if row.get("id") == "row-oracle_test")
    assert row["class"] == "red"
    assert "0.990" in page.by_id["row-oracle_test"]
    assert "caution-oracle" in page.by_id
    assert "0.99" not in page.by_id["verdict"]


@pytest.mark.parametrize("column", ["score_oracle_test_no_result", "score_oracle_test"])
def test_its_scores_must_be_its_own(make_run, refused, column):
    folder = make_run()
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["oracle_test"] = metrics["last"] | {"no_result": "chosen by test labels"}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    text = (folder / "scores.csv").read_text()
    (folder / "scores.csv").write_text(text.replace("score_last", column))
    write_report(folder)
    metrics["oracle_test"]["auc"] -= 0.01
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with refused("of oracle_test, scores.csv"):
        write_report(folder)


def test_warnings_stand_on_top(make_run):
    text = f"view alone tells {FOLDER}/000.png apart"
    page = read(make_run(change=lambda m: m.update(warnings=[text])))
    assert "View alone tells 000.png apart." in page.by_id["cautions"]
    assert "The same pixels: t0.png and 000.png." in page.by_id["cautions"]
    assert numbers(page.by_id["caution-skipped"]) == [1]


def test_groups_and_localization(make_run):
    def change(metrics):
        group = {"n_normal": 12, "n_abnormal": 0, "auc": None, "auc_ci95": None, "ap": None, "ap_ci95": None}
        metrics["aucp"]["groups"] = {"sex": {"F": group | {"auc": 0.765, "n_abnormal": 8}, "unknown": group}}
        metrics["aucp"]["localization"] = {
            **{"truth": "masks", "n_images": 60, "n_abnormal": 30, "n_regions": 41, "abnormal_share": 0.031},
            **{"pixel_ap": 0.321, "pixel_ap_ci95": [0.3, 0.34], "dice": None, "dice_ci95": None, "threshold": 0.1},
            "hit_rates": [{"false_positives": 0.5, "hit_rate": 0.456, "hit_rate_ci95": [0.4, 0.5]}],
        }

    page = read(make_run(change=change))
    assert "0.765" in page.by_id["groups"]
    assert "unknown" in page.by_id["groups"]
    assert "0.321" in page.by_id["localization-pixel_ap"]
    assert numbers(page.by_id["localization-hit-rate-0.5"])[:2] == [0.5, 0.456]
    assert numbers(page.by_id["localization-note"])[:4] == [60, 30, 41, 3.1]
    assert "masks" in page.by_id["localization"]


@pytest.mark.parametrize(
    ("valid", "id", "values"),
    [
        (15, "p-values-too-few", [15, 1, 16, 6.2]),
        (18, "p-values-too-few", [18, 1, 19, 5.3]),
        (19, "p-values", [5, 19]),
        (37, "p-values", [2.6, 37]),
        (50, "p-values", [3.9, 50]),
        (None, "p-values", [5]),
    ],
)
def test_how_many_small_p_values_are_expected(make_run, valid, id, values):
    def change(metrics):
        metrics["aucp"]["operating_points"] = operating_points(range(valid), [0, 1], [0, 1], [0.9]) if valid else []

    text = read(make_run(change=change)).by_id[id].replace("-", " ")
    found = numbers(text)
    assert found[1:5] == values if id == "p-values-too-few" else found[-len(values) :] == values


@pytest.mark.parametrize("far", [(), (0,), (30,), (0, 1, 59)])
def test_the_axis_of_the_histograms_follows_the_scores(make_run, far):
    """Some images that are far from all others do not squeeze the rest into a few bars, and are counted."""
    folder = make_run(columns=False)
    labels = [0] * 30 + [1] * 30
    scores = np.random.default_rng(0).uniform(0.02, 0.03, 60) + 0.004 * np.array(labels)
    scores[list(far)] = 0.9
    lines = [f"{i}.png,{label},{score:.8f}" for i, (label, score) in enumerate(zip(labels, scores, strict=True))]
    (folder / "scores.csv").write_text("\n".join(["image,label,score", *lines]) + "\n")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["aucp"] |= image_metrics(scores, labels)
    metrics["aucp"]["operating_points"][0]["threshold"] = 0.8
    (folder / "metrics.json").write_text(json.dumps(metrics))
    text = write_report(folder).read_text(encoding="utf-8")
    drawn = text.split('id="scores"')[1].split("</section>")[0]
    for kind in ("normal", "abnormal"):
        path = re.search(rf'<path d="M([^"]+)Z" class="{kind}">', drawn)[1]
        across, up = zip(*(map(float, point.split()) for point in path.split("L")), strict=True)
        filled = {x for x, y in zip(across, up, strict=True) if y < max(up)}
        assert max(filled) - min(filled) > 180  # each kind fills more than half of the 352 across
        assert len(filled) > 20
    assert numbers(Reader(text).by_id.get("outliers", "")) == [len(far)] * bool(far)
    assert re.findall(r'class="beyond">[^<]*?(\d+)&nbsp;%', drawn) == ["95"]
    assert drawn.count('class="rule"') == 1  # that for 90 %


def test_too_few_validation_normals(make_run):
    def change(metrics):
        point = {"specificity_wanted": 0.95, "threshold": None, "sensitivity": None, "specificity": None}
        metrics["aucp"]["operating_points"] = [point | {"n_valid_normal": 4, "warning": "it takes 19 of them"}]

    assert "It takes 19 of them." in read(make_run(change=change)).by_id["operating-points"]


def test_without_a_list_the_heat_maps_are_shown(make_run):
    folder = make_run(drop=["heatmaps/gallery"])
    for i in range(3):
        (folder / "heatmaps" / f"{i}_normal.png").write_bytes(png(seed=i))
    page = read(folder)
    assert [image["alt"] for image in page.named("img")] == ["0 normal", "1 normal", "2 normal"]


def test_known_lesions_are_outlined_in_the_gallery(make_run):
    folder = make_run()
    assert "outlined" not in read(folder).by_id
    place = folder / "heatmaps" / "gallery" / "gallery.json"
    facts = json.loads(place.read_text())
    facts[1]["lesions"] = "M8 16L8 48"
    place.write_text(json.dumps(facts))
    page = read(folder)
    assert "outlined" in page.by_id
    drawn = [path for path in page.named("path") if path["d"] == "M8 16L8 48"]
    assert [path.get("transform") for path in drawn] == [None, "translate(128 0)"]  # pictures are 192 x 64
    assert sum(svg["viewbox"] == "0 0 192 64" for svg in page.named("svg")) == 1


def test_cases_without_restored_images(make_run):
    folder = make_run(pictures=1)
    place = folder / "heatmaps" / "gallery" / "gallery.json"
    facts = json.loads(place.read_text())
    place.write_text(json.dumps([facts[0] | {"lesions": "M8 16L8 48", "restored": False}]))
    page = read(folder)
    assert "restored" not in page.by_id["gallery"].split("·")[0].split("score first.")[1]
    drawn = [path for path in page.named("path") if path["d"] == "M8 16L8 48"]
    assert [path.get("transform") for path in drawn] == [None, "translate(96 0)"]  # of 192


def test_the_page_says_how_maps_were_made_and_on_what_scale(make_run):
    how = {"passes": 4, "smoothing": "gaussian", "sigma": 2.0, "top_of_scale": 0.15625}

    def change(metrics):
        metrics["anomaly_map"] = how
        metrics["aucp"]["localization"] = {"truth": "masks", "dice": 0.5, "threshold": 0.0625}

    page = read(make_run(change=change))
    words = map_words(how)
    for id in ("map-scale", "localization-note", "glossary"):
        assert words in page.by_id[id]
    assert numbers(page.by_id["map-scale"])[-2:] == [0.156, 99.9]
    assert "0.0625" in page.by_id["localization-note"]
    assert len([svg for svg in page.named("svg") if svg.get("class") == "bar"]) == 1
    folder = make_run("older")
    assert map_words(None) in read(folder).by_id["map-scale"]
    (folder / "config.json").write_text('{"map_passes": 1, "map_smoothing": "guided", "map_sigma": 2.0}')
    assert map_words({"passes": 1, "smoothing": "guided"}) in read(folder).by_id["map-scale"]


@pytest.mark.parametrize(("valid", "specificity"), [(40, 95), (15, 90)])
def test_the_threshold_has_a_name(make_run, valid, specificity):
    def change(metrics):
        points = operating_points(np.linspace(0.02, 0.03, valid), [0.02, 0.03], [0, 1], (0.95, 0.9))
        metrics["aucp"]["operating_points"] = points

    page = read(make_run(change=change))
    for kind in ("false-positive", "false-negative", "middle"):
        assert numbers(page.by_id[f"cases-{kind}-note"]) == [specificity]
    assert numbers(page.by_id.get("too-few-normals", "")) == ([15, 95] if valid == 15 else [])


def test_middle_cases_without_a_threshold(make_run):
    folder = make_run()
    place = folder / "heatmaps" / "gallery" / "gallery.json"
    kinds = ["highest", "middle", "lowest"]
    facts = [fact | {"kind": kind} for fact, kind in zip(json.loads(place.read_text()), kinds, strict=True)]
    place.write_text(json.dumps(facts))
    assert "median" in read(folder).by_id["cases-middle-note"]


def test_an_image_outside_the_training_range_is_marked(make_run):
    folder = make_run()
    place = folder / "heatmaps" / "gallery" / "gallery.json"
    facts = json.loads(place.read_text())
    facts[0]["warning"] = "mean brightness 3.0 is outside 40.0 to 90.0 of the training images"
    place.write_text(json.dumps(facts))
    page = write_report(folder).read_text(encoding="utf-8")
    assert re.findall('class="outside">([^<]+)<', page)[0].endswith(facts[0]["warning"])
    assert page.count('class="outside"') == 1


def test_size_of_many_and_of_wide_pictures(make_run):
    path = write_report(make_run(pictures=24))
    assert path.read_text().count("<img ") == 24
    assert path.stat().st_size < 3_000_000  # of noise, which no PNG makes smaller
    folder = make_run("wide", pictures=1)
    (folder / "heatmaps" / "gallery" / "0.png").write_bytes(png(1536, 512))
    assert write_report(folder).stat().st_size < 500_000


def test_broken_folders_are_refused(make_run, tmp_path, refused):
    with refused("nothing", "output_dir"):
        write_report(tmp_path / "nothing")
    for name in ("metrics.json", "scores.csv"):
        with refused(name, "evaluate.json"):
            write_report(make_run(f"without_{name}", drop=[name]))
    for name in ("metrics.json", "audit.json", "config.json", "splits.json", "heatmaps/gallery/gallery.json"):
        folder = make_run(f"broken_{name.replace('/', '_')}")
        (folder / name).write_text('{"aucp": {"auc"')
        with refused(folder / name, "broken"):
            write_report(folder)
        assert not (folder / "report.html").exists()
        (folder / name).write_text("3")
        with refused(folder / name, "is 3, not a"):
            write_report(folder)
    folder = make_run("no_models")
    (folder / "metrics.json").write_text('{"n_normal": 30}')
    with refused("metrics.json", "no auc"):
        write_report(folder)


def places(content):
    """Where a JSON value has values inside, as the container and the key; of a list the first two."""
    for key in list(content) if isinstance(content, dict) else range(len(content))[:2]:
        yield content, key
        if isinstance(content[key], (dict, list)):
            yield from places(content[key])


@pytest.mark.parametrize(
    "name", ["metrics.json", "splits.json", "audit.json", "config.json", "heatmaps/gallery/gallery.json"]
)
def test_json_of_any_shape_is_a_page_or_one_line(make_run, name):
    """Whatever stands in the place of a value, the page is written or the file named."""

    def change(metrics):
        metrics["aucp"] |= {
            "groups": {"view": {"AP": metrics["last"] | {"n_normal": 3, "n_abnormal": 4}}},
            "localization": {"truth": "masks", "dice": 0.5, "dice_ci95": [0.4, 0.6], "hit_rates": [{"hit_rate": 0.4}]},
        }
        del metrics["aucp"]["operating_points"][1]

    folder = make_run(labels=(0, 0, 1, 1), change=change, pictures=1)
    whole = json.loads((folder / name).read_text())
    written, said = 0, []
    for container, key in places(whole):
        before = container[key]
        for other in (3, -0.5, "x", [3], {"x": 3}, [], {}, None, True, 1e999):
            container[key] = other
            (folder / name).write_text(json.dumps(whole))
            try:
                write_report(folder)
                written += 1
            except SaganError as error:
                said.append(str(error))
        container[key] = before
    assert written
    assert said or name == "config.json"
    assert [words for words in said if name.split("/")[-1] not in words or "\n" in words] == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("audit.json", {"exact_duplicates": 3}, "exact_duplicates is 3, not a dictionary"),
        ("splits.json", {"test": 3}, "test is 3, not a list"),
        ("splits.json", {"test": [3]}, "test[0] is 3, not a dictionary"),
        ("metrics.json", {"aucp": {"auc": "x"}}, 'aucp.auc is "x", not a number'),
        ("metrics.json", {"aucp": {"auc": 0.5, "operating_points": [3]}}, "aucp.operating_points[0] is 3"),
        ("metrics.json", {"aucp": {"auc": 0.5, "groups": {"view": 3}}}, "aucp.groups.view is 3"),
    ],
)
def test_what_does_not_fit_is_named(make_run, refused, name, content, words):
    folder = make_run()
    (folder / name).write_text(json.dumps(content))
    with refused(folder / name, words):
        write_report(folder)


def test_scores_of_another_evaluation_are_refused(make_run, refused):
    folder = make_run()
    table = [line.split(",") for line in (folder / "scores.csv").read_text().splitlines()]
    for column, name in ((2, "aucp"), (4, "last"), (5, "mean_intensity")):
        mixed = [list(row) for row in table]
        for row, other in zip(mixed[1:], table[:0:-1], strict=True):
            row[column] = other[column]
        (folder / "scores.csv").write_text("\n".join(map(",".join, mixed)) + "\n")
        with refused(folder / "metrics.json", f" of {name}, scores.csv", "different evaluations", "again"):
            write_report(folder)


def test_scores_that_were_rounded_are_of_the_same_evaluation(make_run):
    """Far apart or so near that the file holds most of them as equal."""
    for number, scale in enumerate((1.0, 1e-6, 1e-12)):
        labels = [0, 1] * 30
        scores = scale * (np.random.default_rng(number).uniform(1, 2, 60) + 0.5 * np.array(labels))
        folder = make_run(f"run{number}", labels=tuple(labels), columns=False)
        lines = [f"{i}.png,{label},{score:.8f}" for i, (label, score) in enumerate(zip(labels, scores, strict=True))]
        (folder / "scores.csv").write_text("\n".join(["image,label,score", *lines]) + "\n")
        block = image_metrics(scores, labels)
        metrics = {"aucp": block, "last": block, "n_normal": 30, "n_abnormal": 30}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        write_report(folder)


def test_tables_that_were_cut_are_refused(make_run, refused):
    for name in ("history.csv", "scores.csv", "skipped.csv"):
        folder = make_run(name)
        whole = (folder / name).read_bytes()
        for missing in (1, 2, 4):
            (folder / name).write_bytes(whole[:-missing])
            with refused(folder / name, "broken"):
                write_report(folder)
    folder = make_run("row")
    for row in ("300,-0.5", "300,-0.5,0.5,0.5", "300,x,0.5"):
        (folder / "history.csv").write_text(f"iteration,critic,aucp\n100,-0.5,0.5\n{row}\n")
        with refused(folder / "history.csv", "broken"):
            write_report(folder)


def test_scores_that_do_not_fit_are_refused(make_run, refused):
    folder = make_run()
    scores = folder / "scores.csv"
    whole = scores.read_text()
    lines = whole.splitlines(keepends=True)
    for text, part in (
        ("".join(lines[:-1]), "30 normal and 29 abnormal"),
        (lines[0], "no rows"),
        (whole.replace("score", "other"), "no rows"),
        (whole + "x.png,2,0.5,1,1,1\n", "line 62"),
        (whole + "x.png,1,nan,1,1,1\n", "line 62"),
        (whole + "x.png\n", "line 62"),
    ):
        scores.write_text(text)
        with refused(scores, part):
            write_report(folder)
    scores.write_bytes(b"\xff\xfe\x00")
    with refused(scores, "broken"):
        write_report(folder)


def test_pictures_that_do_not_fit_are_refused(make_run, refused):
    folder = make_run()
    place = folder / "heatmaps" / "gallery"
    whole = png()
    for content in (b"no picture", b"", whole[:100], whole[: len(whole) // 2], whole[:40] + bytes(60) + whole[100:]):
        (place / "1.png").write_bytes(content)
        with refused("1.png", "not a complete picture", "again"):
            write_report(folder)
    (place / "1.png").unlink()
    with refused("1.png", "not there"):
        write_report(folder)
    (place / "gallery.json").write_text('[{"file": "../../config.json"}]')
    with refused("gallery/config.json"):  # nothing outside the folder
        write_report(folder)


def test_heat_maps_that_were_cut_are_refused(make_run, refused):
    folder = make_run(drop=["heatmaps/gallery"])
    (folder / "heatmaps" / "1_normal.png").write_bytes(png()[:100])
    with refused("1_normal.png", "not a complete picture"):
        write_report(folder)


def test_not_writable(make_run, refused, tmp_path):
    (tmp_path / "file").touch()
    with refused("file", "another output"):
        write_report(make_run(), tmp_path / "file" / "report.html")


def _luminance(color):
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1])
def test_contrast_in_light_and_dark(scheme):
    """4.5 to 1 and more, as the Web Content Accessibility Guidelines ask of text."""
    colors = dict(re.findall(r"--([\w-]+): (#\w+);", re.findall(r":root {(.*?)}", STYLE, re.DOTALL)[scheme]))
    for ground in ("paper", "panel", "note"):
        for text in ("ink", "soft", "blue", "orange", "red"):
            bright, dark = sorted((_luminance(colors[ground]), _luminance(colors[text])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ground, text)


@pytest.fixture
def rich_run(make_run):
    """A run with a row of each kind in every table, long names, and outlines in its gallery."""

    def change(metrics):
        counts = {"n_normal": 1200, "n_abnormal": 1100}
        block = metrics["last"] | counts
        sites = {
            "St_Josephs_Hospital_Department_of_Radiology_North": block,
            "unknown": counts | {"auc": None, "ap": None},
        }
        metrics["oracle_test"] = metrics["last"] | {"no_result": "chosen by test labels"}
        metrics["aucp"] |= {
            "groups": {"site": sites, "view": {"AP": block}},
            "localization": {
                **{"truth": "masks", "n_images": 60, "n_abnormal": 30, "n_regions": 41, "pixel_ap": 0.3, "dice": 0.5},
                **{"pixel_ap_ci95": [0.3, 0.34], "hit_rates": [{"false_positives": 0.5, "hit_rate": 0.4}]},
            },
        }

    names = [f"{FOLDER}/1.2.826.0.1.3680043.8.498.{10**30 + i}.dcm" for i in range(60)]
    folder = make_run(images=names, change=change, pictures=24)
    with (folder / "skipped.csv").open("a") as file:
        file.write(f"{names[0]}.gz,{names[0]}.gz is compressed as {'x' * 70}: unpack it\n")
    place = folder / "heatmaps" / "gallery" / "gallery.json"
    place.write_text(json.dumps([fact | {"lesions": "M8 16L8 48"} for fact in json.loads(place.read_text())]))
    return folder


def test_in_a_browser(rich_run):
    with chromium() as browser:
        assert faults(browser, [write_report(rich_run)]) == []


def test_on_paper(rich_run):
    """No row, chart or heading is cut or parted from what it belongs to, and nothing is wider than the page."""
    with chromium() as browser:
        assert cut_by_page_breaks(browser, write_report(rich_run)) == []
