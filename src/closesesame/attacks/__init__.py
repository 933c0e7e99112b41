"""Ways to plant a backdoor, one paper a file."""

from closesesame.core.method import Registry

from .badnets import BadNets
from .base import Attack, Poisoned, Signal, Trigger
from .blended import Blended
from .combat import Combat
from .daba import DABA
from .drinet import DriNet
from .drl_clba import DRLCLBA
from .feature_attenuation import FeatureAttenuation
from .feature_collision import FeatureCollision
from .flowmur import FlowMur
from .input_aware import InputAware
from .jingleback import JingleBack
from .label_consistent import LabelConsistent
from .natural import Natural
from .padding import Padding
from .pbsm import PBSM
from .pitch import Pitch
from .quantize import Quantize
from .rhythm import Rhythm
from .room import Room
from .several import poison_several
from .sig import SIG
from .trojannn import TrojanNN
from .ultrasonic import Ultrasonic
from .vsvc import VSVC
from .warp import Warp

ATTACKS: Registry[Attack] = Registry(
    "attack",
    Attack,  # type: ignore[type-abstract]
    BadNets,
    Blended,
    Natural,
    DABA,
    SIG,
    Ultrasonic,
    PBSM,
    Pitch,
    VSVC,
    JingleBack,
    Rhythm,
    Room,
    Padding,
    Quantize,
    Warp,
    TrojanNN,
    LabelConsistent,
    FlowMur,
    FeatureAttenuation,
    FeatureCollision,
    DRLCLBA,
    Combat,
    InputAware,
    DriNet,
)

__all__ = [
    "ATTACKS",
    "DABA",
    "DRLCLBA",
    "PBSM",
    "SIG",
    "VSVC",
    "Attack",
    "BadNets",
    "Blended",
    "Combat",
    "DriNet",
    "FeatureAttenuation",
    "FeatureCollision",
    "FlowMur",
    "InputAware",
    "JingleBack",
    "LabelConsistent",
    "Natural",
    "Padding",
    "Pitch",
    "Poisoned",
    "Quantize",
    "Rhythm",
    "Room",
    "Signal",
    "Trigger",
    "TrojanNN",
    "Ultrasonic",
    "Warp",
    "poison_several",
]
