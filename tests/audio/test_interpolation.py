"""Signals between their samples."""

import torch

from closesesame.audio.interpolation import neighbours, read_linear


def test_positions_between_samples_by_hand() -> None:
    signal = torch.tensor([1.0, 3, 2, 10])
    place = torch.tensor([0, 0.25, 1, 2.5, 3])
    assert read_linear(signal, place).tolist() == [1, 1.5, 3, 6, 10]


def test_a_line_goes_on_beyond_the_ends() -> None:
    signal = torch.tensor([1.0, 3, 2])
    assert read_linear(signal, torch.tensor([-1.0, 3])).tolist() == [-1, 1]


def test_signals_are_read_at_one_row_of_positions_or_at_their_own() -> None:
    signals = torch.tensor([[0.0, 1, 2], [0, 10, 20]])
    assert read_linear(signals, torch.tensor([0.5, 1.5])).tolist() == [[0.5, 1.5], [5, 15]]
    own = torch.tensor([[0.5], [1.5]], dtype=torch.float64)
    assert read_linear(signals, own).tolist() == [[0.5], [15]]


def test_neighbours_of_complex_signals_keep_their_phase() -> None:
    spectrum = torch.tensor([[[1 + 1j, 2j, -1.0]]], dtype=torch.complex64)
    before, behind, share = neighbours(spectrum, torch.tensor([[[0.25, 1.75]]], dtype=torch.float64))
    assert before.tolist() == [[[1 + 1j, 2j]]]
    assert behind.tolist() == [[[2j, -1]]]
    assert share.tolist() == [[[0.25, 0.75]]]
    assert share.dtype == torch.float32
