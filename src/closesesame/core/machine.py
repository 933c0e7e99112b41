"""What this machine computes on and in: its device, fp32 or bf16, and the instructions of its processor.

Everything that is left to the machine (`auto`) asks here, so that a whole job can be held to one precision.
"""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

from .errors import SettingError, counted

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16"]
Wanted = Literal["auto", "fp32", "bf16"]

ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Environment variables that tell oneDNN to leave instructions unused; the first that is set counts."""
_LEVELS = {
    "sse41": "sse4.1",
    "avx": "avx",
    "avx2": "avx2",
    "avx2_vnni": "avx2",
    "avx2_vnni_2": "avx2",
    "avx512_core": "avx512",
    "avx512_core_vnni": "avx512",
    "avx512_core_bf16": "avx512_bf16",
    "avx512_core_fp16": "avx512_bf16",
}
"""The highest instructions that a limit leaves; a value that is not here limits nothing that counts."""
_X86 = ("amx_bf16", "avx512_bf16", "avx512", "avx2", "avx", "sse4.1")
_OF_TORCH = {
    "amx_bf16": "avx512",
    "avx512_bf16": "avx512",
    **dict.fromkeys(("avx", "sse4.1", "plain", "arm64", "arm64 bf16"), "default"),
}
"""What torch's own kernels use on a processor that has those; the same where it is not here."""

DEVICES = "cpu, cuda, cuda:N, mps or auto"
"""What a device may be called."""
_DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?|mps|auto")

_meaning: ContextVar[Wanted] = ContextVar("meaning", default="auto")
_logs: ContextVar[tuple[set[str], ...]] = ContextVar("logs", default=())


@contextmanager
def precision(wanted: Wanted) -> Iterator[set[str]]:
    """Within the block, `auto` means `wanted`; settings that name a precision keep it.

    Args:
        wanted: `auto` means what it means outside the block.

    Yields:
        The precisions that trainings within the block ran in, as they ran.
    """
    used: set[str] = set()
    meaning = _meaning.set(_meaning.get() if wanted == "auto" else wanted)
    logs = _logs.set((*_logs.get(), used))
    try:
        yield used
    finally:
        _logs.reset(logs)
        _meaning.reset(meaning)


def note(used: Precision) -> None:
    """Tells the blocks of `precision` around the caller what a training runs in."""
    for log in _logs.get():
        log.add(used)


def choose_precision(wanted: str, device: "torch.device", *, setting: str = "precision") -> Precision:
    """`fp32` or `bf16`: what is asked for, or with `auto` bf16 if the device multiplies in it.

    Args:
        wanted: `auto`, `fp32` or `bf16`; a block of `precision` says what `auto` means.
        device: that computes.
        setting: its name in the error.

    Raises:
        SettingError: if bf16 is asked for and the device lacks it, or the precision is unknown.
    """
    if wanted not in {"auto", "fp32", "bf16"}:
        raise SettingError(f"{setting} must be one of 'auto', 'fp32' or 'bf16', got {wanted!r}")
    meant = _meaning.get() if wanted == "auto" else wanted
    if meant == "bf16" and not has_bf16(device):
        raise SettingError(f"{setting} 'bf16' needs {_lack(device)}; use 'auto' or 'fp32'")
    return "bf16" if meant == "bf16" or (meant == "auto" and has_bf16(device)) else "fp32"


def names_device(name: str) -> bool:
    """Whether a device could be called so; `choose_device` says whether it is there."""
    return bool(_DEVICE.fullmatch(name))


def choose_device(wanted: str, *, setting: str = "device") -> "torch.device":
    """The device of that name; with `auto` a GPU if there is one, the processor if not.

    Args:
        wanted: `cpu`, `cuda`, `cuda:N`, `mps` or `auto`.
        setting: its name in the error.

    Raises:
        SettingError: if no device is called so, or this machine lacks it.
    """
    import torch

    if not names_device(wanted):
        raise SettingError(f"{setting} must be {DEVICES}, got {wanted!r}")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = {"cuda": gpus, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if wanted == "auto":
        return torch.device(next(kind for kind, count in there.items() if count))
    device = torch.device(wanted)
    if (device.index or 0) >= there[device.type]:
        count, what = there[device.type], {"cuda": "CUDA GPU", "mps": "Apple GPU"}[device.type]
        found = counted(count, what)
        raise SettingError(f"{setting} {wanted!r} is not there: torch finds {found}; use 'cpu' or 'auto'")
    return device


def has_bf16(device: "torch.device") -> bool:
    """Whether a device multiplies in bf16 itself; emulation is slower than fp32, or fails."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not _has_onednn():
        return False
    return _instructions() in {"amx_bf16", "avx512_bf16", "arm64 bf16"}


def processor_features() -> str:
    """The instructions that decide this processor's numbers, such as `amx_bf16`, `avx2` or `arm64 bf16`.

    What torch's own kernels use is added where it is less or more, as in `amx_bf16,torch avx2`. Limits that
    the environment sets count: those of oneDNN, and `ATEN_CPU_CAPABILITY` for torch's kernels. Processors
    with the same instructions may differ in the last digits, by maker, cache sizes and number of threads.
    """
    import torch

    best, kernels = _instructions(), torch.backends.cpu.get_cpu_capability().lower()
    usual = _OF_TORCH.get(best, best)
    return best if kernels == usual else f"{best},torch {kernels}"


def _instructions() -> str:
    """The highest instructions for products of matrices that oneDNN finds and may use."""
    import torch

    can = torch.cpu.get_capabilities()
    if "neon" in can:
        return "arm64 bf16" if can.get("bf16") else "arm64"
    flags = {"avx512": "avx512_f", "sse4.1": "sse4_1"}
    found = [name for name in _X86 if can.get(flags.get(name, name))]
    limit = _LEVELS.get(_isa_limit()[1].lower())
    if limit:
        found = [name for name in found if _X86.index(name) >= _X86.index(limit)]
    return found[0] if found else "plain"


def _has_onednn() -> bool:
    import torch

    return bool(torch.backends.mkldnn.is_available())


def _isa_limit() -> tuple[str, str]:
    """The variable that limits oneDNN and its value; both empty if none is set."""
    return next(((name, os.environ[name]) for name in ISA_LIMITS if os.environ.get(name)), ("", ""))


def _lack(device: "torch.device") -> str:
    """What a device without bf16 would need, as the middle of a sentence."""
    import torch

    if device.type == "cuda":
        return "a GPU that multiplies in bf16, and this one does not"
    if device.type != "cpu":
        return f"a processor or a CUDA GPU, and the model is on {device.type!r}"
    if not _has_onednn():
        return "oneDNN, and this torch is built without it"
    can = torch.cpu.get_capabilities()
    if "neon" in can:
        return "an arm64 processor with BF16, and this one lacks it"
    if can.get("amx_bf16") or can.get("avx512_bf16"):
        name, value = _isa_limit()
        return f"AMX or AVX512-BF16, and {name}={value} forbids them"
    return "a processor with AMX or AVX512-BF16, and this one has neither"


def host() -> dict[str, Any]:
    """What figures are measured on, for the head of a result file."""
    import torch

    return {
        "processor": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Within the block a GPU gives the same numbers again, in all digits of fp32; a processor always does."""
    if device == "cpu":
        yield
        return
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    convolutions = torch.backends.cudnn
    before = convolutions.allow_tf32, convolutions.deterministic, convolutions.benchmark
    convolutions.allow_tf32, convolutions.deterministic, convolutions.benchmark = False, True, False
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        yield
    finally:
        convolutions.allow_tf32, convolutions.deterministic, convolutions.benchmark = before
        torch.use_deterministic_algorithms(mode=False)
