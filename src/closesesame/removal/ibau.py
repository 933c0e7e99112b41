"""I-BAU: unlearn what one universal perturbation can do, with the gradient through its optimality.

Zeng, Chen, Park, Mao, Jin, Jia, "Adversarial Unlearning of Backdoors via Implicit Hypergradient", ICLR
2022, arXiv:2110.03735: min over weights, max over delta of CE(f(x + delta), y). A round is a pass of SGD on
delta and a pass of Adam on the weights.

Defaults are those of the authors' code: in batches of 100 of 5,000 examples, 5 rounds of 50 steps for delta
and 50 for the weights, with learning rate 1e-3. That rate costs clean accuracy: on one ResNet of the
development bench (keywords10 words, badnets-airplane, seed 0, 94 clips) 60 of the 250 steps took accuracy
from 99 to 94 percent and ASR from 100 to 42; the perturbation was as long as its radius in every round.

Ours differs: delta is added to the features, where training happens; it ascends along the slope of the loss
by steps of one length, a tenth of the radius, where the code takes the slope itself times 10: on examples
that the model is sure of the slope has next to no length, and delta stays at zero. It ascends against the
labels, not the predictions, and stays in an L2 ball, as in the paper; the code leaves the ball out. The
radius of 10 is in deviations of the features; to a picture in 0..1 it would be 40. The inner loss of the
implicit gradient is taken of the same batch as the outer, in the code always of the first; at least one
example a batch is perturbed.
"""

from typing import Any, ClassVar

from closesesame.core.seeding import generator
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import fit

from .common.universal import Adversarial, Unlearning


class IBAU(Adversarial):
    """Alternate between one perturbation of all features and weights that withstand it."""

    name: ClassVar[str] = "ibau"
    cite: ClassVar[str] = "arXiv:2110.03735"
    cost: ClassVar[str] = "several times the training of the model"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        training, length = self.plan()
        rule = Unlearning(self, length, generator(seed, "universal perturbation"))
        fit(model, tune, training, seed=seed, gradient=rule)
        return rule.found()
