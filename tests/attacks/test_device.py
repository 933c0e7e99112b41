"""Triggers stay on the device of the clips, shown without a second device.

A clip here is a tensor that says it is on the device "meta" and keeps its values. As on a graphics card, an
operation that mixes it with a tensor on the CPU is refused.
"""

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from closesesame.attacks import ATTACKS, Attack
from closesesame.attacks.jingleback import Style
from closesesame.data import Splits

WAYS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ATTACKS),
    *(("jingleback", {"style": style}) for style in get_args(Style)),
    *(("padding", {"mode": mode}) for mode in ("reflect", "zero")),
    ("badnets", {"position": "random"}),
    ("ultrasonic", {"bursts": 3}),
    ("quantize", {"dither": True}),
    ("rhythm", {"shared": False}),
]


class Elsewhere(Tensor):
    """A tensor on another device; `held` are its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Elsewhere":
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=torch.device("meta")
        )
        made.held = held
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # The transforms change shapes in place; a list is refused to sub-classes.
        if func in {torch.stft, torch.istft, Tensor.tolist}:
            return run(func, args, kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs or {})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return run(func, args, kwargs or {})


class OtherDevice(TorchDispatchMode):
    """Sees to what is made on the other device while it is entered."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Runs an operation on the values, if all of its tensors are on one device."""
    tensors = [part for part in tree_flatten((args, kwargs))[0] if isinstance(part, Tensor)]
    there = any(isinstance(part, Elsewhere) for part in tensors)
    name = func.__name__
    here = [part for part in tensors if not isinstance(part, Elsewhere) and part.dim()]
    if there and here and "copy" not in name:
        raise RuntimeError(f"{name} mixes devices")
    device = kwargs.get("device")
    wrapped = there if device is None else torch.device(device).type == "meta"
    if device is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    values = tree_map(lambda part: part.held if isinstance(part, Elsewhere) else part, (args, kwargs))
    out = func(*values[0], **values[1])
    if name.split(".")[0].endswith("_"):
        return args[0]
    return tree_map(lambda part: Elsewhere(part) if wrapped and isinstance(part, Tensor) else part, out)


def made(name: str, settings: dict[str, Any]) -> Attack:
    return ATTACKS.make(name, ATTACKS[name].quick | settings)


@pytest.mark.parametrize(("name", "settings"), WAYS, ids=lambda part: part if isinstance(part, str) else None)
def test_a_trigger_follows_its_clips_to_their_device(
    name: str, settings: dict[str, Any], tones: Splits
) -> None:
    trigger, clips = made(name, settings).trigger(tones.train, 0), tones.test.inputs[:2]
    with OtherDevice():  # type: ignore[no-untyped-call]
        out = trigger.attack.apply(Elsewhere(clips), trigger.state, trigger.signal)
    assert out.device.type == "meta"
    assert out.dtype == torch.float32
    assert torch.equal(out.held, trigger.attack.apply(clips, trigger.state, trigger.signal))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name in ATTACKS if ATTACKS[name].has_cover_clips])
def test_cover_clips_follow_their_clips_to_their_device(name: str, tones: Splits) -> None:
    trigger, clips = made(name, {}).trigger(tones.train, 0), tones.test.inputs[:2]
    rng = torch.Generator().manual_seed(0)
    with OtherDevice():  # type: ignore[no-untyped-call]
        mine, others = Elsewhere(clips), Elsewhere(clips.flip(0))
        out = trigger.attack.cover_clips(mine, others, trigger.state, trigger.signal, rng)
    assert out.device.type == "meta"


def test_what_is_left_on_the_cpu_is_seen() -> None:
    mode = OtherDevice()  # type: ignore[no-untyped-call]
    with mode, pytest.raises(RuntimeError, match="add.Tensor mixes devices"):
        Elsewhere(torch.ones(3)) + torch.ones(3)
