"""DBD: features without labels, a last layer on top, then labels for the half that it fits best.

Huang, Li, Wu, Qin, Ren, "Backdoor Defense via Decoupling the Training Process", ICLR 2022, arXiv:2202.03423.
Features are learned without labels (SimCLR), so poisoned clips lie near clips of their true class; a last
layer is trained on them for 10 epochs with the symmetric cross-entropy; then, epoch by epoch, the half of
all clips with the lowest symmetric cross-entropy keeps its labels, and the network learns from the other
half without them.

Ours differs: FixMatch takes the place of MixMatch; features are learned for `feature_epochs`, where the
authors take 100 of a schedule of 1,000; the last part takes the epochs of `training`, where theirs takes
190; the last layer is trained with the batch-norm statistics of the features frozen.
"""

from functools import partial
from typing import Any, ClassVar

from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.seeding import derive
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.models.channels import head_in
from closesesame.models.statistics import freeze_statistics
from closesesame.training import Batch, fit, predict, untrained
from closesesame.training.fixmatch import FixMatch, FixMatchRule
from closesesame.training.steps import training_only

from .base import RobustTraining, Watch
from .common.contrast import Contrast, contrast, learn_features
from .common.splitting import lowest, symmetric_losses


class DBD(RobustTraining, Contrast):
    """Learn features without labels and a last layer on top, then keep labels of the half that fits best."""

    name: ClassVar[str] = "dbd"
    cite: ClassVar[str] = "arXiv:2202.03423"
    quick: ClassVar[dict[str, Any]] = {"training": {"epochs": 1}, "feature_epochs": 1, "head_epochs": 1}

    head_epochs: int = Field(10, ge=1, le=10_000, description="of the last layer on frozen features")
    labelled_share: float = Field(0.5, gt=0, le=1, description="share of all clips that keep their labels")
    fixmatch: FixMatch = Field(FixMatch(), description="of the last part")

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """Three trainings of one network; the clips are split anew after each epoch of the last."""
        del clean
        model = untrained(architecture, untrusted, seed=seed, device=self.training.device)
        learn_features(
            model,
            untrusted,
            self.training.for_epochs(self.feature_epochs),
            loss=partial(contrast, temperature=self.temperature),
            augmentation=self.view_augmentation,
            seed=derive(seed, "features"),
            after_epoch=partial(watch, "features"),
        )
        with training_only(model.body, list(head_in(model).parameters())):
            fit(
                model,
                untrusted,
                self.training.for_epochs(self.head_epochs),
                seed=derive(seed, "head"),
                gradient=learn_head,
                after_epoch=partial(watch, "head"),
            )
        kept = self.split(model, untrusted)
        rule = FixMatchRule(model, untrusted, kept, self.fixmatch, derive(seed, "semi-supervised"))

        def next_epoch(epoch: int, model: Classifier) -> None:
            rule.labelled = self.split(model, untrusted)
            watch("semi_supervised", epoch, model)

        rule.fit(self.training, after_epoch=next_epoch)
        return model, {"labelled": int(rule.labelled.sum())}

    def split(self, model: Classifier, untrusted: Dataset) -> Bool[Tensor, " n"]:
        """A mask over the clips that keep their labels."""
        losses = symmetric_losses(predict(model, untrusted).double(), untrusted.labels)
        return lowest(losses, self.labelled_share)


def learn_head(body: nn.Module, batch: Batch) -> Tensor:
    """Fills the gradients of the symmetric cross-entropy, and leaves batch-norm statistics alone."""
    freeze_statistics(body)
    loss = symmetric_losses(batch.logits(body).float(), batch.labels).mean()
    loss.backward()
    return loss
