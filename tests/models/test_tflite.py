"""TFLite files: real numbers, bytes, variables that are fresh for each run, and what is refused."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

schema: Any = pytest.importorskip(
    "ai_edge_litert.schema_py_generated", reason="the extra 'tflite' is not installed"
)
flatbuffers = pytest.importorskip("flatbuffers")

from closesesame.core.errors import ModelError  # noqa: E402
from closesesame.models import Classifier, adapt_file, load_model, save_model  # noqa: E402
from closesesame.models.black_boxes import FileBody  # noqa: E402
from closesesame.models.black_boxes.runtime import Arrays  # noqa: E402
from tests.commands import Sesame  # noqa: E402

from .graphs import WEIGHTS  # noqa: E402

NAMES, RATE = ("a", "b", "c"), 1000
CLIPS = torch.randn(4, 50, generator=torch.Generator().manual_seed(1)).clamp(-1, 1) / 4
SCALE, ZERO = 1 / 100, 3
"""Of a file in bytes: what its numbers stand for is SCALE (number - ZERO)."""


def packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def made(shape: tuple[int, ...] = (1, 50), *, in_bytes: bool = False) -> Any:
    """Scores as a product with `WEIGHTS`; in bytes it only gives back its input, of three samples each."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.frombuffer(np.ascontiguousarray(WEIGHTS.T).tobytes(), np.uint8)
    operator, code = schema.OperatorT(), schema.OperatorCodeT()
    code.version = 1
    graph.operators, model.operatorCodes = [operator], [code]
    if in_bytes:
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
        graph.tensors = [tensor("wav", shape, in_bytes=True), tensor("scores", shape, in_bytes=True)]
        operator.inputs, operator.outputs = [0], [1]
        operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
        operator.builtinOptions = schema.ReshapeOptionsT()
        operator.builtinOptions.newShape = list(shape)
    else:
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
        graph.tensors = [tensor("wav", shape), tensor("w", (3, 50), buffer=1), tensor("scores", (1, 3))]
        operator.inputs, operator.outputs = [0, 1, -1], [2]
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph.inputs, graph.outputs = [0], operator.outputs
    return model


def tensor(name: str, shape: tuple[int, ...], buffer: int = 0, *, in_bytes: bool = False) -> Any:
    one = schema.TensorT()
    one.name, one.shape, one.buffer, one.type = name, list(shape), buffer, schema.TensorType.FLOAT32
    if in_bytes:
        one.type, one.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
        one.quantization.scale, one.quantization.zeroPoint = [SCALE], [ZERO]
    return one


def opened(content: bytes, folder: Path) -> Classifier:
    (folder / "theirs.tflite").write_bytes(content)
    return adapt_file(folder / "theirs.tflite", NAMES, (50,), RATE)


def test_scores_of_real_numbers(tmp_path: Path) -> None:
    found = opened(packed(made()), tmp_path)
    wanted = CLIPS @ torch.from_numpy(WEIGHTS)
    assert torch.allclose(found(CLIPS), wanted, atol=1e-5)
    assert (found.card.architecture, found.card.settings["input"]) == ("tflite", "wav")
    again = load_model(save_model(found, tmp_path / "m"))
    assert torch.equal(again(CLIPS), found(CLIPS))
    assert (tmp_path / "m" / "model.tflite").read_bytes() == packed(made())


def test_a_batch_of_any_size_is_given_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    for one in (model.subgraphs[0].tensors[0], model.subgraphs[0].tensors[2]):
        one.shapeSignature = [-1, *one.shape[1:]]
    found = opened(packed(model), tmp_path)
    body = found.body
    assert isinstance(body, FileBody)
    run, sizes = body.runtime.run, list[tuple[int, ...]]()

    def watched(values: Arrays, until: float) -> Arrays:
        sizes.append(values["wav"].shape)
        return run(values, until)

    monkeypatch.setattr(body.runtime, "run", watched)
    assert torch.allclose(found(CLIPS), CLIPS @ torch.from_numpy(WEIGHTS), atol=1e-5)
    assert sizes == [(4, 50)]


def test_bytes_stand_for_real_numbers_by_scale_and_zero(tmp_path: Path) -> None:
    (tmp_path / "theirs.tflite").write_bytes(packed(made((1, 50), in_bytes=True)))
    names = tuple(map(str, range(50)))
    found = adapt_file(tmp_path / "theirs.tflite", names, (50,), RATE)
    clip = torch.tensor([[0.0, 0.014, 0.018, -0.026, -0.044, -0.046, 0.5, 2.0, -2.0] + [0.0] * 41])
    # Rounded to the nearest hundredth; the largest byte is 127, the smallest -128.
    wanted = [0, 0.01, 0.02, -0.03, -0.04, -0.05, 0.5, 1.24, -1.31]
    assert found(clip)[0, :9].tolist() == pytest.approx(wanted, abs=1e-6)


def remembering() -> Any:
    """Scores as a product with `WEIGHTS`, and the last scores of the same interpreter added."""
    model = made()
    graph, operator = model.subgraphs[0], model.subgraphs[0].operators[0]
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RNN
    operator.builtinOptionsType, operator.builtinOptions = (
        schema.BuiltinOptions.RNNOptions,
        schema.RNNOptionsT(),
    )
    for values in (np.eye(3), np.zeros(3)):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
        model.buffers.append(buffer)
    state = tensor("state", (1, 3))
    state.isVariable = True
    graph.tensors += [tensor("again", (3, 3), buffer=2), tensor("bias", (3,), buffer=3), state]
    operator.inputs = [0, 1, 3, 4, 5]
    return model


def test_variables_are_fresh_for_each_clip(tmp_path: Path) -> None:
    found = opened(packed(remembering()), tmp_path)
    wanted = CLIPS @ torch.from_numpy(WEIGHTS)
    for _ in range(2):
        assert torch.allclose(found(CLIPS), wanted, atol=1e-5)


def endless() -> Any:
    """A loop whose condition stays true."""
    model = made()
    operators = schema.BuiltinOperator
    whole, code = model.subgraphs[0], schema.OperatorCodeT()
    code.version, code.builtinCode, code.deprecatedBuiltinCode = 1, operators.WHILE, operators.WHILE
    model.operatorCodes.append(code)
    loop = schema.OperatorT()
    loop.opcodeIndex, loop.inputs, loop.outputs = 1, [0], [3]
    loop.builtinOptionsType, loop.builtinOptions = schema.BuiltinOptions.WhileOptions, schema.WhileOptionsT()
    loop.builtinOptions.condSubgraphIndex, loop.builtinOptions.bodySubgraphIndex = 1, 2
    whole.tensors.append(tensor("heard", (1, 50)))
    whole.operators[0].inputs = [3, 1, -1]
    whole.operators.insert(0, loop)
    yes = schema.BufferT()
    yes.data = np.ones(1, np.uint8)
    model.buffers.append(yes)
    for _ in range(2):
        inner = schema.SubGraphT()
        inner.tensors, inner.inputs, inner.outputs, inner.operators = [tensor("in", (1, 50))], [0], [0], []
        model.subgraphs.append(inner)
    true = tensor("true", (), buffer=2)
    true.type = schema.TensorType.BOOL
    model.subgraphs[1].tensors.append(true)
    model.subgraphs[1].outputs = [1]
    return model


ASK_ENDLESS = """
import sys
from pathlib import Path
from closesesame.core.errors import ModelError
from closesesame.models import adapt_file
from closesesame.models.black_boxes import runtime

runtime.MOST_S = runtime.MOST_S_A_CLIP = 0.5
try:
    adapt_file(Path(sys.argv[1]), ("a", "b", "c"), (50,), 1000)
except ModelError as error:
    print(error)
    sys.exit(2)
"""


def test_a_loop_without_end_is_given_up_and_the_program_ends(tmp_path: Path) -> None:
    """In a program of its own, since LiteRT cannot be stopped."""
    path = tmp_path / "theirs.tflite"
    path.write_bytes(packed(endless()))
    ended = subprocess.run(
        [sys.executable, "-c", ASK_ENDLESS, str(path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (2, "")
    assert f"{path} is stopped: it took more than 0.5 s" in ended.stdout


def custom() -> bytes:
    model = made()
    model.operatorCodes[0].customCode = b"FlexEvil"
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 32
    return packed(model)


def outside() -> bytes:
    model = made()
    group = schema.ExternalBufferGroupT()
    group.name = b"/etc/passwd"
    model.externalBufferGroups = [group]
    return packed(model)


def with_tensors(*shapes: tuple[int, ...]) -> Any:
    model = made()
    model.subgraphs[0].tensors += [tensor("more", shape) for shape in shapes]
    return model


WHOLE = packed(made())
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "foreign operators": (custom, "it needs the operator 'FlexEvil', which is not standard"),
    "weights outside": (outside, "weights stand outside of it; save the model as one file"),
    "huge dimensions": (lambda: packed(made((1, 2**31 - 1))), r"it claims 2,147,483,\d+ numbers"),
    "sizes below zero": (
        lambda: packed(with_tensors((-(2**20), 2**20), (2**20, 2**20))),
        "it claims 2,199,0",
    ),
    "a truncated file": (lambda: WHOLE[:100], "is damaged"),
    "half a file": (lambda: WHOLE[: len(WHOLE) // 2], "is damaged|cannot be run"),
    "text": (lambda: b"weights of a model", "is damaged or no TFLite file"),
    "nothing": (lambda: b"", "is damaged or no TFLite file"),
    "text with the right mark": (lambda: b"weigTFL3ts of a model", "is damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_sentence(tmp_path: Path, name: str, sesame: Sesame) -> None:
    make, said = HOSTILE[name]
    with pytest.raises(ModelError, match=said):
        opened(make(), tmp_path)
    sizes = ("--sample-rate", RATE, "--duration-s", 0.05)
    path = tmp_path / "theirs.tflite"
    assert "theirs.tflite" in sesame.fails("import", path, tmp_path / "m", "--classes", "a,b,c", *sizes)
    assert [one.name for one in tmp_path.iterdir()] == ["theirs.tflite"]
