"""DLP: which clips are filtered, what each stage learns, and what is left of a backdoor."""

import math
from typing import Any

import pytest
import torch

from closesesame.core.errors import SettingError
from closesesame.models import Classifier
from closesesame.robust_training import DLP, Plain
from closesesame.robust_training.common.unlearning import by_sgd
from closesesame.robust_training.dlp import entropy_of, filtered
from closesesame.training import accuracy, predict
from closesesame.training.fixmatch import FixMatch
from tests.removal.tiny import asr, vectors
from tests.robust_training.tiny import FAST, Little, poisoned_rows, poisoned_vectors, recorded

MODULE = "closesesame.robust_training.dlp"


def test_entropy_is_in_bits() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.75, 1e-30]]))
    by_hand = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert entropy_of(logits).tolist() == pytest.approx([1.5, by_hand], rel=1e-5)
    assert float(entropy_of(torch.tensor([[900.0, 0.0, 0.0]]))[0]) == 0


def test_the_lowest_of_all_and_the_highest_of_each_label_are_filtered() -> None:
    labels = torch.tensor([0] * 10 + [1] * 6 + [3] * 4)
    entropy = torch.arange(20.0)
    entropy[[0, 15, 19]] = torch.tensor([40.0, 0.5, -1.0])
    poisoned, kept = filtered(entropy, labels, 0.2)
    assert poisoned.tolist() == [19, 15, 1, 2]  # 0.2 * 20 of all
    assert kept.tolist() == [0, 14, 18]  # 4 / 3, rounded, of each of three labels
    # Label 3 has four clips: three are unlearned, so one is left to keep.
    entropy[16:] = torch.tensor([-4.0, -3.0, 100.0, -2.0])
    poisoned, kept = filtered(entropy, labels, 0.2)
    assert set(poisoned.tolist()) == {16, 17, 19, 15}
    assert kept.tolist()[-1] == 18
    assert not set(poisoned.tolist()) & set(kept.tolist())


def test_at_least_two_clips_are_unlearned_and_one_of_each_label_kept() -> None:
    poisoned, kept = filtered(torch.arange(20.0), torch.arange(20) % 4, 0.001)
    assert poisoned.tolist() == [0, 1]
    assert kept.tolist() == [16, 17, 18, 19]


STAGES = [("SL",), ("SL", "AU"), ("SL", "ASSFT"), ("SL", "ASSFT", "AU"), ("SL", "AU", "ASSFT")]


@pytest.mark.parametrize("stages", STAGES, ids="-".join)
def test_each_stage_gets_its_own_clips_and_settings(stages: tuple[str, ...]) -> None:
    data = poisoned_vectors(90, 9)
    method = DLP(
        training=FAST.model_copy(update={"epochs": 2}),
        stages=stages,
        supervised_epochs=4,
        filter_rate=0.1,
        unlearning="ascent",
        unlearning_steps=3,
        unlearning_lr=0.007,
        fixmatch=FixMatch(threshold=0.6),
    )
    told: list[tuple[str, int]] = []
    after_first: list[Any] = []

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        told.append((stage, epoch))
        if (stage, epoch) == ("SL", 4):
            after_first.extend(filtered(entropy_of(predict(model, data)), data.labels, 0.1))

    with recorded(MODULE, "fit", "unlearn", "FixMatchRule") as calls:
        made = method.train(Little(), data, 3, watch=watch)
    lengths = {"SL": 4, "AU": 3, "ASSFT": 2}
    assert told == [(stage, epoch) for stage in stages for epoch in range(1, lengths[stage] + 1)]
    names = {"SL": "fit", "AU": "unlearn", "ASSFT": "FixMatchRule"}
    assert [name for name, _, _ in calls] == [names[stage] for stage in stages]
    poisoned, kept = after_first
    assert (len(poisoned), len(kept)) == (9, 9)
    assert made.chosen == {"filtered_as_poisoned": 9, "filtered_as_clean": 9}
    for name, given, _ in calls:
        if name == "fit":
            assert given[1] is data
            assert given[2] == FAST.model_copy(update={"epochs": 4})
        elif name == "unlearn":
            assert given[1].ids == tuple(data.ids[row] for row in poisoned.tolist())
            assert given[2:] == ("ascent", by_sgd(method.training, steps=3, lr=0.007))
        else:
            assert given[1] is data
            assert given[2].nonzero()[:, 0].tolist() == sorted(kept.tolist())
            assert given[3] == FixMatch(threshold=0.6)


@pytest.mark.parametrize("stages", [("AU",), ("ASSFT", "SL"), ("SL", "AU", "AU")])
def test_other_orders_are_refused(stages: Any) -> None:
    with pytest.raises(SettingError, match=r"DLP.stages must begin with 'SL' and name each stage once"):
        DLP(stages=stages)


def test_a_backdoor_that_is_learned_first_is_unlearned_and_not_learned_again() -> None:
    data, unseen = poisoned_vectors(300, 60, unclear=0.4), vectors(150, 1)
    assert asr(Plain(training=FAST).train(Little(), data, 0).model, unseen) > 0.9
    method = DLP(
        training=FAST,
        supervised_epochs=5,
        filter_rate=0.1,
        unlearning_lr=0.01,
        fixmatch=FixMatch(threshold=0.8),
    )
    seen: dict[str, tuple[float, float]] = {}

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        seen[stage] = (accuracy(model, unseen), asr(model, unseen))
        if (stage, epoch) == ("SL", 5):
            lowest = filtered(entropy_of(predict(model, data)), data.labels, 0.1)[0]
            assert torch.isin(lowest, poisoned_rows(300, 60)).float().mean() > 0.7

    made = method.train(Little(), data, 0, watch=watch)
    assert seen["SL"][1] > 0.3
    assert seen["AU"][1] < 0.1
    assert seen["ASSFT"][1] < 0.2
    assert accuracy(made.model, unseen) == seen["ASSFT"][0] > seen["AU"][0] + 0.1
