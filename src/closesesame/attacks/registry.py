"""The list of attacks."""

from closesesame.core.method import Registry

from .badnets import BadNets
from .base import Attack
from .blended import Blended
from .jingleback import JingleBack
from .natural import Natural
from .padding import Padding
from .pbsm import PBSM
from .pitch import Pitch
from .quantize import Quantize
from .room import Room
from .sig import SIG
from .trojannn import TrojanNN
from .ultrasonic import Ultrasonic
from .warp import Warp

ATTACKS: Registry[Attack] = Registry(
    "attack",
    Attack,  # type: ignore[type-abstract]
    BadNets,
    Blended,
    Ultrasonic,
    PBSM,
    SIG,
    Quantize,
    Pitch,
    Padding,
    Natural,
    Room,
    TrojanNN,
    Warp,
    JingleBack,
)
