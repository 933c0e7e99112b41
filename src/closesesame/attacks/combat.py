"""COMBAT: a generator and a classifier that is being poisoned with its triggers are trained in turn.

Huynh, Nguyen, Pham, Tran, "COMBAT: Alternated Training for Effective Clean-Label Backdoor Attacks", AAAI
2024. Ours differs: the generator changes the magnitudes of a short-time spectrum, the paper's is a U-Net on
pictures; the change has a set level and lies between two frequencies, where the paper has a bound, a term for
its size, a low-pass and a blur; what both classifiers hear is augmented lightly, as in the training of a
victim; and the training takes 200 batches, the authors' 200 epochs.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from closesesame.audio import effects
from closesesame.core.bounds import BatchSize, LossWeight, Steps
from closesesame.core.seeding import derive, generator, isolated
from closesesame.core.types import Logits, Wave
from closesesame.data import Dataset
from closesesame.models import ARCHITECTURES, Classifier
from closesesame.training.loop import untrained

from .base import Signal, State
from .common.steganography import Frame, MagnitudeAttack, hide, hiding_weights
from .common.surrogate import draws


class Combat(MagnitudeAttack):
    """Add what a generator makes of each clip; it was trained against a classifier poisoned by it."""

    name: ClassVar[str] = "combat"
    cite: ClassVar[str] = "AAAI 2024"
    quick: ClassVar[dict[str, Any]] = MagnitudeAttack.quick | {"steps": 3, "batch_size": 8}

    steps: Steps = Field(200, description="batches that generator and classifier are trained on in turn")
    batch_size: BatchSize = Field(32, description="clips a batch")
    lr: float = Field(3e-3, gt=0, le=1, description="learning rate of the generator")
    lr_classifier: float = Field(2e-3, gt=0, le=1, description="learning rate of the classifier")
    poisoned_share: float = Field(
        0.5, ge=0, le=1, description="of the target class that the classifier sees with the trigger"
    )
    clean_weight: LossWeight = Field(
        0.8, description="of a clean model's error on triggered clips, in the loss; 0 lets them fool it"
    )

    def prepare(self, train: Dataset, seed: int) -> State:
        """The weights of the generator."""
        rng, frame = generator(seed, "combat"), self.frame(Signal.of(train).hz)
        clean, target = self.train_surrogate(train, seed), train.label_of(self.target)
        own_seed = derive(seed, "poisoned surrogate")
        poisoned = untrained(ARCHITECTURES.make(self.surrogate), train, seed=own_seed).to(clean.device)
        state = hiding_weights(self.channels, 1, rng)
        weights = [weight.requires_grad_() for weight in state.values()]
        making = torch.optim.Adam(weights, self.lr)
        learning = torch.optim.Adam(poisoned.body.parameters(), self.lr_classifier)
        with isolated(seed, "combat"):
            for clips, labels in draws(train, self.batch_size, self.steps, "training the generator", seed):
                loss = self.poisoned_loss(poisoned.train(), clips, labels, target, state, frame, rng)
                learning.zero_grad()
                loss.backward()
                learning.step()
                loss = self.generator_loss(poisoned.eval(), clean, clips, labels, target, state, frame, rng)
                making.zero_grad()
                loss.backward(inputs=weights)
                making.step()
                self.demand_finite(weights, "lr")
        for weight in weights:
            weight.detach_()
        return state

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Adds what the generator makes of each clip, at the set level; silence stays."""
        return self._triggered(inputs, state, self.frame(signal.hz))

    def poisoned_loss(
        self,
        model: Classifier,
        clips: Wave,
        labels: Tensor,
        target: int,
        state: State,
        frame: Frame,
        rng: Generator,
    ) -> Tensor:
        """The classifier's error on the clips, some of the target class with the trigger; labels are true."""
        hit = (labels == target) & (torch.rand(len(clips), generator=rng) < self.poisoned_share)
        mixed = clips.clone()
        if hit.any():
            with torch.no_grad():
                mixed[hit] = self._triggered(clips[hit], state, frame)
        return F.cross_entropy(_augmented(model, mixed, rng), labels)

    def generator_loss(
        self,
        poisoned: Classifier,
        clean: Classifier,
        clips: Wave,
        labels: Tensor,
        target: int,
        state: State,
        frame: Frame,
        rng: Generator,
    ) -> Tensor:
        """Triggered clips shall be the target for the poisoned model, and stay themselves for a clean one."""
        triggered = self._triggered(clips, state, frame)
        fooled = F.cross_entropy(_augmented(poisoned, triggered, rng), torch.full_like(labels, target))
        hiding = F.cross_entropy(_augmented(clean, triggered, rng), labels)
        return fooled + self.clean_weight * hiding

    def _triggered(self, clips: Wave, state: State, frame: Frame) -> Wave:
        return effects.mix_at_snr(clips, hide(clips, state, frame, None), self.snr_db)


def _augmented(model: Classifier, clips: Wave, rng: Generator) -> Logits:
    """What a model says of clips under light augmentation."""
    maps, augment = model.front_end(clips), model.front_end.augmentation("light")
    logits: Logits = model.body(augment(maps, rng) if augment else maps)
    return logits
