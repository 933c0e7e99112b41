"""Clips that are moved step by step towards a goal, by gains on cells of their spectrum, for a reward."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional as F

from closesesame.audio import effects
from closesesame.core.types import Spectrum, Wave
from closesesame.optimisation.adversary import within_ball

from .collision import Goal
from .steganography import BANDS, Frame, log_mel

SEGMENTS = 1
"""Stretches of equal length that a clip is cut into; with the bands they make the cells.

With 4 stretches, which make 64 gains, clips could come nearer, but in our trials DDPG found no good ones;
with 16 gains it did.
"""
CELLS = BANDS * SEGMENTS
HEARD_NATS = 3
"""A change of a cell, in nats of power, that an agent sees as 1."""
Actions = Float32[Tensor, "batch action"]
Observed = Float32[Tensor, "batch seen"]


@dataclass(frozen=True)
class Rules:
    """What may be changed, and what it brings.

    Attributes:
        goal: where features shall go.
        frame: the transform.
        hz: sample rate.
        gain_db: largest gain or loss of a cell, in dB.
        step: how far the largest action moves a gain, of its whole way from none to the largest.
        change_db: level of the clip over that of its change, at least.
        label_weight: of the chance of the target label, in the cost.
        audible_weight: of the change of mel bands, in the cost.
    """

    goal: Goal
    frame: Frame
    hz: int
    gain_db: float
    step: float
    change_db: float
    label_weight: float
    audible_weight: float

    def cost(
        self,
        distance: Float32[Tensor, " batch"],
        log_chance: Float32[Tensor, " batch"],
        heard: Float32[Tensor, " batch"],
    ) -> Float32[Tensor, " batch"]:
        """The cost of clips (batch,): they are far from the goal, look like another label, or sound changed.

        Args:
            distance: to the goal.
            log_chance: the logarithm of the chance of the target label.
            heard: mean change of mel bands, in nats of power.
        """
        return distance - self.label_weight * log_chance + self.audible_weight * heard


class Course:
    """A batch of clips on their way; all is computed without gradients.

    Attributes:
        gains: (batch, action) of the cells, from -1 to 1.
        total: (batch,) the sum of all rewards, by which the cost has fallen since the start.
        best: (batch, time) the clips where that was most; the start is one of the places.
    """

    def __init__(self, rules: Rules, clips: Wave, hidden: Wave | None = None) -> None:
        """Starts at the clips with what is hidden in them.

        Args:
            rules: of the course.
            clips: (batch, time).
            hidden: (batch, time) what is hidden in them, if anything; its cells have gains of their own.
        """
        self.rules, self.clips, self.hidden = rules, clips, hidden
        parts = [clips] if hidden is None else [clips, hidden]
        self.spectra = [rules.frame.spectrum(part) for part in parts]
        self.mel = log_mel(clips, rules.hz)
        self.gains = torch.zeros(len(clips), len(parts) * CELLS)
        self.total, self.best_total = torch.zeros(2, len(clips))
        self.best = self._look()
        self.anchors = rules.goal.nearest(self.features)
        self.middle = rules.goal.anchors.mean(0)
        self.cost = self._cost()

    @torch.no_grad()
    def step(self, actions: Actions) -> Float32[Tensor, " batch"]:
        """Moves the gains by actions from -1 to 1; rewards are by how much the cost of clips has fallen."""
        self.gains = (self.gains + self.rules.step * actions.clamp(-1, 1)).clamp(-1, 1)
        wav, before = self._look(), self.cost
        self.cost = self._cost()
        reward = before - self.cost
        self.total = self.total + reward
        better = self.total > self.best_total
        self.best = torch.where(better[:, None], wav, self.best)
        self.best_total = torch.maximum(self.total, self.best_total)
        return reward

    def observe(self) -> Observed:
        """What an agent sees (batch, seen), about as large as 1.

        That is: features less the mean of all anchors, and the way to the anchor, both over the deviation of
        a unit; how cells have changed, over `HEARD_NATS`; gains.
        """
        deviation = (self.rules.goal.scale / self.features.shape[1]) ** 0.5
        places = (self.features - self.middle, self.anchors - self.features)
        change = F.adaptive_avg_pool2d(self.heard[:, None], (BANDS, SEGMENTS)).flatten(1)
        return torch.cat([*(place / deviation for place in places), change / HEARD_NATS, self.gains], 1)

    @torch.no_grad()
    def _look(self) -> Wave:
        """The clips with the gains of now, and what the surrogate says of them."""
        wav = self.sound()
        self.features, self.logits = self.rules.goal.ask(wav)
        self.heard = log_mel(wav, self.rules.hz) - self.mel
        return wav

    def _cost(self) -> Float32[Tensor, " batch"]:
        goal = self.rules.goal
        chance = self.logits.log_softmax(1)[:, goal.target]
        distance = goal.distance(self.features, self.logits, self.anchors)
        return self.rules.cost(distance, chance, self.heard.abs().mean((1, 2)))

    def sound(self) -> Wave:
        """The clips (batch, time) with the gains of now.

        Gains are of `gain_db` at most. What those of the clips change is shortened to `change_db` below the
        clip; what is hidden keeps its level.
        """
        rules, length = self.rules, self.clips.shape[1]
        turned = [
            rules.frame.sound(spectrum * 10 ** (rules.gain_db * self._spread(gains) / 20), length)
            for spectrum, gains in zip(self.spectra, self.gains.split(CELLS, 1), strict=True)
        ]
        norm = self.clips.norm(dim=1, keepdim=True).clamp(min=1e-12)
        change = (turned[0] - self.clips) / norm
        moved: Tensor = self.clips + norm * within_ball(change, effects.amplitude_ratio(-rules.change_db))
        return moved if self.hidden is None else moved + effects.levelled(turned[1], self.hidden)

    def _spread(self, gains: Float32[Tensor, "batch cell"]) -> Spectrum:
        """Gains of cells as maps (batch, bin, frame); 0 at bins that may not be changed."""
        frames = self.spectra[0].shape[2]
        segment = torch.arange(frames) * SEGMENTS // frames
        maps = gains.view(-1, BANDS, SEGMENTS)[:, self.rules.frame.band][:, :, segment]
        return maps * self.rules.frame.free[:, None]
