"""What only the judge holds: a test set and a trigger. Nothing here is ever handed to a defence."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from closesesame.attacks import Trigger
from closesesame.data import Dataset
from closesesame.training import predict

from .metrics import Rate, der


@dataclass(frozen=True)
class Scores:
    """The figures of one model.

    Attributes:
        acc: clean accuracy on all test clips.
        asr: triggered clips of other classes that get the label the attacker wants; None without a trigger.
        ra: the same clips still given their true label.
        ra_reference: the same of the clean reference model, which was never poisoned, if there was one. It is
            no upper bound: a repair may make a model hardier than training on clean data did.
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
        rates = {"acc": self.acc, "asr": self.asr, "ra": self.ra, "ra_reference": self.ra_reference}
        return {
            name: None
            if rate is None
            else {"value": rate.value, "hits": rate.hits, "of": rate.of, "interval": rate.interval}
            for name, rate in rates.items()
        }


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
        """Stamps the trigger on the test clips that are not of their wanted label already.

        Args:
            test: clean test clips.
            trigger: what opens the backdoor; without it ACC alone is measured.
            reference: a model of the same kind that was never poisoned, for its RA.
            triggered: what `trigger.stamp_dataset(test)` gave, if that was done before.
        """
        self.test, self.trigger = test, trigger
        self.triggered = triggered
        if trigger is not None and triggered is None:
            self.triggered = trigger.stamp_dataset(test)
        self.ra_reference = None
        if reference is not None and self.triggered is not None:
            self.ra_reference = _share(predict(reference, self.triggered).argmax(1), self.triggered.labels)

    def score(self, model: nn.Module) -> Scores:
        """Measures one model."""
        acc = _share(predict(model, self.test).argmax(1), self.test.labels)
        if self.trigger is None or self.triggered is None:
            return Scores(acc)
        predicted = predict(model, self.triggered).argmax(1)
        asr = _share(predicted, self.trigger.wanted(self.triggered.labels))
        return Scores(acc, asr, _share(predicted, self.triggered.labels), self.ra_reference)


def _share(predicted: Tensor, wanted: Tensor) -> Rate:
    return Rate(int((predicted == wanted).sum()), len(wanted))
