"""BTI-DBF (U): find what the benign features leave over, invert a trigger from it, and unlearn that.

Xu, Huang, Li, Qin, Ren, "Towards Reliable and Efficient Backdoor Trigger Inversion via Decoupling Benign
Features", ICLR 2024. With h the features in front of the classifying layer s: (1) a mask m with
min CE(s(m h(x)), y) - CE(s((1 - m) h(x)), y); (2) a generator G that changes (1 - m) h most and m h least,
while x stays near; (3) fine-tuning on batches with a tenth of G(x), CE + MSE(h(x), h(mixed)); five rounds.
Defaults and the bounds of step 2 are those of the authors' code.

Ours differs: h is what enters the last linear layer; G is a small residual network that starts near the
identity, where the code trains a U-Net to be that first; bounds are in variances of the features; a round
has 40 steps for G and 20 for the model, not 30 epochs each of a larger set.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.errors import ModelError
from closesesame.core.progress import Track
from closesesame.core.seeding import derive, generator, isolated
from closesesame.core.types import Labels, PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.training import Loss, fit

from .base import FineTuning
from .minimax import entering, noted

Units = Tensor


class BTIDBF(FineTuning):
    """Decouple benign features, invert a trigger, unlearn it; round after round."""

    name: ClassVar[str] = "bti_dbf"
    cite: ClassVar[str] = "ICLR 2024"
    cost: ClassVar[str] = "about the training of the model"

    rounds: int = Field(5, ge=1, description="of all three steps")
    mask_steps: int = Field(400, ge=0, description="of Adam on the mask, in each round")
    mask_lr: float = Field(0.01, gt=0, description="of the mask")
    generator_steps: int = Field(40, ge=0, description="of Adam on the generator, in each round")
    generator_lr: float = Field(1e-3, gt=0, description="of the generator")
    most_changed: float = Field(0.3, gt=0, description="mean squared change of an input, in variances")
    most_benign: float = Field(3.0, gt=0, description="mean squared change of the benign features")
    share: float = Field(0.1, gt=0, le=1, description="of a batch that carries the inverted trigger")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="without weight decay AdamW is Adam")
    lr: float = Field(1e-4, gt=0, description="highest learning rate of the model")
    steps: int | None = Field(100, ge=0, description="batches in all rounds, instead of `epochs`")
    batch_size: int = Field(32, ge=2, description="examples a batch; at most the whole set")
    weight_decay: float = Field(0, ge=0, description="L2")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "constant", description="of the learning rate"
    )
    augmentation: Literal["none", "light", "strong"] = Field("none", description="of the features")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """The target is guessed after the first round: the class that G makes of most examples."""
        del held_out
        device = next(model.parameters()).device
        with torch.no_grad():
            features = torch.cat([model.front_end(x.to(device)) for x, _ in tune.batches(256)])
        labels = tune.labels.to(device)
        head = head_in(model)
        with isolated(seed, "trigger generator"):
            made = Residual(features).to(device)
        optimizer = torch.optim.Adam(made.parameters(), self.generator_lr)
        rng, target, benign = generator(seed, "trigger generator"), None, []
        epoch = max(1, round(len(tune) / min(self.batch_size, len(tune))))
        steps = self.epochs * epoch if self.steps is None else self.steps
        for number in Track(range(self.rounds), "rounds", self.rounds):
            with torch.no_grad(), noted(head) as units:
                model.body(features)
            mask = decouple(head, units[0], labels, self.mask_steps, self.mask_lr)
            benign.append(round(float(mask.mean()), 3))
            for _ in range(self.generator_steps):
                batch = features[torch.randperm(len(features), generator=rng)[: self.batch_size]]
                optimizer.zero_grad()
                self._invert(model.body, head, made, batch, mask, target).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            if target is None:
                with torch.no_grad():
                    target = int(model.body(made(features)).argmax(1).mode().values)
            training = self.training(steps=-(-steps // self.rounds))
            rule = self._unlearning(head, made, rng)
            fit(model, tune, training, seed=derive(seed, number), gradient=rule)
        return {"class_found": model.card.classes[target or 0], "benign_share": benign}

    def _invert(
        self, body: nn.Module, head: nn.Module, made: nn.Module, x: Tensor, mask: PerUnit, target: int | None
    ) -> Tensor:
        changed = made(x)
        with noted(head) as units, torch.no_grad():
            body(x)
        with noted(head) as moved:
            logits = body(changed)
        loss = inversion_loss(units[0], moved[0], mask, F.mse_loss(changed, x) / x.var(), self)
        if target is None:
            return loss
        return loss + F.cross_entropy(logits, torch.full_like(logits[:, 0], target, dtype=torch.long))

    def _unlearning(self, head: nn.Module, made: nn.Module, rng: torch.Generator):  # type: ignore[no-untyped-def]
        def rule(body: nn.Module, loss: Loss) -> Tensor:
            def some(features: Tensor) -> Tensor:
                rows = torch.randperm(len(features), generator=rng)[: int(self.share * len(features)) + 1]
                mixed = features.clone()
                with torch.no_grad():
                    mixed[rows] = made(features[rows])
                return mixed

            with noted(head) as units, noted(body) as plain, entering(body, some):
                value = loss()
            with noted(head) as clean:
                body(plain[0])
            value = value + F.mse_loss(clean[0], units[0])
            value.backward()  # type: ignore[no-untyped-call]
            return value.detach()

        return rule


class Residual(nn.Module):
    """Features plus a change of them, which is small at first."""

    def __init__(self, features: Tensor, width: int = 16) -> None:
        super().__init__()
        shape = features.shape[1:]
        if len(shape) not in {1, 2, 3}:
            raise ModelError(
                f"a trigger can be inverted for waveforms, maps and pictures, not {tuple(shape)}"
            )
        self.ins, flat = (shape[0] if len(shape) == 3 else 1), len(shape) == 1
        conv, size, stride = (nn.Conv1d, 9, 4) if flat else (nn.Conv2d, 5, 2)
        self.down = nn.Sequential(
            conv(self.ins, width, size, stride, size // 2),
            nn.ReLU(),
            conv(width, width, size, stride, size // 2),
            nn.ReLU(),
            conv(width, width, size, 1, size // 2),
            nn.ReLU(),
        )
        self.last = conv(width, self.ins, size, 1, size // 2)
        with torch.no_grad():
            self.last.weight.mul_(0.1)  # not 0: the loss is flat where nothing changes
        self.mode = "linear" if flat else "bilinear"

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape."""
        x = features if features.ndim == 4 else features[:, None]
        coarse = F.interpolate(self.down(x), size=x.shape[2:], mode=self.mode, align_corners=False)
        return features + self.last(coarse).view_as(features)  # type: ignore[no-any-return]


def decouple(head: nn.Module, units: Units, labels: Labels, steps: int, lr: float) -> PerUnit:
    """The mask under which the units still say the class, and without which they do not."""
    raw = torch.zeros(units.shape[-1], device=units.device, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr)
    for _ in range(steps):
        mask = raw.tanh() / 2 + 0.5
        loss = F.cross_entropy(head(mask * units), labels) - F.cross_entropy(head((1 - mask) * units), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return (raw.tanh() / 2 + 0.5).detach()


def inversion_loss(units: Units, moved: Units, mask: PerUnit, changed: Tensor, method: BTIDBF) -> Tensor:
    """What the generator minimises: the change of the input while a bound is passed, and then the features'.

    Args:
        units: of clean examples.
        moved: of the generator's.
        mask: 1 for benign.
        changed: mean squared change of the inputs.
        method: the bounds.
    """
    benign, rest = F.mse_loss(mask * moved, mask * units), F.mse_loss((1 - mask) * moved, (1 - mask) * units)
    if changed > method.most_changed or benign > method.most_benign:
        return changed
    return 0.01 * benign - rest
