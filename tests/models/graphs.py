"""Small ONNX graphs for tests; only for tests that have the package."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = Sequence[int | str]


def floats(values: Any) -> NDArray[np.float32]:
    """A weight."""
    return np.asarray(values, np.float32)


def integers(values: Any) -> NDArray[np.int64]:
    """Axes, or a shape."""
    return np.asarray(values, np.int64)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """An operator, named after what it makes; inputs and outputs have spaces between."""
    from onnx import helper

    made = outputs.split(" ")
    return helper.make_node(operator, inputs.split(" "), made, name=made[0], **attributes)


def graph(
    nodes: Sequence[Any],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    weights: Mapping[str, Any] | None = None,
    kinds: Mapping[str, int] | None = None,
) -> Any:
    """A graph; inputs and outputs are float32 unless their kind is given."""
    from onnx import TensorProto, helper, numpy_helper

    def value(name: str, shape: Shape) -> Any:
        return helper.make_tensor_value_info(name, (kinds or {}).get(name, TensorProto.FLOAT), list(shape))

    takes, gives = ([value(*one) for one in ports.items()] for ports in (inputs, outputs))
    made = [numpy_helper.from_array(np.asarray(values), name) for name, values in (weights or {}).items()]
    return helper.make_graph(list(nodes), "graph", takes, gives, made)


def model(graph: Any, functions: Sequence[Any] = (), domains: Sequence[str] = ("",)) -> Any:
    """A model with that graph."""
    from onnx import helper

    sets = [helper.make_opsetid(domain, 17 if domain in {"", "ai.onnx"} else 1) for domain in domains]
    return helper.make_model(graph, functions=list(functions), opset_imports=sets, ir_version=8)


WEIGHTS = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
SOUND, SCORES = {"wav": ("batch", 50)}, {"scores": ("batch", 3)}


def linear(nodes: Sequence[Any] = (), weights: Mapping[str, Any] | None = None, **changes: Any) -> Any:
    """Scores of three classes for 50 samples, as a product with `WEIGHTS`."""
    settings: dict[str, Any] = {"inputs": SOUND, "outputs": SCORES} | changes
    nodes = nodes or [node("MatMul", "wav w", "scores")]
    return model(graph(nodes, weights={"w": WEIGHTS} | dict(weights or {}), **settings))
