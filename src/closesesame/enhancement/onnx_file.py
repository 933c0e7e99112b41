"""Enhancers of others: ONNX files for sound at 16 kHz, which onnxruntime runs as they are (extra `onnx`).

A file may take waveforms; or spectra of whole clips; or one frame of a spectrum after the other, with states
that it carries from frame to frame, as the published streaming form of GTCRN does. Which it is, follows from
the shapes of its inputs. A spectrum has four dimensions: clips, and in any order bins (a power of 2, and
one), frames, and real and imaginary part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from closesesame.core.errors import ModelError, cut, listed
from closesesame.core.types import Wave
from closesesame.models.black_boxes.files import named, open_file
from closesesame.models.black_boxes.onnx_file import OnnxFile
from closesesame.models.black_boxes.runtime import Port, Runtime, deadline
from closesesame.models.black_boxes.wiring import match_states, takes_rate

from .base import Enhancer
from .layers import STFT

LEAST_BINS = 65
WINDOWS: dict[str, Callable[[int], Tensor]] = {
    "sqrt_hann": lambda size: torch.hann_window(size).sqrt(),
    "hann": torch.hann_window,
    "hamming": torch.hamming_window,
}
"""Windows by name, for files that take spectra."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Spectral:
    """Where a spectrum (clips, ...) has its dimensions.

    Attributes:
        bins: the number of bins.
        order: of the dimensions (clip, bin, frame, part) in the file.
        frames: how many it takes at once; None for any number.
    """

    bins: int
    order: tuple[int, int, int, int]
    frames: int | None

    @classmethod
    def of(cls, shape: tuple[int | None, ...]) -> "Spectral | None":
        """Finds them; None if it is no spectrum."""
        if len(shape) != 4:
            return None
        parts = [axis for axis in (3, 1, 2) if shape[axis] == 2]
        bins = [axis for axis in (1, 2, 3) if _is_bins(shape[axis])]
        if not parts or len(bins) != 1:
            return None
        (frames,) = {1, 2, 3} - {parts[0], bins[0]}
        return cls(shape[bins[0]] or 0, (0, bins[0], frames, parts[0]), shape[frames])

    def laid_out(self, spectrum: Array) -> Array:
        """A spectrum (clip, bin, frame) as the file takes it."""
        real = np.stack([spectrum.real, spectrum.imag], 3).astype(np.float32)
        return np.ascontiguousarray(real.transpose(np.argsort(self.order)))

    def read(self, given: Array) -> Array:
        """The inverse."""
        real = given.transpose(self.order)
        return np.asarray(real[..., 0] + 1j * real[..., 1])


def _is_bins(size: int | None) -> bool:
    return size is not None and size >= LEAST_BINS and (size - 1) & (size - 2) == 0


@dataclass(frozen=True)
class Use:
    """What the inputs and outputs of a file are for.

    Attributes:
        sound: takes waveforms or spectra.
        answer: gives them.
        states: names of outputs by the inputs that take what they gave for the frame before; zeros at first.
        rates: take the sample rate.
        spectral: how spectra are laid out; None for waveforms.
    """

    sound: Port
    answer: str
    states: dict[Port, str]
    rates: tuple[Port, ...]
    spectral: Spectral | None

    @classmethod
    def of(cls, runtime: Runtime) -> "Use":
        """Finds them by name and shape.

        Raises:
            ModelError: if the file is no enhancer of one of the three kinds.
        """
        sounds = [port for port in runtime.inputs if port.is_float]
        sound = next((port for port in sounds if Spectral.of(port.shape)), sounds[0] if sounds else None)
        if sound is None:
            raise ModelError("it takes no sound: none of its inputs holds real numbers")
        spectral = Spectral.of(sound.shape)
        if spectral is None and _time_axis(sound.shape) is None:
            raise ModelError(
                f"it takes {cut(sound.name)} of shape {_shown(sound)}, which is neither a waveform (clips, "
                "samples) nor a spectrum (clips, bins, frames, real and imaginary part)"
            )
        outputs = [port for port in runtime.outputs if port.is_float and len(port.shape) == len(sound.shape)]
        if spectral is not None:
            outputs = [port for port in outputs if Spectral.of(port.shape) in {spectral, None}]
            outputs.sort(key=lambda port: Spectral.of(port.shape) is None)  # sizes that vary say nothing
        if not outputs:
            raise ModelError(f"no output has the shape of its input {cut(sound.name)}, {_shown(sound)}")
        others = [port for port in runtime.inputs if port is not sound]
        rates = tuple(port for port in others if takes_rate(port))
        others = [port for port in others if port not in rates]
        for port in others:
            if None in port.shape:
                raise ModelError(f"it also takes {cut(port.name)} of shape {_shown(port)}, which is no state")
        states = match_states(others, [port for port in runtime.outputs if port is not outputs[0]])
        if states and (spectral is None or spectral.frames != 1):
            names = listed([port.name for port in states])
            raise ModelError(
                f"it carries states ({names}), but does not take one frame of a spectrum at once"
            )
        return cls(sound, outputs[0].name, states, rates, spectral)


def _time_axis(shape: tuple[int | None, ...]) -> int | None:
    """The dimension of a waveform that counts samples: the only one behind the first that is not 1."""
    if len(shape) == 1:
        return 0
    axes = [axis for axis in range(1, len(shape)) if shape[axis] != 1]
    return axes[0] if len(axes) == 1 else None


def _shown(port: Port) -> str:
    return str(["any" if size is None else size for size in port.shape])


class OnnxEnhancer(nn.Module):
    """An ONNX file as an enhancer; the file itself is its weight, so it is kept with a model.

    Shape:
        - input: (batch, time) at 16 kHz, full scale at 1
        - output: the same
    """

    content: Tensor

    def __init__(self, size: int, window: str, hop: int) -> None:
        """Makes room for a file.

        Args:
            size: of the file, in bytes.
            window: of `WINDOWS`, if the file takes spectra.
            hop: samples from frame to frame; 0 for half a window.
        """
        super().__init__()
        self.register_buffer("content", torch.zeros(size, dtype=torch.uint8))
        self.window, self.hop = window, hop
        self.opened: tuple[Runtime, Use, STFT | None] | None = None
        self.register_load_state_dict_post_hook(_close)  # type: ignore[no-untyped-call]

    @classmethod
    def read(cls, path: Path, window: str, hop: int) -> "OnnxEnhancer":
        """Reads a file, and asks it once.

        Raises:
            ModelError: if it cannot be read, or is refused, or is no enhancer.
        """
        with named(path):
            content = open_file(path, "onnx", 1).content
            made = cls(len(content), window, hop)
            made.content.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
            made(torch.zeros(1, Enhancer.sample_rate_hz // 4))
        return made

    def forward(self, wav: Wave) -> Wave:
        """The speech in each clip; who asks for a gradient is told that there is none."""
        enhanced: Tensor = _WithoutGradient.apply(wav, self)  # type: ignore[no-untyped-call]
        return enhanced

    def ask(self, wav: Wave) -> Wave:
        """What the file makes of clips on the CPU.

        Raises:
            ModelError: if it gives another length, or cannot be run.
        """
        if self.opened is None:
            self.opened = self._open()
        runtime, use, stft = self.opened
        together = len(wav) if use.sound.shape[0] is None and len(use.sound.shape) > 1 else 1
        parts = [
            _waves(runtime, use, part) if stft is None else _spectra(runtime, use, stft, part)
            for part in wav.split(max(1, together))
        ]
        return torch.cat(parts) if parts else wav

    def _open(self) -> tuple[Runtime, Use, STFT | None]:
        runtime = OnnxFile(self.content.cpu().numpy().tobytes(), Path("enhancer.onnx"), 1)
        use = Use.of(runtime)
        if use.spectral is None:
            return runtime, use, None
        size = 2 * (use.spectral.bins - 1)
        hop = self.hop or size // 2
        if size % hop:
            raise ModelError(f"hop must divide the {size} samples of its window, got {hop}")
        return runtime, use, STFT(WINDOWS[self.window](size), hop=hop, fft=size)


def _close(enhancer: OnnxEnhancer, _: object) -> None:
    """Forgets what was opened, since the file is another now."""
    enhancer.opened = None


def _values(use: Use) -> dict[str, Array]:
    """The sample rate, and states at the beginning of a clip."""
    rates = {port.name: port.filled(Enhancer.sample_rate_hz, 1) for port in use.rates}
    return rates | {port.name: port.filled(0, 1) for port in use.states}


def _waves(runtime: Runtime, use: Use, wav: Wave) -> Wave:
    """Enhances whole waveforms."""
    time = _time_axis(use.sound.shape)
    assert time is not None
    shape = [len(wav), *[1] * (len(use.sound.shape) - 1)]
    shape[time] = wav.shape[1]
    fixed = use.sound.shape[time]
    if fixed not in {None, wav.shape[1]}:
        raise ModelError(f"the enhancer takes {fixed:,} samples at once, and a clip has {wav.shape[1]:,}")
    given = wav.numpy().reshape(shape).astype(use.sound.kind)
    values = _values(use) | {use.sound.name: given}
    answer = runtime.run(values, deadline(len(wav)))[use.answer]
    if answer.size != given.size:
        raise ModelError(
            f"the enhancer gives {list(answer.shape)} for {list(given.shape)}; no clip fits that"
        )
    return torch.from_numpy(answer.astype(np.float32).reshape(tuple(wav.shape)))


def _spectra(runtime: Runtime, use: Use, stft: STFT, wav: Wave) -> Wave:
    """Enhances spectra, whole or frame by frame."""
    assert use.spectral is not None
    spectrum = stft(wav).numpy()
    step = use.spectral.frames or spectrum.shape[2]
    values, found, until = _values(use), [], deadline(len(wav))
    filled = np.pad(spectrum, ((0, 0), (0, 0), (0, -spectrum.shape[2] % step)))
    for start in range(0, filled.shape[2], step):
        frames = use.spectral.laid_out(filled[..., start : start + step]).astype(use.sound.kind)
        given = runtime.run(values | {use.sound.name: frames}, until)
        values |= {state.name: given[source] for state, source in use.states.items()}
        answer = given[use.answer]
        if answer.shape != frames.shape:
            raise ModelError(f"the enhancer gives spectra {list(answer.shape)} for {list(frames.shape)}")
        found.append(use.spectral.read(answer))
    enhanced = np.concatenate(found, 2)[..., : spectrum.shape[2]].astype(np.complex64)
    return stft.inverse(torch.from_numpy(enhanced), wav.shape[1])


class _WithoutGradient(torch.autograd.Function):
    """Asks a file; that it has no gradient is said where one is wanted."""

    @staticmethod
    def forward(ctx: Any, wav: Tensor, enhancer: OnnxEnhancer) -> Tensor:
        """The enhanced clips."""
        del ctx
        return enhancer.ask(wav.detach().float().cpu()).to(wav.device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        """Refuses."""
        del ctx, grads
        raise ModelError(
            "this needs gradients, and the enhancer in front of the model is an ONNX file, which has none; "
            "take a method that looks at answers alone, or an enhancer of closesesame.enhancement"
        )
