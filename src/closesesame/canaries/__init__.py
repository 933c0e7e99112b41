"""Canaries: backdoors of our own, planted in a copy of a suspect, to see how far a removal goes.

Clean clips cannot show whether a backdoor is gone. A backdoor whose trigger is known can: if the same removal
takes it out of the copy, it reaches as far as that. No canary knows anything of the attacker's trigger.
"""

from .planting import Canaries, CanaryTest, Planted
from .triggers import FAMILIES, Canary, draw_canaries

__all__ = ["FAMILIES", "Canaries", "Canary", "CanaryTest", "Planted", "draw_canaries"]
