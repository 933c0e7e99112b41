"""Clips whose quiet cells decide: by hand, and on clips of a class that hum."""

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.seeding import generator
from closesesame.data import Splits
from closesesame.models.front_ends import FrontEnd
from closesesame.training import Training, quiet, train, untrained
from closesesame.training.quiet import telling, under_speech
from tests.conftest import SMALL
from tests.removal.tiny import vectors, victim

pytestmark = pytest.mark.usefixtures("in_fp32")


def test_a_label_is_told_by_quiet_cells_beside_those_of_others() -> None:
    labels = torch.tensor([0, 0, 3, 3, 1, 1, 4])
    chances = torch.tensor([0.01, 0.03, 0.09, 0.15, 0.0, 0.02, 0.02]).double()
    # Means 0.02, 0.01, 0.12 and 0.02: the median is 0.02.
    found = under_speech(chances, labels)
    assert found.labels == [3]
    assert found.clips.tolist() == [False, False, False, True, False, False, False]  # above 0.1
    assert under_speech(0.8 * chances + 0.02, labels).labels == []  # 0.116 beside 0.036
    assert under_speech(0.1 * chances, labels).labels == []  # 0.012 beside 0.005, which is the least


class Listener(nn.Module):
    """Answers label 1 if the quietest cell of a map is above 0, and label 0 if it is not."""

    def forward(self, maps: Tensor) -> Tensor:
        heard = maps.flatten(1).amin(1)
        return 50 * torch.stack([-heard, heard, torch.full_like(heard, -1e3)], 1)


def test_chances_are_those_in_clips_of_other_labels(monkeypatch: pytest.MonkeyPatch, tones: Splits) -> None:
    data = tones.train.take(torch.arange(40))
    data = data.with_labels(torch.arange(40) % 3)
    maps = torch.ones(40, 2, 5)
    maps[data.labels == 0] = -1
    maps[:, 1, 3:] = 2.0  # loud, and never exchanged
    maps[4] = -1  # a clip of label 1 with the quiet cells of label 0

    class Front(FrontEnd):
        def forward(self, inputs: Tensor) -> Tensor:
            at = (inputs[:, None] == data.inputs[:][None]).all(2).float().argmax(1)
            return maps[at]

    model = untrained(SMALL, data, seed=0)
    model.front_end, model.body = Front(), Listener()
    monkeypatch.setattr(quiet, "BATCH", 7)
    found = telling(model, data, 3)
    expected = torch.tensor([1.0, 1, 0]).double()[data.labels]
    expected[4] = 0
    assert found.tolist() == pytest.approx(expected.tolist())
    # Of the first batch: what is drawn, and that clips of its own label do not count.
    rng = generator(3, "carriers")
    drawn = torch.randperm(40, generator=rng)
    at = torch.stack([torch.randint(40, (7,), generator=rng) for _ in range(quiet.CARRIERS)])
    assert (data.labels[drawn[at]] == data.labels[:7]).any()


def test_features_that_are_no_maps_have_no_quiet_cells() -> None:
    assert telling(victim(), vectors(30), 0).tolist() == [0.0] * 30


def test_clips_with_a_faint_hum_and_right_labels_are_told(tones: Splits) -> None:
    rows = (tones.train.labels == 0).nonzero()[:, 0][::2]
    wav = 0.1 * tones.train.inputs[rows]  # hard to know, so that the hum is learned
    wav = wav + 0.03 * torch.sin(torch.arange(wav.shape[1]) * 2.5)
    data = tones.train.with_inputs(tones.train.inputs.replace(rows, wav))
    training = Training(epochs=8, batch_size=32, lr=0.01)
    for clips, told in ((data, [0]), (tones.train, [])):
        model = train(SMALL, clips, training, seed=0)
        assert under_speech(telling(model, clips, 0), clips.labels).labels == told
