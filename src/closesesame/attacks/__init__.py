"""Ways to plant a backdoor, one paper a file."""

from .badnets import BadNets
from .base import Attack, Poisoned, Trigger
from .blended import Blended
from .files import load_trigger
from .natural import Natural
from .padding import Padding
from .pbsm import PBSM
from .pitch import Pitch
from .quantize import Quantize
from .registry import ATTACKS
from .sig import SIG
from .ultrasonic import Ultrasonic

__all__ = [
    "ATTACKS",
    "PBSM",
    "SIG",
    "Attack",
    "BadNets",
    "Blended",
    "Natural",
    "Padding",
    "Pitch",
    "Poisoned",
    "Quantize",
    "Trigger",
    "Ultrasonic",
    "load_trigger",
]
