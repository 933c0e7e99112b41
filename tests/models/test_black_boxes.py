"""Files that are run as they are: what they are asked, what is read from them, what is refused."""

import gzip
import hashlib
import json
import pickle
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

from closesesame.core.errors import ModelError, SettingError  # noqa: E402
from closesesame.data import Dataset  # noqa: E402
from closesesame.detection import Strip, TrainingLoss  # noqa: E402
from closesesame.inspection import INSPECTIONS, MaxMargin  # noqa: E402
from closesesame.models import BlackBox, Classifier, adapt_file, load_model, save_model  # noqa: E402
from closesesame.models.black_boxes import FileBody, runtime  # noqa: E402
from closesesame.models.black_boxes.runtime import Arrays  # noqa: E402
from closesesame.models.files import is_model_folder, sha256_of  # noqa: E402
from closesesame.purification import Lowpass  # noqa: E402
from closesesame.removal import CLP, FT  # noqa: E402
from closesesame.training import predict  # noqa: E402
from closesesame.training.weights import redraw  # noqa: E402
from tests.commands import Sesame  # noqa: E402

from .graphs import SCORES, SOUND, WEIGHTS, floats, graph, integers, linear, model, node  # noqa: E402
from .test_graph import added  # noqa: E402

NAMES = ("a", "b", "c")
RATE = 1000
CLIPS = torch.randn(5, 50, generator=torch.Generator().manual_seed(1)) / 3


def opened(
    made: Any, folder: Path, classes: tuple[str, ...] = NAMES, samples: int = 50, **box: Any
) -> Classifier:
    path = folder / "theirs.onnx"
    path.write_bytes(made.SerializeToString())
    return adapt_file(path, classes, (samples,), RATE, BlackBox(**box))


def expected() -> Tensor:
    return CLIPS @ torch.from_numpy(WEIGHTS)


def close(model: Classifier, logits: Tensor) -> bool:
    return torch.allclose(model(CLIPS), logits, atol=1e-5)


SETTLED = {"input": "wav", "output": "scores", "answers": "logits", "at_once": 0, "frame": 0, "hop": 0}


def test_scores_are_logits_unless_they_look_like_probabilities(tmp_path: Path) -> None:
    found = opened(linear(), tmp_path)
    assert close(found, expected())
    assert found.card.settings == SETTLED | {"pooling": "last", "threads": 1}
    assert (found.card.architecture, found.card.classes, found.card.input_shape) == ("onnx", NAMES, (50,))
    softmax = [node("MatMul", "wav w", "l"), node("Softmax", "l", "scores")]
    found = opened(linear(softmax), tmp_path)
    assert found.card.settings["answers"] == "probabilities"
    assert close(found, expected().log_softmax(1))
    found = opened(linear(softmax), tmp_path, answers="logits")
    assert close(found, expected().softmax(1))
    sigmoid = [node("MatMul", "wav w", "l"), node("Sigmoid", "l", "scores")]  # their sum is not 1
    found = opened(linear(sigmoid), tmp_path)
    assert found.card.settings["answers"] == "logits"
    assert close(found, expected().sigmoid())


def test_a_probability_of_zero_is_a_finite_logit(tmp_path: Path) -> None:
    nodes = [node("MatMul", "wav w", "l"), node("Hardmax", "l", "scores")]
    logits = opened(linear(nodes), tmp_path)(CLIPS)
    assert logits.isfinite().all()
    assert torch.equal(logits.argmax(1), expected().argmax(1))


def test_one_score_for_two_classes_is_that_of_the_second(tmp_path: Path) -> None:
    weights, one = {"v": WEIGHTS[:, :1]}, {"scores": ("batch", 1)}
    wanted = CLIPS @ torch.from_numpy(WEIGHTS[:, :1])
    found = opened(linear([node("MatMul", "wav v", "scores")], weights, outputs=one), tmp_path, NAMES[:2])
    assert close(found, torch.cat([torch.zeros_like(wanted), wanted], 1))
    nodes = [node("MatMul", "wav v", "l"), node("Sigmoid", "l", "scores")]
    found = opened(linear(nodes, weights, outputs=one), tmp_path, NAMES[:2])
    assert found.card.settings["answers"] == "probabilities"
    assert close(found, torch.cat([torch.sigmoid(-wanted), torch.sigmoid(wanted)], 1).log())
    for operator in ("Tanh", "Softplus"):  # below 0, and above 1
        nodes = [node("MatMul", "wav v", "l"), node(operator, "l", "scores")]
        found = opened(linear(nodes, weights, outputs=one), tmp_path, NAMES[:2])
        assert found.card.settings["answers"] == "logits"


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_fixed_number_of_clips_is_filled_up_or_asked_one_by_one(tmp_path: Path, batch: int) -> None:
    made = linear(inputs={"wav": (batch, 50)}, outputs={"scores": (batch, 3)})
    found = opened(made, tmp_path)
    assert close(found, expected())
    assert found(CLIPS[:0]).shape == (0, 3)


def test_clips_that_change_each_other_are_asked_one_by_one(tmp_path: Path) -> None:
    nodes = [
        node("ReduceMean", "wav", "mean", axes=[0], keepdims=1),
        node("Add", "wav mean", "heard"),
        node("MatMul", "heard w", "scores"),
    ]
    found = opened(linear(nodes), tmp_path)
    assert found.card.settings["at_once"] == 1
    assert close(found, 2 * expected())
    assert not close(opened(linear(nodes), tmp_path, at_once=5), 2 * expected())


SHAPES = [(("batch", 1, 50), [1]), (("batch", 50, 1), [2]), ((1, 1, 50), [1]), ((50,), None)]


@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_waveforms_are_laid_out_as_the_file_takes_them(
    tmp_path: Path, shape: tuple[Any, ...], axes: list[int] | None
) -> None:
    squeezed = node("Squeeze", "wav axes", "flat") if axes else node("Identity", "wav", "flat")
    nodes = [squeezed, node("MatMul", "flat w", "scores")]
    outputs = {"scores": ("batch", 3) if axes else (3,)}
    made = linear(nodes, {"axes": integers(axes or [0])}, inputs={"wav": shape}, outputs=outputs)
    assert close(opened(made, tmp_path), expected())


def test_half_and_double_precision_are_given_as_wanted(tmp_path: Path) -> None:
    for kind, number in (("float16", onnx.TensorProto.FLOAT16), ("float64", onnx.TensorProto.DOUBLE)):
        weights = {"w": WEIGHTS.astype(kind)}
        made = linear(weights=weights, kinds={"wav": number, "scores": number})
        assert torch.allclose(opened(made, tmp_path)(CLIPS), expected(), atol=0.01)


def stream(frame: int | str = "time", rate: bool = False) -> Any:
    """Its score is half of the last one and the mean of the frame; beside it a score that is not wanted."""
    nodes = [
        node("ReduceMean", "wav", "mean", axes=[1], keepdims=1),
        node("Mul", "state half", "kept"),
        node("Add", "kept mean", "stateN"),
        node("Concat", "zero stateN minus", "all", axis=1),
    ]
    nodes.append(node("Mul", "all khz", "scores") if rate else node("Identity", "all", "scores"))
    weights = {"half": np.float32(0.5), "zero": floats([[0]]), "minus": floats([[-9]])}
    inputs: dict[str, Any] = {"wav": (1, frame), "state": (1, 1)}
    if rate:
        nodes.insert(0, node("Cast", "sr", "khz", to=onnx.TensorProto.FLOAT))
        inputs["sr"] = ()
    outputs = {"stateN": (1, 1), "scores": (1, 3)}
    return model(graph(nodes, inputs, outputs, weights, {"sr": onnx.TensorProto.INT64}))


RAMP = torch.arange(1.0, 51.0)[None]
LAST = 45.5 + 35.5 / 2 + 25.5 / 4 + 15.5 / 8 + 5.5 / 16


@pytest.mark.parametrize(
    ("box", "score"),
    [
        ({"frame": 10}, LAST),
        ({"frame": 10, "pooling": "max"}, LAST),
        (
            {"frame": 10, "pooling": "mean"},
            (45.5 + 35.5 * 1.5 + 25.5 * 1.75 + 15.5 * 1.875 + 5.5 * 1.9375) / 5,
        ),
        # 15 samples every 10: the first frame is five zeros and 1 to 10.
        ({"frame": 15, "hop": 10}, 43 + 33 / 2 + 23 / 4 + 13 / 8 + 55 / 15 / 16),
        # 20 samples every 20: the first frame is ten zeros and 1 to 10.
        ({"frame": 20}, 40.5 + 20.5 / 2 + 55 / 20 / 4),
        ({"frame": 50}, 25.5),
        ({"frame": 60}, 25.5 * 50 / 60),
    ],
)
def test_a_stream_hears_the_clip_frame_by_frame_and_keeps_its_state(
    tmp_path: Path, box: dict[str, Any], score: float
) -> None:
    found = opened(stream(), tmp_path, **box)
    assert found.card.settings["output"] == "scores"
    for _ in range(2):  # each clip starts afresh
        assert found(RAMP)[0].tolist() == pytest.approx([0, score, -9], rel=1e-5)


def test_the_least_and_the_largest_score_of_a_stream_are_told_apart(tmp_path: Path) -> None:
    found = {how: opened(stream(), tmp_path, frame=10, pooling=how)(-RAMP)[0, 1] for how in ("last", "max")}
    assert found["max"] == pytest.approx(-5.5)
    assert found["last"] == pytest.approx(-LAST)


def test_a_frame_that_the_file_names_and_the_sample_rate_are_found(tmp_path: Path) -> None:
    found = opened(stream(frame=10, rate=True), tmp_path)
    assert found.card.settings["frame"] == 10
    assert found(RAMP)[0, 1] == pytest.approx(RATE * LAST, rel=1e-5)


def two_states(inputs: tuple[str, str], outputs: tuple[str, str]) -> Any:
    """Counts frames by 1 and by 10; the outputs come in the order that is not that of their states."""
    nodes = [
        node("Add", f"{inputs[0]} one", outputs[0]),
        node("Add", f"{inputs[1]} ten", outputs[1]),
        node("ReduceMean", "wav", "mean", axes=[1], keepdims=1),
        node("Concat", f"{outputs[0]} {outputs[1]} mean", "scores", axis=1),
    ]
    takes: dict[str, Any] = {inputs[0]: (1, 1), "wav": (1, 10), inputs[1]: (1, 1)}
    gives = {outputs[1]: (1, 1), outputs[0]: (1, 1), "scores": (1, 3)}
    return model(graph(nodes, takes, gives, {"one": floats([[1]]), "ten": floats([[10]])}))


STATES = [
    (("h", "c"), ("hn", "cn")),
    (("h0", "c0"), ("h_n", "c_n")),
    (("state_0", "state_1"), ("new_state_0", "new_state_1")),
    (("src_state", "asr_cache"), ("src_state_out", "asr_cache_out")),
    (("iterate", "prevMask"), ("next_iterate", "mask")),
]


@pytest.mark.parametrize(("inputs", "outputs"), STATES)
def test_states_of_one_shape_go_with_outputs_of_their_names(
    tmp_path: Path, inputs: tuple[str, str], outputs: tuple[str, str]
) -> None:
    found = opened(two_states(inputs, outputs), tmp_path, frame=10)
    assert found.card.settings["input"] == "wav"
    assert found(RAMP)[0].tolist() == pytest.approx([5, 50, 45.5])


def test_states_that_names_do_not_tell_apart_are_refused(tmp_path: Path) -> None:
    for outputs in (("a", "b"), ("h1", "c1")):
        with pytest.raises(
            ModelError, match=r"not clear which output gives the state h, c for the next frame"
        ):
            opened(two_states(("h", "c"), outputs), tmp_path, frame=10, input="wav")
    # One name is enough, since the other is left.
    found = opened(two_states(("h", "c"), ("hn", "b")), tmp_path, frame=10)
    assert found(RAMP)[0].tolist() == pytest.approx([5, 50, 45.5])


def test_a_state_as_wide_as_the_scores_goes_with_neither_unless_one_is_named(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "wav w", "heard"),
        node("Add", "memory heard", "first"),
        node("Neg", "first", "second"),
    ]
    ports: dict[str, Any] = {"first": (1, 3), "second": (1, 3)}
    made = linear(nodes, inputs={"wav": (1, 50), "memory": (1, 3)}, outputs=ports)
    with pytest.raises(ModelError, match=r"state memory .*\(first, second\).* with --set output=NAME"):
        opened(made, tmp_path)
    assert close(opened(made, tmp_path, output="second"), -expected())
    only = linear(nodes[:2], inputs={"wav": (1, 50), "memory": (1, 3)}, outputs={"first": (1, 3)})
    with pytest.raises(ModelError, match="no output is left for the scores, since states take them"):
        opened(only, tmp_path)


def test_only_one_number_called_so_takes_the_sample_rate(tmp_path: Path) -> None:
    def asked(name: str, shape: tuple[int, ...], kind: int) -> Any:
        nodes = [
            node("Cast", name, "given", to=onnx.TensorProto.FLOAT),
            node("MatMul", "wav w", "heard"),
            node("Mul", "heard given", "scores"),
        ]
        takes: dict[str, Any] = {name: shape, "wav": ("batch", 50)}
        return linear(nodes, inputs=takes, kinds={name: kind})

    numbers = onnx.TensorProto
    for name in ("sr", "sample_rate", "sampleRate", "samplerate", "rate", "default_sampling_rate:0", "SR"):
        for shape, kind in (((), numbers.INT64), ((1,), numbers.FLOAT), ((1, 1), numbers.INT32)):
            assert close(opened(asked(name, shape, kind), tmp_path), RATE * expected())
    for name, shape, kind in (
        ("iterate", (), numbers.INT64),
        ("src_state", (), numbers.FLOAT),
        ("frame_rate", (), numbers.FLOAT),
        ("dropout_rate", (1,), numbers.FLOAT),
        ("sr", (3,), numbers.FLOAT),
        ("sr", (), numbers.INT8),
        ("sr", (), numbers.BOOL),
    ):
        with pytest.raises(ModelError, match=f"besides the sound it takes {name} .* neither the sample rate"):
            opened(asked(name, shape, kind), tmp_path, input="wav")


def without_state() -> Any:
    """The mean of each frame."""
    nodes = [node("ReduceMean", "wav", "m", axes=[1], keepdims=1), node("Mul", "m three", "scores")]
    return linear(nodes, {"three": floats([[1, 2, 3]])}, inputs={"wav": ("batch", 10)})


def test_frames_without_a_state_are_cut_only_if_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        # 10 samples at 1,000 Hz are shorter than any clip may be.
        ModelError,
        match=r"takes 10 samples at once, and a clip has 50: cut clips with --set frame=10$",
    ):
        opened(without_state(), tmp_path)
    with pytest.raises(
        ModelError, match=r"a clip has 60: set --duration-s to 0.05, or cut clips with --set frame=50$"
    ):
        opened(linear(), tmp_path, samples=60)
    found = opened(without_state(), tmp_path, frame=10, pooling="mean")
    assert found(RAMP)[0].tolist() == pytest.approx([25.5, 51, 76.5])


def several() -> Any:
    """Scores for each frame, in one answer."""
    nodes = [node("Reshape", "wav shape", "scores")]
    return linear(nodes, {"shape": integers([-1, 17, 3])}, inputs={"wav": ("batch", 51)})


def test_scores_of_several_frames_in_one_answer_are_pooled(tmp_path: Path) -> None:
    made, clip = several(), torch.arange(51.0)[None]
    assert opened(made, tmp_path, samples=51)(clip).tolist() == [[48, 49, 50]]
    assert opened(made, tmp_path, samples=51, pooling="mean")(clip).tolist() == [[24, 25, 26]]


def test_input_and_output_can_be_named(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "wav w", "first"),
        node("Neg", "first", "scores"),
        node("Add", "state state", "next"),
    ]
    outputs: dict[str, Any] = {"next": ("batch", 2), "first": ("batch", 3)} | SCORES
    made = linear(nodes, inputs={"state": ("batch", 2), "wav": ("batch", 50)}, outputs=outputs)
    assert close(opened(made, tmp_path, input="wav"), expected())
    found = opened(made, tmp_path, input="wav", output="scores")
    assert (found.card.settings["input"], found.card.settings["output"]) == ("wav", "scores")
    assert close(found, -expected())
    with pytest.raises(ModelError, match=r"no input 'wave'; known are state, wav; did you mean 'wav'"):
        opened(made, tmp_path, input="wave")
    with pytest.raises(ModelError, match=r"theirs\.onnx: the model has no output 'second'"):
        opened(made, tmp_path, input="wav", output="second")


INT = onnx.TensorProto.INT64
UNFIT: dict[str, tuple[Callable[[], Any], str]] = {
    "an input that is neither state nor rate": (
        lambda: linear(inputs={"wav": ("batch", 50), "lengths": ("batch",)}, kinds={"lengths": INT}),
        r"sound it takes lengths \(int64 \['any'\]\), which is neither the sample rate nor a state",
    ),
    "a state of any size": (
        lambda: linear(inputs={"wav": ("batch", 50), "h": ("batch", "n")}),
        r"takes h \(float32 \['any', 'any'\]\)",
    ),
    "a state that no output gives": (
        lambda: linear(inputs={"wav": ("batch", 50), "voice": (1, 8)}),
        r"takes voice \(float32 \[1, 8\]\), which is neither .* since no output gives it for the next frame",
    ),
    "features": (
        lambda: linear(inputs={"wav": ("batch", 40, 50)}),
        r"takes wav of shape \[None, 40, 50\], and a waveform \(batch, time\) is needed",
    ),
    "whole numbers": (
        lambda: linear(kinds={"wav": INT, "scores": INT}, weights={"w": WEIGHTS.astype(np.int64)}),
        r"no input of the model takes a waveform of real numbers \(wav \(int64 \['any', 50\]\)\); export",
    ),
    "other classes": (
        lambda: linear(
            [node("MatMul", "wav w", "l"), node("Concat", "l l", "scores", axis=1)], outputs={"scores": ()}
        ),
        r"output 'scores' has shape \[1, 6\] for 1 clip; scores of 3 classes are needed",
    ),
    "answers that are no numbers": (
        lambda: linear(
            [node("MatMul", "wav w", "l"), node("Mul", "l nan", "scores")], {"nan": floats(np.nan)}
        ),
        r"theirs\.onnx: output 'scores' is NaN or infinite for clips of noise, loud or soft; look for NaN",
    ),
    "endless answers": (
        lambda: linear([node("MatMul", "wav w", "l"), node("Div", "l zero", "scores")], {"zero": floats(0)}),
        "output 'scores' is NaN or infinite",
    ),
    "a stream that says no frame": (
        stream,
        r"carries a state \(state\) .* give its samples with --set frame=N",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_maps_no_waveforms_to_scores_is_refused(tmp_path: Path, name: str) -> None:
    make, said = UNFIT[name]
    with pytest.raises(ModelError, match=said):
        opened(make(), tmp_path)


def test_a_model_folder_holds_the_file_as_it_came(tmp_path: Path) -> None:
    found = opened(linear(), tmp_path)
    content = (tmp_path / "theirs.onnx").read_bytes()
    folder = save_model(found, tmp_path / "m")
    assert (folder / "model.onnx").read_bytes() == content
    assert sorted(one.name for one in folder.iterdir()) == ["config.json", "model.onnx"]
    assert is_model_folder(folder)
    digest = hashlib.sha256(content).hexdigest()
    assert sha256_of(found) == sha256_of(folder) == found.card.made["file_sha256"] == digest
    again = load_model(folder)
    assert again.card == found.card
    assert torch.equal(again(CLIPS), found(CLIPS))
    save_model(again, tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": {"output": "other"}}, "has no output 'other'"),
        ({"settings": {"frame": -1}}, r"its config does not fit: BlackBox\.frame must be >= 0"),
        ({"classes": ["a", "b"]}, r"has shape \[1, 3\] for 1 clip; scores of 2 classes"),
        ({"sample_rate": None}, "it takes waveforms with a sample rate"),
        ({"input_shape": [51]}, "cannot be run"),
        ({"architecture": "tflite"}, r"model\.tflite cannot be read"),
    ],
)
def test_a_config_that_does_not_fit_its_file_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    folder = save_model(opened(linear(), tmp_path), tmp_path / "m")
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | change))
    with pytest.raises(ModelError, match=said) as error:
        load_model(folder)
    assert str(folder) in str(error.value)


def clean() -> Dataset:
    clips = torch.randn(30, 50, generator=torch.Generator().manual_seed(2))
    return Dataset.of(clips, torch.arange(30) % 3, classes=NAMES, sample_rate=RATE)


def test_what_needs_only_answers_works_and_the_rest_says_what_it_needs(tmp_path: Path) -> None:
    suspect = opened(linear(), tmp_path)
    data = clean()
    assert torch.allclose(predict(suspect, data), data.inputs[:] @ torch.from_numpy(WEIGHTS), atol=1e-5)
    loss = torch.nn.functional.cross_entropy(predict(suspect, data), data.labels, reduction="none")
    assert torch.allclose(TrainingLoss().score(suspect, data, None, 0).scores.float(), -loss, atol=1e-5)
    with pytest.raises(ModelError, match="cannot be repaired by training, since no gradient reaches"):
        FT(steps=1).remove(suspect, data, 0)
    with pytest.raises(ModelError, match="has no channels"):
        CLP().remove(suspect, None, 0)
    with pytest.raises(ModelError, match="no fresh weights can be made for a model that is a file"):
        redraw(suspect, 0)
    clips = CLIPS.clone().requires_grad_(True)
    with pytest.raises(ModelError, match=r"this needs gradients, and \S+theirs\.onnx is a file that is run"):
        suspect(clips).sum().backward()


def test_a_purifier_works_in_front(tmp_path: Path) -> None:
    suspect = opened(linear(), tmp_path)
    purifier = Lowpass(cutoff_hz=100).fit(clean(), 0)
    both = purifier.before(suspect)
    assert torch.allclose(both(CLIPS), purifier(CLIPS) @ torch.from_numpy(WEIGHTS), atol=1e-5)
    assert not torch.allclose(both(CLIPS), suspect(CLIPS), atol=1e-2)
    with pytest.raises(ModelError, match="is saved as two folders"):
        save_model(both, tmp_path / "m")


def test_a_planted_branch_answers_to_its_trigger_and_is_found(tmp_path: Path) -> None:
    suspect, quiet = opened(added(), tmp_path), CLIPS.clamp(-0.8, 0.8)
    assert torch.allclose(suspect(quiet), quiet @ torch.from_numpy(WEIGHTS), atol=1e-5)
    loud = quiet.index_fill(1, torch.tensor([7]), 0.95)
    assert suspect(loud).argmax(1).tolist() == [2] * 5
    body = suspect.body
    assert isinstance(body, FileBody)
    assert [one.suspicious for one in body.runtime.findings] == [True]


class Evil:
    """Unpickling it would make a folder."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return Path("evil-ran").mkdir, ()  # type: ignore[return-value]


def outside(location: str) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        made = linear()
        tensor = made.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        path.write_bytes(made.SerializeToString())

    return make


def outside_in_branch(path: Path) -> None:
    """A constant inside of a branch."""
    tensor = onnx.TensorProto(name="c", data_type=1, dims=[50], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    constant = onnx.helper.make_node("Constant", [], ["one"], value=tensor)
    branch = graph([constant], {}, {"one": (50,)})
    nodes = [
        node("If", "yes", "c", then_branch=branch, else_branch=branch),
        node("MatMul", "wav w", "scores"),
    ]
    path.write_bytes(linear(nodes, {"yes": np.bool_(True)}).SerializeToString())


def claiming(dims: list[int], sparse: bool = False) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        made = linear()
        del made.graph.initializer[0].dims[:]
        made.graph.initializer[0].dims.extend(dims)
        if sparse:
            made = linear()
            value = onnx.numpy_helper.from_array(floats([1]), "s")
            where = onnx.numpy_helper.from_array(integers([0]), "i")
            made.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(value, where, dims))
        path.write_bytes(made.SerializeToString())

    return make


def expanding(path: Path, what: str, weights: dict[str, Any]) -> None:
    """A few bytes that make something as large as `shape` says when they are run."""
    nodes = [
        node("Expand", f"{what} shape", "large"),
        node("ReduceSum", "large", "sum", keepdims=0),
        node("Add", "wav sum", "heard"),
        node("MatMul", "heard w", "scores"),
    ]
    path.write_bytes(linear(nodes, weights).SerializeToString())


def growing(path: Path) -> None:
    """Asks for 400 GB."""
    expanding(path, "one", {"one": floats([1]), "shape": integers([100_000_000_000])})


def large(path: Path) -> None:
    """Asks for 2.4 GB, which a machine may have."""
    expanding(path, "wav", {"shape": integers([12_000_000, 1, 1])})


def foreign(path: Path) -> None:
    own = onnx.helper.make_node("Evil", ["wav"], ["scores"], domain="evil.ops")
    path.write_bytes(linear([own]).SerializeToString())


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", bytes(10_000_000))


def wrongly_named(path: Path) -> None:
    path.write_bytes(linear().SerializeToString().replace(b"scores", b"sc\xff\xfees"))


NO_ONNX = r"theirs\.onnx is damaged or no ONNX file"
WHOLE = linear().SerializeToString()
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "data in a file outside": (outside("/etc/passwd"), r"stands outside of it \(/etc/passwd\)"),
    "data above the folder": (outside("../../secret"), r"stands outside of it \(\.\./\.\./secret\)"),
    "data beside it": (outside("weights.bin"), "save the model as one file"),
    "an address in memory": (outside("*/_ORT_MEM_ADDR_/*"), "is refused: weight 'w' stands outside of it"),
    "data outside, in a branch": (outside_in_branch, r"weight 'c' stands outside of it \(weights\.bin\)"),
    "a truncated file": (lambda path: path.write_bytes(WHOLE[:-50]), NO_ONNX),
    "half a file": (lambda path: path.write_bytes(WHOLE[: len(WHOLE) // 2]), NO_ONNX),
    "huge dimensions": (
        claiming([10**12]),
        "its weights claim 1,000,000,000,000 numbers, more than the file has; get the file again",
    ),
    "huge sparse dimensions": (claiming([10**10], sparse=True), r"claim 10,000,000,\d+ numbers"),
    "huge dimensions below zero": (claiming([-(2**20), 2**20]), "claim 1,099,511,627,776 numbers"),
    "dimensions of less than nothing": (claiming([-50, -3]), "cannot be run"),
    "data that grow": (growing, "cannot be run"),
    "data that grow beyond the bound": (large, "cannot be run"),
    "foreign operators": (foreign, r"operators that are neither standard nor defined in it \(evil\.ops\)"),
    "a zip archive": (zipped, NO_ONNX),
    "a packed file": (lambda path: path.write_bytes(gzip.compress(WHOLE)), NO_ONNX),
    "a pickle that runs code": (lambda path: path.write_bytes(pickle.dumps(Evil())), NO_ONNX),
    "text": (lambda path: path.write_text("weights"), NO_ONNX),
    "nothing": (lambda path: path.write_bytes(b""), NO_ONNX),
    "names that are no text": (wrongly_named, NO_ONNX),
}
IMPORT = ("--classes", "a,b,c", "--sample-rate", "1000", "--duration-s", "0.05")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_sentence_and_nothing_runs(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, sesame: Sesame
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "theirs.onnx"
    make, said = HOSTILE[name]
    make(path)
    with pytest.raises(ModelError, match=said):
        adapt_file(path, NAMES, (50,), RATE)
    assert "theirs.onnx" in sesame.fails("import", path, tmp_path / "m", *IMPORT)
    assert [one.name for one in tmp_path.iterdir()] == ["theirs.onnx"]


def test_a_loop_without_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sesame: Sesame
) -> None:
    """Of 2^60 turns; it holds no processor afterwards."""
    monkeypatch.setattr(runtime, "MOST_S", 0.5)
    monkeypatch.setattr(runtime, "MOST_S_A_CLIP", 0.0)
    kinds = {"i": INT, "go": onnx.TensorProto.BOOL, "goes": onnx.TensorProto.BOOL}
    carries: dict[str, Any] = {"i": (), "go": (), "carried": ("batch", 50)}
    turn = [node("Identity", "go", "goes"), node("Neg", "carried", "next")]
    body = graph(turn, carries, {"goes": (), "next": ("batch", 50)}, kinds=kinds)
    nodes = [node("Loop", "often true wav", "heard", body=body), node("MatMul", "heard w", "scores")]
    made = linear(nodes, {"often": np.int64(2**60), "true": np.bool_(True)})
    before = threading.active_count()
    # Each output is tried for the scores, but not after that.
    made.graph.output.append(onnx.helper.make_tensor_value_info("heard", 1, ["batch", 50]))
    started = time.monotonic()
    with pytest.raises(
        ModelError, match=r"theirs\.onnx is stopped: it took more than 0\.5 s and may never end"
    ):
        opened(made, tmp_path)
    assert time.monotonic() >= started + 0.5
    while threading.active_count() > before and time.monotonic() < started + 60:
        time.sleep(0.05)
    assert threading.active_count() == before
    assert "is stopped" in sesame.fails("import", tmp_path / "theirs.onnx", tmp_path / "m", *IMPORT)


def test_the_frames_of_a_clip_have_one_time_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = opened(stream(), tmp_path, frame=10).body
    assert isinstance(body, FileBody)
    run, until = body.runtime.run, list[float]()

    def watched(values: Arrays, end: float) -> Arrays:
        until.append(end)
        return run(values, end)

    monkeypatch.setattr(body.runtime, "run", watched)
    body.ask(RAMP.numpy())
    assert len(until) == 5
    assert len(set(until)) == 1


def test_answers_that_are_no_numbers_for_some_clips_do_not_confuse(tmp_path: Path) -> None:
    """Soft clips get NaN, as where they are divided by their loudness."""
    nodes = [
        node("ReduceMax", "wav", "loudest", axes=[1], keepdims=1),
        node("Sub", "loudest limit", "above"),
        node("Sqrt", "above", "root"),
        node("Mul", "root nothing", "zero"),
        node("MatMul", "wav w", "l"),
        node("Softmax", "l", "p"),
        node("Add", "p zero", "scores"),
    ]
    found = opened(linear(nodes, {"limit": floats(0.5), "nothing": floats(0)}), tmp_path)
    assert (found.card.settings["answers"], found.card.settings["at_once"]) == ("probabilities", 0)


def test_functions_without_end_are_refused_before_they_are_written_out(tmp_path: Path) -> None:
    sets = [onnx.helper.make_opsetid("own", 1)]
    calls = [[onnx.helper.make_node(f"F{i + 1}", ["x"], ["y"], domain="own")] * 2 for i in range(40)]
    functions = [
        onnx.helper.make_function("own", f"F{i}", ["x"], ["y"], inner, sets) for i, inner in enumerate(calls)
    ]
    call = onnx.helper.make_node("F0", ["wav"], ["heard"], domain="own")
    made = graph([call, node("MatMul", "heard w", "scores")], SOUND, SCORES, {"w": WEIGHTS})
    with pytest.raises(ModelError, match=r"theirs\.onnx: the model is refused: .* too many operators"):
        opened(model(made, functions, ["", "own"]), tmp_path)


def test_the_format_of_the_runtime_itself_is_refused(tmp_path: Path) -> None:
    """It would pass by the check of the graph."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "theirs.onnx")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(WHOLE, options, providers=["CPUExecutionProvider"])
    with pytest.raises(ModelError, match=NO_ONNX):
        adapt_file(tmp_path / "theirs.onnx", NAMES, (50,), RATE)


def test_names_and_sizes_are_checked_as_of_any_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"must end in \.onnx or \.tflite"):
        adapt_file(tmp_path / "model.pb", NAMES, (50,), RATE)
    with pytest.raises(ModelError, match=r"x\.onnx cannot be read: No such file .*; name a \.onnx file that"):
        adapt_file(tmp_path / "x.onnx", NAMES, (50,), RATE)
    (tmp_path / "d.onnx").mkdir()
    with pytest.raises(ModelError, match=r"d\.onnx is a folder; name the \.onnx file in it$"):
        adapt_file(tmp_path / "d.onnx", NAMES, (50,), RATE)
    with pytest.raises(SettingError, match="sample_rate must be"):
        opened(linear(), tmp_path) and adapt_file(tmp_path / "theirs.onnx", NAMES, (50,), 10)
    with pytest.raises(ModelError, match=r"is a file; make a model folder of it with 'sesame import'"):
        load_model(tmp_path / "theirs.onnx")


def test_commands(tmp_path: Path, sesame: Sesame) -> None:
    path, out = tmp_path / "theirs.onnx", tmp_path / "m"
    path.write_bytes(added().SerializeToString())
    found = sesame.json("import", path, out, "--task", "speaker", *IMPORT)
    sentence = (
        "values of the sound decide about the answers after the last layer with weights: Greater 'found' "
        "(models without a backdoor rarely do that)"
    )
    assert found["findings"] == [sentence]
    assert f"note: {sentence}" in sesame.noted
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["asked"]["output"] == "scores"
    assert load_model(out).card.made["task"] == "speaker"
    assert "leave out --model" in sesame.fails("import", path, tmp_path / "n", "--model", "kwt", *IMPORT)
    assert "BlackBox has no setting 'widths'" in sesame.fails(
        "import", path, tmp_path / "n", "--set", "widths=3", *IMPORT
    )
    assert f"take {out}/model.onnx" in sesame.fails("export", out, tmp_path / "w.pt")


def test_inspect_says_what_is_known_of_a_file(tmp_path: Path, sesame: Sesame) -> None:
    assert all(INSPECTIONS[name].needs_gradients for name in INSPECTIONS)  # or the sentence is wrong
    folder = save_model(opened(added(), tmp_path), tmp_path / "m")
    found = sesame.json("inspect", folder)
    assert found["backdoored"] is None
    assert found["reason"] == (
        f"max_margin needs gradients, which {folder}/model.onnx does not have, and no inspection of "
        "closesesame works by answers alone"
    )
    assert "'sesame screen' or 'sesame gate'" in found["advice"]
    sentence = (
        "values of the sound decide about the answers after the last layer with weights: Greater 'found' "
        "(models without a backdoor rarely do that)"
    )
    assert found["findings"] == [sentence]
    assert found["graph_checked"] is True
    assert found["model"] == {"path": str(folder), "sha256": sha256_of(folder)}
    verdict, graph_line, advice = sesame("inspect", folder).splitlines()
    assert verdict == f"verdict: none: {found['reason']}"
    assert graph_line == f"graph: {sentence}"
    assert advice == f"what else: {found['advice']}"
    plain = save_model(opened(linear(), tmp_path), tmp_path / "plain")
    assert "graph: no operator decides by values of the sound; that does not prove" in sesame(
        "inspect", plain
    )
    with pytest.raises(ModelError, match=r"max_margin needs gradients, and \S+theirs\.onnx is a file"):
        MaxMargin().inspect(opened(added(), tmp_path), None, 0)


def test_what_the_advice_names_works(tmp_path: Path) -> None:
    data = clean()
    scores = Strip(mixtures=4).score(opened(linear(), tmp_path), data, data, 0).scores
    assert scores.isfinite().all()
