"""Which clips count as clean and which as poisoned, by how far their features move when they are transformed.

Chen, Wu, Wang, "Effective Backdoor Defense by Exploiting Sensitivity of Poisoned Samples", NeurIPS 2022: the
sample-distinguishment module. A second network is trained for 2 epochs without augmentation, and for 10
epochs so that the mean features of the classes have a low cosine; the sensitivity of a clip (FCT) is the mean
squared difference of its features and those of a transformed copy. The fifth of all clips with the lowest
counts as clean, the twentieth with the highest as poisoned, and the others as neither.
"""

from functools import partial
from typing import NamedTuple

from pydantic import Field, model_validator

from closesesame.core.seeding import derive
from closesesame.core.settings import Settings
from closesesame.core.types import Mask
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.models.channels import head_in
from closesesame.robust_training.base import Watch
from closesesame.training import Training, fit, untrained
from closesesame.training.features import feature_changes, feature_rule, likeness_of_means
from closesesame.training.settings import Augmentation

from .splitting import lowest


class Distinguishing(Settings):
    """How clean and poisoned clips are told apart."""

    label_epochs: int = Field(2, ge=1, le=10_000, description="of the second network, on the labels")
    centre_epochs: int = Field(10, ge=0, le=10_000, description="of it, on the cosines of class means")
    transformation: Augmentation = Field("strong", description="of the features that are compared")
    clean_share: float = Field(0.2, gt=0, le=1, description="share of all clips that count as clean")
    poisoned_share: float = Field(0.05, gt=0, le=1, description="share of all clips that count as poisoned")

    @model_validator(mode="after")
    def _no_clip_counts_as_both(self) -> "Distinguishing":
        if self.clean_share + self.poisoned_share > 1:
            raise ValueError(
                f"clean_share and poisoned_share may be 1 in all, got {self.clean_share:g} and "
                f"{self.poisoned_share:g}"
            )
        return self


class Told(NamedTuple):
    """What clips count as; two or more each.

    Attributes:
        clean: (n,) those whose features move least.
        poisoned: (n,) those whose features move most.
    """

    clean: Mask
    poisoned: Mask


def distinguish(
    how: Distinguishing,
    architecture: Architecture,
    untrusted: Dataset,
    training: Training,
    *,
    seed: int,
    watch: Watch,
) -> Told:
    """Tells clean and poisoned clips apart with a network that is thrown away.

    Args:
        how: the settings.
        architecture: of the second network.
        untrusted: the clips.
        training: optimiser, learning rate, batch and so on.
        seed: of weights, order and transformations.
        watch: called after each epoch of the stages `labels` and `centres`.
    """
    second = untrained(architecture, untrusted, seed=derive(seed, "second network"), device=training.device)
    spread(second, how, untrusted, training, seed, watch)
    changes = feature_changes(second, untrusted, how.transformation, 1, derive(seed, "transformations"))
    clean, poisoned = (max(share, 2 / len(untrusted)) for share in (how.clean_share, how.poisoned_share))
    return Told(lowest(changes, clean), lowest(-changes, poisoned))


def spread(
    model: Classifier, how: Distinguishing, untrusted: Dataset, training: Training, seed: int, watch: Watch
) -> None:
    """Trains the second network: poisoned clips come to stand away from clean ones of their label."""
    apart = feature_rule(head_in(model), likeness_of_means)
    parts = (("labels", how.label_epochs, None), ("centres", how.centre_epochs, apart))
    for name, epochs, rule in parts:
        fit(
            model,
            untrusted,
            training.for_epochs(epochs, augmentation="none"),
            seed=derive(seed, name),
            gradient=rule,
            after_epoch=partial(watch, name),
        )
