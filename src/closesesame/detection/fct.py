"""FCT: features of poisoned clips change more than others when the clips are transformed.

Chen, Wu, Wang, "Effective Backdoor Defense by Exploiting Sensitivity of Poisoned Samples", NeurIPS 2022, the
feature consistency towards transformations, with the sample-distinguishment module before it: a network is
trained for two epochs without augmentation, then its classes are pushed apart, and the score of a clip is the
mean square of the difference between its features and those of a transformed copy. The authors call the 5 %
with the highest scores poisoned and the 20 % with the lowest clean; where to cut is not the score's matter.

Ours differs: they rotate and shear pictures; here an augmentation of speech transforms the clips. The score
is the mean over several copies, where they look at one. The first two epochs are those of our usual training.
The learning rate of those that push falls to zero, theirs hardly does in ten epochs of a hundred.
"""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from closesesame.core.bounds import LearningRate
from closesesame.core.seeding import derive
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import GradientRule, Training, fit
from closesesame.training.features import feature_changes, feature_rule, head_of, likeness_of_means
from closesesame.training.weights import redraw

from .base import Detection

BATCH_SIZE = 128


class FCT(Detection):
    """Score how far the features of each clip move when it is transformed, in a network trained briefly."""

    name: ClassVar[str] = "fct"
    cite: ClassVar[str] = "NeurIPS 2022, Chen et al."
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"
    trains: ClassVar[bool] = True
    requires: ClassVar[str] = "features before a linear layer"
    quick: ClassVar[dict[str, object]] = {"epochs": 1, "separation_epochs": 1, "copies": 1}

    epochs: int = Field(2, ge=1, le=10_000, description="passes of the training from fresh weights")
    separation_epochs: int = Field(10, ge=0, le=10_000, description="passes that push the classes apart")
    lr: LearningRate = Field(0.01, description="learning rate of these")
    transformation: Literal["light", "strong", "varied"] = Field(
        "strong", description="augmentation that transforms the copies"
    )
    copies: int = Field(4, ge=1, le=1000, description="transformed copies of a clip")

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """In a network like the suspect with fresh weights."""
        del clean
        redraw(model.requires_grad_(True), derive(seed, "fresh weights"))
        fit(model, examples, Training(epochs=self.epochs, augmentation="none"), seed=seed)
        push = Training(
            epochs=self.separation_epochs,
            lr=self.lr,
            optimizer="sgd",
            weight_decay=5e-4,
            schedule="cosine",
            batch_size=BATCH_SIZE,
            augmentation="none",
        )
        fit(model, examples, push, seed=derive(seed, "separation"), gradient=separation_rule(head_of(model)))
        return feature_changes(model, examples, self.transformation, self.copies, seed)


def separation_rule(head: nn.Linear) -> GradientRule:
    """The gradient of the mean cosine between the mean features of any two classes of a batch."""
    return feature_rule(head, likeness_of_means)
