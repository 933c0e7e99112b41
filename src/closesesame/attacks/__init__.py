"""Ways to plant a backdoor, one paper a file."""

from .badnets import BadNets
from .base import Attack, Poisoned, Trigger
from .blended import Blended
from .files import load_trigger
from .jingleback import JingleBack
from .natural import Natural
from .padding import Padding
from .pbsm import PBSM
from .pitch import Pitch
from .quantize import Quantize
from .registry import ATTACKS
from .room import Room
from .sig import SIG
from .trojannn import TrojanNN
from .ultrasonic import Ultrasonic
from .warp import Warp

__all__ = [
    "ATTACKS",
    "PBSM",
    "SIG",
    "Attack",
    "BadNets",
    "Blended",
    "JingleBack",
    "Natural",
    "Padding",
    "Pitch",
    "Poisoned",
    "Quantize",
    "Room",
    "Trigger",
    "TrojanNN",
    "Ultrasonic",
    "Warp",
    "load_trigger",
]
