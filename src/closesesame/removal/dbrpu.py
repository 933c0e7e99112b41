"""Ours, after the abstract of DBR-PU: remove a backdoor without data, by pruning and unlearning.

Li, Gao, Xia, Wang, Liu, J. Zhengzhou Univ. (Eng. Sci.) 47(2), 2026, doi
10.13705/j.issn.1671-6833.2025.05.018. Only the abstract is public. It names synthetic data, differences of
pre-activation distributions, pruning and adversarial unlearning; it gives no formula, setting or length.
What this method does, and how well, says nothing of the published one.

Ours differs: everything but those four parts is ours, filled in from works they may rest on: the generator of
DAFL (see `optimisation.synthesis`; 100 steps of 64 and a narrow generator, to take no longer than the
training of a small model on a CPU), the KL and the entropy of Zheng, Tang, Li, Liu, "Pre-activation
Distributions Expose Backdoor Neurons", NeurIPS 2022, the entropy of a Gaussian, and the rounds of I-BAU (see
`ibau`) with their length, a tenth of its learning rate and ten times its share of perturbed examples.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.errors import DataError
from closesesame.core.evidence import Distributions, Group, Points
from closesesame.core.evidence import Evidence as Shown
from closesesame.core.seeding import generator
from closesesame.core.settings import default
from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.data.rows import Rows
from closesesame.models import Classifier, adapt
from closesesame.models.channels import Channels, channels_of
from closesesame.models.showing import Shows
from closesesame.models.statistics import (
    gaussian_kl,
    histogram_entropy,
    pre_activations,
    running_statistics,
)
from closesesame.optimisation.synthesis import Synthesis, Synthetic, shuffled, synthesise
from closesesame.training import fit

from .common.shown import SHOWN, gaussians, maps_of
from .common.universal import Adversarial, Unlearning

BATCH = 250
Score = Literal["kl", "entropy", "differential"]


@dataclass(frozen=True, eq=False)
class LayerEvidence:
    """What one layer shows.

    Attributes:
        name: of the layer.
        mean: of the pre-activations of each channel on the synthetic examples.
        var: their variance.
        reference_mean: mean that is compared with: the batch norm's, or that of a channel-shuffled copy.
        reference_var: variance, likewise.
        maxima: the highest pre-activation of each example, per channel; `entropy` is computed from them.
        scores: by name, one number a channel; high is suspicious.
        flagged: channels above the threshold.
        pruned: whether they were pruned; not if that cost too much agreement.
    """

    name: str
    mean: PerUnit
    var: PerUnit
    reference_mean: PerUnit
    reference_var: PerUnit
    maxima: Float[Tensor, "example channel"]
    scores: dict[str, PerUnit]
    flagged: Tensor
    pruned: bool


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a repair saw and did, for pictures; `agreement` is that of the pruned model with the suspect."""

    synthetic: Synthetic
    layers: tuple[LayerEvidence, ...]
    agreement: float


class DBRPU(Adversarial, Shows):
    """Ours, after the abstract of DBR-PU: synthesise examples, prune what differs on them, unlearn."""

    name: ClassVar[str] = "dbrpu"
    cite: ClassVar[str] = "ours, after the abstract of doi:10.13705/j.issn.1671-6833.2025.05.018"
    data_free: ClassVar[bool] = True
    cost: ClassVar[str] = "several times the training of the model"
    quick: ClassVar[dict[str, Any]] = Adversarial.quick | {
        "synthesis": {"steps": 2, "width": 4, "examples": 40, "confidence": 0}
    }

    data: Literal["synthetic", "clean"] = Field(
        "synthetic", description="examples it uses; `clean` shows what the synthesis costs"
    )
    synthesis: Synthesis = Field(Synthesis(), description="how examples are made")
    score: Score = Field("kl", description="by which channels are flagged")
    threshold: float = Field(3.0, ge=0, le=1000, description="deviations above the median of the layer")
    bin_width: float = Field(0.01, ge=1e-6, le=10, description="of the histogram whose entropy is taken")
    max_agreement_drop: float = Field(
        0.1, ge=0, le=1, description="drop of agreement that pruning a layer may cost"
    )
    prune: bool = Field(True, description="whether channels are pruned")
    unlearn: bool = Field(True, description="whether a perturbation is unlearned")
    lr: float = default(Adversarial, "lr", 1e-4)
    share: float = default(Adversarial, "share", 0.1)

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Chooses by agreement with the suspect on the examples it uses."""
        del held_out
        evidence = self.examine(model, tune, seed)
        synthetic = evidence.synthetic
        chosen: dict[str, Any] = {
            "examples": len(synthetic.labels),
            "of_class": torch.bincount(synthetic.labels, minlength=len(model.card.classes)).tolist(),
            "confidence": round(float(synthetic.confidence.mean()), 3),
            "flagged": {layer.name: len(layer.flagged) for layer in evidence.layers if len(layer.flagged)},
            "pruned": {x.name: len(x.flagged) for x in evidence.layers if len(x.flagged) and x.pruned},
            "agreement": round(evidence.agreement, 3),
        }
        if self.unlearn:
            chosen |= self._unlearn(model, synthetic, seed)
        return chosen

    def examine(self, model: Classifier, tune: Dataset | None, seed: int) -> Evidence:
        """Makes the examples and prunes the channels of `model` that differ on them.

        Args:
            model: pruned in place, unless `prune` is off.
            tune: clean examples, used only if `data` says so.
            seed: of everything drawn.

        Raises:
            DataError: if `data` asks for clean examples and there are none.
        """
        model.eval()
        body, examples = model.body, self._examples(model, tune, seed)
        first, batches = examples.features[:2], torch.split(examples.features, BATCH)
        layers = channels_of(body, first)
        seen = pre_activations(body, layers, batches)
        other = shuffled(body, first, generator(seed, "shuffled copy"))
        shuffled_seen = pre_activations(other, channels_of(other, first), batches)
        original = _predict(body, examples.features)
        shown, agreement = [], 1.0
        for layer, own, reference in zip(layers, seen, shuffled_seen, strict=True):
            mean, var = reference[:2]
            if layer.statistics is not None:
                mean, var = (value.detach().clone() for value in running_statistics(layer.statistics))
            scores = {
                "kl": gaussian_kl(own.mean, own.variance, mean, var),
                "entropy": -histogram_entropy(own.maxima, self.bin_width),
                "differential": entropy_difference(own.variance, var),
            }
            flagged = (deviation(scores[self.score]) > self.threshold).nonzero().flatten()
            pruned = False
            if self.prune and len(flagged):
                pruned, agreement = self._prune(body, layer, flagged, examples.features, original, agreement)
            shown.append(LayerEvidence(layer.name, *own[:2], mean, var, own.maxima, scores, flagged, pruned))
        return Evidence(examples, tuple(shown), agreement)

    def evidence(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Shown:
        """The most confident example of each of a few classes, and how far channels depart on them."""
        del examples
        model = copy.deepcopy(model)
        found = self.examine(model, clean, seed)
        departures = [deviation(layer.scores[self.score]).cpu() for layer in found.layers]
        flagged = [torch.zeros(len(d), dtype=torch.bool) for d in departures]
        for marked, layer in zip(flagged, found.layers, strict=True):
            marked[layer.flagged.cpu()] = True
        groups = (
            Group(name=layer.name, values=values.clamp(min=0), suspicious=marked)
            for layer, values, marked in zip(found.layers, departures, flagged, strict=True)
        )
        return Shown(
            title="Examples synthesised from the model",
            text="DBR-PU trains a generator until the model is confident of what it makes. Shown is the most "
            "confident example of a few classes. On these examples it compares the pre-activations of each "
            "channel with the reference: the statistics of the batch norm, or those of a shuffled copy. It "
            f"flags {sum(int(marked.sum()) for marked in flagged)} of {sum(map(len, flagged))} channels. "
            f"Pruning them leaves {100 * found.agreement:.0f} % of the model's answers to these examples "
            "unchanged.",
            shapes=(
                *maps_of(model, found.synthetic),
                Points(
                    caption="How far each channel departs, layer by layer",
                    unit="deviations above the layer's median",
                    groups=tuple(groups),
                    threshold=self.threshold,
                ),
                *_distributions(found.layers, departures),
            ),
        )

    def _examples(self, model: Classifier, tune: Dataset | None, seed: int) -> Synthetic:
        if self.data == "clean":
            if tune is None or len(tune) < 2:
                raise DataError("DBRPU.data is 'clean', but there are no clean examples; give some")
            features = model.features(tune, BATCH)
            confidence, labels = F.softmax(_predict(model.body, features), 1).max(1)
            return Synthetic(features, labels, confidence)
        with torch.no_grad():
            example = model.front_end(torch.zeros(2, *model.card.input_shape, device=model.device))
        return synthesise(model.body, example, self.synthesis, seed)

    def _prune(
        self, body: nn.Module, layer: Channels, at: Tensor, x: Tensor, original: Tensor, agreed: float
    ) -> tuple[bool, float]:
        kept = copy.deepcopy(layer.module.state_dict())
        layer.prune(at)
        agreement = float((_predict(body, x).argmax(1) == original.argmax(1)).float().mean())
        if agreement < agreed - self.max_agreement_drop:
            layer.module.load_state_dict(kept)
            return False, agreed
        return True, agreement

    def _unlearn(self, model: Classifier, synthetic: Synthetic, seed: int) -> dict[str, Any]:
        """Cross-entropy under the perturbation, plus the KL to the pruned model without it."""
        pruned = copy.deepcopy(model.body).eval().requires_grad_(False)

        def drift(features: Tensor) -> Tensor:
            before, now = F.log_softmax(pruned(features), 1), F.log_softmax(model.body(features), 1)
            return F.kl_div(now, before, log_target=True, reduction="batchmean")

        data = Dataset(  # not `Dataset.of`: features have no bounds
            inputs=Rows.of(synthetic.features.cpu()),
            labels=synthetic.labels.cpu(),
            classes=model.card.classes,
            ids=tuple(map(str, range(len(synthetic.labels)))),
        )
        training, length = self.plan()
        rule = Unlearning(self, length, generator(seed, "unlearning"), drift)
        of_features = adapt(model.body, data.classes, data.input_shape, None)
        fit(of_features, data, training, seed=seed, gradient=rule)
        return rule.found()


def entropy_difference(var: PerUnit, other: PerUnit) -> PerUnit:
    """Absolute difference of the entropies of two Gaussians with these variances."""
    return (0.5 * (other.clamp(min=1e-8) / var.clamp(min=1e-8)).log()).abs()


def deviation(score: PerUnit) -> PerUnit:
    """Distance from the median in robust deviations: synthetic data make all channels differ a little."""
    gap = score - score.median()
    return gap / (gap.abs().median() * _NORMAL).clamp(min=1e-6)


def _distributions(layers: Sequence[LayerEvidence], departures: list[Tensor]) -> list[Distributions]:
    """The pre-activations of the channels that depart most."""
    ranked = [
        (float(value), layer, channel)
        for layer, values in zip(layers, departures, strict=True)
        for channel, value in enumerate(values)
    ]
    ranked.sort(key=lambda one: one[0], reverse=True)
    return [
        gaussians(
            f"{layer.name}, channel {channel}: {departure:.1f} deviations, "
            f"{'flagged' if channel in layer.flagged.tolist() else 'not flagged'}",
            means=torch.stack([layer.mean[channel], layer.reference_mean[channel]]),
            variances=torch.stack([layer.var[channel], layer.reference_var[channel]]),
        )
        for departure, layer, channel in ranked[:SHOWN]
    ]


_NORMAL = 1 / (math.sqrt(2) * float(torch.erfinv(torch.tensor(0.5, dtype=torch.float64))))
"""1.4826: makes the median absolute deviation of a Gaussian its standard deviation."""


@torch.no_grad()
def _predict(body: nn.Module, features: Tensor) -> Tensor:
    return torch.cat([body(batch) for batch in torch.split(features, BATCH)])
