"""Restore on synthetic speech: a planted backdoor goes, and the words stay."""

from pathlib import Path

import pytest

from closesesame.attacks import BadNets
from closesesame.data.speech import synthetic_speech
from closesesame.evaluation import Exam
from closesesame.models import ResNet
from closesesame.removal import Restore
from closesesame.training import Training, train

pytest.importorskip("espeakng_loader", reason="the extra 'speech' is not installed")


def test_it_removes_a_backdoor_and_keeps_the_words(tmp_path: Path) -> None:
    speech = synthetic_speech(
        words=("yes", "no", "stop", "left"),
        voices=20,
        takes=6,
        sample_rate=8_000,
        duration_s=0.8,
        cache=tmp_path,
    )
    poisoned = BadNets(rate=0.1, frequency_hz=3000).poison(speech.train, 0)
    network = ResNet(widths=(8, 16), bands=32)
    victim = train(network, poisoned.dataset, Training(epochs=20, batch_size=32, lr=0.005), seed=0)
    exam = Exam(speech.test, poisoned.trigger)
    before = exam.score(victim)
    after = exam.score(Restore(steps=300).remove(victim, speech.train.sample(0.5, 0), 0).model)
    assert before.asr is not None
    assert after.asr is not None
    assert before.acc.value > 0.85
    assert before.asr.value >= 0.8
    assert after.asr.value < 0.2
    assert after.acc.value > before.acc.value - 0.1
