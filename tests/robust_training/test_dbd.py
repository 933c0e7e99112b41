"""DBD: what each part is given, and what is left of a backdoor."""

import pytest
import torch

from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.robust_training import DBD, Plain
from closesesame.robust_training.common.contrast import contrast
from closesesame.robust_training.common.splitting import lowest, symmetric_losses
from closesesame.robust_training.dbd import learn_head
from closesesame.training import Batch, accuracy, predict
from closesesame.training.fixmatch import FixMatch
from tests.removal.tiny import asr, state, tiny, vectors
from tests.robust_training.tiny import FAST, Little, poisoned_vectors, recorded

MODULE = "closesesame.robust_training.dbd"


def test_each_part_gets_its_settings_and_the_last_layer_is_trained_alone() -> None:
    data = poisoned_vectors(90, 9)
    method = DBD(
        training=FAST.model_copy(update={"epochs": 2}),
        feature_epochs=3,
        temperature=0.2,
        view_augmentation="light",
        head_epochs=4,
        labelled_share=0.4,
        fixmatch=FixMatch(threshold=0.6),
    )
    told: list[tuple[str, int]] = []
    kept: list[dict[str, torch.Tensor]] = []
    splits: list[torch.Tensor] = []

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        told.append((stage, epoch))
        kept.append(state(model))
        splits.append(lowest(symmetric_losses(predict(model, data).double(), data.labels), 0.4))

    with recorded(MODULE, "fit", "learn_features", "FixMatchRule", "lowest") as calls:
        made = method.train(Little(), data, 3, watch=watch)
    lengths = {"features": 3, "head": 4, "semi_supervised": 2}
    assert told == [(stage, epoch) for stage, last in lengths.items() for epoch in range(1, last + 1)]
    found = {name: (given, more) for name, given, more in calls}
    given, more = found["learn_features"]
    assert given[2] == FAST.model_copy(update={"epochs": 3})
    assert more["augmentation"] == "light"
    assert (more["loss"].func, more["loss"].keywords) == (contrast, {"temperature": 0.2})
    given, more = found["fit"]
    assert given[1] is data
    assert given[2] == FAST.model_copy(update={"epochs": 4})
    assert more["gradient"] is learn_head
    changed = {name for name, value in kept[6].items() if not torch.equal(value, kept[2][name])}
    assert changed == {"body.head.weight", "body.head.bias"}
    given, _ = found["FixMatchRule"]
    assert torch.equal(given[2], splits[6])
    assert given[3] == FixMatch(threshold=0.6)
    assert [name for name, _, _ in calls].count("lowest") == 3  # at the start, and after each epoch
    assert made.chosen == {"labelled": 36}
    assert torch.equal(method.split(made.model, data), splits[-1])


def test_the_clips_that_keep_their_labels_are_chosen_anew() -> None:
    data = poisoned_vectors(90, 30)
    seen: list[torch.Tensor] = []
    with recorded(MODULE, "FixMatchRule") as calls:
        made = DBD(training=FAST, feature_epochs=1, head_epochs=1).train(
            Little(),
            data,
            0,
            watch=lambda stage, epoch, model: seen.append(predict(model, data).argmax(1)),
        )
    start = calls[0][1][2]
    end = DBD().split(made.model, data)
    assert int(start.sum()) == int(end.sum()) == 45
    assert not torch.equal(start, end)


def test_the_last_layer_learns_by_the_symmetric_loss() -> None:
    data, model = vectors(30), tiny()
    model.train()
    rows = torch.arange(30)
    loss = learn_head(model.body, Batch(data.inputs[rows], data.labels, rows))
    expected = symmetric_losses(model.eval().body(data.inputs[rows]), data.labels).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert head_in(model).weight.grad is not None


def test_poisoned_clips_lose_their_labels() -> None:
    data, unseen = poisoned_vectors(300, 30), vectors(150, 1)
    assert asr(Plain(training=FAST).train(Little(), data, 0).model, unseen) > 0.9
    method = DBD(training=FAST, feature_epochs=10, fixmatch=FixMatch(threshold=0.8))
    made = method.train(Little(), data, 0).model
    assert asr(made, unseen) < 0.2
    assert accuracy(made, unseen) > 0.85
