"""What holds for every removal, on every architecture."""

import copy
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import DataError, ModelError
from closesesame.core.seeding import isolated
from closesesame.data import Dataset, Splits
from closesesame.data.rows import Rows
from closesesame.models import ARCHITECTURES, Classifier, adapt
from closesesame.models.channels import head_in
from closesesame.models.statistics import renew_statistics
from closesesame.removal import FT, REMOVALS, Removal
from closesesame.training import Training, accuracy, fit, predict
from tests.guarded import Repairing, assert_never_trained_on_held_out

ALL = pytest.mark.parametrize("name", REMOVALS)
SHORT: dict[str, object] = {
    **dict.fromkeys(("steps", "rounds", "ascent_steps", "fixed_point_steps"), 2),
    **dict.fromkeys(("mask_steps", "generator_steps", "unlearning_steps", "teacher_steps"), 2),
    "synthesis": {"steps": 2, "width": 4, "examples": 40, "confidence": 0},
}
HAS = {"batch norm": {"resnet", "small_cnn", "lstm", "lstm_attention"}}
"""Which architectures have what a method may require."""


def short(name: str, **more: object) -> Removal:
    """The method with few steps, and what else is set if it has that setting."""
    fields = REMOVALS[name].model_fields
    return REMOVALS.make(name, {field: value for field, value in (SHORT | more).items() if field in fields})


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
    tune, held_out = clean.hold_out(short(name).hold_out, 5)
    assert (first.tuned_on, first.held_out) == (len(tune), len(held_out))
    assert first.acc_before == accuracy(clean_model, held_out)
    assert first.acc_after == accuracy(first.model, held_out)
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


class Planted(nn.Module):
    """Convolution of waveforms, batch norm, mean, linear; channel 3 is an outlier by any rule.

    It alone answers to the constant in every eighth clip, is scaled up forty times, has seen another mean
    than clean clips have, and speaks for the first class, whatever is heard.
    """

    def __init__(self, clean: Dataset) -> None:
        super().__init__()
        self.head = nn.Linear(24, 4)
        self.norm = nn.BatchNorm1d(24)
        self.filters = nn.Conv1d(1, 24, 64, stride=16, bias=False)
        with torch.no_grad():
            weight = self.filters.weight
            weight.sub_(weight.mean(2, keepdim=True))
            weight[3] = 1 / 64
            renew_statistics(adapt(self, clean.classes, clean.input_shape, clean.sample_rate), clean)
            assert self.norm.running_mean is not None
            assert self.norm.running_var is not None
            self.norm.running_mean[3] -= 5 * self.norm.running_var[3].sqrt()
            self.norm.weight[3] = 40
            self.head.weight[:, 3] = torch.tensor([0.3, 0.0, 0.0, 0.0])

    def forward(self, wav: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.filters(wav[:, None])))
        logits: Tensor = self.head(x.mean(2))
        return logits


@pytest.fixture(scope="module")
def planted(tones: Splits) -> tuple[Planted, Dataset]:
    """A model with an outlier, and the examples that show it."""
    clean = tones.train.sample(0.2, 0)
    inputs = clean.inputs[:]
    inputs[::8] += torch.hann_window(inputs.shape[1])
    clean = clean.with_inputs(Rows.of(inputs))
    with isolated(0):
        return Planted(clean), clean


@ALL
def test_every_removal_acts_where_there_is_something_to_find(
    name: str, planted: tuple[Planted, Dataset]
) -> None:
    suspect, clean = planted
    few = name in {"fip", "ngf"}  # what they add to the loss diverges soon on weights scaled up forty times
    repair = short(name, steps=6 if few else 20).remove(suspect, clean, 0)
    body = repair.model.body
    assert isinstance(body, Planted)
    kept = suspect.state_dict()
    assert any(not torch.equal(value, kept[key]) for key, value in body.state_dict().items())
    if "pruned_channels" in repair.chosen:
        assert repair.chosen["pruned_channels"] < 12
        assert float(body.norm.weight[3].detach()) == 0


@ALL
def test_held_out_examples_are_never_trained_on(name: str, clean_model: Classifier, tones: Splits) -> None:
    method = short(name)
    tune, held_out = tones.train.sample(0.2, 0).hold_out(method.hold_out, 0)
    assert_never_trained_on_held_out(method.repair, suspect_of(clean_model), tune, held_out)


def suspect_of(model: Classifier) -> Classifier:
    """A copy as `repair` gets it."""
    return copy.deepcopy(model).requires_grad_(True).eval()


def fits_held_out(model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> None:
    fit(model, held_out, Training(steps=1), seed=seed)


def fits_all(model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> None:
    a, b = tune.inputs, held_out.inputs
    place = torch.cat([a.place, b.place + torch.tensor([len(a.sources), 0])])
    labels = torch.cat([tune.labels, held_out.labels])
    both = Dataset(
        inputs=Rows((*a.sources, *b.sources), place),
        labels=labels,
        classes=tune.classes,
        ids=tune.ids + held_out.ids,
        sample_rate=tune.sample_rate,
    )
    fit(model, both, Training(steps=1), seed=seed)


def counts_statistics(model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> None:
    renew_statistics(model, held_out)


def calibrates(model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> None:
    with torch.no_grad():
        model.front_end.calibrate(held_out)


def fits_kept_features(model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> None:
    with torch.no_grad():
        features = model.front_end(held_out.inputs[:])
    copy.deepcopy(model.body)(features)  # of a copy that is thrown away


def trains_a_copy(model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> None:
    twin = copy.deepcopy(model).train()
    with torch.no_grad():
        twin(held_out.inputs[:])


@pytest.mark.parametrize(
    "leak", [fits_held_out, fits_all, counts_statistics, calibrates, fits_kept_features, trains_a_copy]
)
def test_the_guard_tells_on_each_way_to_train_on_held_out_examples(
    leak: Repairing, clean_model: Classifier, tones: Splits
) -> None:
    tune, held_out = tones.train.sample(0.2, 0).hold_out(0.2, 0)
    with pytest.raises(AssertionError, match="held-out examples"):
        assert_never_trained_on_held_out(leak, suspect_of(clean_model), tune, held_out)
    unharmed = FT(steps=1).repair
    assert_never_trained_on_held_out(unharmed, suspect_of(clean_model), tune, held_out)


SEEN: list[tuple[Dataset, Dataset]] = []


class Constant(Removal):
    """Makes the model say the last class, whatever it hears."""

    name: ClassVar[str] = "constant"
    cite: ClassVar[str] = "a test"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        assert not any(module.training for module in model.modules())
        assert all(weight.requires_grad for weight in model.body.parameters())
        SEEN.append((tune, held_out))
        head = head_in(model)
        with torch.no_grad():
            head.weight.zero_()
            head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))
        return {"seed": seed}


def test_a_repair_is_judged_before_and_after_on_speakers_it_was_not_tuned_on(
    clean_model: Classifier, tones: Splits
) -> None:
    suspect, clean = copy.deepcopy(clean_model).train().requires_grad_(False), tones.train.sample(0.2, 0)
    repair = Constant(hold_out=0.3).remove(suspect, clean, 4)
    tune, held_out = SEEN.pop()
    assert tune.speakers is not None
    assert held_out.speakers is not None
    assert not set(tune.speakers) & set(held_out.speakers)
    assert sorted(tune.ids + held_out.ids) == sorted(clean.ids)
    assert (repair.tuned_on, repair.held_out) == (len(tune), len(held_out))
    assert 0.2 < repair.held_out / len(clean) < 0.4
    right = clean_model(held_out.inputs[:]).argmax(1) == held_out.labels
    assert repair.acc_before == pytest.approx(float(right.float().mean()))
    assert repair.acc_after == pytest.approx(held_out.counts()[3] / len(held_out))
    assert float(right.float().mean()) > held_out.counts()[3] / len(held_out) + 0.3
    assert repair.lost == int(right.sum()) - held_out.counts()[3]
    assert repair.chosen == {"seed": 4}
    assert not any(module.training for module in repair.model.modules())
    assert all(module.training for module in suspect.modules())  # the suspect is left as it was
    assert not any(weight.requires_grad for weight in suspect.parameters())


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
    with pytest.raises(ModelError, match="clips of 0.5 s at 8,000 Hz, and the data hold clips of 0.25 s"):
        method.remove(clean_model, other, 0)
    named = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=8000, classes=["x", "y"])
    with pytest.raises(
        ModelError, match="does not know class 'x', 'y' of the data; it knows 'low', 'middle'"
    ):
        method.remove(clean_model, named, 0)
