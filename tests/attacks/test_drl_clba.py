"""DRL-CLBA: the course of clips, what an agent learns of it, and what its policy does."""

import gc
import random
import sys
import weakref
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import Tensor

from closesesame.attacks import DRLCLBA, BadNets, Trigger
from closesesame.attacks.common import course as course_of_clips
from closesesame.attacks.common.collision import Goal, Mode
from closesesame.attacks.common.course import CELLS, Course, Rules
from closesesame.attacks.common.policy import AgentSettings, act
from closesesame.attacks.common.steganography import Frame, log_mel
from closesesame.core import progress
from closesesame.core.errors import DataError, ModelError, SettingError
from closesesame.core.evidence import Series
from closesesame.data import Splits
from closesesame.evaluation import Exam
from closesesame.models import Classifier
from closesesame.report.from_models import compare
from tests.attacks.stamping import speech
from tests.conftest import RATE
from tests.sounds import level_db

FRAME = Frame.of(RATE, 500, 3500)


class Level(Goal):
    """A goal in a space of two features, the level of a clip and 1; its anchor is silence."""

    def __init__(self) -> None:
        object.__setattr__(self, "target", 1)
        object.__setattr__(self, "scale", 8.0)
        object.__setattr__(self, "anchors", torch.tensor([[0.0, 1.0], [0.2, 0.0]]))

    def ask(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        level = wav.square().mean(1, keepdim=True).sqrt()
        return torch.cat([level, torch.ones_like(level)], 1), torch.cat([0 * level, 10 * level], 1)

    def nearest(self, features: Tensor) -> Tensor:
        return torch.tensor([[0.0, 1.0]]).repeat(len(features), 1)

    def distance(self, features: Tensor, logits: Tensor, anchors: Tensor) -> Tensor:
        return (features - anchors).square().sum(1)


RULES = Rules(
    goal=Level(),
    frame=FRAME,
    hz=RATE,
    gain_db=6,
    step=0.5,
    change_db=-40,
    label_weight=0.3,
    audible_weight=0.7,
)


def noise(seed: int = 0, level: float = 0.1) -> Tensor:
    return level * torch.randn(2, 4000, generator=torch.Generator().manual_seed(seed))


def test_gains_of_cells_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course_of_clips, "SEGMENTS", 4)
    monkeypatch.setattr(course_of_clips, "CELLS", 32)
    clips = noise()
    course = Course(RULES, clips)
    assert course.gains.shape == (2, 32)
    assert torch.allclose(course.sound(), clips, atol=1e-6)
    cell = 3 * 4 + 2  # the fourth band, 1625 to 2000 Hz, in the third quarter
    course.gains[0, cell] = -1
    change = course.sound() - clips
    assert change[1].abs().max() < 1e-6
    assert change[0, :1800].abs().max() < 1e-5
    assert change[0, 3200:].abs().max() < 1e-5
    middle = change[0, 2100:2900] * torch.hann_window(800)
    power = torch.fft.rfft(middle).abs().square()  # 10 Hz a bin
    assert power[150:213].sum() > 0.97 * power.sum()
    course.gains[0], course.gains[1] = 1, 0
    spectrum, changed = (torch.fft.rfft(part[0, 500:3500]).abs() for part in (clips, course.sound()))
    inside = slice(300, 1230)  # 800 to 3280 Hz, 2.7 Hz a bin
    ratio = changed[inside].norm() / spectrum[inside].norm()
    assert 20 * float(ratio.log10()) == pytest.approx(6, abs=0.1)
    assert changed[1400:].norm() / spectrum[1400:].norm() == pytest.approx(1, abs=0.05)


def test_what_changes_the_clip_is_bounded_and_what_is_hidden_keeps_its_level() -> None:
    clips, hidden = noise(), noise(1, 0.01)
    course = Course(replace(RULES, change_db=20), clips, hidden)
    course.gains[0, :CELLS] = 1
    change = course.sound() - clips - hidden
    assert level_db(clips[0]) - level_db(change[0]) == pytest.approx(20, abs=0.01)
    assert change[1].abs().max() < 1e-6
    course.gains[:] = 0
    course.gains[1, CELLS : CELLS + CELLS // 2] = -1  # the lower half of the bands
    turned = course.sound()[1] - clips[1]
    assert level_db(turned) == pytest.approx(level_db(hidden[1]), abs=0.01)
    power = torch.fft.rfft(turned).abs().square() / torch.fft.rfft(hidden[1]).abs().square()
    lower, upper = power[300:900].median(), power[1100:1700].median()  # 2 Hz a bin
    assert 10 * float((upper / lower).log10()) == pytest.approx(6, abs=0.5)


def test_a_step_and_its_reward_by_hand() -> None:
    """A reward is what the cost has fallen by; the cost is told of clips as they are, with their key."""
    clips, hidden = noise(), noise(1, 0.01)
    course = Course(RULES, clips, hidden)

    def costs(wav: Tensor) -> list[float]:
        found = []
        for row in range(2):
            power = float(wav[row].square().mean())
            chance = float(torch.tensor([0.0, 10 * power**0.5]).log_softmax(0)[1])
            heard = float((log_mel(wav, RATE) - log_mel(clips, RATE))[row].abs().mean())
            found.append(power - 0.3 * chance + 0.7 * heard)
        return found

    actions = torch.zeros(2, 2 * CELLS)
    actions[0, :CELLS], actions[1, :CELLS] = -3, 1  # an action beyond its bounds counts as 1
    places = [costs(clips + hidden)]
    for number in (1, 2):
        rewards = course.step(actions)
        places.append(costs(course.sound()))
        wanted = [before - after for before, after in zip(*places[-2:], strict=True)]
        assert rewards.tolist() == pytest.approx(wanted, abs=1e-5)
        assert torch.equal(course.gains[:, 0], torch.tensor([-0.5, 0.5]) * number)
    total = [before - after for before, after in zip(places[0], places[2], strict=True)]
    assert course.total.tolist() == pytest.approx(total, abs=1e-5)
    course.step(actions)
    assert torch.equal(course.gains[:, 0], torch.tensor([-1.0, 1.0]))


def test_the_best_of_each_clip_is_kept() -> None:
    """The first clip is best at the end of the first step, the second at that of the last."""
    clips = noise()
    course = Course(replace(RULES, label_weight=0, audible_weight=0), clips)
    down, up = -torch.ones(1, CELLS), torch.ones(1, CELLS)
    course.step(torch.cat([down, up]))
    first = course.sound()
    course.step(torch.cat([up, down]))
    course.step(torch.cat([up, down]))
    assert torch.equal(course.best[0], first[0])
    assert torch.equal(course.best[1], course.sound()[1])


def test_the_best_is_what_all_rewards_so_far_add_up_to_most() -> None:
    """The last step brings less than the first, and the sum is larger than ever."""
    clips = noise()
    course = Course(replace(RULES, label_weight=0, audible_weight=0), clips)
    rewards = [course.step(torch.full((2, CELLS), action)) for action in (-1.0, 0.5, -0.7)]
    assert (rewards[2] < rewards[0]).all()
    assert torch.equal(course.best, course.sound())


def test_clips_that_no_step_brings_nearer_stay_as_they_are() -> None:
    clips, hidden = noise(), noise(1, 0.01)
    course = Course(replace(RULES, label_weight=0, audible_weight=0), clips, hidden)
    course.step(torch.ones(2, 2 * CELLS))
    assert torch.allclose(course.best, clips + hidden, atol=1e-6)


def test_the_anchor_is_that_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clips begin at the level of the first anchor, and end nearer to the other."""
    goal = Level()
    object.__setattr__(goal, "anchors", torch.tensor([[0.1, 1.0], [0.06, 1.0]]))
    monkeypatch.setattr(Level, "nearest", Goal.nearest)
    course = Course(replace(RULES, goal=goal, label_weight=0, audible_weight=0), noise())
    course.step(-torch.ones(2, CELLS))
    course.step(-torch.ones(2, CELLS))
    level = course.sound().square().mean(1).sqrt()
    assert (level < 0.07).all()
    assert torch.allclose(course.observe()[:, 2], (0.1 - level) / 2, atol=1e-6)
    assert torch.allclose(course.cost, (0.1 - level).square(), atol=1e-6)


def test_an_agent_sees_features_the_way_to_the_anchor_changes_and_gains() -> None:
    clips = noise()
    course = Course(RULES, clips, 0 * clips)
    actions = torch.zeros(2, 2 * CELLS)
    actions[0, :CELLS] = torch.linspace(-1, 1, CELLS)
    course.step(actions)
    seen = course.observe()
    assert seen.shape == (2, 2 + 2 + CELLS + 2 * CELLS)
    level = course.sound().square().mean(1).sqrt()
    # The variance of 8 is of two units, so the deviation of one is 2; the mean of the anchors is 0.1, 0.5.
    assert torch.allclose(seen[:, 0], (level - 0.1) / 2, atol=1e-6)
    assert torch.allclose(seen[:, 2], (0 - level) / 2, atol=1e-6)
    assert seen[0, [1, 3]].tolist() == [0.25, 0]
    change = log_mel(course.sound(), RATE) - log_mel(clips, RATE)
    assert change.shape == (2, 40, 32)  # a cell has 5 bands and all frames
    assert torch.allclose(seen[0, 4], change[0, :5].mean() / 3, atol=1e-5)
    assert torch.allclose(seen[0, 4 + 1], change[0, 5:10].mean() / 3, atol=1e-5)
    assert torch.equal(seen[:, -2 * CELLS :], course.gains)


def test_a_policy_by_hand() -> None:
    state = {
        "agent.0.weight": torch.tensor([[1.0], [-1.0]]),
        "agent.0.bias": torch.tensor([0.5, 0.0]),
        "agent.1.weight": torch.tensor([[2.0, 1.0]]),
        "agent.1.bias": torch.tensor([-1.0]),
        "agent.2.weight": torch.tensor([[0.3]]),
        "agent.2.bias": torch.tensor([0.1]),
    }
    for seen, wanted in ((1.0, 0.3 * 2 + 0.1), (-2.0, 0.3 * 1 + 0.1), (0.0, 0.1)):
        assert float(act(state, torch.tensor([[seen]]))) == pytest.approx(float(np.tanh(wanted)), abs=1e-6)


def numbers_of_numpy() -> list[int]:
    """The state of its global generator."""
    state: Any = np.random.get_state()  # noqa: NPY002
    return list(state[1])


class Steering:
    """A course in which one gain counts: each step brings 1 less its distance from the place seen."""

    def __init__(self, count: int, rng: torch.Generator) -> None:
        self.clips = torch.zeros(count, 1)
        self.gains = torch.zeros(count, 1)
        self.total = torch.zeros(count)
        self.wanted = 2 * torch.rand(count, 1, generator=rng) - 1
        self.given: list[Tensor] = []

    def step(self, actions: Tensor) -> Tensor:
        self.gains = actions.clamp(-1, 1)
        self.given.append(actions)
        reward = 1 - (self.gains - self.wanted).abs()[:, 0]
        self.total = self.total + reward
        return reward

    def observe(self) -> Tensor:
        return torch.cat([self.wanted, self.gains], 1)


SETTINGS = AgentSettings(
    episodes=30,
    episode_steps=4,
    discount=0.9,
    agent_lr=5e-3,
    agent_units=32,
    agent_batch=64,
    updates=4,
    noise=0.2,
)
BRIEF = replace(SETTINGS, episodes=2, discount=0.7, agent_lr=0.02, agent_batch=5, updates=3)


def test_an_agent_learns_and_leaves_global_numbers_alone() -> None:
    agent = pytest.importorskip("closesesame.attacks.common.agent", reason="the extra rl is not installed")
    python, numpy, torchs = random.getstate(), numbers_of_numpy(), torch.get_rng_state()
    curves, policies = [], []
    for seed in (0, 0):
        rng = torch.Generator().manual_seed(0)
        weights, curve = agent.learn(SETTINGS, lambda rng=rng: Steering(8, rng), seed)
        curves.append(curve)
        policies.append(weights)
    assert random.getstate() == python
    assert numbers_of_numpy() == numpy
    assert torch.equal(torch.get_rng_state(), torchs)
    assert torch.equal(curves[0], curves[1])
    assert all(torch.equal(policies[0][name], policies[1][name]) for name in policies[0])
    assert curves[0].shape == (30,)
    assert curves[0][-8:].mean() > curves[0][:8].mean() + 0.5
    test = Steering(64, torch.Generator().manual_seed(9))
    assert test.step(act(policies[0], test.observe())).mean() > 0.6


def test_the_policy_is_that_of_the_agent_and_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved does as the trained agent does, not as the slower copy that it learns by."""
    agent = pytest.importorskip("closesesame.attacks.common.agent", reason="the extra rl is not installed")
    made: list[Any] = []

    class Kept(agent.DDPG):  # type: ignore[misc, name-defined]  # of a package that need not be there
        def __init__(self, *words: Any, **settings: Any) -> None:
            made.append(self)
            super().__init__(*words, **settings)

    monkeypatch.setattr(agent, "DDPG", Kept)
    first, again, other = (
        agent.learn(BRIEF, lambda: Steering(2, torch.Generator().manual_seed(0)), seed)[0]
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["agent.0.weight"], other["agent.0.weight"])
    seen = Steering(9, torch.Generator().manual_seed(1)).observe()
    does = torch.from_numpy(made[0].predict(seen.numpy(), deterministic=True)[0])
    assert torch.allclose(act(first, seen), does, atol=1e-6)


@pytest.mark.parametrize("breaks", [False, True])
def test_the_bar_of_a_training_ends_with_it_and_so_does_the_course(
    breaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = pytest.importorskip("closesesame.attacks.common.agent", reason="the extra rl is not installed")
    bars, places = Progress(disable=True), list[float]()
    begun: list[weakref.ref[Steering]] = []

    class Watched(Steering):
        def step(self, actions: Tensor) -> Tensor:
            (bar,) = bars.tasks
            places.append(bar.completed)
            if breaks and len(places) == 5:
                raise ValueError("lost")
            return super().step(actions)

    def begin() -> Steering:
        course = Watched(2, torch.Generator().manual_seed(0))
        begun.append(weakref.ref(course))
        return course

    token = progress._live.set(bars)
    gc.disable()
    try:
        with pytest.raises(ValueError, match="lost") if breaks else nullcontext():
            agent.learn(BRIEF, begin, 0)
        assert places == [*range(5 if breaks else 8)]
        assert bars.tasks == []
        assert breaks or [course() for course in begun] == [None] * 3
    finally:
        gc.enable()
        progress._live.reset(token)


def test_in_the_first_episode_nothing_is_learned_so_there_must_be_two() -> None:
    with pytest.raises(SettingError, match="episodes must be >= 2, got 1"):
        DRLCLBA(episodes=1)
    assert "in the first, actions are at random" in str(DRLCLBA.model_fields["episodes"].description)


def test_clips_are_environments_that_end_together() -> None:
    agent = pytest.importorskip("closesesame.attacks.common.agent", reason="the extra rl is not installed")
    made: list[Steering] = []

    def begin() -> Steering:
        made.append(Steering(3, torch.Generator().manual_seed(len(made))))
        return made[-1]

    ticks: list[int] = []
    clips = agent.MovingClips(begin, 2, lambda: ticks.append(1))
    assert clips.num_envs == 3
    assert clips.observation_space.shape == (2,)
    assert (clips.action_space.low, clips.action_space.high) == (-1, 1)
    seen = clips.reset()
    assert seen.tolist() == made[0].observe().tolist()
    seen, reward, over, infos = clips.step(np.full((3, 1), 0.5))
    assert not over.any()
    assert infos == [{}, {}, {}]
    wanted = 10 * (1 - (0.5 - made[0].wanted[:, 0]).abs())
    assert reward.tolist() == pytest.approx(wanted.tolist())
    seen, reward, over, infos = clips.step(np.zeros((3, 1)))
    assert over.all()
    assert len(made) == 2
    assert seen.tolist() == made[1].observe().tolist()
    for row, info in enumerate(infos):
        assert info["TimeLimit.truncated"]
        assert info["terminal_observation"].tolist() == made[0].observe()[row].tolist()
    assert clips.returns == [pytest.approx(float(made[0].total.mean()))]
    assert len(ticks) == 2


def test_without_the_extra_it_is_one_sentence(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    monkeypatch.delitem(sys.modules, "closesesame.attacks.common.agent", raising=False)
    monkeypatch.delattr("closesesame.attacks.common.agent", raising=False)
    with pytest.raises(ModelError, match=r"stable-baselines3; install it: pip install 'closesesame\[rl\]'"):
        DRLCLBA(**DRLCLBA.quick).trigger(tones.train, 0)


@pytest.mark.parametrize(
    ("mode", "audible_weight", "steps"), [("anchor", 0, 2), ("anchor", 10, 0), ("anchor_stego", 0, 2)]
)
def test_the_policy_moves_the_chosen_clips_as_far_as_rewards_add_up_to_most(
    mode: Mode,
    audible_weight: float,
    steps: int,
    tones: Splits,
    known: Classifier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A policy that always turns down, by hand; it is one of the saved trigger, so no extra is needed."""
    monkeypatch.setattr(DRLCLBA, "goal", lambda *_: Level())
    quick: dict[str, Any] = DRLCLBA.quick | {"mode": mode, "episode_steps": 2, "action_step": 0.25}
    more: dict[str, Any] = {"label_weight": 0, "audible_weight": audible_weight}
    attack = DRLCLBA(**quick | more, gain_db=6, change_db=-40)
    chosen = torch.arange(0, 12, 4)
    clips = tones.train.inputs[chosen]
    state: dict[str, Tensor] = dict(attack.learn_to_hide(tones.train, 0))
    cells = CELLS * (2 if mode == "anchor_stego" else 1)
    for number, shape in enumerate([(1, 4 + CELLS + cells), (1, 1), (cells, 1)]):
        state[f"agent.{number}.weight"], state[f"agent.{number}.bias"] = (
            torch.zeros(shape),
            torch.ones(shape[0]),
        )
    state["agent.2.bias"] = -torch.full((cells,), 0.5)
    trigger = Trigger(attack, state, speech(RATE), 0, tones.train.classes)
    key = trigger.stamp(clips, 1.0) - clips if mode == "anchor_stego" else None
    course = Course(attack.rules(Level(), speech(RATE)), clips, key)
    course.gains = torch.full((3, cells), -0.25 * steps * float(np.tanh(0.5)))
    moved = attack.plant(tones.train, chosen, trigger, 0)
    assert torch.allclose(moved, course.sound(), atol=1e-6)


def test_rules_and_the_agent_have_the_settings() -> None:
    attack = DRLCLBA(gain_db=6, action_step=0.25, change_db=-40, label_weight=0.3, audible_weight=0.7)
    rules = attack.rules(RULES.goal, speech(RATE))
    assert (rules.gain_db, rules.step, rules.change_db) == (6, 0.25, -40)
    assert (rules.label_weight, rules.audible_weight) == (0.3, 0.7)
    settings = DRLCLBA(discount=0.5, noise=0.1, updates=3, agent_units=7, agent_batch=9).agent_settings()
    assert settings == AgentSettings(60, 10, 0.5, 1e-3, 7, 9, 3, 0.1)


def test_ddpg_is_given_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = pytest.importorskip("closesesame.attacks.common.agent", reason="the extra rl is not installed")
    given: dict[str, Any] = {}

    class Noted(agent.DDPG):  # type: ignore[misc, name-defined]  # of a package that need not be there
        def __init__(self, *words: Any, **settings: Any) -> None:
            given.update(settings)
            super().__init__(*words, **settings)

    monkeypatch.setattr(agent, "DDPG", Noted)
    agent.learn(BRIEF, lambda: Steering(2, torch.Generator().manual_seed(0)), 0)
    assert (given["gamma"], given["learning_rate"], given["batch_size"]) == (0.7, 0.02, 5)
    assert (given["gradient_steps"], given["train_freq"], given["tau"]) == (3, (1, "step"), 0.005)
    assert (given["buffer_size"], given["learning_starts"]) == (2 * 4 * 2, 4 * 2)
    assert given["policy_kwargs"]["net_arch"] == [32, 32]
    noise = given["action_noise"]
    assert (noise._mu.tolist(), noise._sigma.tolist(), noise._theta, noise._dt) == ([0], [0.2], 0.15, 1)


def test_the_agent_learns_on_clips_of_the_target_class_and_its_curve_is_kept(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = pytest.importorskip("closesesame.attacks.common.agent", reason="the extra rl is not installed")
    begun: list[Course] = []

    def learn(settings: AgentSettings, begin: Any, seed: int) -> tuple[dict[str, Tensor], Tensor]:
        begun.extend([begin(), begin()])
        return {"agent.0.bias": torch.ones(3)}, torch.tensor([1.0, 2.0])

    monkeypatch.setattr(agent, "learn", learn)
    for mode in ("anchor_stego", "anchor"):
        attack = DRLCLBA(**DRLCLBA.quick, mode=mode, target="high")
        trigger = attack.trigger(tones.train, 0)
        assert trigger.state["curve"].tolist() == [1, 2]
        assert trigger.state["agent.0.bias"].tolist() == [1, 1, 1]
        own = tones.train.inputs[tones.train.labels == 2]
        first, second = begun[-2:]
        assert first.clips.shape == (8, 4000)
        assert not torch.equal(first.clips, second.clips)
        for clip in first.clips:
            assert (own - clip).abs().amax(1).min() == 0
        if mode == "anchor":
            assert first.hidden is None
        else:
            assert first.hidden is not None
            assert torch.allclose(first.hidden, trigger.stamp(first.clips, 1.0) - first.clips, atol=1e-6)
    for seed in (0, 1):
        attack.trigger(tones.train, seed)
    again, other = begun[-4], begun[-2]
    assert torch.equal(again.clips, first.clips)
    assert not torch.equal(other.clips, first.clips)


@pytest.mark.parametrize(
    ("kept", "lacks"),
    [(lambda of: of > 0, "no clip of it"), (lambda of: of == 0, "no clip of any other class")],
)
def test_an_agent_needs_clips_of_the_target_class_and_of_others(
    kept: Any, lacks: str, tones: Splits, known: Classifier
) -> None:
    pytest.importorskip("closesesame.attacks.common.agent", reason="the extra rl is not installed")
    with pytest.raises(
        DataError, match=f"clips of class 'low' towards .* set has .*{lacks}.* another target"
    ):
        DRLCLBA(**DRLCLBA.quick).trigger(tones.train.where(kept(tones.train.labels)), 0)


def test_a_report_shows_the_curve_of_the_agent(tones: Splits, clean_model: Classifier) -> None:
    attack = DRLCLBA(**DRLCLBA.quick)
    state = dict(attack.learn_to_hide(tones.train, 0)) | {"curve": torch.tensor([1.0, 3.0])}
    trigger = Trigger(attack, state, speech(RATE), 0, tones.train.classes)
    (shown,) = compare(
        exam=Exam(tones.test, trigger), before=("victim", clean_model), repaired={}, title=""
    ).evidence
    (curve,) = shown.shapes
    assert isinstance(curve, Series)
    assert (curve.times, curve.values.tolist()) == ("episode", [1, 3])
    assert "moved 8 clips of the target class in 3 steps" in shown.text
    for damaged in ({}, {"curve": torch.ones(2, 3)}, {"curve": torch.ones(0)}):
        assert attack.evidence(damaged) is None
    plain = Exam(tones.test, BadNets().trigger(tones.train, 0))
    assert compare(exam=plain, before=("victim", clean_model), repaired={}, title="").evidence == ()
