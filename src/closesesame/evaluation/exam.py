"""What only the judge holds: a test set and a trigger. No method is ever given either."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from closesesame.attacks import Trigger
from closesesame.core.errors import DataError, ModelError, cut
from closesesame.core.types import Labels
from closesesame.data import Dataset
from closesesame.models.matching import same_names
from closesesame.training import predict

from .measures import ACC, ASR, RA, RA_REFERENCE
from .metrics import Rate, der

BATCH = 256
LEAST_CHANGE = 1.5 / 32_768
"""Less in every sample is what rounding to 16 bits does."""
FEW = 20
"""Clips that may all get the same answer by chance."""


@dataclass(frozen=True)
class Scores:
    """The figures of one model.

    Attributes:
        acc: clean accuracy on all test clips.
        asr: triggered clips of other classes that get the target label; None without a trigger.
        ra: the same clips still given their true label.
        ra_reference: the same of the clean reference model, which was never poisoned, if there was one. It is
            no upper bound: a removal may make a model more robust than training on clean data did.
    """

    acc: Rate
    asr: Rate | None = None
    ra: Rate | None = None
    ra_reference: Rate | None = None

    def der(self, before: "Scores") -> float | None:
        """Defence effectiveness rating against the scores before the repair."""
        if self.asr is None or before.asr is None:
            return None
        return der(before.acc.value, before.asr.value, self.acc.value, self.asr.value)

    def as_json(self) -> dict[str, Any]:
        """Each rate with its clips and interval; None for what was not measured."""
        rates = {ACC: self.acc, ASR: self.asr, RA: self.ra, RA_REFERENCE: self.ra_reference}
        return {measure.key: None if rate is None else rate.as_json() for measure, rate in rates.items()}


class Exam:
    """A test set, and its triggered clips made once, to score any number of models."""

    def __init__(
        self,
        test: Dataset,
        trigger: Trigger | None = None,
        reference: nn.Module | None = None,
        *,
        triggered: Dataset | None = None,
    ) -> None:
        """Stamps the trigger on the test clips that are not of their target label already.

        Args:
            test: clean test clips.
            trigger: of the backdoor; without it ACC alone is measured.
            reference: a model of the same kind that was never poisoned, for its RA.
            triggered: what `trigger.stamp_dataset(test)` gave, if that was done before.

        Raises:
            DataError: if there is nothing to measure: no clip, or none that the trigger would change.
            ModelError: if trigger or reference have other classes, or another sample rate or length.
        """
        if not len(test):
            raise DataError("the test set is empty; there is nothing to measure")
        self.test, self.trigger = test, trigger
        self.triggered = triggered
        if trigger is not None:
            self.triggered = trigger.stamp_dataset(test) if triggered is None else _fitting(triggered, test)
            _refuse_idle(trigger, test, self.triggered)
        self.ra_reference = None
        if reference is not None and self.triggered is not None:
            _tell_apart(reference, test, "the reference model")
            self.ra_reference = _share(_answers(reference, self.triggered), self.triggered.labels)

    def score(self, model: nn.Module) -> Scores:
        """Measures one model, whose classes may stand in another order than those of the test set.

        Raises:
            ModelError: if the model has other classes, takes other inputs, or gives no answers that could be
                scored: NaN, infinity, or the same to every clip.
        """
        return self._scores(model, _tell_apart(model, self.test, "the model"))

    def measure(self, model: nn.Module) -> Scores:
        """As `score`, also of a model that answers the same to every clip, as halfway through unlearning.

        Raises:
            ModelError: as `score`, but for that.
        """
        return self._scores(model, _answers(model, self.test))

    def _scores(self, model: nn.Module, answers: Labels) -> Scores:
        acc = _share(answers, self.test.labels)
        if self.trigger is None or self.triggered is None:
            return Scores(acc)
        predicted = _answers(model, self.triggered)
        asr = _share(predicted, self.trigger.target_labels(self.triggered.labels, self.test.classes))
        return Scores(acc, asr, _share(predicted, self.triggered.labels), self.ra_reference)

    def pairs(self, rows: Tensor) -> tuple[Dataset, Dataset]:
        """The triggered clips at `rows` (k,), and the same clips without the trigger: (clean, triggered).

        Raises:
            DataError: if the exam has no trigger.
        """
        if self.triggered is None:
            raise DataError("an exam without a trigger has no triggered clips")
        triggered = self.triggered.take(rows)
        return self.test.named(triggered.ids), triggered


def _tell_apart(model: nn.Module, test: Dataset, name: str) -> Labels:
    """What a model answers to the clean clips, unless it is the same to all of them."""
    predicted = _answers(model, test)
    if len(predicted) >= FEW and len(set(predicted.tolist())) == 1 < len(set(test.labels.tolist())):
        said = cut(test.classes[int(predicted[0])])
        raise ModelError(
            f"{name} answers {said!r} to all of {len(predicted)} clean clips of several classes; it tells "
            "nothing apart, so no figure of it means anything"
        )
    return predicted


def _fitting(triggered: Dataset, test: Dataset) -> Dataset:
    """Triggered clips with labels counted as in the test set, whose clips they are."""
    same_names("the triggered clips", triggered.classes, "the test set", test.classes)
    if not set(triggered.ids) <= set(test.ids):
        raise DataError("the triggered clips are of other clips than those of the test set")
    return triggered.with_classes(test.classes)


def _answers(model: nn.Module, data: Dataset) -> Labels:
    return predict(model, data).argmax(1)


def _refuse_idle(trigger: Trigger, test: Dataset, triggered: Dataset) -> None:
    """Refuses a trigger that leaves most clips as they are: any model would look free of a backdoor."""
    if not len(triggered):
        raise DataError("the test set holds no clip of another class than the target; there is no ASR")
    pairs = zip(test.named(triggered.ids).batches(BATCH), triggered.batches(BATCH), strict=True)
    # Batch by batch: a large set does not fit into memory.
    most = ((clean - played).abs().flatten(1).amax(1) for (clean, _), (played, _) in pairs)
    changed = sum(int((change > LEAST_CHANGE).sum()) for change in most)
    if 2 * changed < len(triggered):
        raise DataError(
            f"the trigger of {trigger.attack.name} changes {changed or 'none'} of {len(triggered)} clips, so "
            "nothing can be said of the others; it is damaged, or was made for other clips"
        )


def _share(predicted: Tensor, expected: Tensor) -> Rate:
    return Rate(int((predicted == expected).sum()), len(expected))
