"""What a machine computes in: as its processor, its limits and the settings say, on every processor."""

from collections.abc import Callable

import pytest
import torch

from closesesame.core import machine
from closesesame.core.errors import SettingError
from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.training import Training, accuracy, choose_precision, fit, predict
from tests.conftest import SMALL

CPU, GPU = torch.device("cpu"), torch.device("cuda")
AVX2 = ("sse4_1", "avx", "avx2")
AVX512 = (*AVX2, "avx512_f")
BF16 = (*AVX512, "avx512_bf16")
AMX = (*BF16, "amx_bf16")
ARM = ("neon", "dot")
Host = Callable[..., None]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """Makes torch report another processor: `host("avx2", "AVX2", ONEDNN_MAX_CPU_ISA="AVX")`."""
    for name in machine.ISA_LIMITS:
        monkeypatch.delenv(name, raising=False)

    def become(flags: tuple[str, ...], kernels: str, *, onednn: bool = True, **limits: str) -> None:
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda: dict.fromkeys(flags, True) | {"sse4a": False}
        )
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: kernels)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
        for name, value in limits.items():
            monkeypatch.setenv(name, value)

    return become


@pytest.mark.parametrize(
    ("flags", "kernels", "limits", "features", "bf16"),
    [
        (AMX, "AVX512", {}, "amx_bf16", True),
        (BF16, "AVX512", {}, "avx512_bf16", True),
        (AVX512, "AVX512", {}, "avx512", False),
        (AVX2, "AVX2", {}, "avx2", False),
        (("sse4_1",), "DEFAULT", {}, "sse4.1", False),
        ((), "VSX", {}, "plain,torch vsx", False),
        ((*ARM, "bf16"), "DEFAULT", {}, "arm64 bf16", True),
        ((*ARM, "bf16"), "SVE256", {}, "arm64 bf16,torch sve256", True),
        (ARM, "DEFAULT", {}, "arm64", False),
        (AMX, "AVX2", {}, "amx_bf16,torch avx2", True),
        (AMX, "AVX512", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "avx2,torch avx512", False),
        (AMX, "AVX2", {"ONEDNN_MAX_CPU_ISA": "avx2"}, "avx2", False),
        (AMX, "AVX512", {"DNNL_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, "avx512", False),
        (AMX, "AVX512", {"DNNL_MAX_CPU_ISA": "AVX512_CORE_BF16"}, "avx512_bf16", True),
        (AMX, "AVX512", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, "amx_bf16", True),
        (AMX, "AVX512", {"ONEDNN_MAX_CPU_ISA": "DEFAULT", "DNNL_MAX_CPU_ISA": "AVX2"}, "amx_bf16", True),
        (AVX2, "AVX2", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, "avx2", False),
    ],
)
def test_processor_and_limits_decide(
    host: Host, flags: tuple[str, ...], kernels: str, limits: dict[str, str], features: str, bf16: bool
) -> None:
    host(flags, kernels, **limits)
    assert machine.processor_features() == features
    assert machine.has_bf16(CPU) is bf16
    assert machine.choose_precision("auto", CPU) == ("bf16" if bf16 else "fp32")
    assert machine.choose_precision("fp32", CPU) == "fp32"


@pytest.mark.parametrize(
    ("flags", "onednn", "limits", "sentence"),
    [
        (AVX2, True, {}, "a processor with AMX or AVX512-BF16, and this one has neither"),
        (
            AMX,
            True,
            {"ONEDNN_MAX_CPU_ISA": "AVX2"},
            "AMX or AVX512-BF16, and ONEDNN_MAX_CPU_ISA=AVX2 forbids them",
        ),
        (ARM, True, {}, "an arm64 processor with BF16, and this one lacks it"),
        (AMX, False, {}, "oneDNN, and this torch is built without it"),
    ],
)
def test_bf16_that_is_not_there_is_refused_in_one_sentence(
    host: Host, flags: tuple[str, ...], onednn: bool, limits: dict[str, str], sentence: str
) -> None:
    host(flags, "AVX2", onednn=onednn, **limits)
    with pytest.raises(SettingError) as caught:
        choose_precision("bf16", torch.nn.Linear(1, 1))
    assert str(caught.value) == f"Training.precision 'bf16' needs {sentence}; use 'auto' or 'fp32'"
    assert choose_precision("auto", torch.nn.Linear(1, 1)) == "fp32"


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(SettingError, match="precision must be one of 'auto', 'fp32' or 'bf16', got 'fp16'"):
        machine.choose_precision("fp16", CPU)


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_is_asked_itself_and_emulation_does_not_count(
    host: Host, monkeypatch: pytest.MonkeyPatch, has: bool
) -> None:
    host(AVX2 if has else AMX, "AVX2")  # the processor has what the GPU lacks
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has
    )
    assert machine.has_bf16(GPU) is has
    assert machine.choose_precision("auto", GPU) == ("bf16" if has else "fp32")
    if not has:
        with pytest.raises(SettingError, match="needs a GPU that multiplies in bf16, and this one does not"):
            machine.choose_precision("bf16", GPU)
    assert not machine.has_bf16(torch.device("mps"))
    with pytest.raises(SettingError, match="the model is on 'mps'"):
        machine.choose_precision("bf16", torch.device("mps"))


def outputs_of(model: Classifier) -> list[torch.dtype]:
    """In what the model's first convolution gives its results, as it gives them."""
    seen: list[torch.dtype] = []
    first = next(module for module in model.body.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda _, given, made: seen.append(made.dtype))
    return seen


@pytest.mark.parametrize(("flags", "wanted"), [(AMX, torch.bfloat16), (AVX2, torch.float32)])
def test_training_and_prediction_follow_the_machine(
    host: Host, tones: Splits, flags: tuple[str, ...], wanted: torch.dtype
) -> None:
    host(flags, "AVX2")
    few = tones.train.take(torch.arange(16))
    model = SMALL.build(few.classes, few.input_shape, few.sample_rate, seed=0)
    seen = outputs_of(model)
    history = fit(model, few, Training(steps=1, batch_size=8), seed=0)
    assert history.precision == {torch.bfloat16: "bf16", torch.float32: "fp32"}[wanted]
    predict(model, few)
    accuracy(model, few)
    assert seen == [wanted] * 3
    fit(model, few, Training(steps=1, batch_size=8, precision="fp32"), seed=0)
    assert seen[3:] == [torch.float32]


def test_bf16_is_refused_before_anything_runs(host: Host, tones: Splits) -> None:
    host(AVX2, "AVX2")
    few = tones.train.take(torch.arange(16))
    model = SMALL.build(few.classes, few.input_shape, few.sample_rate, seed=0)
    model.front_end.register_forward_hook(lambda *_: pytest.fail("it computed features"))
    with (
        machine.precision("auto") as used,
        pytest.raises(SettingError, match="Training.precision 'bf16' needs"),
    ):
        fit(model, few, Training(steps=1, precision="bf16"), seed=0)
    assert used == set()


def test_within_a_block_auto_is_what_the_block_says(host: Host, tones: Splits) -> None:
    host(AMX, "AVX512")
    few = tones.train.take(torch.arange(16))
    model = SMALL.build(few.classes, few.input_shape, few.sample_rate, seed=0)
    seen, auto = outputs_of(model), Training(steps=1, batch_size=8)
    with machine.precision("fp32") as outer:
        assert outer == set()
        assert fit(model, few, auto, seed=0).precision == "fp32"
        predict(model, few)
        assert seen == [torch.float32] * 2
        assert outer == {"fp32"}
        with machine.precision("bf16") as inner:
            assert choose_precision("auto", model) == "bf16"
            assert choose_precision("fp32", model) == "fp32"
            fit(model, few, auto, seed=0)
            with machine.precision("auto") as innermost:
                assert choose_precision("auto", model) == "bf16"
        assert (innermost, inner, outer) == (set(), {"bf16"}, {"fp32", "bf16"})
        assert choose_precision("auto", model) == "fp32"
        with machine.precision("auto"):
            assert choose_precision("auto", model) == "fp32"  # though the machine has bf16
        # What asks for a precision of its own is what it says.
        assert fit(model, few, auto.model_copy(update={"precision": "bf16"}), seed=0).precision == "bf16"
    fit(model, few, auto.model_copy(update={"precision": "fp32"}), seed=0)
    assert (inner, outer) == ({"bf16"}, {"fp32", "bf16"})
    assert choose_precision("auto", model) == "bf16"


def test_a_block_that_fails_leaves_no_trace(host: Host) -> None:
    host(AMX, "AVX512")
    with pytest.raises(ZeroDivisionError), machine.precision("fp32") as used:
        raise ZeroDivisionError
    assert machine.choose_precision("auto", CPU) == "bf16"
    machine.note("bf16")
    assert used == set()


def test_a_block_cannot_give_what_the_machine_lacks(host: Host) -> None:
    host(AVX2, "AVX2")
    with machine.precision("bf16"), pytest.raises(SettingError, match="'bf16' needs a processor"):
        machine.choose_precision("auto", CPU)


@pytest.mark.parametrize(
    ("gpus", "apple", "wanted", "found"),
    [
        (0, False, "auto", "cpu"),
        (0, True, "auto", "mps"),
        (2, True, "auto", "cuda"),
        (2, False, "cpu", "cpu"),
        (2, False, "cuda", "cuda"),
        (2, False, "cuda:1", "cuda:1"),
        (0, True, "mps", "mps"),
        (0, False, "cuda", "finds 0 CUDA GPUs; use 'cpu' or 'auto'"),
        (1, False, "cuda:1", "device 'cuda:1' is not there: torch finds 1 CUDA GPU;"),
        (2, False, "mps", "finds 0 Apple GPUs"),
        (2, False, "cpu:1", "device must be cpu, cuda, cuda:N, mps or auto, got 'cpu:1'"),
        (2, False, "meta", "device must be"),
        (2, False, "cuda:", "device must be"),
        (2, False, "", "device must be"),
    ],
)
def test_a_device_is_the_one_that_is_asked_for_or_the_best_there_is(
    gpus: int, apple: bool, wanted: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    if " " in found:
        with pytest.raises(SettingError, match=found):
            machine.choose_device(wanted)
    else:
        assert machine.choose_device(wanted) == torch.device(found)
