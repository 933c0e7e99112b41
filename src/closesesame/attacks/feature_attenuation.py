"""Feature attenuation: what speaks for the class of a clip is made faint; then a model needs the trigger.

Cai, Zhang, Xiao, Ji, Xiao, Cheng, "Clean-label backdoor attack based on robust feature attenuation for speech
recognition", Expert Systems with Applications 2025, doi:10.1016/j.eswa.2025.127546. Ours differs: only the
abstract is known, which names the attenuation of robust features of clips of the target class, and a trigger
of a network, limited in intensity and scope. Features are taken for robust if augmented clips have them too;
what speaks for a class is the part of them that the last layer weighs more for it than for others; it is made
less by projected sign-gradient steps; and the network is one of deep steganography, of one level and between
two frequencies.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor, nn

from closesesame.audio import effects
from closesesame.core.bounds import Steps
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.hooks import inputs_of
from closesesame.optimisation.adversary import sign_step
from closesesame.training.features import head_of

from .base import STAMP_BATCH, State, Trigger
from .common.steganography import StegoAttack


class FeatureAttenuation(StegoAttack):
    """Make clips of the target class less like it, and hide a key in them; labels stay true."""

    name: ClassVar[str] = "feature_attenuation"
    cite: ClassVar[str] = "doi:10.1016/j.eswa.2025.127546"
    quick: ClassVar[dict[str, Any]] = StegoAttack.quick | {"steps": 3}

    epsilon: float = Field(
        0.1, ge=0, le=1, description="largest change of a sample by the attenuation, over the clip's RMS"
    )
    steps: Steps = Field(40, description="projected sign-gradient steps")
    step_size: float = Field(0.1, gt=0, le=1, description="change of a sample in one step, over epsilon")

    def prepare(self, train: Dataset, seed: int) -> State:
        """The networks that hide and read, and the key."""
        return self.learn_to_hide(train, seed)

    def plant(self, train: Dataset, chosen: Tensor, trigger: Trigger, seed: int) -> Wave:
        """Attenuates the chosen clips, then stamps them."""
        model, rng = self.train_surrogate(train, seed), generator(seed, "attenuation")
        faint = []
        for index in Track(torch.split(chosen, STAMP_BATCH), "attenuating", -(-len(chosen) // STAMP_BATCH)):
            clips, labels = train.inputs[index], train.labels[index]
            change, most = torch.zeros_like(clips), self.epsilon * effects.rms(clips)
            for _ in range(self.steps):
                change.requires_grad_()
                loss = evidence(*robust_features(model, clips + change, rng), labels).sum()
                change = sign_step(loss, change, -self.step_size * most).clamp(-most, most)
            faint.append((clips + change.detach()).clamp(-1, 1))
        return trigger.stamp(torch.cat(faint), self.training_strength)


def robust_features(
    model: Classifier, clips: Wave, rng: torch.Generator
) -> tuple[Float32[Tensor, "batch unit"], nn.Linear]:
    """What enters the last layer for clips that are lightly augmented, and that layer."""
    maps, augment = model.front_end(clips), model.front_end.augmentation("light")
    with inputs_of(head := head_of(model)) as seen:
        model.body(augment(maps, rng) if augment else maps)
    return seen[0], head


def evidence(features: Float32[Tensor, "batch unit"], head: nn.Linear, labels: Tensor) -> Tensor:
    """What speaks for the label of each clip (batch,).

    That is the sum over units of max(0, f_u (w_u - mean w_u)), with the weights w of the label and their mean
    over all classes.
    """
    beyond = head.weight[labels] - head.weight.mean(0)
    return (features * beyond).clamp(min=0).sum(1)
