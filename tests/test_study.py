"""Studies: which runs they make, how they share a machine and go on, and what their table says."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from monai_sagan.bundle import check_command_line
from monai_sagan.bundle.words import join_options, parse_options
from monai_sagan.data.datalist import make_splits
from monai_sagan.data.datasets.phantom import write_phantom
from monai_sagan.metrics.roc import delong
from monai_sagan.output_folder import hold_folder
from monai_sagan.study import BUDGETS, STUDIES, run_study
from monai_sagan.study.command import add_study_arguments, study_command
from monai_sagan.study.figure import make_figure
from monai_sagan.study.plan import Bundle, Run, is_finished, plan_runs
from monai_sagan.study.processes import Job, available_cores, run_jobs, slots
from monai_sagan.study.rows import named_rows, published_figures
from monai_sagan.study.statistics import ap_covariance, estimate
from monai_sagan.study.table import make_entries, write_table

REPOSITORY = Path(__file__).parents[1]
CONFIG = REPOSITORY / "bundles" / "rsna" / "train.json"
TINY = {"channels": 4, "num_res_blocks": 1, "batch_size": 2, "max_iterations": 2, "device": "cpu"}
SAGAN = {"SAGAN": {}}
COUNTS = dict(train_normal=9, unlabeled_normal=9, unlabeled_abnormal=7, test_normal=6, test_abnormal=6)


def items(kind, count, label):
    return [{"image": f"{kind}{label}-{i}.png", "label": label} for i in range(count)]


@pytest.fixture
def datalist():
    """Forty normal images; thirty unlabeled normal and twenty unlabeled abnormal ones; six to test on."""
    return {
        "normal": items("normal", 40, 0),
        "unlabeled": items("unlabeled", 30, 0) + items("unlabeled", 20, 1),
        "test": items("test", 3, 0) + items("test", 3, 1),
    }


@pytest.fixture
def plan(tmp_path, datalist):
    def runs(rows, seeds=(0,), **overrides):
        values = {"dataset_dir": str(tmp_path), **TINY, **overrides}
        return plan_runs(Bundle(CONFIG), tmp_path / "study", rows, seeds, values, datalist)

    return runs


# Which runs


def test_rows_become_commands(tmp_path, plan):
    runs = plan(STUDIES["table3"], seeds=(0, 5), preset="paper", grid=[1, 2])
    assert [run.name for run in runs[:5]] == [
        *("base, seed 0", "+ACM, seed 0", "+ARRM, seed 0", "both, seed 0"),
        "base, seed 5",
    ]
    python, *words = runs[5].command
    assert python == sys.executable
    assert words[:5] == ["-m", "monai.bundle", "run", "--config_file", str(CONFIG)]
    assert set(words[5:]) == {
        "--anatomical_consistency=True",
        "--abnormal_region_restoration=False",
        "--seed=5",
        f"--output_dir={tmp_path / 'study' / '+ACM' / 'seed5'}",
        f"--dataset_dir={tmp_path}",
        "--preset=paper",
        "--grid=[1, 2]",
        *(f"--{name}={value}" for name, value in TINY.items()),
    }
    check_command_line(words[2:])  # the config has all these keys
    assert runs[5].config["anatomical_consistency"] is True
    assert runs[5].config["grid"] == [1, 2]
    assert (runs[5].config["seed"], runs[5].config["learning_rate"]) == (5, 5e-5)


def test_asking_a_config_overrides_nothing(tmp_path):
    """A run that was made without overrides is then known again."""
    assert Bundle(CONFIG).run_config({"dataset_dir": str(tmp_path), **TINY})["overrides"] is None


def test_table_4_changes_nothing_but_the_ratio(plan, datalist):
    runs = plan(STUDIES["table4"], seeds=(0, 1))
    assert [run.row for run in runs[:7]] == ["0_u", "0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert {run.config["unlabeled_size"] for run in runs} == {18}  # 20 abnormal images less 2 for validation
    assert [run.config["anomaly_ratio"] for run in runs[:7]] == [0, 0, 0.2, 0.4, 0.6, 0.8, 1]
    assert [run.config["fake_source"] for run in runs[:3]] == ["pseudo", "unlabeled", "unlabeled"]
    for run in runs:
        values = {name: run.config[name] for name in ("anomaly_ratio", "unlabeled_size", "valid_fraction", "seed")}
        splits = make_splits(datalist, **values)
        labels = [item["label"] for item in splits["train_unlabeled"]]
        assert len(labels) == 18
        assert sum(labels) == round(18 * run.config["anomaly_ratio"])


def test_a_size_that_is_given_stands(plan):
    assert {run.config["unlabeled_size"] for run in plan(STUDIES["table4"], unlabeled_size=10)} == {10}
    assert {run.config["unlabeled_size"] for run in plan(STUDIES["table3"])} == {None}


def test_a_study_of_ones_own(tmp_path, refused):
    rows = {"narrow": {"channels": 4}, "wide": {"channels": 8}}
    (tmp_path / "width.json").write_text(json.dumps(rows))
    assert named_rows(str(tmp_path / "width.json")) == ("width", rows)
    assert named_rows(rows) == ("study", rows)
    (tmp_path / "width.json").write_text('["narrow"]')
    for study, parts in [
        ("table5", ("table5", "table2", "table4")),
        (str(tmp_path / "width.json"), ("width.json", "not hold a study")),
        (str(tmp_path / "none.json"), ("none.json", "readable")),
        ({}, ("no rows",)),
        ({"a/b": {}}, ("a/b", "rename")),
        ({"cache": {}}, ("cache",)),
    ]:
        with refused(*parts):
            named_rows(study)


@pytest.mark.parametrize("budget", BUDGETS)
def test_budgets_fit_every_bundle(budget, plan):
    for run in plan(SAGAN, **BUDGETS[budget]):
        assert {name: run.config[name] for name in BUDGETS[budget]} == BUDGETS[budget]


def test_published_figures_are_of_the_papers_datasets_alone():
    methods = {"SAGAN": "sagan", "DDAD-ASR": "ddad", "PU": "pu"}
    rsna, lag = (3851, 9012, 1000, 1000), (1500, 1732, 811, 811)
    found = {"SAGAN": (0.9245, 0.9260), "DDAD-ASR": (0.913, 0.916)}  # AUC comes first; of PU there is none
    assert published_figures("table2", rsna, methods) == found
    assert published_figures("table2", lag, {"AMAE-style": "amae"}) == {}
    assert published_figures({"SAGAN": {}}, rsna, methods) == {}  # rows of one's own
    assert published_figures("table3", (3851, 9012, 1000, 1000)) == {}  # the paper's is of VinDr-CXR
    assert published_figures("table2", (500, 300, 250, 250), methods) == {}
    for name in ("table3", "table4"):
        counts = (4000, 9000, 1000, 1000) if name == "table3" else (3851, 9012, 1000, 1000)
        assert set(published_figures(name, counts)) <= set(STUDIES[name])
        assert published_figures(name, counts)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"config_file": "nowhere.json"}, ("nowhere.json",)),
        ({"overrides": {"channel": 4}}, ("--channel ", "--channels")),
        ({"overrides": {"budgt": "small"}}, ("--budgt is not a key", "the nearest is --budget")),
        ({"overrides": {"seed": 4}}, ("--seed ", "--seeds")),
        ({"study": "table4", "overrides": {"anomaly_ratio": 0.3}}, ("--anomaly_ratio", "leave it out")),
        ({"overrides": {"channels": "many"}}, ("channels", "many")),
        ({"study": {"a": {"chanels": 1}}}, ("--chanels", "--channels")),
        ({"seeds": [0, 0]}, ("seeds", "[0, 0]")),
        ({"seeds": []}, ("seeds",)),
        ({"budget": "huge"}, ("huge", "small")),
        ({"overrides": {"dataset_dir": "nowhere"}}, ("nowhere",)),
        ({"jobs": 0}, ("jobs is 0",)),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(change, parts, tmp_path, refused):
    arguments = {"study": "table3", "config_file": CONFIG, "output_dir": tmp_path / "study", "budget": "small"}
    change = dict(change)
    data = write_phantom(tmp_path / "data", counts=COUNTS)
    change["overrides"] = {"dataset_dir": str(data), **TINY, "max_iterations": 50} | change.get("overrides", {})
    with refused(*parts):
        run_study(**arguments | change)
    assert not list(tmp_path.glob("study/*/seed*"))


def test_a_test_split_without_labels_is_refused(tmp_path, refused):
    data = write_phantom(tmp_path / "data", counts=COUNTS | {"test_abnormal": 1})
    with refused("two or more normal and abnormal"):
        run_study("table3", CONFIG, tmp_path / "study", {"dataset_dir": str(data), **TINY})


# Which of them are done


def finish(run, scores=(0.1, 0.2, 0.3, 0.4), labels=(0, 0, 1, 1), **metrics):
    """Leave behind what a finished run does."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "config.json").write_text(json.dumps({**run.config, "device": "cuda"}))
    auc = roc_auc_score(labels, scores)
    rows = [["image", "label", "score", "p_value", "score_last"]]
    rows += [
        [f"{i}.png", "" if label is None else label, f"{s:.8f}", "0.5", f"{s:.8f}"]
        for i, (s, label) in enumerate(zip(scores, labels, strict=True))
    ]
    with (run.folder / "scores.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    content = {"aucp": {"auc": auc, "ap": 0.5}, "last": {"auc": auc, "ap": 0.5}, **metrics}
    (run.folder / "metrics.json").write_text(json.dumps(content))


def test_a_finished_run_is_known_by_its_files(plan):
    (run,) = plan(SAGAN)
    assert not is_finished(run)
    finish(run)
    assert is_finished(run)  # on another device, too
    text = (run.folder / "metrics.json").read_text()
    for broken in (text[:-5], "{}", text.replace('"last"', '"lost"')):
        (run.folder / "metrics.json").write_text(broken)
        assert not is_finished(run)
    (run.folder / "metrics.json").write_text(text)
    (run.folder / "scores.csv").unlink()
    assert not is_finished(run)


@pytest.mark.parametrize("left", ["metrics.json", "checkpoint.pt"])
def test_a_run_that_was_asked_something_else_is_named_and_not_taken(left, plan, refused):
    (run,) = plan(SAGAN)
    finish(run)
    if left == "checkpoint.pt":
        (run.folder / "metrics.json").rename(run.folder / left)
    (other,) = plan(SAGAN, learning_rate=0.5)
    assert other.folder == run.folder
    with refused(run.folder, "learning_rate 0.0002", "asks for 0.5"):
        is_finished(other)
    (run.folder / "config.json").unlink()
    with refused("config.json", "delete"):
        is_finished(run)
    (run.folder / left).unlink()
    assert not is_finished(other)  # nothing there that could be lost or mistaken


# One machine


def python(name, folder, code):
    return Job(name, (sys.executable, "-c", code), folder)


def test_a_run_that_fails_takes_no_other_with_it(tmp_path):
    codes = ["print('fine')", "print('error: bad luck'); raise SystemExit(3)", "import os; print(os.environ['PLACE'])"]
    jobs = [python(f"job {i}", tmp_path / str(i), code) for i, code in enumerate(codes)]
    lines = []
    outcomes = run_jobs(jobs, [{"PLACE": "a"}, {"PLACE": "b"}], lines.append)
    assert [outcome.job for outcome in outcomes] == jobs
    assert [outcome.code for outcome in outcomes] == [0, 3, 0]
    assert [outcome.last_line for outcome in outcomes[:2]] == ["fine", "error: bad luck"]
    assert outcomes[2].last_line in ("a", "b")
    assert (tmp_path / "1" / "output.txt").read_text() == "error: bad luck\n"
    assert sum(": started" in line for line in lines) == 3
    assert sum("failed (error: bad luck)" in line for line in lines) == 1
    assert lines[-1].startswith("[3/3] ")
    assert re.search(r" after \d:\d\d:\d\d$", lines[-1])


def test_no_more_runs_at_a_time_than_places(tmp_path):
    code = (
        "import pathlib, time, os\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "mark = folder / f'{os.getpid()}.here'; mark.touch(); time.sleep(0.1)\n"
        "print(len(list(folder.glob('*.here')))); mark.unlink()\n"
    )
    outcomes = run_jobs([python(str(i), tmp_path / str(i), code) for i in range(3)], [{}], lambda line: None)
    assert [outcome.last_line for outcome in outcomes] == ["1", "1", "1"]


def interrupt_when_all_run(jobs, *signals):
    """Run jobs that print "here", and send this process the signals once all of them have."""

    def interrupt():
        outputs = [job.folder / "output.txt" for job in jobs]
        while not all(path.is_file() and "here" in path.read_text() for path in outputs):
            time.sleep(0.02)
        for sent in signals:
            os.kill(os.getpid(), sent)
            time.sleep(0.3)  # each is to be handled by itself

    # Where tests run side by side, or in the background, SIGINT is ignored, also by what is started from there.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    watcher = threading.Thread(target=interrupt)
    watcher.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_jobs(jobs, [{}] * len(jobs), lambda line: None)
        watcher.join()
    finally:
        signal.signal(signal.SIGINT, heard)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_runs_too(sent, tmp_path):
    code = (
        "import time\n"
        "try:\n    print('here', flush=True); time.sleep(60)\n"
        "finally:\n    print('put away', flush=True)\n"
    )
    jobs = [python(str(i), tmp_path / str(i), code) for i in range(2)]
    before = signal.getsignal(signal.SIGTERM)
    interrupt_when_all_run(jobs, sent)
    assert all("put away" in (job.folder / "output.txt").read_text() for job in jobs)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_a_second_interruption_kills_the_runs(tmp_path):
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print(os.getpid(), 'here', flush=True); time.sleep(60)\n"
    )
    job = python("stubborn", tmp_path / "stubborn", code)
    interrupt_when_all_run([job], signal.SIGINT, signal.SIGTERM)
    with pytest.raises(ProcessLookupError):
        os.kill(int((job.folder / "output.txt").read_text().split()[0]), 0)


def test_places_on_a_cpu(monkeypatch):
    cores = available_cores()
    assert len(slots("cpu", 1000)) == cores
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert {place["OMP_NUM_THREADS"] for place in slots("cpu", 1000)} == {"1"}
    assert slots("cpu", 1) == [{"OMP_NUM_THREADS": str(cores)}]
    assert slots("cpu", 1000, jobs=3 * cores) == [{"OMP_NUM_THREADS": "1"}] * (3 * cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what the user allows is not exceeded
    assert slots("cpu", 1) == [{"OMP_NUM_THREADS": "1"}]


def test_places_on_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in slots("cuda", 9)] == ["2", "5"]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in slots("cuda", 9, jobs=3)] == ["2", "5", "2"]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in slots("cuda", 1)] == ["2"]
    assert [place.keys() for place in slots("cuda:1", 9)] == [{"OMP_NUM_THREADS"}]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_one_study_at_a_time_in_a_folder(tmp_path, refused):
    with hold_folder(tmp_path, "study"), refused(f"process {os.getpid()}", tmp_path), hold_folder(tmp_path, "study"):
        pass
    with hold_folder(tmp_path, "study") as keep_open:  # a run that outlives its study keeps the folder
        job = python("long", tmp_path / "long", "input()")
        thread = threading.Thread(target=run_jobs, args=([job], [{}], lambda line: None, keep_open))
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    with hold_folder(tmp_path, "study"):
        pass


# Statistics


def scored(rng, count, shift=1.2, runs=3, common=0.7):
    """Scores (runs, 2 count) that share a part of their noise, and labels."""
    labels = np.repeat([1, 0], count)
    noise = common * rng.normal(size=2 * count) + np.sqrt(1 - common**2) * rng.normal(size=(runs, 2 * count))
    return shift * labels + noise, labels


@pytest.mark.parametrize("decimals", [8, 1, 0])
def test_values_are_scikit_learns(decimals):
    scores, labels = scored(np.random.default_rng(0), 40)
    scores = scores.round(decimals)  # with ties, too
    for measure, wanted in ((delong, roc_auc_score), (ap_covariance, average_precision_score)):
        values, covariance = measure(scores, labels)
        np.testing.assert_allclose(values, [wanted(labels, row) for row in scores], atol=1e-12)
        np.testing.assert_allclose(covariance, covariance.T)
        assert (np.linalg.eigvalsh(covariance) > -1e-12).all()


@pytest.mark.parametrize("measure", [delong, ap_covariance])
def test_covariance_is_that_over_test_sets(measure):
    rng = np.random.default_rng(1)
    drawn = [measure(*scored(rng, 50)) for _ in range(300)]
    wanted = np.cov(np.array([values for values, _ in drawn]).T)
    found = np.mean([covariance for _, covariance in drawn], axis=0)
    np.testing.assert_allclose(found, wanted, rtol=0.35)


def test_estimates():
    one = estimate(np.array([0.9]), np.array([[0.0004]]))
    assert one.sd is None
    assert (one.low, one.high) == (pytest.approx(0.9 - 1.959964 * 0.02), pytest.approx(0.9 + 1.959964 * 0.02))
    assert 0 < estimate(np.array([0.99]), np.array([[0.01]]), trials=9).low < 0.99
    assert estimate(np.array([0.99]), np.array([[0.01]]), trials=9).high < 1

    alike = estimate(np.full(3, 0.9), np.full((3, 3), 0.0004))  # three times the same model: no more than one
    assert (alike.low, alike.high) == (pytest.approx(one.low), pytest.approx(one.high))
    apart = estimate(np.array([0.8, 0.9, 1.0]), np.zeros((3, 3)))  # the seeds alone: Student's t of two degrees
    assert apart.sd == pytest.approx(0.1)
    assert apart.high - apart.mean == pytest.approx(4.302653 * 0.1 / np.sqrt(3))
    both = estimate(np.array([0.8, 0.9, 1.0]), np.full((3, 3), 0.0004))
    assert both.high - both.low > max(one.high - one.low, 2 * 1.96 * 0.1 / np.sqrt(3))


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.025 ** (1 / 20), 1.0), (0.0, 0.0, 1 - 0.025 ** (1 / 20))])
def test_perfection_is_not_certainty(value, low, high):
    found = estimate(np.full(3, value), np.zeros((3, 3)), trials=20)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(("runs", "spread"), [(1, 0.0), (3, 0.0), (3, 0.1), (5, 0.2)])
def test_intervals_cover(runs, spread):
    """Of 300 draws of test set and seeds the interval of the AUC, and of a difference of nothing, miss 5 % or fewer."""
    rng = np.random.default_rng(7)
    truth = norm.cdf(1.5 / np.sqrt(2 + spread**2))
    covered = np.zeros(2)
    for _ in range(300):
        labels = np.repeat([1, 0], 60)
        shifts = rng.normal(1.5, spread, (2 * runs, 1))
        scores = labels * shifts + 0.8 * rng.normal(size=120) + 0.6 * rng.normal(size=(2 * runs, 120))
        values, covariance = delong(scores, labels)
        contrast = np.hstack([np.eye(runs), -np.eye(runs)])
        own = estimate(values[:runs], covariance[:runs, :runs], trials=60)
        gap = estimate(contrast @ values, contrast @ covariance @ contrast.T)
        covered += [own.low <= truth <= own.high, gap.low <= 0 <= gap.high]
    assert (covered / 300 > 0.92).all()
    assert runs > 1 or (covered / 300 < 0.98).all()  # several seeds: wide rather than narrow


# The table


def a_run(folder, row, seed):
    return Run(row, seed, folder / row / f"seed{seed}", (), {}, {})


@pytest.fixture
def study(tmp_path):
    """Three rows of two seeds; ``good`` ranks better than ``base``, ``same`` as well but for noise."""
    rng = np.random.default_rng(3)
    labels = [*[0] * 60, *[1] * 60, None]
    runs = []
    for seed in (0, 1):
        noise = rng.normal(size=121)
        for row, shift in (("base", 0.6), ("same", 0.6), ("good", 3.0)):
            scores = noise + shift * np.array([label == 1 for label in labels]) + 0.3 * rng.normal(size=121)
            run = a_run(tmp_path, row, seed)
            finish(run, scores[:120], labels[:120], baselines={"linear_pu": {"auc": 0.7 + 0.1 * seed, "ap": 0.5}})
            with (run.folder / "scores.csv").open("a") as file:
                file.write("120.png,,0.9,0.5,0.9\n")  # an image without a label has no say
            runs.append(run)
    return runs


def test_what_the_table_says(tmp_path, study):
    published = {"good": (0.9, 0.8)}
    entries = {(e.row, e.model): e for e in make_entries(["base", "same", "good"], study, published)}
    assert list(entries) == [(row, model) for row in ("base", "same", "good") for model in ("aucp", "last")]
    base, same, good = (entries[row, "aucp"] for row in ("base", "same", "good"))
    assert base.difference is None
    assert same.inside_noise is True
    assert good.inside_noise is False
    assert good.difference.mean == pytest.approx(good.figures["auc"].mean - base.figures["auc"].mean)
    assert good.difference.low > 0
    assert base.baseline == ("linear_pu", pytest.approx(0.75))
    assert (base.published, good.published) == (None, (0.9, 0.8))
    told = [json.loads((run.folder / "metrics.json").read_text())["aucp"]["auc"] for run in study if run.row == "good"]
    np.testing.assert_allclose(good.runs["auc"], told, atol=1e-6)
    assert good.figures["auc"].sd == pytest.approx(np.std(told, ddof=1), abs=1e-6)


def test_pairing_images_finds_what_apart_is_lost_in_noise(tmp_path):
    rng = np.random.default_rng(5)
    labels = [*[0] * 60, *[1] * 60]
    noise, runs = rng.normal(size=120), []  # of the images: all runs find the same ones hard
    for row, shift in (("base", 1.0), ("better", 1.4)):
        for seed in range(3):
            runs.append(a_run(tmp_path, row, seed))
            finish(runs[-1], noise + shift * np.array(labels) + 0.2 * rng.normal(size=120), labels)
    base, better = (e for e in make_entries(["base", "better"], runs) if e.model == "aucp")
    assert base.figures["auc"].high > better.figures["auc"].low
    assert better.inside_noise is False


def test_files_of_the_table(tmp_path, study):
    path = write_table(tmp_path, ["base", "same", "good"], study, ["A note."], {"good": (0.9, 0.8)})
    assert path == tmp_path / "table.md"
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["base", "base", "same", "same", "good", "good"]
    assert {row["seeds"] for row in rows} == {"0 1"}
    assert [row["inside_noise"] for row in rows[::2]] == ["", "true", "false"]
    assert rows[4]["published_auc"] == "0.900000"
    runs = [float(value) for value in rows[0]["auc_runs"].split()]
    assert float(rows[0]["auc"]) == pytest.approx(np.mean(runs), abs=1e-6)
    assert float(rows[0]["auc_low"]) < min(runs)
    text = path.read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 8
    assert len({line.count("|") for line in lines}) == 1
    assert text.count("inside the noise") == 2 * 2 + 1  # AUC and AP, both models of one row, and the explanation
    assert "A note." in text
    with Image.open(tmp_path / "table.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(maxcolors=10**6)) > 10
    again = (tmp_path / "table.png").read_bytes()
    write_table(tmp_path, ["base", "same", "good"], study, ["A note."], {"good": (0.9, 0.8)})
    assert (tmp_path / "table.png").read_bytes() == again


@pytest.mark.parametrize("column", ["score_oracle_test_no_result", "score_oracle_test"])
def test_what_was_chosen_on_the_test_is_marked(tmp_path, study, column):
    """By the older name of its column, too."""
    for run in study:
        path = run.folder / "scores.csv"
        rows = [line.split(",") for line in path.read_text().splitlines()]
        path.write_text("\n".join(",".join([*row, column if i == 0 else row[4]]) for i, row in enumerate(rows)) + "\n")
    text = write_table(tmp_path, ["base", "same"], [run for run in study if run.row != "good"], [], {}).read_text()
    assert text.count("| `oracle_test` (no result) |") == 2
    with (tmp_path / "table.csv").open(newline="") as file:
        marks = [(row["model"], row["no_result"]) for row in csv.DictReader(file)]
    assert marks == 2 * [("aucp", ""), ("last", ""), ("oracle_test", "chosen by test labels: no result")]


def test_the_picture_names_what_is_no_result(study):
    entries = make_entries(["base"], study[:1])
    (legend,) = make_figure([*entries, replace(entries[0], model="oracle_test")]).legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[-3:] == ["aucp", "last", "oracle_test (chosen by test labels: no result)"]


def test_rows_and_seeds_may_be_lacking(tmp_path, study):
    some = [run for run in study if run.row != "good" and (run.row, run.seed) != ("same", 0)]
    base, same, good = (e for e in make_entries(["base", "same", "good"], some) if e.model == "aucp")
    assert (base.seeds, same.seeds, good.seeds) == ((0, 1), (1,), ())
    assert same.difference.sd is None  # of the one seed that both have
    assert (good.figures, good.difference, good.baseline) == (None, None, None)
    text = write_table(tmp_path, ["base", "same", "good"], some, [], {}).read_text()
    assert "no run finished" in text
    assert "of one seed" in text
    entries = make_entries(["good", "same"], [run for run in study if run.row == "same"])
    assert all(entry.difference is None for entry in entries)  # nothing to compare with


def test_other_test_images_are_refused(tmp_path, study, refused):
    path = study[1].folder / "scores.csv"
    path.write_text(path.read_text().replace("\n5.png", "\nfive.png"))
    with refused(study[1].folder, study[0].folder, "different test images"):
        make_entries(["base", "same"], study)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda text: text.replace("image,label,score,", "image,other,label,"), ("no rows of image, label and score",)),
        (lambda text: text + "only,three,cells\n", ("line", "broken")),
        (lambda text: text.replace("\n5.png,0,", "\n5.png,0,x"), ("line 7", "broken")),
        (lambda text: text[:-1], ("its end is missing",)),
        (
            lambda text: "\n".join([text.splitlines()[0], *reversed(text.splitlines()[1:]), ""]),
            ("different test images",),
        ),
    ],
)
def test_broken_scores_are_named(change, parts, study, refused):
    path = study[0].folder / "scores.csv"
    path.write_text(change(path.read_text()))
    with refused(study[0].folder, *parts):
        make_entries(["base"], study[:2])


def test_scores_and_metrics_of_different_runs(study, refused):
    path = study[0].folder / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["last"]["auc"] -= 0.1
    path.write_text(json.dumps(metrics))
    with refused(path, "scores.csv", "last"):
        make_entries(["base"], study[:1])


# All of it


def test_a_study_from_the_command_line(tmp_path, capsys, refused):
    """Two real runs, and one that fails; without that one the same command has nothing left to do."""
    data = write_phantom(tmp_path / "data", counts=COUNTS)
    rows = {"pseudo": {"fake_source": "pseudo"}, "unlabeled": {}}
    (tmp_path / "fakes.json").write_text(json.dumps({**rows, "failing": {}}))
    parser = argparse.ArgumentParser()
    add_study_arguments(parser)
    words = [str(tmp_path / "fakes.json"), "--config_file", str(CONFIG), "--output_dir", str(tmp_path / "study")]
    arguments = parser.parse_args([*words, "--seeds", "3", "--jobs", "3"])
    words = join_options(TINY | {"dataset_dir": str(data), "augment": "false", "anomaly_ratio": 0.5})
    overrides = parse_options(words)
    folder = tmp_path / "study"

    (folder / "failing" / "seed3" / "config.json").mkdir(parents=True)  # no file can be put there
    with refused("1 run failed", "failing, seed 3: failed (error: cannot write", "output.txt", "has the others"):
        study_command(arguments, overrides)
    shown = capsys.readouterr().out
    assert "3 runs below" in shown
    assert "[3/3] " in shown
    assert "| failing | `aucp` | 0 | no run finished |" in (folder / "table.md").read_text()

    done = (folder / "pseudo" / "seed3" / "metrics.json").stat().st_mtime_ns
    (tmp_path / "fakes.json").write_text(json.dumps(rows))
    study_command(arguments, overrides)
    shown = capsys.readouterr().out
    assert "2 runs below" in shown
    assert "2 of them finished" in shown
    assert (folder / "pseudo" / "seed3" / "metrics.json").stat().st_mtime_ns == done
    assert "| pseudo | `aucp` | 1 |" in shown
    assert "AUC minus pseudo" in shown
    assert len(list((folder / "cache").glob("images-*"))) == 1  # decoded once
    config = json.loads((folder / "pseudo" / "seed3" / "config.json").read_text())
    assert (config["fake_source"], config["seed"], config["augment"]) == ("pseudo", 3, False)
    with refused("learning_rate"):
        study_command(arguments, overrides | {"learning_rate": 0.001})


@pytest.mark.parametrize("key", ["seed", "output_dir", "cache_dir", "device"])
def test_rows_do_not_set_what_the_study_sets(key, refused):
    with refused("the row 'a'", key):
        named_rows({"a": {key: 1}})
