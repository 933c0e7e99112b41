"""ASA: every clip is enhanced, and the model is fine-tuned on enhanced clean clips.

Sun, Zhong, Qi, Fang, Shi, Cui, "Towards Robust Speech Models: Mitigating Backdoor Attacks via Audio Signal
Enhancement and Fine-Pruning Techniques", Mathematics 2025, 13(6), 984: the row of its tables without pruning.

Ours differs: the paper does not say how it fine-tunes, so it is as for `ft`; its enhancer is ComplexMTASS,
ours the small one of the project unless another is named (see `enhance`).
"""

from typing import Any, ClassVar

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import fit

from .common.in_front import Enhanced


class ASA(Enhanced):
    """Put a speech enhancer in front of the model, and fine-tune the model on enhanced clean clips."""

    name: ClassVar[str] = "asa"
    cite: ClassVar[str] = "Mathematics 2025, 13(6), 984"
    cost: ClassVar[str] = "about plain fine-tuning, and an enhancer with each clip"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Gives the model the enhancer and tunes its body."""
        del held_out
        network = self.put_in_front(model, seed)
        fit(model, tune, self.training(), seed=seed)
        return {"enhancer": network}
