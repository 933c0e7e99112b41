"""What removals show of synthetic examples: the examples themselves, and how channels answer to them."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from closesesame.core.evidence import Curve, Distributions, Map
from closesesame.models import Classifier
from closesesame.optimisation.synthesis import Synthetic

SHOWN = 4
"""Examples, and channels, that are shown."""
LOUDEST = 0.1
"""RMS to which sounds made from synthetic examples are scaled."""


def maps_of(model: Classifier, made: Synthetic) -> list[Map]:
    """The most confident example of each of the first classes that have one, if features are maps."""
    card, front_end = model.card, copy.deepcopy(model.front_end).cpu()
    found = []
    for label in sorted(set(made.labels.tolist()))[:SHOWN]:
        rows = (made.labels == label).nonzero().flatten()
        row = int(rows[made.confidence[rows].argmax()])
        features = made.features[row : row + 1].detach().cpu().float()
        if features.ndim != 3:
            continue
        waves, sound = front_end.sound(features), None
        if waves is not None and card.sample_rate:
            wav = waves[0]
            level = LOUDEST / float(wav.square().mean().sqrt().clamp(min=1e-6))
            sound = ((level * wav).clamp(-1, 1), card.sample_rate)
        found.append(
            Map(
                caption=f"“{card.classes[label]}”, confidence {100 * float(made.confidence[row]):.0f} %",
                values=features[0],
                seconds=card.duration_s if card.sample_rate else float(features.shape[2]),
                rows="band",
                unit="deviations from the mean level",
                scale=(-2.0, 3.0),
                sound=sound,
            )
        )
    return found


def gaussians(caption: str, *, means: Float[Tensor, "2"], variances: Float[Tensor, "2"]) -> Distributions:
    """The pre-activations of a channel on synthetic examples and those of the reference, as Gaussians.

    Args:
        caption: which channel.
        means: on synthetic examples, and of the reference.
        variances: likewise.
    """
    means, spreads = means.double().cpu(), variances.clamp(min=1e-8).double().cpu().sqrt()
    low, high = float((means - 3 * spreads).min()), float((means + 3 * spreads).max())
    at = torch.linspace(low, high, 160, dtype=torch.float64)
    return Distributions(
        caption=caption,
        unit="pre-activation",
        curves=tuple(
            Curve(
                name=name,
                at=at,
                density=(-0.5 * ((at - mean) / spread).square()).exp() / spread,
                suspicious=name == "synthetic",
            )
            for name, mean, spread in zip(("synthetic", "reference"), means, spreads, strict=True)
        ),
    )
