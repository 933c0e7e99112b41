"""What purifications share: a purifier before a model, two parts of clean examples, purifiers in files."""

import copy
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import DataError, DivergedError, ModelError
from closesesame.data import Dataset, Splits
from closesesame.data.rows import Rows
from closesesame.evaluation import Exam
from closesesame.models import ARCHITECTURES, Classifier, ResNet, adapt, load_model, save_model
from closesesame.purification import PURIFICATIONS, Autoencoder, Lowpass, Purification, Purifier
from closesesame.purification.files import Purified, load_purifier
from closesesame.removal import FT
from closesesame.testing import architecture, method
from closesesame.training import Training, accuracy, fit, predict
from closesesame.training.weights import redraw

LOWPASS = Lowpass(cutoff_hz=3_500)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_stands_before_every_architecture(name: str, tones: Splits) -> None:
    model = ARCHITECTURES.make(name, ARCHITECTURES[name].quick).build(
        tones.train.classes, tones.train.input_shape, tones.train.sample_rate, seed=0
    )
    purifier = LOWPASS.fit(tones.validation, 0)
    model.eval()
    purified = purifier.before(model)
    inputs = tones.test.inputs[:3]
    assert torch.equal(purified(inputs), model(purifier(inputs)))


def test_a_purified_model_is_judged_as_any_other(clean_model: Classifier, tones: Splits) -> None:
    kept = copy.deepcopy(clean_model.state_dict())
    purified = LOWPASS.fit(tones.validation, 0).before(clean_model)
    assert purified.body is clean_model.body
    turned = tones.test.with_classes(("top", "low", "high", "middle"))
    assert accuracy(purified, turned) == accuracy(purified, tones.test)
    assert Exam(tones.test).score(purified).acc.value == pytest.approx(accuracy(purified, tones.test))
    assert not torch.equal(predict(purified, tones.test), predict(clean_model, tones.test))
    assert clean_model.state_dict().keys() == kept.keys()
    assert all(torch.equal(value, kept[key]) for key, value in clean_model.state_dict().items())


def test_a_model_of_other_inputs_is_refused(clean_model: Classifier) -> None:
    other = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=16_000)
    purifier = LOWPASS.fit(other, 0)
    with pytest.raises(ModelError, match=r"purifier takes clips of 0.25 s at 16,000 Hz, and the model clips"):
        purifier.before(clean_model)


def test_a_purifier_survives_a_file_bit_by_bit(tones: Splits, tmp_path: Path) -> None:
    made = LOWPASS.fit(tones.validation, 0)
    folder = made.save(tmp_path / "purifier")
    made.save(folder)  # an old one is replaced
    read = load_purifier(folder)
    assert read.purification == made.purification
    assert (read.sample_rate, read.input_shape, read.chosen, read.seconds) == (
        made.sample_rate,
        made.input_shape,
        made.chosen,
        made.seconds,
    )
    inputs = tones.test.inputs[:20]
    assert torch.equal(read(inputs), made(inputs))


@pytest.mark.parametrize("name", PURIFICATIONS)
def test_a_gradient_reaches_the_inputs(name: str, tones: Splits) -> None:
    # An attacker may follow it, and what measures such attackers must not take its absence for safety.
    purification = PURIFICATIONS[name]
    purifier = purification(**purification.quick).fit(tones.validation, 0)
    inputs = tones.test.inputs[:4].requires_grad_(True)
    (slope,) = torch.autograd.grad(purifier(inputs).square().sum(), inputs)
    assert slope.isfinite().all()
    assert (slope.abs().amax(1) > 0).all()


@pytest.mark.parametrize("purification", [LOWPASS, Autoencoder(steps=2, width=8, code=4)])
def test_a_model_behind_a_purifier_is_saved_and_repaired_like_any_other(
    purification: Purification, clean_model: Classifier, tones: Splits, tmp_path: Path
) -> None:
    purifier = purification.fit(tones.validation, 0)
    purified = purifier.before(clean_model)
    inputs = tones.test.inputs[:5]
    read = load_model(save_model(purified, tmp_path / "purified", {"by": "a test"}))
    assert torch.equal(read(inputs), clean_model(purifier(inputs)))
    assert read.card.made == {"by": "a test"}
    assert read.card.settings["purification"] == purification.name
    assert read.card.settings["purification_settings"] == purification.settings()
    assert read.card.settings["architecture"] == clean_model.card.architecture
    assert read.card.settings["architecture_settings"] == clean_model.card.settings
    repaired = FT(steps=2).remove(read, tones.validation, 0).model
    again = load_model(save_model(repaired, tmp_path / "repaired"))
    assert torch.equal(again(inputs), repaired(inputs))
    assert not torch.equal(again(inputs), read(inputs))
    assert torch.equal(again.front_end(inputs), read.front_end(inputs))
    twice = LOWPASS.fit(tones.validation, 0).before(again)
    once_more = load_model(save_model(twice, tmp_path / "twice"))
    assert torch.equal(once_more(inputs), twice(inputs))


def test_fresh_weights_of_a_model_behind_a_purifier_are_those_of_its_network(
    clean_model: Classifier, tones: Splits
) -> None:
    purified = LOWPASS.fit(tones.validation, 0).before(copy.deepcopy(clean_model))
    redrawn, plain = copy.deepcopy(purified), copy.deepcopy(clean_model)
    redraw(redrawn, 3)
    redraw(plain, 3)
    drawn = zip(redrawn.body.parameters(), plain.body.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in drawn)
    front: Any = purified.front_end
    filtered = tones.train.with_inputs(Rows.of(LOWPASS.fit(tones.validation, 0)(tones.train.inputs[:])))
    front.calibrate(tones.train)
    plain.front_end.calibrate(filtered)
    # The lowpass rounds a clip by its batch, so the last bits may differ.
    torch.testing.assert_close(
        front(tones.train.inputs[:3]), plain.front_end(filtered.inputs[:3]), atol=1e-4, rtol=0
    )


def test_the_architecture_of_a_purified_model_keeps_the_rules() -> None:
    purified = Purified(
        purification="lowpass",
        purification_settings={"cutoff_hz": 3_500},
        architecture="resnet",
        architecture_settings={"widths": [8, 16]},
    )
    for check in set(architecture.CHECKS) - set(method.CHECKS):
        check(purified)
    assert purified.calls() == (Lowpass.__module__, ResNet.__module__)
    assert ARCHITECTURES["purified"] is Purified
    assert "purified" not in list(ARCHITECTURES)


def test_a_damaged_model_behind_a_purifier_is_refused(
    clean_model: Classifier, tones: Splits, tmp_path: Path
) -> None:
    folder = save_model(LOWPASS.fit(tones.validation, 0).before(clean_model), tmp_path / "purified")
    path = folder / "config.json"
    about = json.loads(path.read_text())
    endless: dict[str, Any] = {"purification": "requantize", "architecture": "resnet"}
    for _ in range(300):
        endless = {"purification": "requantize", "architecture": "purified", "architecture_settings": endless}
    for settings, said in (
        (about["settings"] | {"purification": "lowpas"}, "no purification is called 'lowpas'"),
        (about["settings"] | {"purification": "not_there:Thing"}, "'not_there:Thing' is not ours"),
        (about["settings"] | {"architecture": "resne"}, "no model is called 'resne'"),
        (about["settings"] | {"architecture": "not_there:Thing"}, "'not_there:Thing' is not ours"),
        (about["settings"] | {"more": 1}, "has no setting 'more'"),
        (endless, "does not fit its config.json|recursion"),
    ):
        path.write_text(json.dumps(about | {"settings": settings}))
        with pytest.raises(ModelError, match=said):
            load_model(folder)
    external = adapt(clean_model.body, clean_model.card.classes, (4000,), 8000, clean_model.front_end)
    purified = LOWPASS.fit(tones.validation, 0).before(external)
    with pytest.raises(ModelError, match="an adapted module can be saved if `adapt` knows its source"):
        save_model(purified, tmp_path / "external")


def test_what_is_data_free_takes_the_card_of_a_model(clean_model: Classifier, tones: Splits) -> None:
    made = LOWPASS.fit(None, 0, card=clean_model.card)
    assert made.before(clean_model)(tones.test.inputs[:2]).shape == (2, 4)
    with pytest.raises(DataError, match="must know the shape of the inputs"):
        LOWPASS.fit(None, 0)


class Scaled(nn.Module):
    """Inputs times a weight, or one sample too few."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.weight, self.cut = nn.Parameter(torch.rand(1)), cut

    def forward(self, wav: Tensor) -> Tensor:
        return self.weight * wav[:, int(self.cut) :]


class Scaling(Purification):
    """Learns how many clips it was tuned on."""

    name: ClassVar[str] = "scaling"
    cite: ClassVar[str] = "a test"
    cut: bool = False
    nan: bool = False

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        assert input_shape == (4000,)
        return Scaled(self.cut)

    def learn(self, network: nn.Module, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        assert isinstance(network, Scaled)
        assert tune.speakers is not None
        assert held_out.speakers is not None
        assert not set(tune.speakers) & set(held_out.speakers)
        network.weight.data.fill_(torch.nan if self.nan else len(tune))
        return {"held_out": len(held_out)}


def test_what_learns_is_given_clean_examples_in_two_parts(tones: Splits) -> None:
    purifier = Scaling(hold_out=0.3).fit(tones.validation, 0)
    tune, held_out = tones.validation.hold_out(0.3, 0)
    assert isinstance(purifier.network, Scaled)
    assert float(purifier.network.weight) == len(tune)
    assert purifier.chosen == {"held_out": len(held_out)}
    assert purifier.seconds > 0
    assert not purifier.training
    assert not any(weight.requires_grad for weight in purifier.parameters())
    assert purifier.bounds == (-1.0, 1.0)
    assert float(purifier(tones.test.inputs[:]).abs().max()) == 1  # scaled by 30, and kept within bounds
    with pytest.raises(DataError, match=r"scaling got 2 clean examples, and none is left to choose by"):
        Scaling().fit(tones.train.take(torch.arange(2)), 0)
    with pytest.raises(DivergedError, match="scaling left weights that are NaN or infinite"):
        Scaling(nan=True).fit(tones.validation, 0)
    with pytest.raises(ModelError, match=r"scaling makes inputs of shape \[3999\] out of \[4000\]"):
        Scaling(cut=True).fit(tones.validation, 0)(tones.test.inputs[:2])
    pictures = Purifier(Scaling(), nn.Identity(), None, (3, 8, 8), {}, 0.0)
    assert pictures.bounds == (0.0, 1.0)


def test_a_purifier_is_rebuilt_with_its_weights_and_a_name_imports_nothing(
    tones: Splits, tmp_path: Path
) -> None:
    purifier = Scaling().fit(tones.validation, 0)
    folder = purifier.save(tmp_path / "purifier")
    read = load_purifier(folder)  # its module was imported by pytest
    assert isinstance(read.network, Scaled)
    assert isinstance(purifier.network, Scaled)
    assert torch.equal(read.network.weight, purifier.network.weight)
    path = folder / "purifier.json"
    about = json.loads(path.read_text())
    for change, said in (
        ({"purification": "not_there:Thing"}, "'not_there:Thing' is not ours"),
        ({"purification": "lowpas"}, "no purification is called 'lowpas'"),
        ({"settings": {"hold_out": 2}}, "Scaling.hold_out must be < 1"),
        ({"sample_rate": 10**9}, "sample_rate must be"),
        ({"input_shape": [10**6, 10**6]}, "input_shape"),
        ({"input_shape": [4000, 4000, 2]}, "larger than any clip"),
        ({"more": 1}, "has no setting 'more'"),
    ):
        path.write_text(json.dumps(about | change))
        with pytest.raises(ModelError, match=said):
            load_purifier(folder)
    path.write_text(json.dumps(about))
    weights = folder / "purifier.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-2])
    with pytest.raises(ModelError, match="purifier.safetensors is damaged or missing"):
        load_purifier(folder)
    Lowpass(cutoff_hz=3_500).fit(tones.validation, 0).save(tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / "purifier.safetensors").read_bytes())
    with pytest.raises(ModelError, match="does not fit its purifier.json: it lacks 'weight'"):
        load_purifier(folder)
    (folder / "other.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else than purifier.json and purifier.safetensors"):
        purifier.save(folder)


class Counting(nn.Module):
    """Changes nothing, but counts what it hears in training mode, as a batch norm does."""

    heard: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("heard", torch.zeros(()))

    def forward(self, wav: Tensor) -> Tensor:
        if self.training:
            self.heard += len(wav)
        return wav


@pytest.mark.parametrize("kept_bytes", [2**29, 0])
def test_training_a_model_changes_nothing_in_the_purifier_in_front_of_it(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr("closesesame.training.predicting.FEATURE_CACHE_BYTES", kept_bytes)
    card = clean_model.card
    purifier = Purifier(Lowpass(), Counting(), card.sample_rate, card.input_shape, {}, 0.0)
    model = purifier.before(copy.deepcopy(clean_model))
    fit(model, tones.validation, Training(steps=2), seed=0)
    assert model.training is False
    counted = {name: value for name, value in model.state_dict().items() if name.endswith("heard")}
    assert [float(value) for value in counted.values()] == [0]
