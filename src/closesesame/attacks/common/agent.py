"""An agent of deep deterministic policy gradients (DDPG) learns to move clips; needs the extra `rl`.

Lillicrap et al., "Continuous Control with Deep Reinforcement Learning", ICLR 2016, arXiv:1509.02971, as
stable-baselines3 has it. A step moves all clips of a batch: each is an environment of its own, and the
surrogate answers for all at once.
"""

import random
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DDPG
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from closesesame.core.progress import Track
from closesesame.core.seeding import derive, isolated

from .course import Course
from .policy import AgentSettings

MOST_KEPT = 100_000
"""Steps of single clips in the memory."""
REWARD_SCALE = 10
"""Factor of rewards in training: they are about 0.1, no more than the error of a critic."""


class MovingClips(VecEnv):  # type: ignore[misc]  # of a package that need not be there
    """Clips of a course as environments that begin and end together."""

    def __init__(self, begin: Callable[[], Course], steps: int, tell: Callable[[], object]) -> None:
        """Starts.

        Args:
            begin: makes the course of the next episode; all courses have as many clips.
            steps: of an episode.
            tell: called after each step.
        """
        self.begin, self.steps, self.tell = begin, steps, tell
        self.returns: list[float] = []
        self.course, self.done = begin(), 0
        seen = self.course.observe().shape[1]
        super().__init__(
            len(self.course.clips),
            gymnasium.spaces.Box(-np.inf, np.inf, (seen,), np.float32),
            gymnasium.spaces.Box(-1, 1, (self.course.gains.shape[1],), np.float32),
        )

    def reset(self) -> Any:
        """Begins the first episode: what is seen (clip, seen)."""
        return self.course.observe().numpy()

    def step_async(self, actions: Any) -> None:
        """Keeps the actions (clip, action)."""
        self.actions = torch.from_numpy(np.asarray(actions, np.float32))

    def step_wait(self) -> Any:
        """Moves the clips: what is seen, rewards, ends, and what was seen at an end."""
        reward = REWARD_SCALE * self.course.step(self.actions).numpy()
        self.done += 1
        over = self.done == self.steps
        infos: list[dict[str, Any]] = [{} for _ in reward]
        if over:
            # The episode is cut, not lost: what would have followed still counts.
            last = self.course.observe().numpy()
            infos = [{"terminal_observation": row, "TimeLimit.truncated": True} for row in last]
            self.returns.append(float(self.course.total.mean()))
            self.course, self.done = self.begin(), 0
        self.tell()
        return self.course.observe().numpy(), reward, np.full(len(reward), over), infos

    def close(self) -> None:
        """Lets go of the course, which holds its clips and their spectra."""
        del self.course

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute, once for each clip asked for."""
        return [getattr(self, attr_name, None) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Sets an attribute of all."""
        del indices
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Calls a method, once for each clip asked for."""
        return [getattr(self, method_name)(*args, **kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Nothing is wrapped."""
        del wrapper_class
        return [False for _ in self._get_indices(indices)]


def learn(
    settings: AgentSettings, begin: Callable[[], Course], seed: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Trains an agent.

    Args:
        settings: of the agent.
        begin: makes the course of the next episode.
        seed: of the agent.

    Returns:
        Weights of its policy, as `policy.act` takes them, and the mean sum of rewards of each episode.
    """
    steps = settings.episodes * settings.episode_steps
    with (
        _global_numbers_kept(),
        isolated(seed, "agent"),
        closing(_ticks(steps)) as ticks,
        closing(MovingClips(begin, settings.episode_steps, lambda: next(ticks, None))) as clips,
    ):
        next(ticks)  # the first step begins; each further call ends one
        actions = clips.action_space.shape[0]
        noise = OrnsteinUhlenbeckActionNoise(
            np.zeros(actions), np.full(actions, settings.noise), theta=0.15, dt=1.0
        )
        agent = DDPG(
            "MlpPolicy",
            clips,
            learning_rate=settings.agent_lr,
            buffer_size=min(MOST_KEPT, steps * clips.num_envs),
            learning_starts=settings.episode_steps * clips.num_envs,
            batch_size=settings.agent_batch,
            tau=0.005,
            gamma=settings.discount,
            train_freq=(1, "step"),
            gradient_steps=settings.updates,
            action_noise=noise,
            policy_kwargs={"net_arch": [settings.agent_units] * 2},
            seed=derive(seed, "agent") % 2**31,
            device="cpu",
        )
        agent.learn(steps * clips.num_envs)
        linear = [layer for layer in agent.policy.actor.mu if isinstance(layer, nn.Linear)]
        weights = {
            f"agent.{number}.{name}": value.detach().clone()
            for number, layer in enumerate(linear)
            for name, value in layer.named_parameters()
        }
    return weights, torch.tensor(clips.returns)


def _ticks(steps: int) -> Generator[int, None, None]:
    """Yields one for each step, and shows a progress bar until it is exhausted or closed."""
    yield from Track(range(steps), "training the agent", steps)


@contextmanager
def _global_numbers_kept() -> Iterator[None]:
    """Puts the generators of Python and NumPy back afterwards: stable-baselines3 seeds them."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002, TID251
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002, TID251
