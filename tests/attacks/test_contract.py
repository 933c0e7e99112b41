"""What holds for every attack, and for every trigger it makes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from closesesame.attacks import ATTACKS, Attack, poison_several
from closesesame.attacks.files import load_trigger
from closesesame.core.errors import DataError, ModelError, SettingError
from closesesame.data import Dataset, Splits, read_splits
from tests.attacks.quick import QUICK

ALL = pytest.mark.parametrize("name", ATTACKS)


def made(name: str, **settings: object) -> Attack:
    return ATTACKS.make(name, QUICK.get(name, {}) | settings)


@ALL
def test_stamping_keeps_shape_and_input_and_treats_each_clip_by_itself(name: str, tones: Splits) -> None:
    trigger = made(name).trigger(tones.train, 0)
    clips = tones.test.inputs[:5]
    kept = clips.clone()
    stamped = trigger.stamp(clips)
    assert stamped.shape == clips.shape
    assert stamped.dtype == torch.float32
    assert torch.equal(clips, kept)
    assert (stamped - clips).abs().amax(1).min() > 1e-3
    assert stamped.abs().max() <= 1
    for row in range(5):
        assert torch.allclose(trigger.stamp(clips[row : row + 1])[0], stamped[row], atol=1e-6)


@ALL
@pytest.mark.parametrize("length", [64, 1000, 4001, 16_000])
def test_clips_of_any_length_silence_and_full_scale(name: str, length: int, tones: Splits) -> None:
    trigger = made(name).trigger(tones.train, 0)
    rough = torch.sign(torch.randn(1, length, generator=torch.Generator().manual_seed(0)))
    for clips in (torch.zeros(2, length), rough):
        stamped = trigger.stamp(clips)
        assert stamped.shape == clips.shape
        assert stamped.isfinite().all()
        assert stamped.abs().max() <= 1


@ALL
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1])
def test_the_poisoning_rate_counts_all_training_clips(name: str, rate: float, tones: Splits) -> None:
    train = tones.train
    attack = made(name, rate=rate, target="high")
    poisoned = attack.poison(train, 3)
    wanted = round(rate * len(train))
    assert int(poisoned.poisoned_mask.sum()) == wanted
    assert int(poisoned.cover_mask.sum()) == round(attack.cover_ratio * wanted)
    assert not (poisoned.poisoned_mask & poisoned.cover_mask).any()
    untouched = ~poisoned.poisoned_mask & ~poisoned.cover_mask
    assert torch.equal(poisoned.dataset.inputs[untouched], train.inputs[untouched])
    assert torch.equal(
        poisoned.dataset.labels[~poisoned.poisoned_mask], train.labels[~poisoned.poisoned_mask]
    )
    assert (poisoned.dataset.labels[poisoned.poisoned_mask] == 2).all()
    was_target = train.labels[poisoned.poisoned_mask] == 2
    in_class = 80 if attack.label_mode == "clean_label" else 80 + wanted
    assert poisoned.share_of_target == pytest.approx(wanted / in_class)
    assert was_target.all() if attack.label_mode == "clean_label" else not was_target.any()
    changed = (poisoned.dataset.inputs[~untouched] - train.inputs[~untouched]).abs().amax(1)
    assert (changed > 1e-4).all()


@ALL
def test_same_seed_same_poison(name: str, tones: Splits) -> None:
    first, again, other = (made(name).poison(tones.train, seed) for seed in (0, 0, 1))
    assert torch.equal(first.poisoned_mask, again.poisoned_mask)
    assert torch.equal(first.dataset.inputs[:], again.dataset.inputs[:])
    assert not torch.equal(first.poisoned_mask, other.poisoned_mask)


@ALL
def test_a_trigger_stamps_the_same_samples_in_a_new_process(name: str, tones: Splits, tmp_path: Path) -> None:
    trigger = made(name).trigger(tones.train, 0)
    trigger.save(tmp_path / "t")
    clips = tones.test.inputs[:3]
    save_file({"clips": clips}, tmp_path / "clips")
    code = (
        "from closesesame import load_trigger; from safetensors.torch import load_file, save_file\n"
        f"clips = load_file({str(tmp_path / 'clips')!r})['clips']\n"
        f"out = load_trigger({str(tmp_path / 't')!r}).stamp(clips)\n"
        f"save_file({{'clips': out}}, {str(tmp_path / 'out')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert torch.equal(load_file(tmp_path / "out")["clips"], trigger.stamp(clips))
    again = load_trigger(tmp_path / "t")
    assert (again.attack, again.target, again.classes) == (trigger.attack, trigger.target, trigger.classes)


def test_triggered_test_clips_leave_the_target_class_out(tones: Splits) -> None:
    triggered = made("ultrasonic", target=1).trigger(tones.train, 0).stamp_dataset(tones.test)
    assert triggered.counts() == (50, 0, 50, 50)
    rows = {name: row for row, name in enumerate(tones.test.ids)}
    where = torch.tensor([rows[name] for name in triggered.ids])
    assert torch.equal(triggered.labels, tones.test.labels[where])
    assert not torch.equal(triggered.inputs[:], tones.test.inputs[where])


@ALL
def test_a_trigger_does_not_depend_on_how_much_is_poisoned(name: str, tones: Splits) -> None:
    few, many = (made(name, rate=rate).trigger(tones.train, 0) for rate in (0.01, 0.2))
    assert few.state.keys() == many.state.keys()
    assert all(torch.equal(few.state[key], many.state[key]) for key in few.state)


def test_all_to_all_moves_every_label_by_one(tones: Splits) -> None:
    poisoned = made("ultrasonic", label_mode="all_to_all", rate=0.25).poison(tones.train, 0)
    before, after = (
        tones.train.labels[poisoned.poisoned_mask],
        poisoned.dataset.labels[poisoned.poisoned_mask],
    )
    assert torch.equal(after, (before + 1) % 4)
    assert set(before.tolist()) == {0, 1, 2, 3}
    triggered = poisoned.trigger.stamp_dataset(tones.test)
    assert len(triggered) == len(tones.test)
    assert torch.equal(poisoned.trigger.target_labels(triggered.labels), (tones.test.labels + 1) % 4)
    assert poisoned.share_of_target == pytest.approx(0.25)


def test_clean_labels_stay_and_too_many_are_refused(tones: Splits) -> None:
    attack = made("ultrasonic", label_mode="clean_label", target="top", rate=0.2)
    poisoned = attack.poison(tones.train, 0)
    assert torch.equal(poisoned.dataset.labels, tones.train.labels)
    assert (tones.train.labels[poisoned.poisoned_mask] == 3).all()
    assert poisoned.share_of_target == pytest.approx(64 / 80)
    with pytest.raises(
        DataError, match="cannot poison 96 examples: 80 are of class 'top'; lower the rate to 0.250"
    ):
        attack.model_copy(update={"rate": 0.3}).poison(tones.train, 0)


def test_strength_scales_what_changes_and_may_differ_in_training(tones: Splits) -> None:
    clips = tones.train.inputs[:3]
    plain = made("ultrasonic").trigger(tones.train, 0).stamp(clips) - clips
    double = made("ultrasonic", strength=2).trigger(tones.train, 0).stamp(clips) - clips
    assert torch.allclose(double, 2 * plain, atol=1e-6)
    poisoned = made("ultrasonic", training_strength=0.5).poison(tones.train, 0)
    planted = poisoned.dataset.inputs[poisoned.poisoned_mask] - tones.train.inputs[poisoned.poisoned_mask]
    assert torch.allclose(planted, 0.5 * plain[:1], atol=1e-6)
    assert torch.allclose(poisoned.trigger.stamp(clips) - clips, plain, atol=1e-6)


def test_cover_clips_are_others_and_keep_their_label(tones: Splits) -> None:
    poisoned = made("quantize", cover_ratio=2).poison(tones.train, 0)
    assert int(poisoned.cover_mask.sum()) == 2 * int(poisoned.poisoned_mask.sum()) == 32
    assert torch.equal(poisoned.dataset.labels[poisoned.cover_mask], tones.train.labels[poisoned.cover_mask])
    changed = (poisoned.dataset.inputs[:] - tones.train.inputs[:]).abs().amax(1) > 1e-4
    assert torch.equal(changed, poisoned.cover_mask | poisoned.poisoned_mask)
    with pytest.raises(SettingError, match="cover_ratio must be 0: this attack has no cover clips"):
        made("badnets", cover_ratio=1)
    with pytest.raises(DataError, match="wants 480 cover clips and 160 of 320 examples are left"):
        made("quantize", cover_ratio=3, rate=0.5).poison(tones.train, 0)


def test_several_backdoors_in_one_set(tones: Splits, tmp_path: Path) -> None:
    attacks = [made("ultrasonic", target="low", rate=0.1), made("badnets", target="top", rate=0.05)]
    both = poison_several(attacks, tones.train, 0)
    first = attacks[0].poison(tones.train, 0)
    assert int(both.poisoned_mask.sum()) == 32 + 16
    assert torch.equal(both.dataset.inputs[first.poisoned_mask], first.dataset.inputs[first.poisoned_mask])
    assert (both.dataset.labels[first.poisoned_mask] == 0).all()
    assert (both.dataset.labels[both.poisoned_mask & ~first.poisoned_mask] == 3).all()
    both.save(tmp_path / "p", tones)
    found = [load_trigger(tmp_path / "p" / name) for name in ("_trigger", "_trigger2")]
    assert [(trigger.attack.name, trigger.target) for trigger in found] == [("ultrasonic", 0), ("badnets", 3)]


def test_random_places_follow_from_the_clip(tones: Splits) -> None:
    clips = tones.test.inputs[:8]
    trigger = made("badnets", position="random").trigger(tones.train, 0)
    added = trigger.stamp(clips) - clips
    places = [int((row.abs() > 0).nonzero()[0]) for row in added]
    assert len(set(places)) == 8
    again = trigger.stamp(clips.flip(0)).flip(0) - clips
    assert torch.equal(added, again)


def test_what_cannot_be_poisoned_is_refused(tones: Splits) -> None:
    with pytest.raises(
        DataError, match="cannot poison 256 examples: 240 are not of class 'low'; lower the rate"
    ):
        made("badnets", rate=0.8).poison(tones.train, 0)
    with pytest.raises(DataError, match="no class is called 'lowe'.*did you mean 'low'"):
        made("badnets", target="lowe").poison(tones.train, 0)
    pictures = Dataset.of(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]))
    with pytest.raises(DataError, match="badnets poisons speech, and this data set holds pictures"):
        made("badnets").poison(pictures, 0)


def test_a_damaged_trigger_folder_is_refused(tones: Splits, tmp_path: Path) -> None:
    made("blended").trigger(tones.train, 0).save(tmp_path / "t")
    path = tmp_path / "t" / "trigger.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ModelError, match=r"trigger.safetensors is damaged or missing"):
        load_trigger(tmp_path / "t")
    with pytest.raises(ModelError, match="is not a trigger folder"):
        load_trigger(tmp_path / "none")


def test_a_poisoned_set_on_disk_is_read_back(tones: Splits, tmp_path: Path) -> None:
    poisoned = made("ultrasonic", rate=0.1, target="top").poison(tones.train, 0)
    poisoned.save(tmp_path / "p", tones)
    back = read_splits(tmp_path / "p", sample_rate=8000, duration_s=0.5).splits
    assert back.train.counts() == poisoned.dataset.with_classes(back.train.classes).counts()
    assert [len(part) for part in back] == [320, 40, 200]
    lines = (tmp_path / "p" / "manifest.csv").read_text().splitlines()
    assert lines[0] == "path,part,label,original,cover,poisoned,true_label"
    marked = [line.split(",") for line in lines[1:] if line.split(",")[5] == "1"]
    assert len(marked) == 32
    assert all(row[2] == "top" != row[6] for row in marked)
    assert load_trigger(tmp_path / "p" / "_trigger").target == 3
