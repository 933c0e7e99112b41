"""Settings of an attack as it takes them."""

from closesesame.core import described
from closesesame.core.described import Setting

from .base import Attack


def attack_settings(method: type[Attack]) -> list[Setting]:
    """All settings of an attack: only label modes that it has, and cover clips only if it has any."""
    modes = tuple(method.label_modes)
    return [
        row._replace(range=", ".join(modes), choices=modes) if row.name == "label_mode" else row
        for row in described.settings_of(method)
        if row.name != "cover_ratio" or method.has_cover_clips
    ]
