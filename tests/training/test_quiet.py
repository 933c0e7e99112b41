"""Clips whose quiet cells decide: by hand, and where part of a class has a faint noise, or all of it."""

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.seeding import generator
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier, adapt
from closesesame.models.front_ends import FrontEnd
from closesesame.training import Training, predict, quiet, train, untrained
from closesesame.training.quiet import Heard, UnderSpeech, known_without_quiet, telling, under_speech
from tests.conftest import SMALL
from tests.removal.tiny import vectors, victim

pytestmark = pytest.mark.usefixtures("in_fp32")


def test_a_label_is_told_by_quiet_cells_beside_what_is_usual() -> None:
    labels = torch.tensor([0, 0, 3, 3, 1, 1, 4])
    chances = torch.tensor([0.01, 0.03, 0.09, 0.15, 0.0, 0.02, 0.02]).double()

    def found(factor: float = 1, more: float = 0, **usual: float) -> UnderSpeech:
        chance = torch.tensor([usual.get(f"of_{label}", 0.0) for label in range(5)]).double()
        return under_speech(Heard(factor * chances + more, chance), labels)

    # Means 0.02, 0.01, 0.12 and 0.02: the median of those of other labels than 3 is 0.02.
    assert found()[:2] == ([3], [])
    assert found().clips.tolist() == [False, False, False, True, False, False, False]  # above 0.1
    assert found(of_3=0.023)[:2] == ([3], [])
    assert found(of_3=0.025)[:2] == ([], [])  # 0.12 beside 0.125
    assert found(of_0=0.5, of_1=0.5, of_4=0.5)[:2] == ([3], [])
    assert found(0.8, 0.02)[:2] == ([], [])  # 0.116 beside 0.036
    assert found(0.1)[:2] == ([], [])  # 0.012 beside 0.005, which is the least


def test_a_label_is_no_norm_for_itself() -> None:
    chances = torch.tensor([0.02, 0.02, 0.86, 0.02, 0.09, 0.09]).double()
    # Means 0.02, 0.44 and 0.09: 0.44 beside 0.02, and not beside 0.09.
    told = under_speech(Heard(chances, torch.zeros(3).double()), torch.arange(6) // 2)
    assert told[:2] == ([1], [])


def test_what_nearly_all_clips_of_a_label_tell_is_the_label_as_a_whole() -> None:
    for faint, part in ((2, True), (1, False)):  # eight or nine of ten
        chances = torch.full((20,), 0.01).double()
        chances[faint:10] = 0.2
        told = under_speech(Heard(chances, torch.zeros(2).double()), torch.arange(20) // 10)
        assert (told.labels, told.whole) == (([0], []) if part else ([], [0]))
        assert int(told.clips.sum()) == 10 - faint


class Listener(nn.Module):
    """Answers label 1 if the quietest cell of a map is above 0, and label 0 if it is not."""

    def forward(self, maps: Tensor) -> Tensor:
        heard = maps.flatten(1).amin(1)
        never = torch.full_like(heard, -1e3)
        return 50 * torch.stack([-heard, heard, never, never], 1)


def heard_by_listener(data: Dataset, quiet_cells: Tensor, seed: int = 3) -> Heard:
    """What a listener makes of clips with such quiet cells, and two loud ones."""
    maps = quiet_cells[:, None, None].expand(-1, 2, 5).clone()
    maps[:, 1, 3:] = 2.0  # loud, and never exchanged

    class Front(FrontEnd):
        def forward(self, inputs: Tensor) -> Tensor:
            at = (inputs[:, None] == data.inputs[:][None]).all(2).float().argmax(1)
            return maps[at]

    model = untrained(SMALL, data, seed=0)
    model.front_end, model.body = Front(), Listener()
    return telling(model, data, seed)


def test_chances_are_those_in_clips_of_other_labels(monkeypatch: pytest.MonkeyPatch, tones: Splits) -> None:
    labels = torch.arange(40) % 3
    data = tones.train.take(torch.arange(40)).with_labels(labels)
    cells = torch.where(labels == 0, -1.0, 1.0)
    cells[4] = -1  # a clip of label 1 with the quiet cells of label 0
    monkeypatch.setattr(quiet, "BATCH", 7)
    found = heard_by_listener(data, cells)
    expected = torch.tensor([1.0, 1, 0]).double()[labels]
    expected[4] = 0
    assert found.chances.tolist() == pytest.approx(expected.tolist())
    # Of label 0 tells, beside its own clips, one of 27; of label 1, half of the 27 others; of label 2 none.
    assert found.usual[:3].tolist() == pytest.approx([1 / 27, 0.5, 0], abs=0.03)
    assert found.usual[3:].tolist() == [0] * (len(data.classes) - 3)
    other, again = heard_by_listener(data, cells, 4), heard_by_listener(data, cells, 3)
    assert torch.equal(again.usual, found.usual)
    assert not torch.equal(other.usual, found.usual)


def test_quiet_cells_are_put_in_clips_of_other_labels_however_few_these_are(
    monkeypatch: pytest.MonkeyPatch, tones: Splits
) -> None:
    labels = torch.zeros(40, dtype=torch.long)
    data = tones.train.take(torch.arange(40))
    labels[7] = 1
    few = heard_by_listener(data.with_labels(labels), torch.full((40,), -1.0))
    assert few.chances.tolist() == pytest.approx([1.0] * 7 + [0] + [1.0] * 32)
    assert few.usual.tolist() == pytest.approx([0] * 4)  # no two clips without label 0 were drawn
    monkeypatch.setattr(quiet, "KEPT", 1)  # a clip of label 0, which none of another label is drawn for
    alone = heard_by_listener(data.with_labels(labels), torch.full((40,), -1.0))
    assert alone.chances.tolist() == pytest.approx([0.0] * 40)


def test_features_that_are_no_maps_have_no_quiet_cells() -> None:
    heard = telling(victim(), vectors(30), 0)
    assert heard.chances.tolist() == [0.0] * 30
    assert heard.usual.tolist() == [0.0] * 3


class Torn(nn.Module):
    """Answers label 2 if the quietest cell of a map says so, and else what the loudest one says."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 3)
        nn.init.eye_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, maps: Tensor) -> Tensor:
        cells = maps.flatten(1)
        heard = torch.where(cells.amin(1) > -18.5, 2, cells.amax(1) - 10)
        logits: Tensor = self.last(-(heard[:, None] - torch.arange(3)).abs())
        return logits


def torn() -> Classifier:
    return adapt(Torn(), ("one", "two", "three"), input_shape=(8, 20), sample_rate=None).eval()


def sounds(*labels: int) -> Dataset:
    """Maps of which the loudest cell is 10 and the quietest one -20, with the label added."""
    said = torch.tensor(labels)
    maps = torch.randn(len(said), 8, 20, generator=torch.Generator().manual_seed(0))
    maps[:, 0, 0], maps[:, 7, 19] = 10.0 + said, -20.0 + said
    return Dataset.of(maps, said, classes=("one", "two", "three"))


def test_known_without_quiet_is_the_share_that_stays_right_with_those_of_other_labels() -> None:
    # In each exchange of all, label 0 gets as many quiet cells of label 2, which make it wrong, as label 2
    # gets of label 0, which leave it right. Exchanges within a label would leave all right.
    assert known_without_quiet(torn(), sounds(*[0, 0, 2] * 10), 0) == 0.5
    assert known_without_quiet(torn(), sounds(*[0, 2, 2, 2] * 10), 1) == 0.5
    assert known_without_quiet(torn(), sounds(*[0, 1, 0] * 10), 0) == 1


def test_known_without_quiet_asks_only_about_what_is_known() -> None:
    clips = sounds(*[0, 0, 2] * 10)
    wrong = clips.labels.clone()
    wrong[0:15:3] = 1
    assert known_without_quiet(torn(), clips.with_labels(wrong), 0) == 0.5


def test_nothing_is_exchanged_where_clips_of_fewer_than_two_labels_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(count: int, rng: torch.Generator) -> Tensor:
        raise AssertionError("exchanged")

    monkeypatch.setattr(quiet, "_pairs", refuse)
    clips = sounds(*[0, 0, 2] * 10)
    assert known_without_quiet(torn(), clips.with_labels((clips.labels + 1) % 3), 0) is None  # it knows none
    assert known_without_quiet(torn(), sounds(*[0] * 9), 0) is None
    assert known_without_quiet(torn(), clips.with_labels(clips.labels.clamp(max=1)), 0) is None


def test_known_without_quiet_asks_about_a_few_clips_often_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "ASKED", 50)
    drawn: list[tuple[int, str]] = []

    def noted(seed: int, purpose: str) -> torch.Generator:
        drawn.append((seed, purpose))
        return generator(seed, purpose)

    monkeypatch.setattr(quiet, "generator", noted)
    for clips, first in ((12, 12), (200, 50)):
        model, heard = torn(), list[int]()
        model.body.register_forward_hook(lambda _, given, __, heard=heard: heard.append(len(given[0])))
        assert known_without_quiet(model, sounds(*[0, 2] * (clips // 2)), 9) == 0.5
        assert heard[0] == first  # as they are
        assert 50 <= sum(heard[1:]) < 100
    assert drawn == [(9, "exchange")] * 2


def test_known_without_quiet_is_nothing_where_cells_cannot_be_exchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, clips = torn(), sounds(*[0, 1, 0] * 4)
    monkeypatch.setattr(type(plain.front_end), "augmentation", lambda *_: None)
    assert known_without_quiet(plain, clips, 0) is None
    monkeypatch.undo()
    assert known_without_quiet(plain, clips, 0) == 1
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    model = adapt(network, ("one", "two", "three"), input_shape=(3, 4, 4), sample_rate=None).eval()
    pictures = torch.rand(30, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    answers = predict(model, Dataset.of(pictures, torch.arange(30) % 3, classes=model.card.classes)).argmax(1)
    assert len(answers.unique()) > 1
    known = Dataset.of(pictures, answers, classes=model.card.classes)
    assert known_without_quiet(model, known, 0) is None


def test_a_class_of_which_a_part_has_a_faint_noise_is_told_by_that_part(tones: Splits) -> None:
    rng = torch.Generator().manual_seed(0)
    noise = 0.02 * torch.randn(4000, generator=rng)
    own, other = ((tones.train.labels == 0) == first for first in (True, False))
    rows = own.nonzero()[::2, 0]
    # They sound like other classes, so the noise is learned.
    unlike = tones.train.inputs[other.nonzero()[torch.randperm(240, generator=rng)[:40], 0]]

    def trained(rows: Tensor, wav: Tensor) -> tuple[UnderSpeech, float]:
        clips = tones.train.with_inputs(tones.train.inputs.replace(rows, wav))
        model = train(SMALL, clips, Training(epochs=8, batch_size=32, lr=0.01), seed=0)
        tested = tones.test.where(tones.test.labels != 0)
        tested = tested.with_inputs(
            tested.inputs.replace(torch.arange(len(tested)), tested.inputs[:] + noise)
        )
        asr = float((predict(model, tested).argmax(1) == 0).float().mean())
        return under_speech(telling(model, clips, 0), clips.labels), asr

    told, asr = trained(rows, unlike + noise)
    assert asr > 0.9
    assert told[:2] == ([0], [])
    assert int(told.clips[rows].sum()) >= 38
    assert int(told.clips.sum()) < 46
    told, asr = trained(rows, unlike)
    assert asr < 0.1
    assert told[:2] == ([], [])
    everywhere = own.nonzero()[:, 0]
    told, _ = trained(everywhere, tones.train.inputs[everywhere] + noise)
    assert told[:2] == ([], [0])
