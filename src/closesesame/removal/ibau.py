"""I-BAU: unlearn what one universal perturbation can do, with the gradient through its optimality.

Zeng, Chen, Park, Mao, Jin, Jia, "Adversarial Unlearning of Backdoors via Implicit Hypergradient", ICLR 2022,
arXiv:2110.03735: min over weights, max over delta of CE(f(x + delta), y). A round is a pass of SGD on
delta and a pass of Adam on the weights.

Ours differs: delta is added to the features, where training happens; a small clean set has few batches, so
passes are counted in steps, 50 for delta as in the paper's code and 10 for the weights, each of which is ten
times as dear, as in BackdoorBench; delta ascends against the labels, not the predictions, and stays in an L2
ball, which the code leaves out (without it a model lost 5 points of ACC); the learning rate of the weights
is BackdoorBench's 1e-4, since with 1e-3 held-out accuracy falls; at least one example a batch is perturbed.
"""

from typing import Any, ClassVar

from closesesame.core.seeding import generator
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import fit

from .minimax import Adversarial, Unlearning


class IBAU(Adversarial):
    """Alternate between one perturbation of all features and weights that withstand it."""

    name: ClassVar[str] = "ibau"
    cite: ClassVar[str] = "arXiv:2110.03735"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        training, length = self.plan(len(tune))
        rule = Unlearning(self, length, generator(seed, "universal perturbation"))
        fit(model, tune, training, seed=seed, gradient=rule)
        return {"perturbation_norms": rule.norms}
