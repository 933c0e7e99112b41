"""FT-augmented: its settings arrive, and when AdamW is tried, from where, and what of it is kept."""

from typing import Any

import pytest
import torch

from closesesame.core.errors import DivergedError
from closesesame.data import Splits
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
    chosen = FTAugmented(steps=5, max_accuracy_drop=1).repair(model, TUNE, HELD_OUT, 3)
    fit(expected, TUNE, settings(steps=5), seed=3)
    assert_same(model, expected)
    assert chosen == {"optimizer": "sgd", "lr": 1.0}


def costly() -> tuple[Classifier, float]:
    """What SGD makes of the model, and the share of held-out examples that turn wrong."""
    model = trained()
    fit(model, TUNE, settings(**STEEP), seed=3)
    lost = accuracy(trained(), HELD_OUT) - accuracy(model, HELD_OUT)
    assert lost > 0.15
    return model, lost


def test_a_drop_up_to_the_limit_is_allowed() -> None:
    sgd, lost = costly()
    model = trained()
    chosen = FTAugmented(max_accuracy_drop=lost + 0.01, **STEEP).repair(model, TUNE, HELD_OUT, 3)
    assert chosen == {"optimizer": "sgd", "lr": 1e3}
    assert not moved(model, state(sgd))


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_drop_beyond_the_limit_brings_adamw_from_the_start_and_a_share_of_its_change(share: float) -> None:
    _, lost = costly()
    model, end, start = trained(), trained(), trained()
    method = FTAugmented(max_accuracy_drop=lost - 0.01, adamw_lr=0.02, adamw_share=share, **STEEP)
    assert method.repair(model, TUNE, HELD_OUT, 3) == {"optimizer": "adamw", "lr": 0.02}
    fit(end, TUNE, settings(**STEEP | {"optimizer": "adamw", "lr": 0.02}), seed=3)
    first, last = state(start.body), state(end.body)
    for name, value in model.body.state_dict().items():
        way = last[name] - first[name]
        expected = first[name] + share * way if value.is_floating_point() else last[name]
        torch.testing.assert_close(value, expected)


def test_the_drop_stays_where_adamw_does_no_better() -> None:
    adamw = {"adamw_lr": 1e3, "adamw_share": 1.0}
    sgd, other = costly()[0], trained()
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
    chosen = FTAugmented(max_accuracy_drop=0.1, **adamw, **STEEP).repair(model, TUNE, held_out, 3)
    assert chosen == {"optimizer": "sgd", "lr": 1e3}
    assert not moved(model, state(sgd))


def test_adamw_is_not_trained_on_held_out_examples_either() -> None:
    method = FTAugmented(max_accuracy_drop=0.0, **STEEP)
    tried = []

    def repair(*given: Any) -> None:
        tried.append(method.repair(*given)["optimizer"])

    model = trained().requires_grad_(True).eval()
    assert_never_trained_on_held_out(repair, model, TUNE, HELD_OUT)
    assert tried[0] == "adamw"


def test_adamw_is_tried_where_sgd_costs_too_much_and_three_quarters_of_its_change_are_kept(
    clean_model: Classifier, tones: Splits
) -> None:
    clean = tones.train.sample(0.2, 0)
    calm = FTAugmented(lr=0.01, steps=20).remove(clean_model, clean, 0)
    assert calm.chosen == {"optimizer": "sgd", "lr": 0.01}
    after = FTAugmented(lr=1e4, adamw_lr=0.002, steps=20).remove(clean_model, clean, 0)
    assert after.chosen == {"optimizer": "adamw", "lr": 0.002}
    all_the_way = FTAugmented(optimizer="adamw", lr=0.002, max_accuracy_drop=1.0, steps=20).remove(
        clean_model, clean, 0
    )
    end, found = all_the_way.model.body.state_dict(), after.model.body.state_dict()
    for name, start in clean_model.body.state_dict().items():
        kept = start + 0.75 * (end[name] - start) if start.is_floating_point() else end[name]
        torch.testing.assert_close(found[name], kept)  # and nothing of the first run is left


def test_a_large_drop_stays_if_it_is_allowed_or_if_adamw_does_no_better(
    clean_model: Classifier, tones: Splits
) -> None:
    clean = tones.train.sample(0.2, 0)
    bold = FTAugmented(lr=10.0, max_accuracy_drop=1.0, steps=20).remove(clean_model, clean, 3)
    assert bold.chosen == {"optimizer": "sgd", "lr": 10.0}
    assert bold.lost > 1
    both = FTAugmented(lr=10.0, adamw_lr=1e4, steps=20).remove(clean_model, clean, 3)
    assert both.chosen == bold.chosen
    first = bold.model.body.state_dict()
    for name, value in both.model.body.state_dict().items():
        torch.testing.assert_close(value, first[name])
    with pytest.raises(DivergedError, match="diverged"):
        FTAugmented(lr=1e4, adamw_lr=1e4, steps=20).remove(clean_model, clean, 3)
