"""Models and examples are matched by the names of classes, by sample rate and by length, and only here.

Two models, or a model and a data set, may list the same classes in different orders. So labels and logits are
always converted by the names of classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from closesesame.core.errors import DataError, DivergedError, ModelError, cut, listed, short
from closesesame.core.types import Inputs, Logits
from closesesame.data import Dataset

from .base import Classifier, ModelCard
from .imported import adapt

SHOWN = 5


def card_of(model: nn.Module) -> ModelCard | None:
    """The card of a model of ours; None of any other module."""
    return model.card if isinstance(model, Classifier) else None


def as_classifier(model: nn.Module, data: Dataset | None) -> Classifier:
    """Any module as a `Classifier`: one that is not ours has the classes of the data, in their order.

    Raises:
        DataError: if it is not ours and there are no data.
    """
    if isinstance(model, Classifier):
        return model
    if data is None:
        raise DataError(
            "a module that is not ours does not know its classes: give clean examples, or use `adapt`"
        )
    return adapt(model, data.classes, data.input_shape, data.sample_rate)


def no_examples(card: ModelCard) -> Dataset:
    """A data set without examples, of the classes and inputs of a model."""
    return Dataset.of(
        torch.zeros(0, *card.input_shape),
        torch.zeros(0, dtype=torch.long),
        classes=card.classes,
        sample_rate=card.sample_rate,
    )


def data_for(card: ModelCard, data: Dataset) -> Dataset:
    """The same examples with labels that are indices into a model's classes.

    Raises:
        ModelError: if the model does not know a class of the data, or takes other inputs.
    """
    check_inputs(card, data)
    unknown = [name for name in data.classes if name not in card.classes]
    if unknown:
        raise ModelError(
            f"the model does not know class {few(unknown)} of the data; it knows {few(card.classes)}: give "
            "these classes the names that the model has for them, or leave out their clips"
        )
    return data if data.classes == card.classes else data.with_classes(card.classes)


def check_inputs(card: ModelCard, data: Dataset) -> None:
    """Refuses examples of another sample rate or shape than a model takes.

    Raises:
        ModelError: naming both.
    """
    if (data.input_shape, data.sample_rate) != (card.input_shape, card.sample_rate):
        raise ModelError(
            f"the model takes {say_inputs(card.input_shape, card.sample_rate)}, and the data hold "
            f"{say_inputs(data.input_shape, data.sample_rate)}; load them as the model takes them"
        )


def same_names(of: str, names: Sequence[str], other: str, others: Sequence[str]) -> None:
    """Refuses two lists of classes that do not hold the same names, in whatever order.

    Raises:
        ModelError: naming what is in one and not in the other.
    """
    lacking, more = sorted(set(others) - set(names)), sorted(set(names) - set(others))
    if lacking or more:
        said = [f"lacks {few(lacking)}"] * bool(lacking) + [f"also has {few(more)}"] * bool(more)
        raise ModelError(
            f"{of} and {other} have other classes: {of} {' and '.join(said)}; they belong to "
            "different tasks; take two that have the same classes"
        )


@dataclass(frozen=True)
class Answers:
    """Turns a model's logits into logits in the order of a data set's classes."""

    order: Tensor | None
    width: int
    names: Sequence[str]

    @classmethod
    def of(cls, model: nn.Module, data: Dataset) -> "Answers":
        """What a model's logits mean for a data set.

        Raises:
            ModelError: if the model has other classes, or takes other inputs; a module that is not ours is
                taken to have the classes of the data, in their order.
        """
        card = card_of(model)
        if card is None:
            return cls(None, len(data.classes), data.ids)
        check_inputs(card, data)
        if card.classes == data.classes:
            return cls(None, len(card.classes), data.ids)
        same_names("the model", card.classes, "the data", data.classes)
        order = torch.tensor([card.classes.index(name) for name in data.classes])
        return cls(order, len(card.classes), data.ids)

    def ask(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """Runs a model on a batch; `read` checks what comes out.

        Raises:
            ModelError: if it cannot take the inputs.
        """
        try:
            return model(inputs)  # type: ignore[no-any-return]
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if "allocate" in str(error):
                raise
            raise ModelError(
                f"the model cannot take inputs of shape {list(inputs.shape[1:])}: {short(error)}; adapt or "
                "import it again with the shape that it takes"
            ) from error

    def read(self, logits: Tensor, first: int, count: int) -> Logits:
        """Logits (batch, classes) in the order of the data set.

        Args:
            logits: the model's.
            first: number of the first example, for the error.
            count: how many examples there were.

        Raises:
            ModelError: if there are more or fewer logits than classes.
            DivergedError: if one is NaN or infinite.
        """
        if not isinstance(logits, Tensor) or logits.shape != (count, self.width):
            given = f"of shape {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise ModelError(
                f"the model gives answers {given} for {count} examples of {self.width} classes; one number "
                "an example and class is needed"
            )
        logits = logits.float().cpu()
        broken = ~logits.isfinite().all(1)
        if broken.any():
            name = cut(self.names[first + int(broken.nonzero()[0])], 200)
            raise DivergedError(
                f"the model answers NaN or infinity to {name!r}: it is damaged or its training diverged; get "
                "it again, or train it at a lower lr"
            )
        return logits if self.order is None else logits[:, self.order]


def say_missing(missing: Sequence[str], classes: int, risk: str) -> str:
    """That classes have no clean example, and what that means.

    Args:
        missing: their names.
        classes: how many classes there are in all.
        risk: what a method may get wrong for want of these examples.
    """
    return (
        f"the clean set has no example of {len(missing)} of {classes} classes ({few(missing)}): {risk}; "
        "add some"
    )


def few(names: Sequence[str]) -> str:
    """The first of many names of classes, in quotes."""
    return listed([repr(cut(name)) for name in names], SHOWN, longest=70)


def say_inputs(shape: tuple[int, ...], sample_rate: int | None) -> str:
    """Inputs for a sentence: clips by length and sample rate, pictures by shape."""
    if sample_rate is None or len(shape) != 1:
        return f"inputs of shape {list(shape)}"
    return f"clips of {shape[0] / sample_rate:g} s at {sample_rate:,} Hz"
