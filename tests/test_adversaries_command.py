"""`sesame evaluate --adversaries`: what it says, and which clips the attacker gets."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from closesesame.attacks import BadNets
from closesesame.data import Splits, load_splits
from closesesame.evaluation import Attacker, Exam, Rate
from closesesame.evaluation.measures import ADVERSARIES, OF_ADVERSARIES, RETUNE_ACC
from tests.commands import FAST, Sesame


@pytest.fixture
def trigger(tones: Splits, tmp_path: Path) -> Path:
    BadNets(target="top", duration_s=0.5).trigger(tones.train, 0).save(tmp_path / "trigger")
    return tmp_path / "trigger"


def test_the_model_and_the_reference_are_attacked_alike(
    sesame: Sesame, model: Path, clips: Path, trigger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    words = ("evaluate", model, clips, "--trigger", trigger, "--adversaries")
    found = sesame.json(*words, "--reference", model, "--seed", "4")
    for own, beside in ADVERSARIES.items():
        assert found[own.key] == found[beside.key]
        assert found[own.key]["of"] == found["asr"]["of"]
    assert "any model learns" not in sesame.noted
    assert found[RETUNE_ACC.key]["of"] == found["acc"]["of"]
    lines = sesame(*words).splitlines()
    for own in ADVERSARIES:
        (line,) = (line for line in lines if own.name in line)
        assert line.count("%") == 1  # nothing is known of a reference
    assert "note: any model learns a trigger from a few poisoned clips" in sesame.noted
    plain = sesame.json("evaluate", model, clips, "--trigger", trigger)
    assert not {measure.key for measure in OF_ADVERSARIES} & plain.keys()


def test_the_seed_draws_the_parts_and_both_attacks(
    sesame: Sesame, model: Path, clips: Path, trigger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[tuple[str, ...], int]] = []
    models: list[nn.Module] = []

    def stand_in(model: nn.Module, exam: Exam, attacker: Attacker, *, seed: int) -> dict[str, Any]:
        given.append((attacker.clips.ids, seed))
        models.append(model)
        hits = {measure.key: number + 10 * len(models) for number, measure in enumerate(ADVERSARIES)}
        return {key: Rate(count, 100).as_json() for key, count in hits.items()} | {
            RETUNE_ACC.key: Rate(len(models), 100).as_json()
        }

    monkeypatch.setattr("closesesame.evaluation.adversaries.attack_again", stand_in)
    words = ("evaluate", model, clips, "--trigger", trigger, "--adversaries", "--reference", model)
    found = sesame.json(*words, "--split", "random", "--seed", "4")
    train_part = load_splits(clips, sample_rate=8000, duration_s=0.5, split="random", seed=4).train
    assert given == [(train_part.ids, 4)] * 2
    assert models[0] is not models[1]  # first the model, then the reference
    for number, (own, beside) in enumerate(ADVERSARIES.items()):
        assert (found[own.key]["hits"], found[beside.key]["hits"]) == (number + 10, number + 20)
    assert found[RETUNE_ACC.key]["hits"] == 1


def test_without_a_trigger_nobody_attacks(sesame: Sesame, model: Path, clips: Path) -> None:
    assert "name it with --trigger, too" in sesame.fails("evaluate", model, clips, "--adversaries")


def test_the_attacker_gets_the_training_clips_that_were_not_poisoned(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sesame.json("poison", clips, tmp_path / "p", *FAST, "--set", "rate=0.2", "--set", "target=top")
    given: list[Attacker] = []

    def stand_in(model: nn.Module, exam: Exam, attacker: Attacker, *, seed: int) -> dict[str, Any]:
        given.append(attacker)
        assert not set(attacker.clips.ids) & set(exam.test.ids)
        return {}

    monkeypatch.setattr("closesesame.evaluation.adversaries.attack_again", stand_in)
    for source in (tmp_path / "p", clips):
        sesame.json("evaluate", model, source, "--trigger", made["trigger"], "--adversaries")
    poisoned, clean = (len(attacker.clips) for attacker in given)
    assert clean == made["training_clips"]
    assert poisoned == clean - made["poisoned_clips"] < clean
