"""All registries of the house in one place, for lists."""

from typing import Any

from closesesame.attacks import ATTACKS
from closesesame.core.errors import SettingError, nearest
from closesesame.core.method import Registry
from closesesame.models import ARCHITECTURES
from closesesame.removal import REMOVALS

REGISTRIES: dict[str, Registry[Any]] = {r.family: r for r in (ATTACKS, REMOVALS, ARCHITECTURES)}


def describe_methods(family: str | None = None) -> list[dict[str, Any]]:
    """One entry a method: family, name, citation, claims, and what it does in one sentence.

    Raises:
        SettingError: if there is no such family.
    """
    wanted = None if family is None else family.removesuffix("s")
    if wanted is not None and wanted not in REGISTRIES:
        raise SettingError(f"no family is called {family!r}; {nearest(wanted, REGISTRIES)}")
    return [
        {
            "family": registry.family,
            "name": method.name,
            "cite": method.cite,
            "claims": method.claims(),
            "what": (method.__doc__ or "").splitlines()[0],
        }
        for registry in REGISTRIES.values()
        if wanted in {None, registry.family}
        for method in registry.values()
    ]
