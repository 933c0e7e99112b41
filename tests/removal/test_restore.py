"""Restore: where it starts, what it learns from, what it leaves of a backdoor."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import DataError, ModelError
from closesesame.core.seeding import derive, generator
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier, adapt
from closesesame.models.matching import no_examples
from closesesame.removal import FT, Restore
from closesesame.training import Training, accuracy, fit, predict, quiet
from closesesame.training.distillation import LossWeights, distillation_rule, lessons_of
from closesesame.training.quiet import known_without_quiet
from closesesame.training.selfdistillation import joined, spliced
from closesesame.training.weights import redraw
from tests.removal.tiny import asr, assert_same, tiny, vectors, victim

pytestmark = pytest.mark.usefixtures("in_fp32")

PLAIN: dict[str, Any] = {"augmentation": "none", "batch_size": 30, "splices": 0, "least_learnt": 0.0}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_it_starts_at_a_share_of_the_way_from_fresh_weights_to_the_suspects(share: float) -> None:
    model = tiny()
    suspect, fresh = copy.deepcopy(model), copy.deepcopy(model)
    redraw(fresh, derive(3, "fresh weights"))
    Restore(**PLAIN, steps=0, kept_share=share).repair(model, vectors(30), vectors(6), 3)
    for name, weight in model.body.named_parameters():
        expected = (1 - share) * fresh.body.get_parameter(name) + share * suspect.body.get_parameter(name)
        assert torch.allclose(weight, expected, atol=1e-6), name


def test_it_learns_what_the_suspect_says_of_the_clean_examples_where_that_is_right() -> None:
    tune = vectors(30)
    wrong = tune.labels.clone()
    wrong[:5] = (wrong[:5] + 1) % 3
    tune = tune.with_labels(wrong)
    settings = {**PLAIN, "steps": 4, "kept_share": 0.5, "views": 3, "temperature": 3.0}
    method = Restore(**settings, label_weight=0.2, soft_weight=0.5, feature_weight=1.5)
    model = victim()
    suspect = copy.deepcopy(model)
    said = method.repair(model, tune, vectors(6), 1)
    lessons = lessons_of(suspect, tune, views=3, augmentation="none", temperature=3.0, seed=1)
    right = lessons.answers == tune.labels
    assert 0 < int(right.sum()) < 30
    known = tune.take(right.nonzero()[:, 0])
    assert said == {
        "batches": 4,
        "learnt": accuracy(model, known),
        "labelled_clips": 30,
        "believed_clips": int(right.sum()),
        "unlabelled_clips": 0,
        "believed_unlabelled_clips": 0,
    }
    by_hand = victim()
    Restore(**{**settings, "steps": 0}).repair(by_hand, tune, vectors(6), 1)
    rule = distillation_rule(
        by_hand,
        lessons,
        LossWeights(label=0.2, soft=0.5, feature=1.5),
        labelled=torch.ones(30, dtype=torch.bool),
        trusted=right,
    )
    fit(by_hand, tune, method.training(), seed=1, gradient=rule)
    assert_same(model, by_hand)


@pytest.mark.parametrize(("share", "left"), [(0.1, False), (1.0, True)])
def test_a_trigger_that_no_augmentation_comes_near_is_weakened_by_fresh_weights_alone(
    share: float, left: bool
) -> None:
    model, unseen = victim(), vectors(60, 1)
    assert asr(model, unseen) == 1
    settings = {**PLAIN, "batch_size": 60, "steps": 80, "lr": 0.02, "kept_share": share}
    Restore(**settings).repair(model, vectors(60), vectors(6), 0)
    assert (asr(model, unseen) > 0.5) is left
    assert accuracy(model, unseen) > 0.85


def test_unlabelled_examples_count_where_the_suspect_agrees_with_itself() -> None:
    tune, audio = vectors(30), vectors(12, 5)
    other = audio.with_labels((audio.labels + 1) % 3)
    found = []
    for unlabelled in (audio, other, None):
        model = victim()
        repair = Restore(**PLAIN, steps=3).remove(model, tune, 1, audio=unlabelled)
        found.append(repair)
    assert found[0].chosen["believed_unlabelled_clips"] == 12
    assert_same(found[0].model, found[1].model)  # their labels are not looked at
    weights = [next(repair.model.body.parameters()) for repair in found]
    assert not torch.equal(weights[0], weights[2])


def test_an_unlabelled_example_is_left_out_unless_enough_of_its_views_agree(
    clean_model: Classifier, tones: Splits
) -> None:
    tune, audio = tones.train.take(torch.arange(12)), tones.train.take(torch.arange(12, 24))
    noise = 0.01 * torch.randn(12, audio.input_shape[0], generator=torch.Generator().manual_seed(0))
    audio = Dataset.of(
        torch.cat([audio.inputs[:], noise]),
        torch.zeros(24, dtype=torch.long),
        classes=audio.classes,
        sample_rate=audio.sample_rate,
    )
    said = [
        Restore(steps=0, splices=0, least_agreement=least)
        .repair_with_audio(copy.deepcopy(clean_model), tune, tune, audio, 0)
        .get("believed_unlabelled_clips")
        for least in (0.0, 1.0)
    ]
    lessons = lessons_of(
        clean_model, joined(tune, audio), views=8, augmentation="light", temperature=2.0, seed=0
    )
    assert said == [24, int((lessons.agreement[12:] == 1).sum())]
    assert 0 < int(said[1] or 0) < 24


def test_audio_is_refused_by_methods_that_have_no_use_for_it_and_by_models_of_other_inputs() -> None:
    with pytest.raises(DataError, match="ft does not learn from unlabelled audio"):
        FT(steps=1).remove(victim(), vectors(30), 0, audio=vectors(6))
    longer = Dataset.of(torch.zeros(4, 7), torch.zeros(4, dtype=torch.long), classes=("one",))
    with pytest.raises(ModelError, match="shape"):
        Restore(**PLAIN, steps=1).remove(victim(), vectors(30), 0, audio=longer)


def test_pieces_of_splices_are_a_fifth_to_four_fifths_and_anywhere() -> None:
    clips = Dataset.of(torch.arange(5.0)[:, None].expand(5, 100), torch.arange(5), classes=tuple("abcde"))
    made = spliced(clips, 500, 3).inputs[:].long()
    own = torch.arange(500) % 5
    replaced = made != own[:, None]
    long = replaced.sum(1)
    assert 19 <= int(long.min()) < 23
    assert 77 < int(long.max()) <= 81
    start = (replaced & ~replaced.roll(1, 1)).int().argmax(1)
    assert len(start.unique()) > 80
    other = made.gather(1, replaced.int().argmax(1)[:, None])[:, 0]
    assert set(((other - own) % 5).tolist()) == {1, 2, 3, 4}


def test_a_splice_is_a_clip_with_a_piece_of_another_one_in_its_place() -> None:
    clips = Dataset.of(
        torch.arange(5.0)[:, None] + torch.arange(100) / 1000, torch.arange(5), classes=tuple("abcde")
    )
    made = spliced(clips, 40, 3).inputs[:]
    assert made.shape == (40, 100)
    assert torch.allclose(made % 1, (torch.arange(100) / 1000).expand(40, 100), atol=1e-5)  # in their place
    sources = made.long()
    for own, row in zip(torch.arange(40) % 5, sources, strict=True):
        assert len(row.unique()) == 2
        assert own in row
        replaced = row != own
        assert 20 <= int(replaced.sum()) <= 80
        assert int((replaced != replaced.roll(1)).sum()) == 2  # one piece, or around the end
    assert len({tuple(row.tolist()) for row in sources}) == 40
    assert not torch.equal(spliced(clips, 40, 4).inputs[:], made)
    pictures = Dataset.of(torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.long), classes=("one",))
    assert spliced(pictures, 6, 0).inputs[:].shape == (6, 3, 8, 8)


def test_clips_are_as_many_as_the_others_and_of_these_only_audio_can_be_doubted() -> None:
    model, tune, audio = victim(), vectors(30), vectors(20, 5)
    told: list[Any] = []

    def listen(*given: Any, **more: Any) -> Any:
        told.append((given, more))
        return distillation_rule(*given, **more)

    method = Restore(**PLAIN | {"splices": 70}, steps=1, least_agreement=1)
    asked = lessons_of(
        model,
        joined(tune, spliced(tune, 70, 1), audio),
        views=8,
        augmentation="none",
        temperature=2.0,
        seed=1,
    )
    asked.agreement[torch.tensor([40, 99, 105])] = 0.9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("closesesame.training.selfdistillation.distillation_rule", listen)
        patch.setattr("closesesame.training.selfdistillation.lessons_of", lambda *_, **__: asked)
        said = method.repair_with_audio(model, tune, vectors(6), audio, 1)
    (_, lessons, _), more = told[0]
    kept = [row for row in range(30, 120) if row != 105]
    rows = torch.tensor([*list(range(30)) * 3, *kept])
    assert torch.equal(lessons.soft, asked.soft[rows])
    assert more["labelled"].tolist() == [True] * 90 + [False] * 89
    assert more["trusted"].tolist() == [*(asked.answers[:30] == tune.labels).tolist() * 3, *[True] * 89]
    assert said["believed_unlabelled_clips"] == 19


@pytest.mark.parametrize(("enough", "batches"), [(1, 4), (-1, 12)])
def test_it_starts_anew_and_learns_longer_if_it_has_not_learnt_its_clean_clips(
    enough: int, batches: int
) -> None:
    tune, model, long = vectors(30), victim(), victim()
    slow = {**PLAIN, "lr": 1e-3, "kept_share": 0.1}
    first = Restore(**slow, steps=4).repair(victim(), tune, vectors(6), 1)
    assert 0 < first["learnt"] < 1
    least = first["learnt"] if enough > 0 else first["learnt"] + 1e-3
    said = Restore(**slow | {"least_learnt": least}, steps=4).repair(model, tune, vectors(6), 1)
    Restore(**slow, steps=batches).repair(long, tune, vectors(6), 1)
    assert said["batches"] == batches
    assert_same(model, long)


def test_it_starts_anew_once_and_no_more() -> None:
    runs: list[int] = []

    def noted(model: Classifier, data: Dataset, training: Training, **more: Any) -> Any:
        runs.append(training.steps or 0)
        return fit(model, data, training, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("closesesame.training.selfdistillation.fit", noted)
        slow = {**PLAIN, "least_learnt": 1, "kept_share": 0.0, "lr": 1e-6}
        said = Restore(**slow, steps=2).repair(victim(), vectors(30), vectors(6), 1)
    assert said["learnt"] < 1
    assert runs == [2, 6]
    assert said["batches"] == 6


@pytest.mark.parametrize(("splices", "times"), [(0, 1), (10, 1), (44, 1), (46, 2), (74, 2), (80, 3)])
def test_clips_are_repeated_until_they_are_about_as_many_as_the_others(splices: int, times: int) -> None:
    seen: list[Dataset] = []

    def noted(model: Classifier, data: Dataset, training: Training, **more: Any) -> Any:
        seen.append(data)
        return fit(model, data, training, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("closesesame.training.selfdistillation.fit", noted)
        Restore(**PLAIN | {"splices": splices}, steps=1).repair(victim(), vectors(30), vectors(6), 1)
    assert len(seen[0]) == 30 * times + splices


@pytest.mark.parametrize(("augmentation", "of_views"), [("crowded", "light"), ("none", "none")])
def test_the_seed_draws_splices_views_fresh_weights_and_batches(
    augmentation: str, of_views: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def note(name: str, function: Callable[..., Any]) -> None:
        def noted(*args: Any, **named: Any) -> Any:
            given[name] = named or args[-1]
            return function(*args, **named)

        monkeypatch.setattr(f"closesesame.training.selfdistillation.{name}", noted)

    note("spliced", spliced)
    note("lessons_of", lessons_of)
    note("redraw", redraw)
    note("fit", fit)
    settings = {**PLAIN, "splices": 4, "views": 5, "temperature": 3.0, "augmentation": augmentation}
    Restore(**settings, steps=1).repair(victim(), vectors(30), vectors(6), 9)
    asked = {"views": 5, "augmentation": of_views, "temperature": 3.0, "seed": 9}
    assert (given["spliced"], given["lessons_of"]) == (9, asked)
    assert given["redraw"] == derive(9, "fresh weights")
    assert given["fit"]["seed"] == 9


class Loudest(nn.Module):
    """Answers by the loudest cell of a map, or, if it needs quiet cells, by the quietest one."""

    def __init__(self, needs_quiet: bool) -> None:
        super().__init__()
        self.needs_quiet, self.last = needs_quiet, nn.Linear(3, 3)
        nn.init.eye_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, maps: Tensor) -> Tensor:
        cells = maps.flatten(1)
        heard = cells.amin(1) + 20 if self.needs_quiet else cells.amax(1) - 10
        logits: Tensor = self.last(-(heard[:, None] - torch.arange(3)).abs())
        return logits


def sounds(count: int) -> Dataset:
    """Maps of which loudest and quietest cell say the class: 10, 11 or 12 and -20, -19 or -18."""
    labels = torch.arange(count) % 3
    maps = torch.randn(count, 8, 20, generator=torch.Generator().manual_seed(0))
    maps[:, 0, 0], maps[:, 7, 19] = 10.0 + labels, -20.0 + labels
    return Dataset.of(maps, labels, classes=("one", "two", "three"))


def listener(needs_quiet: bool) -> Classifier:
    classes = ("one", "two", "three")
    return adapt(Loudest(needs_quiet), classes, input_shape=(8, 20), sample_rate=None).eval()


def test_what_is_known_without_quiet_cells_is_a_share_of_what_is_known() -> None:
    clips = sounds(30)
    assert known_without_quiet(listener(False), clips, 0) == 1
    assert known_without_quiet(listener(True), clips, 0) == 0
    few = clips.take(torch.tensor([0, 3, 6, 9, 12, 15, 18, 21, 1, 2]))  # eight of the first class
    assert known_without_quiet(listener(True), few, 0) == 0  # its own quiet cells do not count
    assert known_without_quiet(listener(False), few, 0) == 1
    assert known_without_quiet(listener(False), few.take(torch.arange(8)), 0) is None  # of one class
    wrong = clips.labels.clone()
    wrong[:15] = (wrong[:15] + 1) % 3  # what it does not know is not asked
    assert known_without_quiet(listener(False), clips.with_labels(wrong), 0) == 1
    assert known_without_quiet(listener(False), clips.with_labels((clips.labels + 1) % 3), 0) is None


@pytest.mark.parametrize(
    ("needs_quiet", "settings", "heard"),
    [
        (False, {"augmentation": "crowded"}, "crowded_exchanged"),
        (False, {"augmentation": "varied"}, "varied_exchanged"),
        (False, {"augmentation": "strong"}, "strong"),
        (False, {"augmentation": "crowded", "exchange_from": None}, "crowded"),
        (False, {"augmentation": "crowded", "exchange_from": 1.0}, "crowded_exchanged"),
        (True, {"augmentation": "crowded"}, "crowded"),
        (True, {"augmentation": "crowded", "exchange_from": 0.0}, "crowded_exchanged"),
    ],
)
def test_quiet_cells_are_exchanged_unless_the_suspect_needs_them(
    needs_quiet: bool, settings: dict[str, Any], heard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def noted(model: Classifier, data: Dataset, training: Training, **named: Any) -> Any:
        asked.append(training.augmentation)
        return fit(model, data, training, **named)

    monkeypatch.setattr("closesesame.training.selfdistillation.fit", noted)
    method = Restore(**PLAIN | {"views": 1, "feature_weight": 0} | settings, steps=1)
    said = method.repair(listener(needs_quiet), sounds(30), sounds(6), 1)
    assert asked == [heard]
    assert said.get("exchanged", False) == heard.endswith("_exchanged")
    assert ("known_without_quiet" in said) == (
        settings["augmentation"] != "strong" and settings.get("exchange_from", 1) is not None
    )


def test_a_model_is_asked_about_some_clips_often_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "ASKED", 50)
    for count, of_them in ((30, 30), (200, 50)):
        model, heard = listener(False), list[int]()
        model.body.register_forward_hook(lambda _, given, __, heard=heard: heard.append(len(given[0])))
        assert known_without_quiet(model, sounds(count), 0) == 1
        assert heard[0] == of_them  # as they are
        assert 50 <= sum(heard[1:]) < 100
    drawn: list[tuple[int, str]] = []

    def noted(seed: int, purpose: str) -> torch.Generator:
        drawn.append((seed, purpose))
        return generator(seed, purpose)

    monkeypatch.setattr(quiet, "generator", noted)
    known_without_quiet(listener(False), sounds(30), 9)
    assert drawn == [(9, "exchange")]


def test_pictures_get_a_clear_error_with_the_remedy() -> None:
    classes = ("one", "two", "three")
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    model = adapt(network, classes, input_shape=(3, 4, 4), sample_rate=None).eval()
    pictures = torch.rand(30, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    clips = Dataset.of(pictures, torch.arange(30) % 3, classes=classes)
    with pytest.raises(DataError, match="set augmentation to 'none'"):
        Restore(steps=1, views=1, splices=4).repair(model, clips, clips, 0)
    assert known_without_quiet(model, clips, 0) is None


def test_the_teacher_is_asked_about_the_clean_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def noted(*given: Any) -> float:
        asked.append(given)
        return 1.0

    monkeypatch.setattr("closesesame.training.selfdistillation.known_without_quiet", noted)
    method, clean, teacher = Restore(**PLAIN, steps=1), sounds(30), listener(False)
    training = method.training().model_copy(update={"augmentation": "varied"})
    method.distil(listener(False), clean, sounds(4), training, 7, teacher=teacher)
    assert len(asked) == 1
    assert asked[0][0] is teacher
    assert asked[0][1] is clean
    assert asked[0][2] == 7


def test_one_view_is_one_view(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def noted(*args: Any, views: int, **named: Any) -> Any:
        asked.append(views)
        return lessons_of(*args, views=views, **named)

    monkeypatch.setattr("closesesame.training.selfdistillation.lessons_of", noted)
    Restore(**PLAIN, steps=1, views=1).repair(victim(), vectors(30), vectors(6), 1)
    assert asked == [1]


def test_a_suspect_that_is_believed_of_nothing_is_repaired_once() -> None:
    tune, model = vectors(30), victim()
    answers = predict(model, tune).argmax(1)
    said = Restore(**PLAIN | {"least_learnt": 0.95}, steps=2).repair(
        model, tune.with_labels((answers + 1) % 3), vectors(6), 1
    )
    assert (said["batches"], said["learnt"], said["believed_clips"]) == (2, 1.0, 0)


def test_nothing_is_dropped_while_it_learns() -> None:
    rates: list[float] = []
    model = victim()
    model.body = nn.Sequential(model.body, nn.Dropout(0.5)).eval()
    model.body.register_forward_pre_hook(lambda body, _: rates.append(body[1].p) if body.training else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("closesesame.training.selfdistillation.redraw", lambda *_: None)
        Restore(**PLAIN, steps=2).repair(model, vectors(30), vectors(6), 1)
    assert rates == [0.0, 0.0]
    assert model.body[1].p == 0.5


def test_it_says_if_it_did_not_learn_its_clips_or_learned_nothing_from_the_audio() -> None:
    chosen = {
        "learnt": 0.95,
        "labelled_clips": 19,
        "believed_clips": 19,
        "unlabelled_clips": 9,
        "believed_unlabelled_clips": 1,
    }
    assert Restore().remarks(chosen) == []
    assert Restore().remarks({**chosen, "unlabelled_clips": 0, "believed_unlabelled_clips": 0}) == []
    (said,) = Restore().remarks({**chosen, "learnt": 0.62})
    assert said.startswith("the repaired model gets 62 % of the clips right that it learned from")
    assert Restore(least_learnt=0.6).remarks({**chosen, "learnt": 0.62}) == []
    (said,) = Restore().remarks({**chosen, "believed_unlabelled_clips": 0})
    assert said.startswith("nothing was learned from the unlabelled audio")


@pytest.mark.parametrize(("wrong", "said_of"), [(0, None), (15, None), (16, 14), (30, 0)])
def test_it_says_if_the_suspect_is_wrong_about_most_of_its_clean_clips(
    wrong: int, said_of: int | None
) -> None:
    clean, model = vectors(30), victim()
    known = predict(model, clean).argmax(1)
    labels = torch.where(torch.arange(30) < wrong, (known + 1) % 3, known)
    method = Restore(**PLAIN, steps=1)
    chosen = method.repair(model, clean.with_labels(labels), vectors(6), 1)
    assert (chosen["labelled_clips"], chosen["believed_clips"]) == (30, 30 - wrong)
    said = method.remarks(chosen)
    if said_of is None:
        assert said == []
        return
    (one,) = said
    assert one.startswith(f"the suspect is right about only {said_of} of the 30 clean clips")
    assert "check that their labels fit the model" in one


def test_unlabelled_audio_and_splices_do_not_hide_that_the_suspect_is_wrong_about_its_clean_clips() -> None:
    clean, model = vectors(30), victim()
    wrong = clean.with_labels((predict(model, clean).argmax(1) + 1) % 3)
    repair = Restore(**PLAIN | {"splices": 40}, steps=1).remove(model, wrong, 1, audio=vectors(60, 5))
    assert (repair.tuned_on, repair.chosen["believed_unlabelled_clips"]) == (27, 60)
    (said,) = repair.remarks
    assert said.startswith(f"the suspect is right about only 0 of the {repair.tuned_on} clean clips")


def test_clips_are_put_aside_one_by_one_from_each_class(tones: Splits) -> None:
    clean = tones.train.take(torch.arange(40))
    tune, held_out = Restore().put_aside(clean, 2)
    assert len(held_out) == 4
    assert set(tune.ids) == set(clean.ids) - set(held_out.ids)
    assert held_out.ids == clean.split(0.1, 2)[1].ids


def test_labels_count_of_clean_clips_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[torch.Tensor] = []

    def noted(*given: Any, labelled: torch.Tensor, trusted: torch.Tensor) -> Any:
        told.append(labelled)
        return distillation_rule(*given, labelled=labelled, trusted=trusted)

    monkeypatch.setattr("closesesame.training.selfdistillation.distillation_rule", noted)
    method = Restore(**PLAIN | {"splices": 40}, steps=1, least_agreement=0)
    method.repair_with_audio(victim(), vectors(30), vectors(6), vectors(20, 5), 1)
    assert told[0].tolist() == [True] * 60 + [False] * 60  # each clean clip twice, splices, audio


def test_an_empty_set_of_unlabelled_examples_changes_nothing() -> None:
    one, two = victim(), victim()
    Restore(**PLAIN, steps=3).repair(one, vectors(30), vectors(6), 1)
    Restore(**PLAIN, steps=3).repair_with_audio(two, vectors(30), vectors(6), no_examples(two.card), 1)
    assert_same(one, two)


def test_the_defaults_are_those_of_the_results() -> None:
    assert Restore().settings() == {
        "kept_share": 0.65,
        "views": 8,
        "temperature": 2.0,
        "label_weight": 0.3,
        "soft_weight": 0.7,
        "feature_weight": 2.0,
        "splices": 800,
        "least_agreement": 1.0,
        "least_learnt": 0.95,
        "exchange_from": 0.65,
        "hold_out": 0.1,
        "optimizer": "adamw",
        "lr": 0.005,
        "steps": 500,
        "batch_size": 96,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 0.01,
        "schedule": "one_cycle",
        "augmentation": "crowded",
    }
