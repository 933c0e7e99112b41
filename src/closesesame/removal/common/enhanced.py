"""What removals share that put a speech enhancer in front of the model before they tune it."""

from abc import ABC

from closesesame.core.settings import default
from closesesame.models import Classifier
from closesesame.purification import Enhance
from closesesame.purification.enhance import SHIPS
from closesesame.removal.base import FineTuning


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
        purified = purifier.before(model)
        model.front_end, model.card = purified.front_end, purified.card
        assert isinstance(purifier.purification, Enhance)
        assert purifier.purification.kept is not None
        return purifier.purification.kept.network
