"""Settings with which the contract of an attack is checked in seconds; the defaults are for speech."""

from typing import Any

SMALL: dict[str, Any] = {"surrogate": "resnet", "surrogate_epochs": 2}
QUICK: dict[str, dict[str, Any]] = {
    "trojannn": SMALL | {"steps": 10},
    "label_consistent": SMALL | {"steps": 3},
    "flowmur": SMALL | {"steps": 5},
    "daba": SMALL | {"chords": 5},
    "input_aware": SMALL | {"steps": 5, "batch_size": 8, "channels": 4},
    "drinet": SMALL | {"steps": 5, "batch_size": 8, "channels": 4},
}
