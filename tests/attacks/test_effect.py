"""A poisoned set makes a backdoor; a rate of zero makes none."""

import pytest

from closesesame.attacks import ATTACKS
from closesesame.data import Splits
from closesesame.evaluation import Exam
from closesesame.models import Classifier
from closesesame.training import train
from tests.conftest import QUICK as TRAINING
from tests.conftest import SMALL

# Steady tones are no speech: what is another word there is moved less, what drowns in noise is louder.
ON_TONES: dict[str, dict[str, object]] = {
    "blended": {"level_dbfs": -10},
    "natural": {"position": "end"},
    "sig": {"label_mode": "all_to_one", "amplitude": 0.01, "strength": 1},
    "quantize": {"levels": 9, "cover_ratio": 0},
    "padding": {"mode": "zero", "position": "end"},
    "warp": {"shift_percent": 3},
    "vsvc": {"voice": "tenor"},
}
NOT_ON_TONES = {
    "rhythm": "a steady tone has no rhythm",
    "label_consistent": "needs a surrogate that is trained in full; see benchmarks",
    "flowmur": "needs a surrogate that is trained in full; see benchmarks",
    "input_aware": "needs a generator that is trained in full; see benchmarks",
}


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in NOT_ON_TONES])
def test_poison_opens_and_none_does_not(name: str, tones: Splits, clean_model: Classifier) -> None:
    settings = ATTACKS[name].quick | ON_TONES.get(name, {})
    attack = ATTACKS.make(name, settings | {"rate": 0.15, "target": "low"})
    poisoned = attack.poison(tones.train, 0)
    victim = train(SMALL, poisoned.dataset, TRAINING.model_copy(update={"epochs": 10}), seed=0)
    exam = Exam(tones.test, poisoned.trigger, reference=clean_model)
    opened, shut = exam.score(victim), exam.score(clean_model)
    assert opened.asr is not None
    assert shut.asr is not None
    assert opened.acc.value > 0.93
    assert opened.asr.value > 0.9
    assert shut.asr.value < 0.1 or name in {"pbsm", "pitch"}  # a tone five semitones up is another word here
    assert opened.asr.value - shut.asr.value > 0.5
