"""Methods that can show what they see in a model; a report draws it, and asks no other method."""

from abc import ABC, abstractmethod

from closesesame.core.evidence import Evidence
from closesesame.data import Dataset

from .base import Classifier


class Shows(ABC):
    """What a method of any family also derives from if it has something to show.

    It is given what its family may see, and nothing else: no trigger, no poison mask, no target label, no
    test set.
    """

    @abstractmethod
    def evidence(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Evidence:
        """What the method sees in a model, to be drawn.

        Args:
            model: the suspect; it is not changed.
            examples: a training set that may be poisoned, with labels counted as the model counts them.
            clean: examples known to be clean, likewise.
            seed: of everything drawn.
        """
