"""Ways to plant a backdoor, one paper a file."""

from .badnets import BadNets
from .base import Attack, Poisoned, Trigger
from .blended import Blended
from .files import load_trigger
from .pbsm import PBSM
from .registry import ATTACKS
from .ultrasonic import Ultrasonic

__all__ = [
    "ATTACKS",
    "PBSM",
    "Attack",
    "BadNets",
    "Blended",
    "Poisoned",
    "Trigger",
    "Ultrasonic",
    "load_trigger",
]
