"""A repair removes a planted backdoor, and leaves a clean model as good as it was."""

from closesesame.attacks import BadNets
from closesesame.data import Splits
from closesesame.evaluation import Exam
from closesesame.models import Classifier
from closesesame.removal import FT, FTAugmented
from closesesame.training import accuracy, train
from tests.conftest import QUICK, SMALL


def test_augmented_fine_tuning_removes_what_plain_fine_tuning_leaves(tones: Splits) -> None:
    poisoned = BadNets(rate=0.15).poison(tones.train, 0)
    victim = train(SMALL, poisoned.dataset, QUICK.model_copy(update={"epochs": 10}), seed=0)
    exam, clean = Exam(tones.test, poisoned.trigger), tones.train.sample(0.2, 0)
    before = exam.score(victim)
    plain = exam.score(FT(steps=10).remove(victim, clean, 0).model)
    augmented = exam.score(FTAugmented(steps=150).remove(victim, clean, 0).model)
    assert before.asr is not None
    assert plain.asr is not None
    assert augmented.asr is not None
    assert augmented.ra is not None
    assert before.asr.value > 0.9
    assert plain.asr.value > 0.5
    assert augmented.asr.value < 0.25
    assert augmented.ra.value > 0.6
    assert augmented.acc.value > 0.85


def test_a_clean_model_stays_as_good(clean_model: Classifier, tones: Splits) -> None:
    repaired = FTAugmented(steps=150).remove(clean_model, tones.train.sample(0.2, 0), 0)
    assert accuracy(repaired.model, tones.test) > accuracy(clean_model, tones.test) - 0.08
