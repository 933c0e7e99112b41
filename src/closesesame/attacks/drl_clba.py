"""DRL-CLBA: an agent moves clips of the target class towards triggered clips of other classes.

Huang, Yao, Xiao, Chen, Wen, 2026, arXiv:2607.01729. Ours differs: only the abstract is known, which names
deep steganography, anchors in the space of features, an agent of deep deterministic policy gradients, and
clean labels; a summary adds rewards for feature collision, for the label, and for what is heard. What the
agent sees and does is ours: it turns gains of 8 bands of a clip, within a bound, and those of the key hidden
in it. A step is rewarded for what it changes, and the end of an episode brings nothing more; rewards are
discounted by 0.8, since with 0.99 the critic's errors added up and the agent learned nothing in our trials.
The surrogate is trained once. By default poisoned clips hold the key, too: with anchors alone, the literal
reading (mode `anchor`), nothing of it is in the training set, and a victim that is trained from fresh weights
has other features than the surrogate. Key and move have a bound of 20 dB each, and both together are about
17 dB below the clip. A third mode, `gradient`, matches gradients instead of features; in our measurements the
agent has learned nothing in it. The agent learns on clips of the target class before any is chosen, and its
policy and its learning curve are saved with the trigger.
"""

from dataclasses import fields
from types import ModuleType
from typing import Any, ClassVar

import torch
from pydantic import Field

from closesesame.core.bounds import BatchSize, LossWeight
from closesesame.core.errors import DataError, ModelError
from closesesame.core.evidence import Evidence, Series
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import Signal, State, Trigger
from .common.collision import CollisionAttack, Goal
from .common.course import Course, Rules
from .common.policy import AgentSettings, act


class DRLCLBA(CollisionAttack):
    """Let an agent learn which gains bring clips of the target class near triggered clips; labels stay."""

    name: ClassVar[str] = "drl_clba"
    cite: ClassVar[str] = "arXiv:2607.01729"
    needs: ClassVar[str] = (
        "a surrogate model, which it trains on the clean training set, and stable-baselines3 (extra rl),"
    )
    quick: ClassVar[dict[str, Any]] = CollisionAttack.quick | {
        "episodes": 2,
        "episode_steps": 3,
        "updates": 2,
        "agent_clips": 8,
    }

    gain_db: float = Field(4, gt=0, le=60, description="largest gain or loss of a cell, in dB")
    action_step: float = Field(
        0.2, gt=0, le=2, description="how far an action moves a gain, of the way from none to the largest"
    )
    label_weight: LossWeight = Field(
        0.02, description="weight of the chance of the target label, in the reward"
    )
    audible_weight: LossWeight = Field(0.02, description="weight of the change of mel bands, in the reward")
    episodes: int = Field(
        60, ge=2, le=100_000, description="episodes of the training; in the first, actions are at random"
    )
    episode_steps: int = Field(
        10, ge=1, le=1000, description="steps of an episode, and steps that a poisoned clip is moved"
    )
    agent_clips: BatchSize = Field(16, description="clips of the target class that an episode moves at once")
    discount: float = Field(
        0.8, ge=0, lt=1, description="factor of a reward for each step that it comes later"
    )
    agent_lr: float = Field(1e-3, gt=0, le=1, description="learning rate of policy and critic")
    agent_units: int = Field(64, ge=1, le=4096, description="units of each hidden layer of policy and critic")
    agent_batch: BatchSize = Field(64, description="steps out of the memory that an update learns from")
    updates: int = Field(16, ge=1, le=1000, description="updates of policy and critic after each step")
    noise: float = Field(
        0.5, ge=0, le=10, description="sigma of the Ornstein-Uhlenbeck noise in actions, in training"
    )

    def prepare(self, train: Dataset, seed: int) -> State:
        """The networks that hide and read, the key, the policy, and `curve`, the rewards of each episode.

        Raises:
            DataError: if the set has no clip of the target class, or of no other class.
        """
        learn = _agent().learn
        target = train.label_of(self.target)
        own = (train.labels == target).nonzero().flatten()
        if not 0 < len(own) < len(train):
            lacks = "no clip of any other class" if len(own) else "no clip of it"
            raise DataError(
                f"{self.name} moves clips of class {train.classes[target]!r} towards those of others, and "
                f"the training set has {lacks}; choose another target"
            )
        state = self.learn_to_hide(train, seed)
        signal = Signal.of(train)
        trigger = Trigger(self, state, signal, target, train.classes)
        rules = self.rules(self.goal(train, trigger, seed), signal)
        rng = generator(seed, "episodes")

        def begin() -> Course:
            rows = own[torch.randint(len(own), (self.agent_clips,), generator=rng)]
            clips = train.inputs[rows]
            return Course(rules, clips, self.key_in(clips, self.carried(clips, trigger)))

        weights, curve = learn(self.agent_settings(), begin, seed)
        return {**state, **weights, "curve": curve}

    def evidence(self, state: State) -> Evidence | None:
        """The learning curve of the agent, if the trigger has kept it."""
        curve = state.get("curve")
        if curve is None or curve.ndim != 1 or not len(curve):
            return None
        return Evidence(
            title="What the attacker's agent learned",
            text=f"In each episode the agent moved {self.agent_clips} clips of the target class in "
            f"{self.episode_steps} steps. A point is the mean sum of the rewards of its clips; the line is "
            "a running mean. A clip is rewarded for coming near to triggered clips, for looking like the "
            "target label, and for what is not heard.",
            shapes=(Series(caption="Reward of an episode", unit="reward", times="episode", values=curve),),
        )

    def moved(self, clips: Wave, carried: Wave, goal: Goal, trigger: Trigger) -> Wave:
        """Where the policy brings the clips: of each, the step up to which the rewards add up to most."""
        course = Course(self.rules(goal, trigger.signal), clips, self.key_in(clips, carried))
        for _ in range(self.episode_steps):
            course.step(act(trigger.state, course.observe()))
        return course.best

    def key_in(self, clips: Wave, carried: Wave) -> Wave | None:
        """What carries the key (batch, time), if poisoned clips hold it."""
        return carried - clips if self.mode == "anchor_stego" else None

    def rules(self, goal: Goal, signal: Signal) -> Rules:
        """What the agent may do, and what it brings."""
        return Rules(
            goal=goal,
            frame=self.frame(signal.hz),
            hz=signal.hz,
            gain_db=self.gain_db,
            step=self.action_step,
            change_db=self.change_db,
            label_weight=self.label_weight,
            audible_weight=self.audible_weight,
        )

    def agent_settings(self) -> AgentSettings:
        """How the agent is trained."""
        return AgentSettings(**{field.name: getattr(self, field.name) for field in fields(AgentSettings)})


def _agent() -> ModuleType:
    """The module that trains agents.

    Raises:
        ModelError: if a package that it needs is not installed.
    """
    try:
        from .common import agent
    except ImportError:
        raise ModelError(
            "drl_clba trains its agent with stable-baselines3; install it: pip install 'closesesame[rl]'"
        ) from None
    return agent
