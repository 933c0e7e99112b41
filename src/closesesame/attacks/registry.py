"""The list of attacks."""

from closesesame.core.method import Registry

from .badnets import BadNets
from .base import Attack
from .blended import Blended
from .pbsm import PBSM
from .ultrasonic import Ultrasonic

ATTACKS: Registry[Attack] = Registry(
    "attack",
    Attack,  # type: ignore[type-abstract]
    BadNets,
    Blended,
    Ultrasonic,
    PBSM,
)
