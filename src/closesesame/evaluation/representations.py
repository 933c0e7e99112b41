"""How far a repair moved a model: its weights, its features of clean clips, and what a trigger does to these.

Features are what enters the last layer. If a backdoor is there, the trigger turns them towards those of the
target label; if it is gone, a clip keeps its features whether the trigger is on it or not. Features of two
models are compared by linear CKA: Kornblith, Norouzi, Lee, Hinton, "Similarity of Neural Network
Representations Revisited", ICML 2019, arXiv:1905.00414.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from closesesame.core.evidence import Evidence, Group, Points
from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training.features import features_of

from .exam import Exam

MOST_CLIPS = 300
"""Clips that a report looks at, spread over the test set."""


@torch.no_grad()
def weight_distance(model: Classifier, other: Classifier) -> float | None:
    """||w - o|| / ||o|| over all weights and biases of two models, or None if they differ in shape.

    What a batch norm has counted, its mean and variance, is no weight.
    """
    mine, others = (dict(one.body.named_parameters()) for one in (model, other))
    if {name: one.shape for name, one in mine.items()} != {name: one.shape for name, one in others.items()}:
        return None
    moved = sum(
        float((mine[name] - one.to(mine[name])).double().square().sum()) for name, one in others.items()
    )
    return float((moved / sum(float(one.double().square().sum()) for one in others.values())) ** 0.5)


def linear_cka(first: Float[Tensor, "n unit"], second: Float[Tensor, "n other"]) -> float:
    """||X'Y||^2 / (||X'X|| ||Y'Y||) of features with mean 0: 1 if one is the other turned and scaled."""
    x, y = (features.double() - features.double().mean(0) for features in (first, second))
    return float((x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def evidence_of(exam: Exam, before: Classifier, repaired: Mapping[str, Classifier], name: str) -> Evidence:
    """What changed inside repaired models, to be drawn: in figures, and clip by clip if there is a trigger.

    Args:
        exam: test set, and the trigger if there is one.
        before: the model before its repair.
        repaired: repaired models by name.
        name: of the model before its repair.
    """
    clean, triggered = exam.test.take(_spread(len(exam.test))), None
    if exam.triggered is not None:
        clean, triggered = exam.pairs(_spread(len(exam.triggered)))
    models = {name: before, **repaired}
    features = {key: features_of(model, clean) for key, model in models.items()}
    said = []
    for key, model in repaired.items():
        moved, like = weight_distance(model, before), linear_cka(features[key], features[name])
        by = "another network" if moved is None else f"weights moved by {100 * moved:.0f} %"
        said.append(f"{key}: {by}, CKA {like:.2f}")
    return Evidence(
        title=f"Inside: how far {name} was moved",
        text=f"{'; '.join(said)}. Weights move by the norm of their change over the norm of all weights of "
        f"{name}. CKA (arXiv:1905.00414) compares what enters the last layer on {len(clean)} clean clips "
        f"with the same in {name}: 1 is the same but for turns and scale. Neither shows whether a backdoor "
        "is gone.",
        shapes=() if triggered is None else (_turned(models, features, triggered, name),),
    )


def cosines(first: Float[Tensor, "n unit"], second: Float[Tensor, "n unit"]) -> PerUnit:
    """The cosine between features of the same clip, one a row."""
    return F.cosine_similarity(first, second, dim=1)


def _turned(
    models: Mapping[str, Classifier], features: Mapping[str, Tensor], triggered: Dataset, suspect: str
) -> Points:
    groups = []
    for name, model in models.items():
        values = cosines(features[name], features_of(model, triggered))
        groups.append(Group(name=name, values=values, suspicious=torch.full(values.shape, name == suspect)))
    return Points(
        caption="What the trigger does to the features of a clip: 1 is nothing",
        unit="cosine of the features with the trigger and without",
        groups=tuple(groups),
    )


def _spread(count: int) -> Tensor:
    """At most `MOST_CLIPS` rows, evenly spread: a test set may be sorted by class."""
    return torch.linspace(0, count - 1, min(MOST_CLIPS, count)).long()
