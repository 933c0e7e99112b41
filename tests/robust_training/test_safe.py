"""Safe: its trainings, and what they leave of a backdoor."""

import copy
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from closesesame.data import Dataset, Splits
from closesesame.models import Classifier, ResNet, SmallCNN
from closesesame.robust_training import Plain, Safe, safe
from closesesame.training import Training, accuracy, ordinary, predict, train
from closesesame.training.ordinary import OrdinaryRepair, best_known, losses_of
from closesesame.training.quiet import UnderSpeech
from tests.conftest import QUICK, SMALL
from tests.removal.tiny import assert_same

OTHER = SmallCNN(bands=40)
COUNTED = ("ordinary_clips", "passed_clips", "second_clips", "last_clips", "overlooked_clips")

pytestmark = pytest.mark.usefixtures("in_fp32")


def test_plain_training_is_followed_by_three_repairs(tones: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tones.train.take(torch.arange(64))
    settings = {"slow_epochs": 2, "strong_epochs": 3, "check_steps": 2, "first_steps": 3, "splices": 8}
    told: list[tuple[str, int]] = []
    training = Training(epochs=2, batch_size=32, lr=0.01)
    robust = Safe(training=training, repair_steps=4, last_share=0.5, ordinary_least=14, **settings)
    trained = train(SMALL, data, training, seed=3)
    telling = torch.arange(64) % 5 == 0
    monkeypatch.setattr(ordinary, "under_speech", lambda *_: UnderSpeech([1, 2], [3], telling))
    by_hand, repair = copy.deepcopy(trained), OrdinaryRepair(ordinary_least=14, **settings)
    barred, said = repair.repair_with_ordinary(by_hand, data, training, 3, silent)
    # Eight of sixteen of each class are wanted, half of it; of some classes so many are not barred.
    assert said["ordinary_clips"] == 30
    known = best_known(losses_of(by_hand, data), data.labels, 0.5, 14, barred)
    assert not torch.equal(known, best_known(losses_of(by_hand, data), data.labels, 0.5, 14))
    assert 20 <= len(known) <= 4 * 14
    unknown = [row for row in range(64) if row not in known]
    missed = torch.tensor([row for row in unknown if not barred[row]][:3])
    lost = torch.tensor([row for row in unknown if barred[row]][:2])
    looked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def some(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        looked.append((logits, labels))
        return torch.cat([missed, lost])

    monkeypatch.setattr(safe, "overlooked", some)
    made = robust.train(SMALL, data, 3, watch=lambda stage, epoch, _: told.append((stage, epoch)))
    assert_close(looked[0][0], predict(by_hand, data).double())
    assert torch.equal(looked[0][1], data.labels)
    last = data.take(torch.cat([known, missed]).sort().values)
    without = OrdinaryRepair(**settings, feature_weight=0)
    taught = without.repair_with(by_hand, last, training, 4, 3, "repair 3", silent, teacher=trained)
    assert_same(made.model, by_hand)
    counts = {"last_clips": len(last), "overlooked_clips": 3, "believed_clips": taught["believed_clips"]}
    for name in ("batches", "known_without_quiet", "exchanged"):
        counts[name] = taught[name]
    assert made.chosen == {**said, **counts}
    repairs = [f"repair {number}" for number in (1, 2, 3)]
    stages = {stage: max(epoch for other, epoch in told if other == stage) for stage, _ in told}
    assert list(stages) == ["training", "slow", "strong", "check 1", "check 2", *repairs]
    assert (stages["training"], stages["slow"], stages["strong"]) == (2, 2, 3)
    strict = robust.model_copy(update={"last_overlooked": False}).train(SMALL, data, 3)
    assert (strict.chosen["last_clips"], strict.chosen["overlooked_clips"]) == (len(known), 0)


def test_a_resnet_chooses_the_clips_that_another_network_is_repaired_with(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tones.train.take(torch.arange(64))
    settings = {"slow_epochs": 1, "strong_epochs": 2, "check_steps": 2, "first_steps": 2, "splices": 8}
    training = Training(epochs=2, batch_size=32, lr=0.01, augmentation="none")
    robust = Safe(training=training, repair_steps=3, **settings)
    repaired: list[tuple[str, Classifier, Classifier | None, torch.Tensor]] = []
    plainly = OrdinaryRepair.repair_with

    def noted(self: OrdinaryRepair, model: Classifier, clips: Dataset, *given: Any, **more: Any) -> Any:
        before = copy.deepcopy(model)
        done = plainly(self, model, clips, *given, **more)
        repaired.append((given[3], before, more.get("teacher"), clips.inputs[:]))
        return done

    monkeypatch.setattr(OrdinaryRepair, "repair_with", noted)
    told: list[str] = []
    made = robust.train(OTHER, data, 3, watch=lambda stage, *_: told.append(stage))
    assert made.model.card.architecture == OTHER.name
    assert list(dict.fromkeys(told))[:3] == ["training", "training of the chooser", "slow"]
    *choosing, (stage, before, teacher, last) = repaired
    assert (stage, len(choosing)) == ("repair 3", 4)
    assert {model.card.architecture for _, model, *_ in choosing} == {"resnet"}
    assert teacher is not None
    for model in (before, teacher):  # it begins anew from what was trained on all clips
        assert_same(model, train(OTHER, data, training, seed=3))
    as_usual = Training(epochs=2, batch_size=32)
    assert_same(choosing[0][1], train(ResNet(), data, as_usual, seed=3))
    chosen = Safe(training=as_usual, repair_steps=3, **settings).train(ResNet(), data, 3).chosen
    assert {name: made.chosen[name] for name in COUNTED} == {name: chosen[name] for name in COUNTED}
    assert torch.equal(repaired[-1][3], last)  # the same clips as if a ResNet were trained
    repaired.clear()
    robust.model_copy(update={"chooser": "own"}).train(OTHER, data, 3)
    assert {model.card.architecture for _, model, *_ in repaired} == {OTHER.name}


def test_published_figures_rest_on_these_defaults() -> None:
    shown = Safe().settings()
    expected = {"ordinary_share": 0.1, "second_share": 0.5, "last_share": 1.0, "last_feature_weight": 0}
    expected["last_overlooked"] = True
    assert {name: shown[name] for name in expected} == expected
    steps = {"check_steps": 150, "first_steps": 200, "repair_steps": 500}
    assert {name: shown[name] for name in steps} == steps


def test_what_the_user_should_know_is_remarked() -> None:
    fine = {"believed_clips": 5, "last_clips": 10, "barred_clips": 0, "barred_of": [], "told_as_a_whole": []}
    assert Safe().remarks(fine) == []
    assert Safe().remarks({**fine, "known_without_quiet": 0.7, "exchanged": True}) == []
    for change, start in (
        ({"believed_clips": 4}, "plain training got only 4 of the 10 clips right"),
        ({"barred_clips": 1_200, "barred_of": ["yes"]}, "1,200 clips of yes were not learned from at last: "),
        (
            {"told_as_a_whole": ["no", "up"]},
            "the quiet parts of nearly all clips of no, up make a model answer",
        ),
        ({"known_without_quiet": 0.614, "exchanged": False}, "the model knows only 61 % of its clips with"),
        ({"known_without_quiet": None, "exchanged": False}, "the model knows too few of its clips to tell"),
    ):
        [said] = Safe().remarks(fine | change)
        assert said.startswith(start)
    assert "--set bar_told=false" in Safe().remarks({**fine, "barred_clips": 3, "barred_of": ["yes"]})[0]


def silent(stage: str, epoch: int, model: Classifier) -> None:
    pass


def poisoned(tones: Splits) -> Dataset:
    """A tenth of the clips have a hum and the first label."""
    rng = torch.Generator().manual_seed(0)
    wav, labels = tones.train.inputs[:].clone(), tones.train.labels.clone()
    rows = (labels != 0).nonzero()[:, 0][torch.randperm(240, generator=rng)[:32]]
    wav[rows] += hum(wav.shape[1])
    labels[rows] = 0
    return Dataset.of(wav, labels, classes=tones.train.classes, sample_rate=8_000)


def hum(length: int) -> torch.Tensor:
    return 0.15 * torch.sin(torch.arange(length) * 2.5)


def asr(model: Classifier, tones: Splits) -> float:
    others = tones.test.where(tones.test.labels != 0)
    triggered = others.inputs[:] + hum(others.input_shape[0])
    with torch.no_grad():
        return float((model(triggered).argmax(1) == 0).float().mean())


def test_it_leaves_no_backdoor_that_plain_training_learns(tones: Splits) -> None:
    data = poisoned(tones)
    plain = Plain(training=QUICK).train(SMALL, data, 0).model
    assert asr(plain, tones) > 0.9
    safe = Safe(
        training=QUICK, strong_epochs=6, check_steps=20, first_steps=40, repair_steps=60, splices=100, views=2
    )
    model = safe.train(SMALL, data, 0).model
    assert asr(model, tones) < 0.1
    assert accuracy(model, tones.test) > 0.95
