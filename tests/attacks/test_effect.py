"""A poisoned set makes a backdoor; a rate of zero makes none."""

import pytest

from closesesame.attacks import ATTACKS
from closesesame.data import Splits
from closesesame.evaluation import Exam
from closesesame.models import Classifier
from closesesame.training import train
from tests.conftest import QUICK, SMALL


@pytest.mark.parametrize("name", ATTACKS)
def test_poison_opens_and_none_does_not(name: str, tones: Splits, clean_model: Classifier) -> None:
    attack = ATTACKS.make(name, {"rate": 0.15, "target": "low"})
    if name == "blended":
        attack = attack.model_copy(update={"level_dbfs": -10.0})
    poisoned = attack.poison(tones.train, 0)
    victim = train(SMALL, poisoned.dataset, QUICK.model_copy(update={"epochs": 10}), seed=0)
    exam = Exam(tones.test, poisoned.trigger, twin=clean_model)
    opened, shut = exam.score(victim), exam.score(clean_model)
    assert opened.asr is not None
    assert shut.asr is not None
    assert opened.acc.value > 0.93
    assert opened.asr.value > 0.9
    assert shut.asr.value < 0.1 or name == "pbsm"  # a tone five semitones up is another word here
    assert opened.asr.value - shut.asr.value > 0.5
