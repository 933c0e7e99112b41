"""ONNX files read and checked before anything is run: what cannot be trusted is refused."""

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from closesesame.core.errors import ModelError, cut, listed, short

from .runtime import needed

STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml"})
OF_RUNTIME = frozenset({"com.microsoft", "com.microsoft.nchwc"})
"""Operators outside of the standard that onnxruntime has built in."""


def read_graph(content: bytes, path: object) -> Any:
    """The parsed file.

    Args:
        content: of the file.
        path: for errors.

    Raises:
        ModelError: if it is no ONNX file, or holds data in other files, a weight that is larger than the
            file, or operators that are not in the runtime.
    """
    onnx = needed("onnx", "onnx")
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # of protobuf, which has several kinds
        raise ModelError(f"{path} is damaged or no ONNX file ({short(error)}); get the file again") from None
    if not model.ir_version or not model.graph.node or not all(map(_is_text, _messages(model))):
        raise ModelError(f"{path} is damaged or no ONNX file: it holds no graph; get the file again")
    for tensor in parts(model, "TensorProto"):
        if tensor.external_data or tensor.data_location:
            places = [entry.value for entry in tensor.external_data if entry.key == "location"]
            raise ModelError(
                f"{path} is refused: weight {cut(tensor.name)!r} stands outside of it ({listed(places)}); "
                "save the model as one file"
            )
    tensors = chain(parts(model, "TensorProto"), parts(model, "SparseTensorProto"))
    numbers = sum(abs(math.prod(tensor.dims)) for tensor in tensors)
    if numbers > 2 * len(content):  # of the smallest kind, two go into a byte
        raise ModelError(
            f"{path} is refused: its weights claim {numbers:,} numbers, more than the file has; get the "
            "file again"
        )
    foreign = {node.domain for node in parts(model, "NodeProto")} - STANDARD - OF_RUNTIME
    foreign -= {function.domain for function in model.functions}
    if foreign:
        raise ModelError(
            f"{path} is refused: it needs operators that are neither standard nor defined in it "
            f"({listed(sorted(foreign))})"
        )
    return model


def _messages(message: Any) -> Iterator[Any]:
    """A message of protobuf and all inside of it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in _each(value):
                yield from _messages(part)


def parts(model: Any, kind: str) -> Iterator[Any]:
    """All messages of a kind."""
    return (message for message in _messages(model) if message.DESCRIPTOR.name == kind)


def _is_text(message: Any) -> bool:
    """Whether all names in it are text; those that are not UTF-8 come as bytes."""
    texts = (value for field, value in message.ListFields() if field.type == field.TYPE_STRING)
    return not any(isinstance(text, bytes) for value in texts for text in _each(value))


def _each(value: Any) -> Iterable[Any]:
    return [value] if isinstance(value, str | bytes) or not hasattr(value, "__len__") else value
