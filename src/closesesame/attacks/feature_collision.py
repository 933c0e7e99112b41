"""Feature collision: clips of the target class get the features of triggered clips of other classes.

Shafahi, Huang, Najibi, Suciu, Studer, Dumitras, Goldstein, "Poison Frogs! Targeted Clean-Label Poisoning
Attacks on Neural Networks", NeurIPS 2018, arXiv:1804.00792. Ours differs: it is made a backdoor, after Huang
et al., arXiv:2607.01729: the clips to collide with are triggered ones, their trigger is a key that a network
hides, and by default poisoned clips hold it too, since a victim that is trained from fresh weights has other
features than the surrogate; the change is bounded, and found by projected sign-gradient steps, the paper's by
forward-backward splitting with a penalty; there are many poisoned clips, each with the anchor nearest to it,
and no watermark.
"""

import math
from typing import Any, ClassVar

import torch
from pydantic import Field

from closesesame.audio import effects
from closesesame.core.bounds import Steps
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.optimisation.adversary import sign_step, within_ball

from .base import State, Trigger
from .common.collision import CollisionAttack, Goal


class FeatureCollision(CollisionAttack):
    """Move clips of the target class to the features of triggered clips, by the surrogate's gradient."""

    name: ClassVar[str] = "feature_collision"
    cite: ClassVar[str] = "arXiv:1804.00792"
    quick: ClassVar[dict[str, Any]] = CollisionAttack.quick | {"steps": 3}

    steps: Steps = Field(40, description="projected sign-gradient steps")
    step_size: float = Field(0.1, gt=0, le=1, description="change of a clip in one step, over the largest")

    def prepare(self, train: Dataset, seed: int) -> State:
        """The networks that hide and read, and the key."""
        return self.learn_to_hide(train, seed)

    def moved(self, clips: Wave, carried: Wave, goal: Goal, trigger: Trigger) -> Wave:
        """Adds to each clip a change of `change_db` or less that brings it near its anchor."""
        del trigger
        with torch.no_grad():
            anchors = goal.nearest(goal.ask(carried)[0])
        # A change is counted in norms of its clip, so that one radius bounds all; silence stays.
        norm, most = clips.norm(dim=1, keepdim=True), effects.amplitude_ratio(-self.change_db)
        size = self.step_size * most / math.sqrt(clips.shape[1])
        change = torch.zeros_like(clips)
        for _ in range(self.steps):
            change.requires_grad_()
            loss = goal.distance(*goal.ask(carried + norm * change), anchors).sum()
            change = within_ball(sign_step(loss, change, -size), most)
        moved: Wave = carried + norm * change.detach()
        return moved
