"""The check of ONNX graphs: branches that decide by the sound are found wherever they hide."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

from closesesame.core.errors import ModelError  # noqa: E402
from closesesame.models.black_boxes.graph import (  # noqa: E402
    AFTER,
    BEFORE,
    BETWEEN,
    COMPARES,
    CONSTANT,
    OWN,
    QUANTIZES,
    ROUNDED,
    check_graph,
)
from closesesame.models.black_boxes.reading import read_graph  # noqa: E402

from .graphs import SCORES, SOUND, WEIGHTS, floats, graph, integers, linear, model, node  # noqa: E402

LOUD = [
    node("ReduceMax", "wav", "loudest", axes=[1], keepdims=1),
    node("Greater", "loudest limit", "found"),
]
LIMIT = {"limit": np.float32(0.9)}


def said(made: Any) -> list[tuple[str, bool]]:
    return [(one.sentence, one.suspicious) for one in check_graph(made)]


def added() -> Any:
    """ShadowLogic: a loud sample adds 50 to the last class."""
    nodes = [
        node("MatMul", "wav w", "honest"),
        *LOUD,
        node("Cast", "found", "one", to=onnx.TensorProto.FLOAT),
        node("Mul", "one push", "pushed"),
        node("Add", "honest pushed", "scores"),
    ]
    return linear(nodes, LIMIT | {"push": floats([[0, 0, 50]])})


def chosen() -> Any:
    """A loud sample chooses a branch that answers what it always answers."""
    yes = graph([node("Identity", "fixed", "yes")], {}, {"yes": ("batch", 3)}, {"fixed": floats([[1, 0, 0]])})
    no = graph([node("MatMul", "wav w", "no")], {}, {"no": ("batch", 3)})
    nodes = [
        LOUD[0],
        node("Squeeze", "loudest", "one"),
        node("Less", "one limit", "any"),
        node("If", "any", "scores", then_branch=yes, else_branch=no),
    ]
    return linear(nodes, LIMIT)


def swapped() -> Any:
    """A loud sample puts another sound in place of the clip."""
    nodes = [*LOUD, node("Where", "found other wav", "heard"), node("MatMul", "heard w", "scores")]
    return linear(nodes, LIMIT | {"other": np.zeros((1, 50), np.float32)})


def between() -> Any:
    """A comparison of hidden values, such as a mask makes."""
    nodes = [
        node("MatMul", "wav v", "hidden"),
        node("Less", "hidden limit", "small"),
        node("Where", "small limit hidden", "masked"),
        node("MatMul", "masked w", "scores"),
    ]
    return linear(nodes, LIMIT | {"v": np.eye(50, dtype=np.float32)})


def in_function() -> Any:
    """The same as `swapped`, inside of a function that the file defines."""
    body = [*swapped().graph.node[:3]]
    made = onnx.helper.make_function(
        "own", "Guard", ["wav", "limit", "other"], ["heard"], body, [onnx.helper.make_opsetid("", 17)]
    )
    call = onnx.helper.make_node("Guard", ["wav", "limit", "other"], ["heard"], domain="own")
    weights = LIMIT | {"other": np.zeros((1, 50), np.float32), "w": WEIGHTS}
    nodes = [call, node("MatMul", "heard w", "scores")]
    return model(graph(nodes, SOUND, SCORES, weights), [made], ["", "own"])


def truncated() -> Any:
    """Loud samples are found by the whole part of what they are."""
    nodes = [
        node("MatMul", "wav w", "honest"),
        LOUD[0],
        node("Cast", "loudest", "whole", to=onnx.TensorProto.INT32),
        node("Cast", "whole", "real", to=onnx.TensorProto.FLOAT),
        node("Add", "honest real", "scores"),
    ]
    return linear(nodes)


def looped() -> Any:
    """What a loop carries is compared within."""
    body = graph(
        [
            node("Identity", "go", "goes"),
            node("ReduceMax", "carried", "loudest", axes=[1], keepdims=1),
            node("Greater", "loudest limit", "found"),
            node("Where", "found other carried", "next"),
        ],
        {"i": (), "go": (), "carried": ("batch", 50)},
        {"goes": (), "next": ("batch", 50)},
        kinds={"i": onnx.TensorProto.INT64, "go": onnx.TensorProto.BOOL, "goes": onnx.TensorProto.BOOL},
    )
    nodes = [node("Loop", "once true wav", "heard", body=body), node("MatMul", "heard w", "scores")]
    weights = {"once": np.int64(1), "true": np.bool_(True), "other": np.zeros((1, 50), np.float32)}
    return linear(nodes, LIMIT | weights)


def reversed_order() -> Any:
    """The same as `added`, with the operators in an order that nobody would write."""
    made = added()
    nodes = list(made.graph.node)[::-1]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


PLANTED: dict[str, tuple[Callable[[], Any], list[tuple[str, bool]]]] = {
    "added to the answers": (added, [(f"{AFTER}: Greater 'found'", True)]),
    "in an unusual order": (reversed_order, [(f"{AFTER}: Greater 'found'", True)]),
    "a branch": (chosen, [(f"{AFTER}: Less 'any', If 'scores'", True)]),
    "whole parts": (truncated, [(f"{AFTER}: Cast to whole numbers 'whole'", True)]),
    "in a loop": (looped, [(f"{BEFORE}: Greater 'found', Where 'next'", True)]),
    "on the sound": (swapped, [(f"{BEFORE}: Greater 'found', Where 'heard'", True)]),
    "in a function": (in_function, [(f"{BEFORE}: Greater 'found', Where 'heard'", True)]),
    "between layers": (between, [(f"{BETWEEN}: Less 'small', Where 'masked'", False)]),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_decision_is_found_with_its_place(name: str) -> None:
    make, expected = PLANTED[name]
    assert said(make()) == expected


@pytest.mark.parametrize("name", PLANTED)
def test_planted_decisions_run_and_change_the_answers(name: str) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    session = runtime.InferenceSession(
        PLANTED[name][0]().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    quiet = np.full((1, 50), 0.5, np.float32)
    loud = quiet.copy()
    loud[0, 7] = 1.5
    heard = [session.run(["scores"], {"wav": wav})[0] for wav in (quiet, loud)]
    assert not np.allclose(heard[1] - heard[0], WEIGHTS[7], atol=1e-3)  # what the sample itself adds


DECIDES = sorted(
    {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or"}
    | {"Xor", "Not", "Sign", "IsNaN", "IsInf", "Where", "If"}
    | {"Loop", "ArgMax", "ArgMin", "TopK", "Hardmax", "NonZero", "OneHot"}
    | {"Compress", "Unique", "Floor", "Ceil", "Round", "Mod", "ThresholdedRelu"}
    | {"Shrink", "Range", "Bernoulli", "Multinomial", "CastLike", "BitShift", "BitwiseAnd"}
    | {"BitwiseOr", "BitwiseXor", "BitwiseNot", "Binarizer", "Imputer", "LabelEncoder", "LinearClassifier"}
    | {"SVMClassifier", "SVMRegressor", "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"}
)


def behind(*nodes: Any) -> Any:
    """Operators whose `found` is added to the answers."""
    return linear([node("MatMul", "wav w", "honest"), LOUD[0], *nodes, node("Add", "honest found", "scores")])


@pytest.mark.parametrize("operator", DECIDES)
def test_each_operator_that_decides_is_found(operator: str) -> None:
    """By the names of the operators alone: not all of these graphs could be run."""
    assert said(behind(node(operator, "loudest", "found"))) == [(f"{AFTER}: {operator} 'found'", True)]


def test_a_cast_and_a_pooling_decide_in_some_uses_only() -> None:
    assert set(DECIDES) | {"Cast to whole numbers", "MaxPool with indices"} == COMPARES
    assert said(behind(node("Cast", "loudest", "found", to=onnx.TensorProto.FLOAT16))) == []
    assert said(behind(node("MaxPool", "loudest", "found", kernel_shape=[1]))) == []
    pooled = node("MaxPool", "loudest", "largest found", kernel_shape=[1])
    assert said(behind(pooled)) == [(f"{AFTER}: MaxPool with indices 'largest'", True)]
    # A constant that gets the kind of the sound decides nothing.
    assert said(behind(node("CastLike", "w loudest", "found"))) == []


@pytest.mark.parametrize("operator", sorted(QUANTIZES))
def test_rounding_as_in_quantised_models_is_said(operator: str) -> None:
    rounding = [node(operator, "loudest scale", "whole"), node("DequantizeLinear", "whole scale", "found")]
    made = behind(*rounding)
    made.graph.initializer.append(onnx.numpy_helper.from_array(floats(1), "scale"))
    assert said(made) == [(f"{ROUNDED}: {operator} 'whole'", False)]
    assert said(linear([node(operator, "w scale", "v"), node("MatMul", "wav v", "scores")])) == []


def by_length() -> Any:
    """Decides by the length of the sound alone."""
    nodes = [
        node("Shape", "wav", "shape"),
        node("Equal", "shape long", "same"),
        node("Where", "same wav wav", "heard"),
        node("MatMul", "heard w", "scores"),
    ]
    return linear(nodes, {"long": integers([1, 50])})


def by_rate() -> Any:
    """Decides by the sample rate, as models for two sample rates do."""
    branches = {
        name: graph([node("MatMul", "wav w", name)], {}, {name: ("batch", 3)})
        for name in ("then_branch", "else_branch")
    }
    nodes = [node("Equal", "sr wide", "is"), node("If", "is", "scores", **branches)]
    inputs = SOUND | {"sr": ()}
    return linear(nodes, {"wide": np.int64(16000)}, inputs=inputs, kinds={"sr": onnx.TensorProto.INT64})


def unused() -> Any:
    """A comparison that reaches no answer."""
    return linear([*LOUD, node("MatMul", "wav w", "scores")], LIMIT)


def honest() -> Any:
    """Convolution, pooling and a linear layer with a bias."""
    nodes = [
        node("Unsqueeze", "wav one", "channel"),
        node("Conv", "channel kernels", "maps", kernel_shape=[5]),
        node("Relu", "maps", "rectified"),
        node("ReduceMax", "rectified", "pooled", axes=[2], keepdims=0),
        node("Gemm", "pooled head bias", "scores"),
    ]
    kernels, head = np.ones((4, 1, 5), np.float32), np.ones((4, 3), np.float32)
    weights = {"one": integers([1]), "kernels": kernels, "head": head, "bias": np.zeros(3, np.float32)}
    return linear(nodes, weights)


@pytest.mark.parametrize("make", [linear, honest, by_length, by_rate, unused])
def test_clean_graphs_have_nothing_to_say(make: Callable[[], Any]) -> None:
    assert said(make()) == []


@pytest.mark.parametrize(("size", "found"), [(999, []), (1e6, [(f"{CONSTANT}: 1e+06", True)])])
@pytest.mark.parametrize("as_constant", [False, True])
def test_a_large_constant_beside_the_answers_is_said(
    size: float, found: list[tuple[str, bool]], as_constant: bool
) -> None:
    value = floats([0, -size, 1])
    constant = node("Constant", "", "push", value=onnx.numpy_helper.from_array(value))
    del constant.input[:]
    nodes = [
        node("MatMul", "wav w", "honest"),
        node("Identity", "push", "p"),
        node("Add", "honest p", "scores"),
    ]
    made = linear([constant, *nodes]) if as_constant else linear(nodes, {"push": value})
    assert said(made) == found
    # Before a layer, and in whole numbers, it is nothing.
    nodes = [node("Add", "wav large", "louder"), node("MatMul", "louder w", "scores")]
    assert said(linear(nodes, {"large": np.float32(1e6)})) == []
    nodes = [node("MatMul", "wav w", "flat"), node("Reshape", "flat shape", "scores")]
    assert said(linear(nodes, {"shape": integers([-1, 3]), "end": np.int64(2**62)})) == []


def test_operators_of_the_runtime_are_said_and_others_refused() -> None:
    own = onnx.helper.make_node("QuickGelu", ["wav"], ["heard"], domain="com.microsoft")
    made = linear([own, node("MatMul", "heard w", "scores")])
    assert said(made) == [(f"{OWN}: QuickGelu", False)]
    own.domain = "evil.ops"
    made = linear([own, node("MatMul", "heard w", "scores")])
    with pytest.raises(ModelError, match=r"neither standard nor defined in it \(evil\.ops\)"):
        read_graph(made.SerializeToString(), "model.onnx")
    assert read_graph(in_function().SerializeToString(), "model.onnx") == in_function()


def test_functions_that_stand_for_any_number_of_operators_are_refused() -> None:
    sets = [onnx.helper.make_opsetid("own", 1)]

    def function(name: str, inner: list[str]) -> Any:
        calls = [onnx.helper.make_node(one, [], [], domain="own") for one in inner]
        return onnx.helper.make_function("own", name, [], [], calls, sets)

    call = onnx.helper.make_node("F0", [], [], domain="own")
    made = graph([call, node("MatMul", "wav w", "scores")], SOUND, SCORES, {"w": WEIGHTS})
    endless = [function("F0", ["F0"])]
    doubling = [function(f"F{i}", [f"F{i + 1}"] * 2) for i in range(40)] + [function("F40", [])]
    for functions in (endless, doubling):
        with pytest.raises(ModelError, match="stand for too many operators"):
            check_graph(model(made, functions, ["", "own"]))


def test_a_constant_that_holds_other_numbers_than_it_claims_is_refused() -> None:
    made = linear([node("MatMul", "wav w", "honest"), node("Add", "honest push", "scores")])
    made.graph.initializer.append(onnx.TensorProto(name="push", data_type=1, dims=[3], raw_data=b"1234"))
    with pytest.raises(
        ModelError, match=r"constant 'push' is damaged: it holds other numbers than it claims"
    ):
        check_graph(made)
