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

SEGMENTS = 4
"""Stretches of equal length that a clip is cut into; with the bands they make the cells."""
CELLS = BANDS * SEGMENTS
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
        label_weight: of the chance of the target label, in the reward.
        audible_weight: of the change of mel bands, in the reward.
    """

    goal: Goal
    frame: Frame
    hz: int
    gain_db: float
    step: float
    change_db: float
    label_weight: float
    audible_weight: float

    def reward(
        self,
        nearer: Float32[Tensor, " batch"],
        log_chance: Float32[Tensor, " batch"],
        heard: Float32[Tensor, " batch"],
    ) -> Float32[Tensor, " batch"]:
        """What a step brings (batch,): features nearer, the label still seen, and little to be heard.

        Args:
            nearer: by how much the distance to the goal has fallen.
            log_chance: the logarithm of the chance of the target label.
            heard: mean change of mel bands, in nats of power.
        """
        return nearer + self.label_weight * log_chance - self.audible_weight * heard


class Course:
    """A batch of clips on their way; all is computed without gradients."""

    def __init__(self, rules: Rules, clips: Wave, hidden: Wave) -> None:
        """Starts at the clips as they are.

        Args:
            rules: of the course.
            clips: (batch, time).
            hidden: (batch, time) what is hidden in them, or silence; its cells have gains of their own.
        """
        self.rules, self.clips, self.hidden = rules, clips, hidden
        self.spectra = [rules.frame.spectrum(part) for part in (clips, hidden)]
        self.mel = log_mel(clips, rules.hz)
        self.gains = torch.zeros(len(clips), 2 * CELLS)
        self.total = torch.zeros(len(clips))
        self.best, self.best_total = self._look(), torch.full((len(clips),), -torch.inf)
        self.anchors = rules.goal.nearest(self.features)
        self.distance = self._distance()

    @torch.no_grad()
    def step(self, actions: Actions) -> Float32[Tensor, " batch"]:
        """Moves the gains by actions from -1 to 1, and returns rewards; the best clips so far are kept."""
        self.gains = (self.gains + self.rules.step * actions.clamp(-1, 1)).clamp(-1, 1)
        wav, before = self._look(), self.distance
        self.distance = self._distance()
        chance = self.logits.log_softmax(1)[:, self.rules.goal.target]
        heard = (log_mel(wav, self.rules.hz) - self.mel).abs().mean((1, 2))
        reward = self.rules.reward(before - self.distance, chance, heard)
        self.total = self.total + reward
        better = self.total > self.best_total
        self.best = torch.where(better[:, None], wav, self.best)
        self.best_total = torch.maximum(self.total, self.best_total)
        return reward

    def observe(self) -> Observed:
        """What an agent sees: features and anchors, over their deviation; how cells have changed; gains."""
        deviation = self.rules.goal.scale**0.5
        change = F.adaptive_avg_pool2d(self.heard[:, None], (BANDS, SEGMENTS)).flatten(1)
        return torch.cat([self.features / deviation, self.anchors / deviation, change, self.gains], 1)

    @torch.no_grad()
    def _look(self) -> Wave:
        """The clips with the gains of now, and what the surrogate says of them."""
        wav = self.sound()
        self.features, self.logits = self.rules.goal.ask(wav)
        self.heard = log_mel(wav, self.rules.hz) - self.mel
        return wav

    def _distance(self) -> Float32[Tensor, " batch"]:
        return self.rules.goal.distance(self.features, self.logits, self.anchors)

    def sound(self) -> Wave:
        """The clips (batch, time) with the gains of now.

        Both halves are gains of `gain_db` at most. What the first changes in the clips is shortened to
        `change_db` below the clip; the second is for what is hidden, which keeps its level.
        """
        rules, length = self.rules, self.clips.shape[1]
        turned, weighed = (
            rules.frame.sound(spectrum * 10 ** (rules.gain_db * self._spread(gains) / 20), length)
            for spectrum, gains in zip(self.spectra, self.gains.split(CELLS, 1), strict=True)
        )
        norm = self.clips.norm(dim=1, keepdim=True).clamp(min=1e-12)
        change = norm * within_ball((turned - self.clips) / norm, effects.amplitude_ratio(-rules.change_db))
        moved: Tensor = self.clips + change + effects.levelled(weighed, self.hidden)
        return moved

    def _spread(self, gains: Float32[Tensor, "batch cell"]) -> Spectrum:
        """Gains of cells as maps (batch, bin, frame); 0 at bins that may not be changed."""
        frames = self.spectra[0].shape[2]
        segment = torch.arange(frames) * SEGMENTS // frames
        maps = gains.view(-1, BANDS, SEGMENTS)[:, self.rules.frame.band][:, :, segment]
        return maps * self.rules.frame.free[:, None]
