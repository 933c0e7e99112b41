"""IBD-PSC: the answers to triggered inputs stay certain when the last batch norms are amplified.

Hou, Feng, Hua, Luo, Zhang, Li, "IBD-PSC: Input-level Backdoor Detection via Parameter-oriented Scaling
Consistency", ICML 2024, arXiv:2405.09786. Scale and shift of the last k batch norms are multiplied by 1.5,
with five values of k, one after the other. The lowest is the first at which the model gets more than 60 % of
the clean clips wrong. A score is the mean probability of the class that the suspect answers.

Ours differs: the last batch norms are those that are computed last, not those that the network lists last.
If a network has too few batch norms for five values of k, fewer are taken; if no k makes so many errors, the
five highest are taken, and the score says little. So it is with our networks: with all ten batch norms of a
`resnet` amplified, two suspects and a clean model still get 73 to 90 % of the clean clips right.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import Channels
from closesesame.models.hooks import on_output
from closesesame.training import accuracy, predict

from .base import Detection
from .common.activations import batch_norms


class IbdPsc(Detection):
    """Score how certain amplified models stay of the class that the suspect answers to an input."""

    name: ClassVar[str] = "ibd_psc"
    cite: ClassVar[str] = "arXiv:2405.09786"
    of: ClassVar[Literal["training clips", "inputs"]] = "inputs"
    needs_clean: ClassVar[bool] = True
    requires: ClassVar[str] = "batch norm"
    quick: ClassVar[dict[str, int]] = {"models": 2}

    factor: float = Field(1.5, gt=1, le=100, description="that scales and shifts are multiplied by")
    models: int = Field(5, ge=1, le=1000, description="amplified models whose answers are averaged")
    error: float = Field(
        0.6, ge=0, lt=1, description="share of clean clips; the first amplified model gets more of them wrong"
    )
    threshold: float = Field(0.9, ge=0, le=1, description="mean probability above which an input is flagged")

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """One batch norm more is amplified at a time, from the last to the first."""
        del seed
        norms, answers = batch_norms(model), predict(model, examples).argmax(1, keepdim=True)
        certain = torch.zeros(len(examples), dtype=torch.float64)
        counts = self.counts(model, norms, clean)
        for count in counts:
            with amplified(norms[-count:], self.factor):
                certain += predict(model, examples).double().softmax(1).gather(1, answers)[:, 0]
        return certain / len(counts)

    def flags_above(self) -> float:
        """The paper's threshold, if the settings name no other."""
        return self.threshold

    def counts(self, model: Classifier, norms: Sequence[Channels], clean: Dataset) -> range:
        """How many batch norms are amplified in each of the models."""
        for count in range(1, len(norms) + 1):
            with amplified(norms[-count:], self.factor):
                wrong = 1 - accuracy(model, clean)
            if wrong > self.error:
                return range(count, min(count + self.models, len(norms) + 1))
        return range(max(1, len(norms) + 1 - self.models), len(norms) + 1)


@contextmanager
def amplified(norms: Sequence[Channels], factor: float) -> Iterator[None]:
    """Within the block scale and shift of the norms, and so all they put out, are multiplied by a factor."""
    with ExitStack() as hooks:
        for norm in norms:
            hooks.enter_context(on_output(norm.module, lambda value: factor * value))
        yield
