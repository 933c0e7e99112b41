"""What several detections share: layers that are watched example by example."""

import pytest
import torch

from closesesame.core.errors import DivergedError, ModelError
from closesesame.data import Dataset, Splits
from closesesame.detection.common import activations as module
from closesesame.detection.common.activations import activations, batch_norms
from closesesame.models import ARCHITECTURES, Classifier
from closesesame.training import predict


def built(name: str, data: Dataset) -> Classifier:
    made = ARCHITECTURES.make(name)
    return made.build(data.classes, data.input_shape, data.sample_rate, seed=0).eval()


def test_layers_without_a_batch_norm_do_not_count(tones: Splits) -> None:
    assert [layer.name for layer in batch_norms(built("small_cnn", tones.test))] == ["1", "5", "9"]
    with pytest.raises(ModelError, match="this model has no batch norm"):
        batch_norms(built("kwt", tones.test))


def test_examples_keep_their_order_over_batches(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    data, layers = tones.test.take(torch.arange(10)), batch_norms(clean_model)
    parts = list(activations(clean_model, layers, data))
    assert [len(logits) for logits, _ in parts] == [4, 4, 2]
    logits = torch.cat([logits for logits, _ in parts])
    torch.testing.assert_close(logits, predict(clean_model, data), atol=0.1, rtol=0.1)  # that may be in bf16
    assert all(len(values) == len(layers) for _, values in parts)
    first = torch.cat([values[0] for _, values in parts])
    with torch.no_grad():
        stem = clean_model.body.get_submodule("stem")(clean_model.front_end(data.inputs[:])[:, None])
    torch.testing.assert_close(first, stem.flatten(2).double(), atol=1e-4, rtol=1e-4)


def test_an_answer_that_is_none_is_refused_by_the_name_of_the_example(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    data = tones.test.take(torch.arange(10))
    broken = data.inputs[:].clone()
    broken[6] = torch.nan
    wrong = data.with_inputs(type(data.inputs).of(broken))
    with pytest.raises(DivergedError, match="NaN or infinity to '000006'"):
        list(activations(clean_model, batch_norms(clean_model), wrong))
