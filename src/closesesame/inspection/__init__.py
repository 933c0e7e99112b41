"""Ways to tell whether a trained model has a backdoor, one paper a file."""

from closesesame.core.method import Registry

from .base import Inspection, Verdict, load_verdict
from .max_margin import MaxMargin

INSPECTIONS: Registry[Inspection] = Registry(
    "inspection",
    Inspection,  # type: ignore[type-abstract]
    MaxMargin,
)

__all__ = ["INSPECTIONS", "Inspection", "MaxMargin", "Verdict", "load_verdict"]
