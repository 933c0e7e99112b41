"""The stages of a network: the outputs that everything the logits know of an input passes through."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .tracing import Call, Layer, Norm, Producer, Trace, channel_count, counts_second, has_channels


@dataclass(frozen=True, eq=False)
class Stage:
    """The output of one stage of a network: a block after its addition, or a layer with what follows it.

    Attributes:
        name: of the module that puts it out.
        module: that module.
        axis: which dimension of its output counts the channels.
    """

    name: str
    module: nn.Module
    axis: int
    watched_at_input: bool = False


def stages_of(network: nn.Module, example: Tensor) -> list[Stage]:
    """Finds where all that the logits know of an input passes through one output, stage after stage.

    A layer inside a residual branch is none, since the shortcut goes around it; the block is one. Of the
    outputs between two layers with weights the last counts, so that norm, activation and pooling belong to
    the layer before them. Only maps count: outputs of more than one place, beside batch and channels.

    Args:
        network: from `example` to logits; it is left as it was.
        example: a batch of inputs.
    """
    trace = Trace(network, example)
    past, start = trace.past(), trace.start()
    found: list[Stage] = []
    layer: Layer | None = None
    last: Call | None = None
    for call in trace.calls():
        if isinstance(call.module, Producer):
            layer, last = call.module, None
        elif layer is not None and has_channels(call.module):
            assert isinstance(call.module, Norm)
            layer = call.module
        if layer is None or len(call.shape) < 3 or call.shape[0] != example.shape[0]:
            continue
        if (last is not None and call.node is last.node) or call.node not in past:
            continue
        axis = _channel_axis(layer, call.shape)
        is_map = call.shape.numel() > call.shape[0] * call.shape[axis]
        if is_map and start not in trace.past(without=call.node):
            found = found if last is None else found[:-1]
            found.append(Stage(call.name, call.module, axis))
            last = call
    return found


def _channel_axis(layer: nn.Module, shape: torch.Size) -> int:
    """The dimension of an output that counts the channels of the last layer before it."""
    last = len(shape) - 1
    expected, other = (1, last) if counts_second(layer) else (last, 1)
    return other if shape[expected] != channel_count(layer) == shape[other] else expected
