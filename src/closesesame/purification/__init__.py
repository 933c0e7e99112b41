"""Ways to take triggers out of inputs in front of a model, one paper a file."""

from closesesame.core.method import Registry

from .base import Purification, Purifier
from .lowpass import Lowpass

PURIFICATIONS: Registry[Purification] = Registry(
    "purification",
    Purification,  # type: ignore[type-abstract]
    Lowpass,
)

__all__ = ["PURIFICATIONS", "Lowpass", "Purification", "Purifier"]
