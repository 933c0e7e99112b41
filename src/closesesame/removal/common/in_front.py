"""What removals share that put a purifier, such as a speech enhancer, in front of the model."""

from abc import ABC

from closesesame.core.settings import default
from closesesame.models import Classifier
from closesesame.purification import Enhance, Purifier
from closesesame.purification.enhance import SHIPS
from closesesame.removal.base import FineTuning


def put_in_front(purifier: Purifier, model: Classifier) -> None:
    """Puts a purifier in front of a model, in place; the body stays as it is."""
    purified = purifier.before(model)
    model.front_end, model.card = purified.front_end, purified.card


class Enhanced(FineTuning, ABC):
    """A removal whose repaired model enhances every clip that it gets."""

    enhancer: str = default(Enhance, "enhancer", SHIPS)

    def put_in_front(self, model: Classifier, seed: int) -> str:
        """Puts the enhancer in front of a model, in place; it is never trained.

        Returns:
            What kind of network it is, or `onnx`.

        Raises:
            ModelError: if there is no such enhancer, or the model takes no waveforms.
        """
        purifier = Enhance(enhancer=self.enhancer).fit(None, seed, card=model.card)
        put_in_front(purifier, model)
        assert isinstance(purifier.purification, Enhance)
        assert purifier.purification.kept is not None
        return purifier.purification.kept.network
