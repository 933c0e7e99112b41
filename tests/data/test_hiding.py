"""What a defence gets of examples: inputs and given labels, in an order that tells nothing."""

import hashlib
from dataclasses import replace

import torch

from closesesame.data import Dataset
from closesesame.data.hiding import anonymous, hidden_order


def test_the_order_is_that_of_hashes_and_names_and_speakers_are_gone() -> None:
    ids = tuple(f"{word}/{number}" for word in ("close", "open") for number in range(6))
    data = Dataset.of(torch.arange(12.0)[:, None], torch.arange(12) % 2, classes=("a", "b"), speakers=ids)
    data = replace(data, ids=ids)
    order = hidden_order(data)
    hashes = [hashlib.sha256(ids[row].encode()).hexdigest() for row in order.tolist()]
    assert hashes == sorted(hashes)
    assert order.tolist() != list(range(12))
    turned = torch.arange(12).flip(0)
    assert torch.equal(turned[hidden_order(data.take(turned))], order)
    shown = anonymous(data, order)
    assert shown.ids == tuple(map(str, range(12)))
    assert shown.speakers is None
    assert shown.inputs[:][:, 0].tolist() == order.tolist()
    assert torch.equal(shown.labels, data.labels[order])
