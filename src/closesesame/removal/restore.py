"""Restore: the suspect is moved towards fresh weights, then learns from itself under crowded augmentation.

A backdoor is a short cut: a small change of the input moves the features of every example to those of the
target. Three things work against it. The weights start at a share of the way from fresh ones to the suspect's
("shrink and perturb": Ash, Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020,
arXiv:1910.08475), which weakens everything that the suspect has learnt. The student then hears each clean
example with the quiet cells of another one (unless the suspect needs these, as one does that tells speakers
apart), bent, filtered, covered, in noise and under loud pieces of other examples, and must give the soft
labels and the features that the suspect gives on average for light changes of the same example; so it ignores
whatever such changes do, and a trigger is one of them. And the teacher, which is the suspect, hears no
trigger among clean examples, and is believed of these only where it is right about their label; so its clean
knowledge is passed on, far more of it than labels hold, and its backdoor is not.

Clean examples are few, so the student learns from splices too: an example with a piece of another one in its
place (after CutMix, Yun et al., ICCV 2019, arXiv:1905.04899; here the teacher says what a splice is). It is
believed of all of them, since nothing in them comes from anywhere but clean examples; and of unlabelled audio
where it agrees with itself on the views. Nothing is dropped out of the student: features with gaps could not
equal the teacher's. A network that has not learnt 95 % of the clean examples that it is believed of starts
anew and learns three times as long; recurrent ones are that slow.

Held-out examples are drawn by clip, not by speaker: with few speakers, a whole one less to learn from costs
accuracy, and nothing is chosen by them. So held-out accuracy says little of new speakers.
"""

from typing import Any, ClassVar

from closesesame.core.settings import default
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.matching import no_examples
from closesesame.training.selfdistillation import SelfDistillation, exchange_remarks
from closesesame.training.settings import Augmentation, Optimizer, Schedule

from .base import FineTuning


class Restore(FineTuning, SelfDistillation):
    """Move the suspect towards fresh weights, and distil it into itself under crowded augmentation."""

    name: ClassVar[str] = "restore"
    cite: ClassVar[str] = "ours"
    cost: ClassVar[str] = "one to four times the training of the model"
    quick: ClassVar[dict[str, Any]] = {"steps": 2, "views": 2, "splices": 4}
    chooses: ClassVar[bool] = False

    hold_out: float = default(
        FineTuning, "hold_out", 0.1, description="share of the clean set put aside to check, by clip"
    )
    optimizer: Optimizer = default(FineTuning, "optimizer", "adamw")
    lr: float = default(FineTuning, "lr", 0.005)
    steps: int = default(FineTuning, "steps", 500)
    batch_size: int = default(FineTuning, "batch_size", 96)
    weight_decay: float = default(FineTuning, "weight_decay", 0.01)
    schedule: Schedule = default(FineTuning, "schedule", "one_cycle")
    augmentation: Augmentation = default(FineTuning, "augmentation", "crowded")

    def put_aside(self, clean: Dataset, seed: int) -> tuple[Dataset, Dataset]:
        """By clip, from each class in proportion; nothing is chosen by them, so there may be none."""
        return clean.hold_out(self.hold_out, seed, by_clip=True)

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose; returns how many examples the suspect is believed on."""
        return self.repair_with_audio(model, tune, held_out, no_examples(model.card), seed)

    def repair_with_audio(
        self, model: Classifier, tune: Dataset, held_out: Dataset, audio: Dataset, seed: int
    ) -> dict[str, Any]:
        """The same with unlabelled examples."""
        del held_out
        return self.distil(model, tune, audio, self.training(), seed)

    def remarks(self, chosen: dict[str, Any]) -> list[str]:
        """Whether the suspect needs quiet parts and knew the clips, and what the student learned."""
        said = exchange_remarks(chosen)
        if 2 * chosen["believed_clips"] < chosen["labelled_clips"]:
            said.append(
                f"the suspect is right about only {chosen['believed_clips']} of the "
                f"{chosen['labelled_clips']} clean clips that were learned from, and nothing it knows of the "
                "others was kept; check that their labels fit the model, and that it works on clean clips"
            )
        if chosen["learnt"] < self.least_learnt:
            said.append(
                f"the repaired model gets {100 * chosen['learnt']:.0f} % of the clips right that it learned "
                "from, so its accuracy is low; more batches may help (--set steps=...)"
            )
        if chosen.get("unlabelled_clips") and not chosen["believed_unlabelled_clips"]:
            said.append(
                "nothing was learned from the unlabelled audio: on each of its clips the model contradicts "
                "itself; name speech that is more like the clean clips"
            )
        return said
