"""The metrics in ignite's engines and MONAI's evaluators, in one process and in several."""

from __future__ import annotations

import math
import multiprocessing
import pickle
import subprocess
import sys

import ignite.distributed as idist
import numpy as np
import pytest
import torch
import torch.distributed as dist
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from sklearn.metrics import average_precision_score, roc_auc_score

from monai_sagan.handlers import scores_and_labels
from monai_sagan.metrics import AnomalyAveragePrecision, AnomalyROCAUC, AnomalyROCAUCError
from monai_sagan.metrics.roc import roc_auc_se

SCORES, LABELS = [0.1, 0.4, 0.35, 0.8, 0.5], [0, 0, 1, 1, 0]


def batches(label_type=torch.uint8, score_type=torch.float32, column=False):
    """Batches of 4, 4 and 2 images with tied scores."""
    rng = np.random.default_rng(0)
    labels = torch.tensor(rng.integers(0, 2, 10)).to(label_type)
    scores = torch.tensor(rng.integers(0, 4, 10) / 4).to(score_type)
    if column:
        labels, scores = labels[:, None], scores[:, None]
    return [{"anomaly_score": scores[i : i + 4], "label": labels[i : i + 4]} for i in (0, 4, 8)]


def everything(data):
    return tuple(torch.cat([batch[key] for batch in data]).flatten().double() for key in ("label", "anomaly_score"))


def run(data, *metrics):
    engine = Engine(lambda engine, batch: batch)
    for i, metric in enumerate(metrics):
        metric.attach(engine, str(i))
    return list(engine.run(data).metrics.values())


@pytest.mark.parametrize("label_type", [torch.uint8, torch.int64, torch.bool, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("score_type", "column"), [(torch.float16, False), (torch.bfloat16, True), (torch.float64, True)]
)
def test_in_a_plain_engine(label_type, score_type, column):
    data = batches(label_type, score_type, column)
    found = run(data, AnomalyROCAUC(scores_and_labels), AnomalyAveragePrecision(scores_and_labels))
    assert found == pytest.approx([roc_auc_score(*everything(data)), average_precision_score(*everything(data))])
    assert [type(value) for value in found] == [float, float]


def test_the_standard_error():
    """NaN where there is none, without a second warning: the area beside it warns."""
    data = batches()
    labels, scores = everything(data)
    assert run(data, AnomalyROCAUCError(scores_and_labels)) == [roc_auc_se(scores, labels)]
    (none,) = run(data[:1], AnomalyROCAUCError(lambda batch: (batch["anomaly_score"], torch.zeros(4))))
    assert math.isnan(none)


def test_batches_of_different_types():
    data = batches()
    data[1]["anomaly_score"] = data[1]["anomaly_score"].double()
    data[2]["label"] = data[2]["label"].bool()
    assert run(data, AnomalyROCAUC(scores_and_labels))[0] == pytest.approx(roc_auc_score(*everything(data)))


def test_again_starts_anew():
    metric = AnomalyROCAUC(scores_and_labels)
    assert run(batches(), metric) == run(batches(), metric)


@pytest.mark.parametrize("decollate", [False, True])
def test_in_a_monai_evaluator(tmp_path, decollate):
    """Also the state of a checkpoint can be read with weights_only."""
    data = [{"image": batch["anomaly_score"][:, None], "label": batch["label"]} for batch in batches()]

    def take(output):
        return output["pred"].flatten(), output["label"]

    transform = from_engine(["pred", "label"]) if decollate else take
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=data,
        network=torch.nn.Identity(),
        key_val_metric={"aucp": AnomalyROCAUC(transform)},
        additional_metrics={"ap": AnomalyAveragePrecision(transform)},
        decollate=decollate,
    )
    evaluator.run()
    wanted = everything(batches())
    assert evaluator.state.metrics == pytest.approx(
        {"aucp": roc_auc_score(*wanted), "ap": average_precision_score(*wanted)}
    )
    assert evaluator.state.best_metric == evaluator.state.metrics["aucp"]
    torch.save({"best": evaluator.state.best_metric}, tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["best"] == evaluator.state.best_metric


def test_one_class_never_wins_and_warns_once():
    data = [{"anomaly_score": torch.rand(3), "label": torch.zeros(3)}]
    metric = AnomalyROCAUC(scores_and_labels)
    with pytest.warns(UserWarning, match="normal and abnormal images, there are 3 and 0") as caught:
        first = run(data, metric)
    assert len(caught) == 1
    assert first == run(data, metric) == [-math.inf]  # a second warning would be an error here
    assert run(batches(), metric)[0] > -math.inf


def test_monai_takes_a_real_value_after_one_class():
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[{"image": torch.rand(2, 1), "label": torch.zeros(2)}],
        network=torch.nn.Identity(),
        key_val_metric={"aucp": AnomalyROCAUC(lambda output: (output["pred"], output["label"]))},
        decollate=False,
    )
    with pytest.warns(UserWarning, match="needs normal and abnormal"):
        evaluator.run(1)
    evaluator.data_loader = evaluator.state.dataloader = [{"image": torch.rand(2, 1), "label": torch.tensor([0, 1])}]
    evaluator.run(2)
    assert evaluator.state.best_metric >= 0
    assert evaluator.state.best_metric_epoch == 2


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers(value, refused):
    data = batches()
    data[1]["anomaly_score"][2] = value
    with refused("1 scores are not finite"):
        run(data, AnomalyROCAUC(scores_and_labels))


def test_what_is_refused(refused):
    metric = AnomalyROCAUC()
    with refused("4 scores", "2 labels"):
        metric.update((torch.rand(2, 2), torch.tensor([0, 1])))
    metric.update((torch.rand(2), torch.tensor([0, 7])))
    with refused("7 is not a label"):
        metric.compute()
    metric.reset()
    with pytest.raises(NotComputableError, match="at least one image"):
        metric.compute()


def evaluate_shares(rank, store, results):
    """One of two processes: 4 images and 1 image, then 5 and none."""
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    scores, labels = torch.tensor(SCORES), torch.tensor(LABELS, dtype=torch.uint8)
    metric = AnomalyROCAUC()
    values = []
    for share in (slice(0, 4), slice(4, 5)), (slice(0, 5), slice(0, 0)):
        metric.reset()
        metric.update((scores[share[rank]], labels[share[rank]]))
        values.append(metric.compute())
    results.put((idist.get_world_size(), values))
    dist.destroy_process_group()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="starting processes again takes long")
def test_two_processes_with_different_numbers_of_images(tmp_path):
    if torch.cuda.is_initialized():
        pytest.skip("a process that has begun with CUDA cannot be forked")
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    arguments = [(rank, (tmp_path / "store").as_uri(), results) for rank in range(2)]
    workers = [context.Process(target=evaluate_shares, args=some, daemon=True) for some in arguments]
    for worker in workers:
        worker.start()
    try:
        found = [results.get(timeout=60) for _ in workers]
    finally:
        for worker in workers:
            worker.join(timeout=10)
            worker.kill()
    assert found == [(2, [pytest.approx(roc_auc_score(LABELS, SCORES))] * 2)] * 2


def test_the_metric_can_be_pickled():
    metric = pickle.loads(pickle.dumps(AnomalyROCAUC(scores_and_labels)))
    assert run(batches(), metric)[0] == pytest.approx(roc_auc_score(*everything(batches())))


def test_importing_the_functions_is_cheap():
    code = "import sys, monai_sagan.metrics; print({'torch', 'scipy', 'sklearn', 'monai', 'ignite'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
