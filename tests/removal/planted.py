"""A backdoored model made by hand, whose removals take milliseconds."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from closesesame.data import Dataset
from closesesame.models import Classifier, adapt
from closesesame.removal import Removal

CLASSES = ("a", "b", "c", "d")
BANDS, FRAMES, TRIGGERED = 8, 6, slice(4, 8)


class Planted(nn.Module):
    """Maps (batch, 8 bands, 6 frames) to logits: band k says class k, and bands 4 to 7 say the target."""

    def __init__(self, target: int = 2, strength: float = 4.0) -> None:
        super().__init__()
        self.mix = nn.Conv1d(BANDS, BANDS, 1, bias=False)
        self.mix.weight.data = torch.eye(BANDS)[..., None]
        self.head = nn.Linear(BANDS, 4, bias=False)
        self.head.weight.data = 3 * torch.eye(4, BANDS)
        self.head.weight.data[:, TRIGGERED] = 0.05  # what says nothing of the class is looked at, too
        self.head.weight.data[target, TRIGGERED] += strength

    def units(self, maps: Tensor) -> Tensor:
        """What is pooled: (batch, 8, 6)."""
        units: Tensor = self.mix(maps).relu()
        return units

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.head(self.units(maps).mean(2))
        return logits


def planted(target: int = 2, strength: float = 4.0) -> Classifier:
    """The model; strength 0 is a clean one."""
    return adapt(Planted(target, strength), CLASSES, (BANDS, FRAMES), None).eval()


def clips(n: int = 40, seed: int = 0) -> Dataset:
    """Maps with a little noise whose band k is loud if they are of class k."""
    labels = torch.arange(n) % 4
    maps = 0.1 * torch.randn(n, BANDS, FRAMES, generator=torch.Generator().manual_seed(seed))
    maps[torch.arange(n), labels] += 2
    return Dataset.of(maps, labels, classes=CLASSES)


def triggered(data: Dataset) -> Tensor:
    """The maps with the trigger in bands 4 to 7."""
    maps = data.inputs[:].clone()
    maps[:, TRIGGERED] += 1
    return maps


@torch.no_grad()
def rates(model: nn.Module, target: int = 2) -> tuple[float, float]:
    """Accuracy on other clips, and the share of those of other classes that the trigger turns."""
    data = clips(80, 9)
    other = data.labels != target
    asr = (model(triggered(data)[other]).argmax(1) == target).float().mean()
    return float((model(data.inputs[:]).argmax(1) == data.labels).float().mean()), float(asr)


def repaired(method: Removal, model: Classifier | None = None, data: Dataset | None = None) -> Classifier:
    """A copy of the planted model that the method trained on all clips given."""
    other = copy.deepcopy(planted() if model is None else model)
    method.repair(other, clips() if data is None else data, clips(8, 5), 0)
    return other


def entering(model: Classifier) -> list[Tensor]:
    """A list to which every run of the model appends what enters its first layer, from now on."""
    seen: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].detach().clone())

    model.get_submodule("body.mix").register_forward_pre_hook(note)
    return seen


def descended(
    model: Classifier, loss: Callable[[nn.Module], Tensor], lr: float, steps: int = 1
) -> dict[str, Tensor]:
    """The weights of the body after steps of plain gradient descent."""
    body = copy.deepcopy(model.body)
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(body), list(body.parameters()))
        with torch.no_grad():
            for weight, gradient in zip(body.parameters(), gradients, strict=True):
                weight.sub_(lr * gradient)
    return {name: weight.detach() for name, weight in body.named_parameters()}
