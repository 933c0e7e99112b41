"""Settings of an attack as it takes them."""

from closesesame.core import described
from closesesame.core.described import Setting

from .base import Attack


def attack_settings(method: type[Attack]) -> list[Setting]:
    """All settings of an attack: only labels that it can give, and cover clips only if it has any."""
    labels = tuple(method.labellings)
    return [
        row._replace(range=", ".join(labels), choices=labels) if row.name == "labels" else row
        for row in described.settings_of(method)
        if row.name != "cover_ratio" or method.covers
    ]
