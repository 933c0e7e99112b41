"""What an agent is made with, and what one that was trained does; needs no further package."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from closesesame.attacks.base import State

from .course import Actions, Observed


@dataclass(frozen=True)
class AgentSettings:
    """How an agent is trained.

    Attributes:
        episodes: of the training.
        episode_steps: of an episode.
        discount: of rewards that come a step later.
        agent_lr: learning rate of policy and critic.
        agent_units: of both hidden layers.
        agent_batch: steps of the memory that an update learns from.
        updates: after each step.
        noise: deviation of the noise in actions, for each step.
    """

    episodes: int
    episode_steps: int
    discount: float
    agent_lr: float
    agent_units: int
    agent_batch: int
    updates: int
    noise: float


def act(state: State, observed: Observed) -> Actions:
    """What the policy does (batch, action): three linear layers, ReLU between them, and tanh."""
    x = observed
    for number in range(3):
        x = F.linear(x, state[f"agent.{number}.weight"], state[f"agent.{number}.bias"])
        x = torch.tanh(x) if number == 2 else F.relu(x)
    return x
