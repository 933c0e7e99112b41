"""What an ONNX graph does besides applying weights: a backdoor may be a branch of it and need no weights.

"ShadowLogic" (HiddenLayer, 2024; MITRE ATLAS AML.T0018.001) adds a few operators to a graph: some find the
trigger in the input, a comparison decides, and another operator puts the attacker's answer in place of the
model's. It outlives conversion and fine-tuning. So all operators that decide something by the values of the
sound, and whose decision reaches the answers, are named, with where they stand: before the first layer with
weights, after the last, or between layers. What depends on lengths or on the sample rate is no such decision.

It does not see a decision that is made by arithmetic alone, with weights or with a steep ReLU; large
constants beside the answers hint at the latter. One who adds a layer with weights that do nothing moves a
decision between layers, where masks and guards of honest models stand, too.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from closesesame.core.errors import ModelError, cut, listed

from .reading import OF_RUNTIME, parts
from .runtime import Finding, needed

COMPARES = frozenset(
    {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "Sign"}
    | {"IsNaN", "IsInf", "Where", "If", "Loop", "ArgMax", "ArgMin", "TopK", "Hardmax", "NonZero"}
    | {"OneHot", "Compress", "Unique", "Floor", "Ceil", "Round", "Mod", "ThresholdedRelu", "Shrink"}
    | {"Range", "Bernoulli", "Multinomial", "CastLike", "Cast to whole numbers", "MaxPool with indices"}
    | {"BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "Binarizer", "Imputer"}
    | {"LabelEncoder", "LinearClassifier", "SVMClassifier", "SVMRegressor", "TreeEnsemble"}
    | {"TreeEnsembleClassifier", "TreeEnsembleRegressor"}
)
"""What gives whole numbers, steps or branches for real numbers; Cast and MaxPool do it in some uses only."""
QUANTIZES = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})
"""What rounds in steps of a scale; what undoes it is linear."""
DECIDED_BY = {"Where": 1, "If": 1, "Loop": 2, "CastLike": 1}
"""How many of their inputs decide; the others are what is decided on."""
LAYERS = frozenset(
    {"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN", "ConvInteger", "MatMulInteger"}
    | {"QLinearConv", "QLinearMatMul", "FusedConv", "FusedMatMul", "FusedGemm", "QGemm", "MatMulNBits"}
    | {"DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "Einsum", "Attention", "MultiHeadAttention"}
)
LARGE = 1_000.0
"""No logit of a trained model comes near it."""
MOST_STEPS, MOST_CALLS, DEEPEST = 200_000, 10_000, 50
"""Functions that call functions may stand for more operators than any machine holds."""
ABSENT = -1
"""Stands for an input that is left out."""
_FLOATS = (1, 10, 11, 16)
"""float, float16, double, bfloat16, as ONNX numbers them."""


def check_graph(model: Any) -> tuple[Finding, ...]:
    """What a person should know of the operators of a model.

    Args:
        model: as `read_graph` gives it.

    Raises:
        ModelError: if its functions call each other without end, or a constant is damaged.
    """
    graph = _Graph(model)
    sound = graph.forward()
    layers = {step for step in graph.steps if step.is_layer(sound)}
    head, tail, needed_ones = graph.forward(layers), graph.backward(layers), graph.backward()
    places: dict[str, list[str]] = {BEFORE: [], AFTER: [], BETWEEN: []}
    for step in graph.steps:
        by, makes = step.decided_by() & sound, set(step.outputs)
        if by and makes & needed_ones:
            places[AFTER if makes & tail else BEFORE if by & head else BETWEEN].append(step.shown)
    rounded = [
        step.shown
        for step in graph.steps
        if step.operator in QUANTIZES and sound & set(step.inputs) and needed_ones & set(step.outputs)
    ]
    found = [
        Finding(f"{place}: {listed(names, 5)}", suspicious=place != BETWEEN)
        for place, names in places.items()
        if names
    ]
    if rounded:
        found.append(Finding(f"{ROUNDED}: {listed(rounded, 5)}", suspicious=False))
    large = max((_largest(graph.constants[one]) for one in tail & graph.constants.keys()), default=0.0)
    if large >= LARGE:
        found.append(Finding(f"{CONSTANT}: {large:.3g}", suspicious=True))
    own = {node.op_type for node in parts(model, "NodeProto") if node.domain in OF_RUNTIME}
    if own:
        found.append(Finding(f"{OWN}: {listed(sorted(own), 5)}", suspicious=False))
    return tuple(found)


BEFORE = "values of the sound decide about the answers before any layer with weights"
AFTER = "values of the sound decide about the answers after the last layer with weights"
BETWEEN = "values of the sound decide about the answers between layers, as in masks and guards"
ROUNDED = "values of the sound are rounded, as in quantised models; a coarse scale makes that a decision"
CONSTANT = "a large constant reaches the answers after the last layer with weights"
OWN = "operators that onnxruntime alone has"


@dataclass(frozen=True)
class _Step:
    """An operator; its values are numbered."""

    operator: str
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def shown(self) -> str:
        return f"{self.operator} {cut(self.name, 30)!r}" if self.name else self.operator

    def decided_by(self) -> set[int]:
        """The inputs by which it decides, if it decides."""
        return set(self.inputs[: DECIDED_BY.get(self.operator)]) if self.operator in COMPARES else set()

    def is_layer(self, sound: set[int]) -> bool:
        """Whether it applies weights to what comes of the sound."""
        inputs = set(self.inputs) - {ABSENT}
        return self.operator in LAYERS and bool(inputs & sound) and bool(inputs - sound)


class _Graph:
    """All operators of a model, with those inside of branches, loops and functions, in any order."""

    def __init__(self, model: Any) -> None:
        self.numbers, self.calls, self.steps = count(), count(), list[_Step]()
        self.constants = dict[int, Any]()
        self.functions = {(one.domain, one.name, one.overload): one for one in model.functions}
        names = {one.name: next(self.numbers) for one in model.graph.input}
        self.sound = {
            names[one.name] for one in model.graph.input if one.type.tensor_type.elem_type in _FLOATS
        }
        self._walk(model.graph, names, 0)
        self.outputs = {names[one.name] for one in model.graph.output if one.name in names}

    def _walk(self, graph: Any, names: dict[str, int], depth: int) -> None:
        """Adds the operators of a graph or a function; nothing says that they stand in order."""
        if depth > DEEPEST or next(self.calls) > MOST_CALLS or len(self.steps) > MOST_STEPS:
            raise ModelError("the model is refused: its functions and branches stand for too many operators")
        for tensor in getattr(graph, "initializer", ()):
            names[tensor.name] = number = next(self.numbers)
            self.constants[number] = tensor
        names.update({name: next(self.numbers) for node in graph.node for name in node.output if name})
        for node in graph.node:
            self._add(node, names, depth)

    def _add(self, node: Any, names: dict[str, int], depth: int) -> None:
        inputs = tuple(names.get(name, ABSENT) for name in node.input)
        outputs = tuple(names[name] for name in node.output if name)
        function = self.functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            inner = dict(zip(function.input, inputs, strict=False))
            self._walk(function, inner, depth + 1)
            for name, output in zip(function.output, outputs, strict=False):
                self.steps.append(_Step("", "", (inner.get(name, ABSENT),), (output,)))
            return
        operator = node.op_type
        if operator == "MaxPool" and len(outputs) > 1:
            operator = "MaxPool with indices"
        for attribute in node.attribute:
            if operator == "Constant":
                self.constants.update(dict.fromkeys(outputs, attribute))
            if operator == "Cast" and attribute.name == "to" and attribute.i not in _FLOATS:
                operator = "Cast to whole numbers"
            for branch in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                inner = names | {one.name: next(self.numbers) for one in branch.input}
                taken = tuple(inner[one.name] for one in branch.input)
                self._walk(branch, inner, depth + 1)
                given = tuple(inner[one.name] for one in branch.output if one.name in inner)
                self.steps += [_Step("", "", inputs, taken), _Step("", "", given, outputs)]
        # What a loop carries reaches its outputs through its body; here only what decides does.
        control = DECIDED_BY[operator] if operator in {"If", "Loop"} else None
        self.steps.append(_Step(operator, node.name, inputs[:control], outputs))

    def forward(self, but: Collection[_Step] = ()) -> set[int]:
        """Values that depend on the numbers in the sound, on a way without the steps to be left out."""
        steps = (one for one in self.steps if one not in but and one.operator not in {"Shape", "Size"})
        return _reached(self.sound, [(step.inputs, step.outputs) for step in steps])

    def backward(self, but: Collection[_Step] = ()) -> set[int]:
        """Values that the answers depend on, on a way without the steps to be left out."""
        steps = (one for one in self.steps if one not in but)
        return _reached(self.outputs, [(step.outputs, step.inputs) for step in steps])


def _reached(start: set[int], edges: Iterable[tuple[Sequence[int], Sequence[int]]]) -> set[int]:
    """All that can be reached."""
    ahead: dict[int, list[int]] = {}
    for sources, ends in edges:
        for source in sources:
            ahead.setdefault(source, []).extend(ends)
    found, left = set(start), list(start)
    while left:
        new = set(ahead.get(left.pop(), ())) - found - {ABSENT}
        found |= new
        left += new
    return found


def _largest(constant: Any) -> float:
    """The largest magnitude in a weight, or in an attribute that holds one; 0 if it holds whole numbers."""
    onnx = needed("onnx", "onnx")
    if constant.DESCRIPTOR.name == "AttributeProto":
        if not constant.HasField("t"):
            return max(abs(float(value)) for value in [constant.f, *constant.floats])
        constant = constant.t
    if constant.data_type not in _FLOATS:
        return 0.0
    try:
        values = np.abs(onnx.numpy_helper.to_array(constant).astype(np.float64))
    except (TypeError, ValueError):
        raise ModelError(
            f"constant {cut(constant.name)!r} is damaged: it holds other numbers than it claims; get the "
            "file again"
        ) from None
    return float(values.max(initial=0.0))
