"""VIBE: the likelihoods and the plan by hand, what is trained, and which labels are not believed."""

import math

import pytest
import torch
from torch.nn import functional as F

from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.robust_training import VIBE, vibe
from closesesame.robust_training.common.contrast import contrast
from closesesame.robust_training.vibe import Inference, transported
from closesesame.training import Batch, accuracy, predict
from closesesame.training.features import features_of
from tests.removal.tiny import asr, state, vectors
from tests.robust_training.tiny import FAST, Little, poisoned_vectors, recorded

MODULE = "closesesame.robust_training.vibe"


def little(seed: int = 0) -> Classifier:
    data = vectors(30)
    return Little().build(data.classes, data.input_shape, None, seed=seed).eval()


def test_the_plan_has_rows_that_sum_to_one_and_columns_that_are_equally_full() -> None:
    p = torch.tensor([[0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.9, 0.1]])
    plan = transported(p.log(), 1.0, 500)
    assert torch.allclose(plan.sum(1), torch.ones(4), atol=1e-5)
    assert torch.allclose(plan.sum(0), torch.full((2,), 2.0), atol=1e-4)
    # A plan that is scaled by rows and columns keeps its cross ratios.
    for row in range(1, 4):
        ratio = plan[0, 0] * plan[row, 1] / (plan[0, 1] * plan[row, 0])
        assert float(ratio) == pytest.approx(float(p[0, 0] * p[row, 1] / (p[0, 1] * p[row, 0])), rel=1e-4)
    sharp = transported(p.log(), 25.0, 500)
    assert sharp.argmax(1).tolist() == [0, 1, 1, 0]
    assert float(sharp.max(1).values.min()) > 0.9
    sharpened = float(sharp[0, 0] * sharp[1, 1] / (sharp[0, 1] * sharp[1, 0]))
    assert sharpened == pytest.approx((0.8 * 0.3 / (0.2 * 0.7)) ** 25, rel=1e-2)


def test_the_likelihoods_and_the_loss_are_those_of_the_formulas() -> None:
    data, model = vectors(30), little()
    method = VIBE(kappa=4, nu=3, training=FAST)
    inference = Inference(method, model, data)
    with torch.no_grad():
        inference.readings.add_(torch.rand(3, 6, generator=torch.Generator().manual_seed(1)))
    prototypes, readings = (
        F.normalize(rows.detach(), dim=1) for rows in (head_in(model).weight, inference.readings)
    )
    features = features_of(model, data)
    units = F.normalize(features, dim=1)
    of_input, of_label = inference.log_likelihoods(features, data.labels)
    row, given = 7, int(data.labels[7])
    near = [math.exp(4 * float(units[row] @ prototypes[label])) for label in range(3)]
    for label in range(3):
        assert float(of_input[row, label].detach().exp()) == pytest.approx(near[label] / sum(near), rel=1e-4)
        read = [math.exp(3 * float(readings[y] @ prototypes[label])) for y in range(3)]
        assert float(of_label[row, label].detach().exp()) == pytest.approx(read[given] / sum(read), rel=1e-4)
    inference.posterior = torch.rand(30, 3, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([7, 2])
    batch = Batch(data.inputs[rows], data.labels[rows], rows)
    loss = float(inference(model.body, batch).detach())
    expected = -(inference.posterior[rows] * (of_input + of_label)[rows]).sum(1).mean()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-4)
    later = F.normalize(inference.readings.detach(), dim=1)
    assert 0 < float((later - readings).abs().max()) < 0.1  # both kinds of prototypes learn
    assert head_in(model).weight.grad is not None


def test_prototypes_start_at_the_means_of_the_given_labels_and_answer_as_a_last_layer() -> None:
    data, model = vectors(30), little()
    method = VIBE(kappa=4, training=FAST)
    units = F.normalize(features_of(model, data), dim=1)
    Inference(method, model, data)
    head = head_in(model)
    for label in range(3):
        mean = units[data.labels == label].mean(0)
        assert float(F.cosine_similarity(head.weight[label].detach(), mean, dim=0)) == pytest.approx(
            1, abs=1e-5
        )
    logits, features = predict(model, data), features_of(model, data)
    cosines = units @ F.normalize(head.weight.detach(), dim=1).T
    lengths = features.norm(dim=1, keepdim=True)
    assert torch.allclose(logits, 4 * cosines * lengths / lengths.mean(), atol=1e-4)


def test_the_posterior_is_of_the_clip_and_of_its_given_label(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken, given = torch.arange(9) // 3, torch.arange(9) % 3  # each word once under each label
    monkeypatch.setattr(vibe, "features_of", lambda *_: torch.eye(3, 6)[spoken])
    data = vectors(9).with_labels(given)
    method = VIBE(kappa=math.log(3), nu=math.log(6), sharpening=1, rounds=9, training=FAST)
    inference = Inference(method, little(), data)
    with torch.no_grad():
        head_in(inference.model).weight.copy_(torch.eye(3, 6))
        inference.readings.copy_(torch.eye(3, 6))
    inference.infer()
    # Word 0 under label 1: 3, 6 and 1 of 10, where the clip alone would say 3, 1 and 1 of 5.
    assert inference.posterior[1].tolist() == pytest.approx([0.3, 0.6, 0.1], abs=1e-5)
    assert inference.posterior[5].tolist() == pytest.approx([0.1, 0.3, 0.6], abs=1e-5)
    assert inference.posterior[0].tolist() == pytest.approx([0.9, 0.05, 0.05], abs=1e-5)
    assert torch.equal(inference.posterior.argmax(1), given)


def test_classes_without_clips_get_none() -> None:
    data = vectors(30)
    data = data.where(data.labels != 1)
    inference = Inference(VIBE(training=FAST), little(), data)
    assert inference.posterior.isfinite().all()
    assert float(inference.posterior[:, 1].max()) == 0
    assert torch.allclose(inference.posterior.sum(1), torch.ones(20), atol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_features_are_learned_without_labels_first_and_may_stay_as_they_are(frozen: bool) -> None:
    data = poisoned_vectors(90, 9)
    method = VIBE(
        training=FAST.model_copy(update={"epochs": 2}), feature_epochs=3, temperature=0.2, frozen=frozen
    )
    told: list[tuple[str, int]] = []
    kept: list[dict[str, torch.Tensor]] = []

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        told.append((stage, epoch))
        kept.append(state(model))

    with recorded(MODULE, "fit", "learn_features") as calls:
        made = method.train(Little(), data, 3, watch=watch)
    assert told == [("features", 1), ("features", 2), ("features", 3), ("inference", 1), ("inference", 2)]
    (_, given, more), (_, fitted, _) = calls
    assert given[1] is fitted[1] is data
    assert (given[2].epochs, more["augmentation"]) == (3, "varied")
    assert (more["loss"].func, more["loss"].keywords) == (contrast, {"temperature": 0.2})
    assert fitted[2] == method.training
    names = ("body.first.weight", "body.norm.running_mean")
    assert all(torch.equal(kept[2][name], made.model.state_dict()[name]) is frozen for name in names)
    assert not torch.equal(kept[2]["body.head.weight"], made.model.state_dict()["body.head.weight"])


def test_the_posterior_is_renewed_after_each_epoch() -> None:
    with recorded(MODULE, "transported") as calls:
        VIBE(training=FAST.model_copy(update={"epochs": 3}), feature_epochs=1, sharpening=9, rounds=7).train(
            Little(), vectors(60), 0
        )
    assert [given[1:] for _, given, _ in calls] == [(9, 7)] * 5  # at the start, after each epoch, at the end


def test_wrong_labels_are_found_and_not_learned() -> None:
    data, unseen = poisoned_vectors(300, 30), vectors(150, 1)
    made = VIBE(training=FAST, feature_epochs=30, frozen=True).train(Little(), data, 0)
    assert 5 <= made.chosen["labels_not_believed"] <= 60
    assert asr(made.model, unseen) < 0.2
    assert accuracy(made.model, unseen) > 0.85
