"""ONNX enhancers: which kind a file is, how it is asked, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

from closesesame.core.errors import ModelError
from closesesame.enhancement.layers import STFT
from closesesame.enhancement.onnx_file import OnnxEnhancer
from tests.enhancement.patterns import chirps
from tests.models.graphs import floats, graph, model, node

CLIPS = chirps(4_000, 3)
INNER = slice(512, -512)


def opened(made: Any, folder: Path, window: str = "sqrt_hann", hop: int = 0) -> OnnxEnhancer:
    path = folder / "theirs.onnx"
    path.write_bytes(made.SerializeToString())
    return OnnxEnhancer.read(path, window, hop)


def halving(shape: list[int | str], out: list[int | str] | None = None) -> Any:
    nodes = [node("Mul", "wav half", "enhanced")]
    return model(graph(nodes, {"wav": shape}, {"enhanced": out or shape}, {"half": floats(0.5)}))


@pytest.mark.parametrize("shape", [["n", "t"], [1, "t"], ["n", 1, "t"], ["n", "t", 1], ["t"]])
def test_waveforms_of_any_layout_are_taken(shape: list[int | str], tmp_path: Path) -> None:
    assert torch.allclose(opened(halving(shape), tmp_path)(CLIPS), 0.5 * CLIPS)


def spectral(shape: list[int | str], gains: Any) -> Any:
    nodes = [node("Mul", "mix gains", "enhanced")]
    return model(graph(nodes, {"mix": shape}, {"enhanced": shape}, {"gains": floats(gains)}))


def expected(gains: Tensor, window: Tensor, hop: int = 256) -> Tensor:
    stft = STFT(window, hop=hop, fft=512)
    return stft.inverse(stft(CLIPS) * gains, CLIPS.shape[1])


BINS = torch.linspace(0, 1, 257)


@pytest.mark.parametrize(
    ("shape", "gains"),
    [
        ([1, 257, "t", 2], BINS[:, None, None]),
        (["n", 257, "t", 2], BINS[:, None, None]),
        (["n", 2, "t", 257], BINS),
        (["n", "t", 257, 2], BINS[:, None]),
        (["n", 2, 257, 7], BINS[:, None]),
    ],
)
def test_spectra_are_laid_out_as_the_file_wants_them(
    shape: list[int | str], gains: Tensor, tmp_path: Path
) -> None:
    found = opened(spectral(shape, gains), tmp_path)(CLIPS)
    assert torch.allclose(found, expected(BINS[:, None], torch.hann_window(512).sqrt()), atol=1e-5)


@pytest.mark.parametrize("frames", ["t", 2])
def test_real_and_imaginary_part_come_in_this_order(frames: int | str, tmp_path: Path) -> None:
    gains = floats([1, 0])  # the real part alone is left
    found = opened(spectral([1, 257, frames, 2], gains), tmp_path)(CLIPS)
    stft = STFT(torch.hann_window(512).sqrt(), hop=256, fft=512)
    real = stft.inverse(stft(CLIPS).real.to(torch.complex64), 4_000)
    assert torch.allclose(found, real, atol=1e-5)


@pytest.mark.parametrize(
    ("window", "hop", "by_hand"),
    [
        ("hann", 0, torch.hann_window(512)),
        ("hamming", 0, torch.hamming_window(512)),
        ("sqrt_hann", 128, torch.hann_window(512).sqrt()),
    ],
)
def test_windows_and_hops_are_those_asked_for(window: str, hop: int, by_hand: Tensor, tmp_path: Path) -> None:
    found = opened(spectral([1, 257, "t", 2], BINS[:, None, None]), tmp_path, window, hop)(CLIPS)
    assert torch.allclose(found, expected(BINS[:, None], by_hand, hop or 256), atol=1e-5)


def counting() -> Any:
    """A frame at once; two states count the frames, from 0 by 1 and by 2, and their product is the gain."""
    nodes = [
        node("Mul", "one_state other_state", "gain"),
        node("Mul", "mix gain", "enhanced"),
        node("Add", "one_state one", "one_next"),
        node("Add", "other_state two", "other_next"),
    ]
    inputs = {"one_state": [1, 1, 1, 1, 1], "mix": [1, 257, 1, 2], "other_state": [1, 1, 1, 1]}
    outputs = {"one_next": [1, 1, 1, 1, 1], "enhanced": [1, 257, 1, 2], "other_next": [1, 1, 1, 1]}
    nodes[1] = node("Mul", "mix flat", "enhanced")
    nodes.insert(1, node("Reshape", "gain shape", "flat"))
    weights = {"one": floats(1), "two": floats(2), "shape": np.asarray([1, 1, 1, 1], np.int64)}
    return model(graph(nodes, inputs, outputs, weights))


def test_states_are_carried_from_frame_to_frame_and_each_clip_begins_anew(tmp_path: Path) -> None:
    found = opened(counting(), tmp_path)(CLIPS)
    frames = torch.arange(STFT(torch.hann_window(512).sqrt(), hop=256, fft=512)(CLIPS).shape[2])
    by_hand = expected((frames * 2 * frames)[None], torch.hann_window(512).sqrt())
    assert torch.allclose(found, by_hand, atol=1e-3)
    assert float(found.abs().max()) > 10


def test_states_of_one_shape_are_told_apart_by_name_and_no_state_is_taken_for_the_answer(
    tmp_path: Path,
) -> None:
    one = [1, 1, 1, 1]
    nodes = [
        node("Add", "cache_0 one", "new_cache_0"),
        node("Add", "cache_1 two", "new_cache_1"),
        node("Mul", "cache_1 mix", "enhanced"),
    ]
    inputs = {"cache_0": one, "mix": [1, 257, 1, 2], "cache_1": one}
    outputs = {"new_cache_1": one, "new_cache_0": one, "enhanced": [1, 257, 1, 2]}
    made = model(graph(nodes, inputs, outputs, {"one": floats(1), "two": floats(2)}))
    found = opened(made, tmp_path)(CLIPS)
    frames = torch.arange(STFT(torch.hann_window(512).sqrt(), hop=256, fft=512)(CLIPS).shape[2])
    by_hand = expected((2 * frames)[None], torch.hann_window(512).sqrt())
    assert torch.allclose(found, by_hand, atol=1e-3)


def test_the_sample_rate_is_given_where_it_is_asked_for(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "sr", "rate", to=1),
        node("Div", "wav rate", "scaled"),
        node("Mul", "scaled thousand", "enhanced"),
    ]
    made = model(
        graph(
            nodes,
            {"wav": ["n", "t"], "sr": []},
            {"enhanced": ["n", "t"]},
            {"thousand": floats(1_000)},
            {"sr": 7},
        )
    )
    assert torch.allclose(opened(made, tmp_path)(CLIPS), CLIPS / 16)


def test_the_file_is_its_weight(tmp_path: Path) -> None:
    first = opened(halving(["n", "t"]), tmp_path)
    room = OnnxEnhancer(len(first.content), "sqrt_hann", 0)
    with pytest.raises(ModelError, match=r"damaged or no ONNX file"):
        room(CLIPS)
    room.load_state_dict(first.state_dict())
    (tmp_path / "theirs.onnx").unlink()
    assert torch.allclose(room(CLIPS), 0.5 * CLIPS)
    # Another file in the same room is asked, not the one that was opened before.
    doubled = bytes(first.content.numpy()).replace(np.float32(0.5).tobytes(), np.float32(2).tobytes())
    room.load_state_dict({"content": torch.frombuffer(bytearray(doubled), dtype=torch.uint8)})
    assert torch.allclose(room(CLIPS), 2 * CLIPS)


def test_who_wants_a_gradient_is_told_that_there_is_none(tmp_path: Path) -> None:
    wav = CLIPS.clone().requires_grad_(True)
    with pytest.raises(
        ModelError, match="the enhancer in front of the model is an ONNX file, which has none"
    ):
        opened(halving(["n", "t"]), tmp_path)(wav).sum().backward()


def test_what_is_no_enhancer_is_refused(tmp_path: Path) -> None:
    extra = [node("Mul", "wav half", "enhanced"), node("Identity", "more", "same")]

    def with_more(shape: list[int | str], out: list[int | str]) -> Any:
        ports: tuple[Any, Any] = ({"wav": ["n", "t"], "more": shape}, {"enhanced": ["n", "t"], "same": out})
        return model(graph(extra, *ports, {"half": floats(0.5)}))

    ports: tuple[Any, Any] = ({"wav": ["n", "t"], "more": [2, 7]}, {"enhanced": ["n", "t"], "same": [2, 7]})
    cast = [extra[0], node("Cast", "more", "same", to=11)]
    doubled = model(graph(cast, *ports, {"half": floats(0.5)}, {"same": 11}))
    gained = [node("Mul", "wav gain", "enhanced")]
    gain = model(graph(gained, {"wav": ["n", "t"], "gain": [1]}, {"enhanced": ["n", "t"]}))
    first = [node("Slice", "wav begin end axis", "enhanced")]
    whole = {name: np.asarray([value], np.int64) for name, value in (("begin", 0), ("end", 9), ("axis", 1))}
    short = model(graph(first, {"wav": ["n", "t"]}, {"enhanced": ["n", "u"]}, whole))
    for made, said in (
        (
            halving(["n", 3, "t", 5]),
            r"takes wav of shape \['any', 3, 'any', 5\], which is neither a waveform",
        ),
        (halving(["n", 512]), "takes 512 samples at once, and a clip has 4,000"),
        (with_more(["n", 7], ["n", 7]), r"also takes more of shape \['any', 7\], which is no state"),
        (doubled, r"besides the sound it takes more \(float32 \[2, 7\]\), which is neither the sample rate"),
        (gain, r"it takes gain \(float32 \[1\]\), which is neither the sample rate nor a state"),
        (with_more([2, 7], [2, 7]), r"carries states \(more\), but does not take one frame"),
        (short, r"gives \[1, 9\] for \[1, 4000\]"),
    ):
        with pytest.raises(ModelError, match=said) as caught:
            opened(made, tmp_path)
        assert "theirs.onnx" in str(caught.value)
    with pytest.raises(ModelError, match="hop must divide the 512 samples of its window, got 200"):
        opened(spectral([1, 257, "t", 2], 1.0), tmp_path, hop=200)
    (tmp_path / "theirs.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"theirs.onnx is damaged or no ONNX file"):
        OnnxEnhancer.read(tmp_path / "theirs.onnx", "sqrt_hann", 0)
