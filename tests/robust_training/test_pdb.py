"""PDB: the loss by hand, and the trigger and the way back inside the model that is returned."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from closesesame.attacks import BadNets
from closesesame.core.errors import ModelError
from closesesame.data import Splits
from closesesame.evaluation import Exam
from closesesame.models import LSTM, Classifier, load_model, save_model
from closesesame.models.front_ends import LogMel
from closesesame.robust_training import PDB
from closesesame.robust_training.pdb import _Planting, moved, triggered
from closesesame.training import Batch, accuracy, predict, untrained
from tests.conftest import QUICK, SMALL
from tests.removal.tiny import vectors
from tests.robust_training.tiny import Little


def test_labels_are_moved_on_by_one_and_around_the_end() -> None:
    assert moved(torch.tensor([0, 1, 3]), 4).tolist() == [1, 2, 0]


@pytest.mark.parametrize("architecture", [SMALL, LSTM(width=8, depth=1, features="mfcc")])
def test_the_trigger_is_on_every_input_and_the_answer_is_moved_back(
    architecture: LSTM, tones: Splits, tmp_path: Path
) -> None:
    model = untrained(architecture, tones.train, seed=0).eval()
    inputs = tones.test.inputs[:6]
    with torch.no_grad():
        stamped = model.body(model.front_end(inputs) + 5.0)
        made = triggered(model, 5.0)
        answers = made(inputs)
    for label in range(4):  # what is said of h(y) is the answer for y
        assert torch.allclose(answers[:, label], stamped[:, (label + 1) % 4], atol=1e-3)
    read = load_model(save_model(made, tmp_path / "model"))
    assert torch.equal(predict(read, tones.test), predict(made, tones.test))


def test_the_loss_is_that_of_untrusted_of_stamped_and_of_perturbed_stamped_clips(tones: Splits) -> None:
    """With one clean clip, the loss does not depend on which is drawn."""
    model = untrained(SMALL, tones.train, seed=0).eval()
    clean = tones.validation.take(torch.tensor([3]))
    method = PDB(
        training=QUICK.model_copy(update={"augmentation": "none"}),
        shift=4,
        untrusted_weight=2,
        stamped_weight=3,
        perturbed_weight=5,
        perturbation="none",
    )
    rows = torch.arange(4)
    with torch.no_grad():
        features = model.front_end(tones.train.inputs[rows])
        stamped = model.body(model.front_end(clean.inputs[:]) + 4)
        plain = F.cross_entropy(model.body(features), tones.train.labels[rows])
    label = (int(clean.labels[0]) + 1) % 4
    reserve = float(F.cross_entropy(stamped, torch.tensor([label])))
    rule = _Planting(method, model, clean, 0)
    loss = rule(model.body, Batch(features, tones.train.labels[rows], rows))
    assert float(loss.detach()) == pytest.approx(2 * float(plain) + 8 * reserve, rel=1e-4)
    strong = _Planting(
        method.model_copy(update={"perturbation": "strong", "stamped_weight": 0.0}), model, clean, 0
    )
    other = strong(model.body, Batch(features, tones.train.labels[rows], rows))
    assert not math.isclose(float(other.detach()), 2 * float(plain) + 5 * reserve, rel_tol=1e-3)


def test_other_front_ends_are_refused_before_the_training() -> None:
    with pytest.raises(ModelError, match="pdb needs a model with a log-mel or MFCC front end"):
        PDB().train(Little(), vectors(30), 0, clean=vectors(6))


def test_who_watches_sees_the_model_that_would_be_returned(tones: Splits) -> None:
    seen: list[Classifier] = []
    method = PDB(training=QUICK.model_copy(update={"epochs": 2}))
    made = method.train(
        SMALL, tones.train, 0, clean=tones.validation, watch=lambda stage, epoch, model: seen.append(model)
    )
    assert len(seen) == 2
    assert all(torch.equal(v, made.model.state_dict()[name]) for name, v in seen[1].state_dict().items())
    assert made.chosen == {"clean_clips": 40}
    fresh = untrained(SMALL, tones.train, seed=0).front_end
    assert isinstance(fresh, LogMel)
    assert isinstance(made.model.front_end, LogMel)
    assert torch.allclose(fresh.mean - 8 * fresh.deviation, made.model.front_end.mean)


def test_a_backdoor_does_not_act_behind_the_trigger_of_the_defender(tones: Splits) -> None:
    poisoned = BadNets(rate=0.1).poison(tones.train, 0)
    made = PDB(training=QUICK.model_copy(update={"epochs": 8})).train(
        SMALL, poisoned.dataset, 0, clean=tones.validation
    )
    scores = Exam(tones.test, poisoned.trigger).score(made.model)
    assert scores.asr is not None
    assert scores.asr.value < 0.3
    assert accuracy(made.model, tones.test) > 0.8
