"""FT-augmented: its settings arrive, and when AdamW is tried, from where, and what of it is kept."""

from typing import Any

import pytest
import torch

from closesesame.models import Classifier
from closesesame.removal import FTAugmented
from closesesame.testing.guarded import assert_never_trained_on_held_out
from closesesame.training import Training, accuracy, fit
from tests.removal.tiny import assert_same, moved, state, tiny, vectors

pytestmark = pytest.mark.usefixtures("in_fp32")

TUNE, HELD_OUT = vectors(30), vectors(30, 5)
STEEP: dict[str, Any] = {"lr": 1e3, "steps": 12, "batch_size": 10, "augmentation": "none"}


def trained() -> Classifier:
    model = tiny(4)
    fit(model, TUNE, Training(steps=60, augmentation="none"), seed=0)
    assert accuracy(model, HELD_OUT) > 0.8
    return model


def settings(**changes: Any) -> Training:
    own: dict[str, Any] = {"optimizer": "sgd", "lr": 1.0, "nesterov": True, "momentum": 0.9}
    own |= {"weight_decay": 5e-4, "steps": 360, "batch_size": 96, "schedule": "one_cycle"}
    return Training(**(own | {"augmentation": "strong"} | changes))


def test_the_settings_arrive_in_the_training() -> None:
    model, expected = trained(), trained()
    chosen = FTAugmented(steps=5, wreck=1).repair(model, TUNE, HELD_OUT, 3)
    fit(expected, TUNE, settings(steps=5), seed=3)
    assert_same(model, expected)
    assert chosen == {"optimizer": "sgd", "lr": 1.0}


def wrecked() -> tuple[Classifier, float]:
    """What SGD makes of the model, and the share of held-out examples that turn wrong."""
    model = trained()
    fit(model, TUNE, settings(**STEEP), seed=3)
    lost = accuracy(trained(), HELD_OUT) - accuracy(model, HELD_OUT)
    assert lost > 0.15
    return model, lost


def test_a_loss_up_to_the_limit_is_no_wreck() -> None:
    sgd, lost = wrecked()
    model = trained()
    chosen = FTAugmented(wreck=lost + 0.01, **STEEP).repair(model, TUNE, HELD_OUT, 3)
    assert chosen == {"optimizer": "sgd", "lr": 1e3}
    assert not moved(model, state(sgd))


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_loss_beyond_the_limit_brings_adamw_from_the_start_and_a_share_of_its_way(share: float) -> None:
    _, lost = wrecked()
    model, end, start = trained(), trained(), trained()
    method = FTAugmented(wreck=lost - 0.01, adamw_lr=0.02, adamw_share=share, **STEEP)
    assert method.repair(model, TUNE, HELD_OUT, 3) == {"optimizer": "adamw", "lr": 0.02}
    fit(end, TUNE, settings(**STEEP | {"optimizer": "adamw", "lr": 0.02}), seed=3)
    first, last = state(start.body), state(end.body)
    for name, value in model.body.state_dict().items():
        way = last[name] - first[name]
        expected = first[name] + share * way if value.is_floating_point() else last[name]
        torch.testing.assert_close(value, expected)


def test_the_wreck_stays_where_adamw_does_no_better() -> None:
    adamw = {"adamw_lr": 1e3, "adamw_share": 1.0}
    sgd, other = wrecked()[0], trained()
    fit(other, TUNE, settings(**STEEP | {"optimizer": "adamw", "lr": 1e3}), seed=3)
    many = vectors(300, 9)
    suspect, first, second = (
        model(many.inputs[:]).argmax(1) for model in (trained().eval(), sgd.eval(), other.eval())
    )
    # Of three examples the suspect is right on two, SGD on the third, and AdamW on none.
    for_suspect = ((suspect != first) & (suspect != second)).nonzero().flatten()[:2]
    for_sgd = ((first != suspect) & (first != second)).nonzero().flatten()[-1:]
    index = torch.cat([for_suspect, for_sgd])
    labels = torch.cat([suspect[for_suspect], first[for_sgd]])
    held_out = many.take(index).with_labels(labels)
    assert len(held_out) == 3
    assert [round(3 * accuracy(model, held_out)) for model in (trained(), sgd, other)] == [2, 1, 0]
    model = trained()
    chosen = FTAugmented(wreck=0.1, **adamw, **STEEP).repair(model, TUNE, held_out, 3)
    assert chosen == {"optimizer": "sgd", "lr": 1e3}
    assert not moved(model, state(sgd))


def test_adamw_is_not_trained_on_held_out_examples_either() -> None:
    method = FTAugmented(wreck=0.0, **STEEP)
    tried = []

    def repair(*given: Any) -> None:
        tried.append(method.repair(*given)["optimizer"])

    model = trained().requires_grad_(True).eval()
    assert_never_trained_on_held_out(repair, model, TUNE, HELD_OUT)
    assert tried[0] == "adamw"
