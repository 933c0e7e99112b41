"""What holds for every removal, on every architecture."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import DataError, ModelError
from closesesame.core.seeding import isolated
from closesesame.data import Dataset, Splits
from closesesame.models import ARCHITECTURES, Classifier
from closesesame.removal import REMOVALS, Removal
from closesesame.training import predict

ALL = pytest.mark.parametrize("name", REMOVALS)
SHORT: dict[str, object] = {
    **dict.fromkeys(("epochs", "steps", "rounds", "ascent_steps", "fixed_point_steps"), 2),
    **dict.fromkeys(("mask_steps", "generator_steps", "unlearning_steps", "teacher_epochs"), 2),
    "synthesis": {"steps": 2, "width": 4, "examples": 40, "confidence": 0},
}
FIND_NOTHING = {"clp", "bnp", "ep", "anp", "rnp"}
"""Removals that only prune, and find nothing to prune in a clean model."""
HAS = {"batch norm": {"resnet", "small_cnn", "lstm", "lstm_attention"}}
"""Which architectures have what a method may require."""


def short(name: str) -> Removal:
    """The method with few steps."""
    fields = REMOVALS[name].model_fields
    return REMOVALS.make(name, {field: value for field, value in SHORT.items() if field in fields})


@ALL
def test_the_suspect_is_left_alone_and_the_seed_repeats(
    name: str, clean_model: Classifier, tones: Splits
) -> None:
    clean = tones.train.sample(0.1, 0)
    kept = {key: value.clone() for key, value in clean_model.state_dict().items()}
    state = torch.random.get_rng_state()
    first, again = (short(name).remove(clean_model, clean, 5) for _ in range(2))
    assert all(torch.equal(value, kept[key]) for key, value in clean_model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    twin = again.model.state_dict()
    assert all(torch.equal(value, twin[key]) for key, value in first.model.state_dict().items())
    changed = any(not torch.equal(value, kept[key]) for key, value in first.model.state_dict().items())
    assert changed or name in FIND_NOTHING
    assert first.tuned_on + first.held_out == 32
    assert first.held_out in {6, 7}
    assert not first.model.training


@ALL
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_can_be_repaired(name: str, architecture: str, tones: Splits) -> None:
    extra = {"depth": 2} if architecture == "kwt" else {}
    model = ARCHITECTURES.make(architecture, extra).build(
        tones.train.classes, tones.train.input_shape, tones.train.sample_rate, seed=0
    )
    wanted = REMOVALS[name].requires
    if wanted and architecture not in HAS[wanted]:
        with pytest.raises(ModelError, match=f"this model has no {wanted}"):
            short(name).remove(model, tones.train.sample(0.1, 0), 0)
        return
    repair = short(name).remove(model, tones.train.sample(0.1, 0), 0)
    assert predict(repair.model, tones.validation).isfinite().all()
    assert repair.acc_after is not None
    assert 0 <= repair.acc_after <= 1


class OwnNet(nn.Module):
    """A network of somebody else, from waveforms to logits, its modules listed in no order."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(12, 4)
        self.norm = nn.BatchNorm1d(12)
        self.filters = nn.Conv1d(1, 12, 64, stride=16)

    def forward(self, wav: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.filters(wav[:, None])))
        logits: Tensor = self.last(x.mean(2))
        return logits


@ALL
def test_any_module_can_be_repaired(name: str, tones: Splits) -> None:
    with isolated(0):
        module = OwnNet()
    kept = copy.deepcopy(module.state_dict())
    repair = short(name).remove(module, tones.train.sample(0.1, 0), 0)
    assert isinstance(repair.model.body, OwnNet)
    assert predict(repair.model, tones.validation).isfinite().all()
    assert all(torch.equal(value, kept[key]) for key, value in module.state_dict().items())


@ALL
def test_held_out_examples_are_never_trained_on(
    name: str, clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = tones.train.sample(0.2, 0)
    method = short(name)
    tune, held_out = clean.split(method.hold_out, 0)
    forbidden = held_out.inputs[:]
    trained: set[str] = set()

    def spy(model: Classifier, data: Dataset, *args: Any, **more: Any) -> None:
        del model, args, more
        trained.update(data.ids)
        same = (data.inputs[:][:, None] == forbidden).all(2) if len(data) == len(tune) else torch.zeros(1)
        assert not same.any()

    for module in {type(method).__module__, "closesesame.removal.masking", "closesesame.removal.unlearning"}:
        monkeypatch.setattr(f"{module}.fit", spy, raising=False)
    repair = method.remove(clean_model, clean, 0)
    assert repair.tuned_on + repair.held_out == len(clean)
    if not method.data_free and trained:
        assert trained == set(tune.ids)


@ALL
def test_a_clean_set_that_does_not_fit_is_refused(name: str, clean_model: Classifier, tones: Splits) -> None:
    method = short(name)
    if method.data_free:
        assert method.remove(clean_model, None, 0).acc_after is None
    else:
        with pytest.raises(DataError, match="needs 4 clean examples or more, got 2"):
            method.remove(clean_model, tones.train.take(torch.arange(2)), 0)
        with pytest.raises(DataError, match="needs 4 clean examples or more, got 0"):
            method.remove(clean_model, None, 0)
    other = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=16_000)
    with pytest.raises(ModelError, match="8000 Hz, the clean set holds"):
        method.remove(clean_model, other, 0)
    named = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=8000, classes=["x", "y"])
    with pytest.raises(ModelError, match="the model knows"):
        method.remove(clean_model, named, 0)
