"""The contract of an enhancement: a network that takes noise out of speech, its sizes, and its loss."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, final

from torch import Tensor, nn

from closesesame.core.errors import SettingError, cut, nearest
from closesesame.core.method import Method
from closesesame.core.seeding import isolated
from closesesame.core.types import Wave

E = TypeVar("E", bound="Enhancement")


@dataclass(frozen=True, eq=False)
class Mixture:
    """Clips of speech with other sounds, and each sound by itself; all (batch, time).

    Attributes:
        speech: what is to be left.
        noise: at the level that it has in the mixture.
        music: as the noise; None if there is none.
    """

    speech: Wave
    noise: Wave
    music: Wave | None = None

    @property
    def noisy(self) -> Wave:
        """All sounds together."""
        mixed: Wave = self.speech + self.noise
        return mixed if self.music is None else mixed + self.music


class Enhancer(nn.Module, ABC):
    """A network that takes noise out of speech.

    Shape:
        - input: (batch, time) at `sample_rate_hz`, full scale at 1, of any length
        - output: the same
    """

    sample_rate_hz: ClassVar[int] = 16_000
    snr_range_db: ClassVar[tuple[float, float]]
    """Lowest and highest SNR of the mixtures that the authors train on."""

    @abstractmethod
    def forward(self, wav: Wave) -> Wave:
        """The speech in each clip."""

    @abstractmethod
    def loss(self, mixture: Mixture) -> Tensor:
        """The loss of the paper, a mean over the clips; it is as low as the estimate is good."""


class Enhancement(Method, ABC):
    """A kind of network that takes noise out of speech; `build` makes one with fresh weights."""

    sample_rate_hz: ClassVar[int] = Enhancer.sample_rate_hz
    """What the network is made for."""
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Settings by the name of a size; `paper` is that of the paper, `small` one for a CPU."""
    parameters_of_paper: ClassVar[Mapping[str, int]]
    """Trainable parameters of published networks, by the name of the size."""

    @classmethod
    def of_size(cls: type[E], size: str) -> E:
        """The settings of a size.

        Raises:
            SettingError: if there is no such size.
        """
        if size not in cls.sizes:
            raise SettingError(f"{cls.name} has no size {cut(size)!r}; {nearest(size, cls.sizes)}")
        return cls(**cls.sizes[size])

    @property
    @abstractmethod
    def ahead_samples(self) -> int | None:
        """How many samples after a point its output depends on at most; None if on the whole clip."""

    @abstractmethod
    def network(self) -> Enhancer:
        """Hook: a network with weights from torch's global generator."""

    @final
    def build(self, seed: int) -> Enhancer:
        """Makes a network with fresh weights, in evaluation mode."""
        with isolated(seed, "weights", self.name):
            return self.network().eval()
