"""A poisoned set makes a backdoor, and a clean one makes none."""

from closesesame.attacks import Attack
from closesesame.data import Splits
from closesesame.evaluation import Exam
from closesesame.models import Classifier
from closesesame.training import train
from tests.conftest import QUICK, SMALL


def assert_plants(attack: Attack, tones: Splits, clean_model: Classifier, *, clean_asr: float = 0.1) -> None:
    """Trains on a set that the attack poisoned, and compares ASR with that of the clean model.

    Steady tones are no speech, so an attack may need other settings than its defaults.
    """
    poisoned = attack.poison(tones.train, 0)
    victim = train(SMALL, poisoned.dataset, QUICK.model_copy(update={"epochs": 10}), seed=0)
    exam = Exam(tones.test, poisoned.trigger, reference=clean_model)
    planted, clean = exam.score(victim), exam.score(clean_model)
    assert planted.asr is not None
    assert clean.asr is not None
    assert planted.acc.value > 0.93
    assert planted.asr.value > 0.9
    assert clean.asr.value <= clean_asr
    assert planted.asr.value - clean.asr.value > 0.5
