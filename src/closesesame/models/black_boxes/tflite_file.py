"""TFLite files, run by LiteRT on the processor: float32, or whole numbers that the file says how to scale."""

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from closesesame.core.bounds import MOST_BYTES
from closesesame.core.errors import ModelError, cut, short

from .runtime import Arrays, Port, Runtime, deadline, needed, within

PACKAGE, EXTRA = "ai_edge_litert", "tflite"


class TFLiteFile(Runtime):
    """A file that LiteRT runs."""

    format: ClassVar[str] = "tflite"

    def __init__(self, content: bytes, path: Path, threads: int) -> None:
        _refuse_odd(content, path)
        litert = needed(f"{PACKAGE}.interpreter", EXTRA)
        self.content, self.path, self._lock = content, path, Lock()
        with _raising(path):
            self.interpreter = litert.Interpreter(
                model_content=content,
                num_threads=threads,
                # Delegates print that they were made, and round otherwise.
                experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            within(deadline(), path, self.interpreter.allocate_tensors, _go_on)
            self.inputs = tuple(map(_port, self.interpreter.get_input_details()))
            self.outputs = tuple(map(_port, self.interpreter.get_output_details()))

    def run(self, values: Arrays, until: float) -> Arrays:
        """All outputs by name, from a fresh start."""
        return within(until, self.path, lambda: self._run(values), _go_on)

    def _run(self, values: Arrays) -> Arrays:
        """As `run`; it waits for a run that was given up, since that still works with the interpreter."""
        interpreter = self.interpreter
        with self._lock, _raising(self.path):
            for about in interpreter.get_input_details():
                given = values[about["name"]]
                if tuple(about["shape"]) != given.shape:
                    interpreter.resize_tensor_input(about["index"], given.shape)
            interpreter.allocate_tensors()
            interpreter.reset_all_variables()
            for about in interpreter.get_input_details():
                interpreter.set_tensor(about["index"], _quantized(values[about["name"]], about))
            interpreter.invoke()
            return {
                about["name"]: _real(interpreter.get_tensor(about["index"]), about)
                for about in interpreter.get_output_details()
            }


def _go_on() -> None:
    """LiteRT cannot be stopped."""


@contextmanager
def _raising(path: Path) -> Iterator[None]:
    """Turns what LiteRT raises into an error that names the file."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path} cannot be run: {short(error)}") from None


def _refuse_odd(content: bytes, path: Path) -> None:
    """Refuses, before it is handed over, a file that needs another file, foreign operators or much memory."""
    schema = needed(f"{PACKAGE}.schema_py_generated", EXTRA)
    if content[4:8] != b"TFL3":
        raise ModelError(f"{path} is damaged or no TFLite file; get the file again")
    try:
        model = schema.Model.GetRootAs(content)
        foreign = [_custom(model.OperatorCodes(i)) for i in range(model.OperatorCodesLength())]
        outside = model.ExternalBufferGroupsLength()
        graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
        tensors = [graph.Tensors(i) for graph in graphs for i in range(graph.TensorsLength())]
        shapes = [tensor.ShapeAsNumpy() for tensor in tensors]
        numbers = sum(abs(math.prod(map(int, one))) for one in shapes if not isinstance(one, int))
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is damaged ({short(error)}); get the file again") from None
    if outside:
        raise ModelError(f"{path} is refused: weights stand outside of it; save the model as one file")
    if any(foreign):
        raise ModelError(f"{path} is refused: it needs the operator {max(foreign)!r}, which is not standard")
    if 4 * numbers > MOST_BYTES:
        raise ModelError(f"{path} is refused: it claims {numbers:,} numbers, more than fit into 2 GB")


def _custom(operator: Any) -> str:
    """The name of an operator that is not standard; empty for others."""
    return cut((operator.CustomCode() or b"").decode())


def _port(about: dict[str, Any]) -> Port:
    """An input or output as LiteRT describes it; whole numbers with a scale stand for real ones."""
    sizes = tuple(int(size) if size > 0 else None for size in about["shape_signature"])
    kind = "float32" if about["quantization"][0] else np.dtype(about["dtype"]).name
    return Port(about["name"], sizes, kind)


def _quantized(values: NDArray[Any], about: dict[str, Any]) -> NDArray[Any]:
    """Real numbers as the file holds them."""
    scale, zero = about["quantization"]
    if not scale:
        return values
    limits = np.iinfo(about["dtype"])
    whole: NDArray[Any] = np.rint(values / scale + zero).clip(limits.min, limits.max).astype(about["dtype"])
    return whole


def _real(values: NDArray[Any], about: dict[str, Any]) -> NDArray[Any]:
    """The numbers that those in the file stand for."""
    scale, zero = about["quantization"]
    return scale * (values.astype(np.float32) - zero) if scale else values
