"""A model as an ONNX file, front end and all: waveforms in, logits out, any number of clips at once.

The file is written only if onnxruntime gives, on noise of several levels, the logits that the model gives.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from closesesame.core.errors import ModelError, short
from closesesame.core.seeding import generator

from .base import Classifier
from .black_boxes.runtime import needed

INPUT, OUTPUT, OPSET = "inputs", "logits", 20
CLIPS, DIFFERENCE = 3, 1e-4


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the block nothing is printed: torch tells of every package that it could use."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@torch.no_grad()
def to_onnx(model: Classifier) -> bytes:
    """The content of an ONNX file that gives the logits of a model.

    Args:
        model: in evaluation mode, on the processor.

    Raises:
        ModelError: if a package is not installed, ONNX lacks an operator of the model, or the file would give
            logits that differ by more than `DIFFERENCE`, as a share of the largest where that is above 1.
    """
    needed("onnxscript", "onnx")
    runtime = needed("onnxruntime", "onnx")
    noise = torch.randn(CLIPS, *model.card.input_shape, generator=generator(0, "probes"))
    inputs = noise * 10.0 ** -torch.arange(CLIPS).view(-1, *[1] * len(model.card.input_shape))
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                (inputs,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamic_shapes=({0: "batch"},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        assert program is not None
        content: bytes = program.model_proto.SerializeToString()
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        parts = [session.run(None, {INPUT: part.numpy()})[0] for part in (inputs[:1], inputs[1:])]
    except Exception as error:  # code of others, on networks of others
        raise ModelError(f"the model cannot be written as ONNX ({short(error.__cause__ or error)})") from None
    _refuse_other(torch.cat([torch.from_numpy(part) for part in parts]), model(inputs))
    return content


def _refuse_other(found: Tensor, wanted: Tensor) -> None:
    """Refuses logits that are not those of the model."""
    apart = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1))
    if not apart <= DIFFERENCE:
        raise ModelError(
            f"the model cannot be written as ONNX: onnxruntime would give logits that differ by {apart:.2g}"
        )
