"""What is judged together is matched by names: any order of classes gives the same figures, or is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from closesesame.attacks import BadNets, Signal, Trigger, Ultrasonic
from closesesame.attacks.files import load_trigger
from closesesame.core.domain import SPEECH
from closesesame.core.errors import DataError, DataWarning, ModelError
from closesesame.data import Dataset, Splits
from closesesame.evaluation import Exam
from closesesame.evaluation.neurons import neurons_of
from closesesame.models import Classifier, adapt, load_model, save_model
from closesesame.removal import CLP, FT
from closesesame.report.from_models import compare
from closesesame.training import Training, accuracy, fit, predict, train
from tests.conftest import QUICK, SMALL, WORDS, make_tones

ORDERS = [(3, 2, 1, 0), (1, 2, 3, 0), (2, 0, 3, 1)]


def permuted(model: Classifier, order: tuple[int, ...], folder: Path) -> Classifier:
    """The same model on disk, its classes and the rows of its last layer in another order."""
    save_model(model, folder)
    about, state = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    index = torch.tensor(order)
    for name in ("body.head.weight", "body.head.bias"):
        state[name] = state[name][index].contiguous()
    about["classes"] = [about["classes"][number] for number in order]
    (folder / "config.json").write_text(json.dumps(about))
    save_file(state, folder / "model.safetensors")
    return load_model(folder)


@pytest.fixture(scope="module")
def victim(tones: Splits) -> tuple[Classifier, Trigger]:
    """A backdoored model, and what opens it."""
    poisoned = Ultrasonic(rate=0.2, target="top", level_dbfs=-20).poison(tones.train, 0)
    return train(SMALL, poisoned.dataset, QUICK, seed=0), poisoned.trigger


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_classes_changes_no_figure(
    order: tuple[int, ...],
    victim: tuple[Classifier, Trigger],
    clean_model: Classifier,
    tones: Splits,
    tmp_path: Path,
) -> None:
    model, trigger = victim
    expected = Exam(tones.test, trigger, clean_model).score(model)
    assert expected.asr is not None
    assert expected.asr.value > 0.8
    other, reference = (
        permuted(model, order, tmp_path / "m"),
        permuted(clean_model, order[::-1], tmp_path / "r"),
    )
    assert Exam(tones.test, trigger, reference).score(other) == expected
    classes = tuple(WORDS[number] for number in (2, 3, 0, 1))
    moved = tones.test.with_classes(classes)
    assert Exam(moved, trigger, reference).score(other) == expected
    assert torch.equal(predict(other, tones.test), predict(model, tones.test))
    assert accuracy(other, moved) == expected.acc.value


@pytest.mark.parametrize("order", ORDERS)
def test_every_class_behind_its_own_is_the_next_of_the_trigger_in_any_order(
    order: tuple[int, ...], tones: Splits
) -> None:
    trigger = BadNets(label_mode="all_to_all").trigger(tones.train, 0)
    classes = tuple(WORDS[number] for number in order)
    labels = tones.test.labels
    moved = tones.test.with_classes(classes)
    wanted = trigger.target_labels(moved.labels, classes)
    assert [classes[at] for at in wanted.tolist()] == [WORDS[(at + 1) % 4] for at in labels.tolist()]
    stamped = trigger.stamp_dataset(moved)
    assert len(stamped) == len(tones.test)


def test_poison_goes_by_the_name_of_the_target(tones: Splits) -> None:
    attack = Ultrasonic(rate=0.2, target="top")
    moved = tones.train.with_classes(("top", "low", "middle", "high"))
    poisoned = attack.poison(moved, 0, trigger=attack.trigger(tones.train, 0))
    assert {moved.classes[at] for at in poisoned.dataset.labels[poisoned.poisoned_mask].tolist()} == {"top"}
    assert not (moved.labels[poisoned.poisoned_mask] == 0).any()


def test_training_and_repair_count_labels_as_the_model_does(clean_model: Classifier, tones: Splits) -> None:
    moved = tones.validation.with_classes(("top", "low", "middle", "high"))
    plain = FT(steps=5).remove(clean_model, tones.validation, 0)
    other = FT(steps=5).remove(clean_model, moved, 0)
    assert plain.acc_before == other.acc_before == 1.0
    assert all(
        torch.equal(a, b)
        for a, b in zip(plain.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    )
    one, two = (train(SMALL, tones.train, Training(epochs=0), seed=0) for _ in range(2))
    fit(one, tones.validation, Training(steps=3), seed=0)
    fit(two, moved, Training(steps=3), seed=0)
    assert torch.equal(one.body.head.weight, two.body.head.weight)  # type: ignore[union-attr, arg-type]


def test_a_class_that_the_model_lacks_is_refused_wherever_it_stands(
    clean_model: Classifier, tones: Splits
) -> None:
    foreign = replace(tones.test, classes=("low", "middle", "high", "tip"))
    fewer = make_tones(8, 5).take(torch.arange(8)[torch.arange(8) % 4 < 2])
    fewer = replace(fewer, classes=("low", "middle"))
    trigger = BadNets().trigger(tones.train, 0)
    with pytest.raises(ModelError, match="the model lacks 'tip' and also has 'top'"):
        predict(clean_model, foreign)
    with pytest.raises(ModelError, match="also has 'high', 'top'; .*; take two that have the same classes$"):
        predict(clean_model, fewer)
    with pytest.raises(
        ModelError, match="the trigger and the data have other classes: the trigger lacks 'tip'"
    ):
        Exam(foreign, trigger)
    with pytest.raises(ModelError, match="does not know class 'tip' of .*: give .* leave out their clips$"):
        FT().remove(clean_model, foreign, 0)
    with pytest.raises(ModelError, match="does not know class 'tip'"):
        fit(train(SMALL, tones.train, Training(epochs=0), seed=0), foreign, Training(steps=1), seed=0)


def test_another_sample_rate_or_length_is_refused(clean_model: Classifier, tones: Splits) -> None:
    fast = replace(tones.test, sample_rate=16_000)
    with pytest.raises(ModelError, match="clips of 0.5 s at 8,000 Hz, and the data hold clips of 0.25 s"):
        predict(clean_model, fast)
    with pytest.raises(ModelError, match=r"made for speech .8000 Hz., and the data hold speech .16000 Hz."):
        Exam(fast, BadNets().trigger(tones.train, 0))
    reference = train(SMALL, make_tones(40, 7, length=8000), Training(epochs=0), seed=0)
    with pytest.raises(ModelError, match="the model takes clips of 1 s"):
        Exam(tones.test, BadNets().trigger(tones.train, 0), reference)


class Says(nn.Module):
    """Gives answers that are none."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(wav), -1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_answers_that_are_no_numbers_are_an_error_not_a_score(value: float, tones: Splits) -> None:
    with pytest.raises(ModelError, match="answers NaN or infinity to .000000.*; get it again, or train it"):
        Exam(tones.test).score(Says(torch.tensor([0.0, value, 0.0, 0.0])))


def test_finite_weights_may_give_answers_that_are_none(clean_model: Classifier, tones: Splits) -> None:
    broken = train(SMALL, tones.train, Training(epochs=0), seed=0)
    state = clean_model.state_dict()
    name = next(name for name in state if name.endswith("running_var"))
    broken.load_state_dict(state | {name: -torch.ones_like(state[name])})
    with pytest.raises(ModelError, match="answers NaN"):
        Exam(tones.test).score(broken)


def test_the_same_answer_to_every_clip_is_an_error_not_a_score(tones: Splits) -> None:
    with pytest.raises(ModelError, match="answers 'middle' to all of 200 clean clips of several classes"):
        Exam(tones.test).score(Says(torch.tensor([0.0, 1.0, 0.0, 0.0])))
    of_one = tones.test.where(tones.test.labels == 1)
    assert Exam(of_one).score(Says(torch.tensor([0.0, 1.0, 0.0, 0.0]))).acc.value == 1.0


@pytest.mark.parametrize("width", [3, 5])
def test_an_answer_outside_of_the_classes_is_an_error(width: int, tones: Splits) -> None:
    with pytest.raises(ModelError, match="one number an example and class is needed"):
        Exam(tones.test).score(Says(torch.eye(width)[-1]))


def test_a_trigger_that_changes_nothing_or_finds_nobody_is_an_error(tones: Splits) -> None:
    trigger = Ultrasonic(target="top").trigger(tones.train, 0)
    quiet = Trigger(Quiet(target="top"), {}, Signal(SPEECH, 8_000), 3, WORDS)
    with pytest.raises(DataError, match="changes none of 150 clips"):
        Exam(tones.test, quiet)
    with pytest.raises(DataError, match="changes none of 150 clips"):
        Exam(tones.test, quiet, triggered=tones.test.where(tones.test.labels != 3))
    with pytest.raises(DataError, match="no clip of another class than the target"):
        Exam(tones.test.where(tones.test.labels == 3), trigger)
    with pytest.raises(DataError, match="the test set is empty"):
        Exam(tones.test.where(tones.test.labels == 9))


class Quiet(Ultrasonic):
    """Plays nothing."""

    def apply(self, inputs: torch.Tensor, state: object, signal: Signal) -> torch.Tensor:
        return inputs


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_trigger_with_a_broken_sound_is_refused(value: float, tones: Splits, tmp_path: Path) -> None:
    BadNets().trigger(tones.train, 0).save(tmp_path / "t")
    state = load_file(tmp_path / "t" / "trigger.safetensors")
    for tensor in state.values():
        tensor.view(-1)[3] = value
    save_file(state, tmp_path / "t" / "trigger.safetensors")
    with pytest.raises(ModelError, match="trigger.safetensors is refused: .* holds NaN or infinite values"):
        load_trigger(tmp_path / "t")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"target": 99}, "target must be text, got 99"),
        ({"target": 1.5}, "target"),
        ({"target": True}, "target"),
        ({"target": None}, "target"),
        ({"target": "nobody"}, "target 'nobody' is none of its classes"),
        ({"target": [1]}, "target"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"sample_rate": 10**400}, "sample_rate"),
        ({"sample_rate": None}, "needs a sample_rate for speech"),
        ({"domain": "pictures"}, "needs a sample_rate for speech"),
        ({"domain": "smells"}, "domain must be one of"),
        ({"classes": ["low", "low"]}, "two classes called 'low'"),
        ({"classes": []}, "is 0; 2 to 10,000 are possible"),
        ({"classes": "low"}, "classes"),
        ({"settings": []}, "settings"),
        ({"attack": "os:system"}, "import 'os' first|must be a subclass"),
        ({"attack": "nothing"}, "no attack is called"),
        ({"more": 1}, "more"),
    ],
)
def test_a_damaged_trigger_is_one_sentence(
    changes: dict[str, object], sentence: str, tones: Splits, tmp_path: Path
) -> None:
    BadNets().trigger(tones.train, 0).save(tmp_path / "t")
    path = tmp_path / "t" / "trigger.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises((ModelError, DataError, Exception), match=sentence) as caught:
        load_trigger(tmp_path / "t")
    assert type(caught.value).__module__ == "closesesame.core.errors"
    assert "\n" not in str(caught.value)


def test_a_trigger_without_its_tensors_is_refused(tones: Splits, tmp_path: Path) -> None:
    BadNets().trigger(tones.train, 0).save(tmp_path / "t")
    save_file({}, tmp_path / "t" / "trigger.safetensors")
    with pytest.raises(ModelError, match="cannot be stamped on clips"):
        load_trigger(tmp_path / "t")


def test_a_trigger_keeps_the_name_of_its_recording_and_not_its_folder(tones: Splits, tmp_path: Path) -> None:
    from closesesame.audio.files import write

    write(tmp_path / "plane.wav", 0.1 * torch.randn(4000), 8_000)
    BadNets(sound=str(tmp_path / "plane.wav")).trigger(tones.train, 0).save(tmp_path / "t")
    about = (tmp_path / "t" / "trigger.json").read_text()
    assert json.loads(about)["settings"]["sound"] == "plane.wav"
    assert str(tmp_path) not in about
    (tmp_path / "plane.wav").unlink()
    assert len(load_trigger(tmp_path / "t").stamp(tones.test.inputs[:2])) == 2


def test_clean_examples_without_a_class_are_said(clean_model: Classifier, tones: Splits) -> None:
    half = tones.validation.where(tones.validation.labels < 2)
    with pytest.warns(DataWarning, match="no example of 2 of 4 classes .'high', 'top'.: a repair may make"):
        repair = FT(steps=1).remove(clean_model, half, 0)
    assert repair.missing == ("high", "top")
    assert CLP().remove(clean_model, None, 0).missing == ()


def test_classes_that_no_held_out_clip_checks_are_named(clean_model: Classifier, tones: Splits) -> None:
    one_each = tones.validation.take(torch.arange(5))
    repair = FT(steps=1).remove(clean_model, one_each, 0)
    assert repair.missing == ()
    assert repair.held_out == 1
    assert len(repair.unchecked) == 3


def test_neurons_and_pages_go_by_names_too(
    victim: tuple[Classifier, Trigger], clean_model: Classifier, tones: Splits, tmp_path: Path
) -> None:
    model, trigger = victim
    other = permuted(model, (2, 0, 3, 1), tmp_path / "m")
    exam = Exam(tones.test, trigger)
    one, two = neurons_of(model, exam, clips=20, most=6), neurons_of(other, exam, clips=20, most=6)
    torch.testing.assert_close(one.gradient_norm, two.gradient_norm)
    pages = [compare(exam=exam, before=("it", judged), repaired={}, title="it") for judged in (model, other)]
    assert [sound.predicted for sound in pages[0].sounds] == [sound.predicted for sound in pages[1].sounds]
    assert pages[0].entries[0].scores == pages[1].entries[0].scores


def test_a_module_that_is_not_ours_has_the_classes_it_is_adapted_with(tones: Splits) -> None:
    says = Says(torch.tensor([0.0, 1.0, 0.0, 0.0]))
    module = adapt(says, ("top", "high", "middle", "low"), (4000,), 8_000)
    few = tones.test.take(torch.arange(4))
    assert predict(says, few).argmax(1).tolist() == [1] * 4  # in the order of the data
    assert predict(module, few).argmax(1).tolist() == [2] * 4  # 'high' is third there


def test_a_data_set_must_have_every_class_named_once(tones: Splits) -> None:
    assert isinstance(tones.test, Dataset)
    with pytest.raises(DataError, match="'low' is named twice"):
        replace(tones.test, classes=("low", "low", "high", "top"))


@pytest.mark.parametrize("kind", [torch.bool, torch.int32, torch.float8_e4m3fn, torch.complex64])
def test_a_sound_that_is_no_sound_any_more_is_refused(
    kind: torch.dtype, tones: Splits, tmp_path: Path
) -> None:
    BadNets().trigger(tones.train, 0).save(tmp_path / "t")
    path = tmp_path / "t" / "trigger.safetensors"
    save_file({name: value.to(kind) for name, value in load_file(path).items()}, path)
    with pytest.raises(ModelError, match=f"is of kind {kind}, which is not read"):
        load_trigger(tmp_path / "t")


def test_a_trigger_that_is_too_faint_for_16_bits_is_an_error(tones: Splits) -> None:
    trigger = Ultrasonic(target="top", strength=1e-4).trigger(tones.train, 0)
    with pytest.raises(DataError, match="changes none of 150 clips, so nothing can be said"):
        Exam(tones.test, trigger)


class Broken(Ultrasonic):
    """Makes no sound but NaN of one sample."""

    def apply(self, inputs: torch.Tensor, state: object, signal: Signal) -> torch.Tensor:
        made = inputs.clone()
        made[0, 0] = torch.nan
        return made


def test_an_attack_that_makes_nan_is_an_error_wherever_it_is_stamped(tones: Splits) -> None:
    attack = Broken(target="top", rate=0.1)
    trigger = Trigger(attack, {}, Signal(SPEECH, 8_000), 3, WORDS)
    for act in (
        lambda: trigger.stamp(tones.test.inputs[:2]),
        lambda: Exam(tones.test, trigger),
        lambda: attack.poison(tones.train, 0),
    ):
        with pytest.raises(ModelError, match="makes clips that are none"):
            act()


def test_twenty_clips_with_one_answer_are_too_many(tones: Splits) -> None:
    says = Says(torch.tensor([0.0, 1.0, 0.0, 0.0]))
    assert Exam(tones.test.take(torch.arange(19))).score(says).acc.of == 19
    with pytest.raises(ModelError, match="to all of 20 clean clips"):
        Exam(tones.test.take(torch.arange(20))).score(says)


def test_the_page_knows_what_guessing_gives(victim: tuple[Classifier, Trigger], tones: Splits) -> None:
    model, trigger = victim
    page = compare(exam=Exam(tones.test, trigger), before=("it", model), repaired={}, title="it")
    assert page.entries[0].verdict is not None
    assert "(chance level with 4 classes: 25.0 %)" in page.entries[0].verdict.words


@pytest.mark.parametrize("target", ["9" * 5_000, "4", "-1", "1.0", ""])
def test_a_target_that_is_no_class_is_one_sentence(target: str, tones: Splits) -> None:
    with pytest.raises(DataError, match="no class is called"):
        tones.train.label_of(target)
