"""Which neurons a backdoor uses, and how steep the clean loss is in them: what GN-FT rests on.

Zhou, Lin, Liu, "Gradient Norm-based Fine-Tuning for Backdoor Defense in Automatic Speech Recognition", 2025,
arXiv:2502.01152, states that backdoored neurons have larger gradients than others and clean neurons the
smallest, with hybrid ones between. How it tells them apart is not public.

Ours differs, where the paper is silent: a neuron is a channel; it is told by what the losses do when it is
silenced. This uses the trigger, which no defence knows, so it is evidence for a reader.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.errors import DataError
from closesesame.core.evidence import Evidence, Group, Points
from closesesame.core.progress import Track
from closesesame.core.types import Labels, PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import Channels, channels_in, scaled
from closesesame.models.matching import data_for

from .exam import Exam

Kind = Literal["backdoored", "hybrid", "clean", "other"]
KINDS: tuple[Kind, ...] = ("backdoored", "hybrid", "clean", "other")


@dataclass(frozen=True, eq=False)
class Neurons:
    """Channels of a model that a layer with weights makes.

    Attributes:
        gradient_norm: norm of the clean loss's gradient in the weights that make each channel.
        clean_rise: what silencing the channel adds to the loss on clean clips, in nats.
        backdoor_rise: what it adds to the loss of triggered clips for the label the attacker wants.
    """

    gradient_norm: PerUnit
    clean_rise: PerUnit
    backdoor_rise: PerUnit

    def kinds(self, share: float = 0.1) -> list[Kind]:
        """What each channel is for: it matters to a loss if it is in the top `share` by that loss's rise.

        One that matters to both is hybrid, one that matters to neither is other.
        """
        clean, backdoor = _highest(self.clean_rise, share), _highest(self.backdoor_rise, share)
        names: dict[tuple[bool, bool], Kind] = {
            (True, True): "hybrid",
            (True, False): "clean",
            (False, True): "backdoored",
            (False, False): "other",
        }
        return [names[key] for key in zip(clean.tolist(), backdoor.tolist(), strict=True)]

    def medians(self, share: float = 0.1) -> dict[Kind, float | None]:
        """The median gradient norm of each kind, None where there is no such channel."""
        kinds = self.kinds(share)
        found: dict[Kind, float | None] = {}
        for kind in KINDS:
            rows = torch.tensor([own == kind for own in kinds])
            found[kind] = float(self.gradient_norm[rows].median()) if rows.any() else None
        return found

    def evidence(self, share: float = 0.1) -> Evidence:
        """The gradient norms by kind, to be drawn."""
        kinds = self.kinds(share)
        norm = self.gradient_norm.clamp(min=float(self.gradient_norm.max()) * 1e-6)
        groups = []
        for kind in KINDS:
            own = norm[torch.tensor([found == kind for found in kinds])]
            suspicious = torch.full(own.shape, kind == "backdoored")
            groups.append(Group(name=kind, values=own, suspicious=suspicious))
        medians = ", ".join(f"{kind} {m:.2g}" for kind, m in self.medians(share).items() if m is not None)
        return Evidence(
            title="Channels that the backdoor uses",
            text=f"Each dot is one of {len(norm)} channels of the model. Its place is the norm of the "
            "gradient of the loss on clean clips, taken in the weights of the channel. Each channel was "
            "pruned alone to see what it is for. Channels in the top "
            f"{100 * share:g} % by the rise of the loss on triggered clips are backdoored, by that on clean "
            f"clips clean, by both hybrid. Medians: {medians}. GN-FT (arXiv:2502.01152) assumes that "
            "backdoored channels have the larger gradients.",
            shapes=(
                Points(
                    caption="Gradient norm, by what a channel is for",
                    unit="norm of the gradient of the loss on clean clips",
                    groups=tuple(groups),
                    logarithmic=True,
                ),
            ),
        )


def neurons_of(model: Classifier, exam: Exam, clips: int = 100, most: int = 1000) -> Neurons:
    """Silences channel after channel, and takes one gradient.

    Args:
        model: a victim; it is left as it was.
        exam: the trigger and the test set.
        clips: how many clean and how many triggered test clips to look at.
        most: how many channels to look at; of a model with more, that many, spread over its layers.

    Raises:
        DataError: if the exam has no trigger.
    """
    if exam.trigger is None or exam.triggered is None:
        raise DataError("telling neurons apart needs a trigger")
    model = copy.deepcopy(model).eval()
    layers = [layer for layer in channels_in(model) if layer.producer is not None]
    clean, labels = _some(model, data_for(model.card, exam.test), clips)
    triggered, origin = _some(model, data_for(model.card, exam.triggered), clips)
    targets = exam.trigger.target_labels(origin, model.card.classes)
    both, answers = torch.cat([clean, triggered]), torch.cat([labels, targets])
    usual = _losses(model.body, both, answers, len(clean))
    everyone = [(layer, number) for layer in layers for number in range(layer.count)]
    looked_at = _spread(len(everyone), most)
    rises = []
    for place in Track(looked_at.tolist(), "silencing channels", len(looked_at)):
        layer, number = everyone[place]
        on = torch.ones(layer.count, device=both.device)
        on[number] = 0
        with scaled([layer], [on], [on]):
            rises.append(_losses(model.body, both, answers, len(clean)) - usual)
    rise = torch.stack(rises).cpu()
    steep = _gradient_norm(model, layers, clean, labels)
    return Neurons(steep[looked_at], rise[:, 0], rise[:, 1])


def _spread(count: int, most: int) -> Int[Tensor, "chosen"]:
    """At most so many of the first `count` numbers, evenly spread."""
    return torch.linspace(0, count - 1, min(most, count)).long()


def _some(model: Classifier, data: Dataset, count: int) -> tuple[Tensor, Labels]:
    """Features and labels of clips spread over the set, which may be sorted by class."""
    rows = _spread(len(data), count)
    with torch.no_grad():
        features: Tensor = model.front_end(data.inputs[rows].to(model.device))
    return features, data.labels[rows].to(model.device)


@torch.no_grad()
def _losses(body: nn.Module, both: Tensor, answers: Labels, clean: int) -> Float[Tensor, "2"]:
    each = F.cross_entropy(body(both), answers, reduction="none")
    return torch.stack([each[:clean].mean(), each[clean:].mean()])


def _gradient_norm(model: Classifier, layers: list[Channels], clean: Tensor, labels: Labels) -> PerUnit:
    weights = [weight.requires_grad_() for weight in model.body.parameters()]
    loss = F.cross_entropy(model.body(clean), labels)
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    with torch.no_grad():  # the copy's weights become their gradients, which its layers lay out by channel
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.copy_(torch.zeros_like(weight) if gradient is None else gradient)
        return torch.cat([layer.weight_rows().norm(dim=1) for layer in layers]).cpu()


def _highest(rise: PerUnit, share: float) -> Tensor:
    """The top share, but none that does not rise at all."""
    count = max(1, round(share * len(rise)))
    return (rise >= rise.sort(descending=True).values[count - 1]) & (rise > 0)
