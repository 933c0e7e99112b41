"""All registries of the house in one place, for lists."""

from typing import Any

from closesesame.attacks import ATTACKS
from closesesame.core.errors import SettingError, nearest
from closesesame.core.method import Registry
from closesesame.models import ARCHITECTURES
from closesesame.removal import REMOVALS

REGISTRIES: dict[str, Registry[Any]] = {r.family: r for r in (ATTACKS, REMOVALS, ARCHITECTURES)}
SHOWN = {"attack": ("clean_label", "needs", "audible")}
"""Claims that stand in the table of a family; all of them where nothing is said."""


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


def tabulate(entries: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """The table of one family: its columns and a row for each entry of `describe_methods`, in plain words."""
    claims = SHOWN.get(entries[0]["family"]) or tuple(entries[0]["claims"])
    rows = []
    for entry in entries:
        said = {_title(claim, entry["claims"][claim]): _words(entry["claims"][claim]) for claim in claims}
        rows.append({"name": entry["name"], "paper": entry["cite"], **said, "what": entry["what"]})
    return tuple(rows[0]), rows


def _title(claim: str, value: object) -> str:
    """`clean-label`, but `parameters of paper`."""
    return claim.replace("_", "-" if isinstance(value, bool) else " ")


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return "\N{EN DASH}" if value is None else str(value)
