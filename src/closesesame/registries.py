"""All registries of the house in one place, for lists."""

import shlex
from typing import Any

from .attacks import ATTACKS, Attack
from .attacks.described import attack_settings
from .core.described import Setting, numeric, settings_of, words_of
from .core.errors import SettingError, nearest
from .core.method import Method, Registry, import_by_name
from .models import ARCHITECTURES, Architecture
from .removal import REMOVALS, Removal
from .training import Training

REGISTRIES: dict[str, Registry[Any]] = {r.family: r for r in (ATTACKS, REMOVALS, ARCHITECTURES)}
SHOWN = {"attack": ("clean_label", "needs", "audible")}
"""Claims that stand in the table of a family; all of them where nothing is said."""
EXAMPLES = {
    "attack": "sesame poison CLIPS POISONED --attack {name}",
    "removal": "sesame remove MODEL REPAIRED --clean CLIPS --method {name}",
    "model": "sesame train CLIPS MODEL --model {name}",
    Training.name: "sesame train CLIPS MODEL",
}
"""What to type."""


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


def describe_method(name: str, family: str | None = None) -> dict[str, Any]:
    """All that a method says of itself: what it does, its paper, its claims, its settings, how to use it.

    Args:
        name: of an attack, a removal or a model, `training`, or `module:Class`.
        family: of that name, where several have it.

    Raises:
        SettingError: if there is none, naming the nearest of all families, or several.
    """
    found, method = _find(name, None if family is None else family.removesuffix("s"))
    words = words_of(method)
    settings = _settings_of(method)
    shown = numeric(settings)
    example = EXAMPLES[found].format(name=shlex.quote(name))
    if issubclass(method, Removal) and method.data_free:
        example = example.replace(" --clean CLIPS", "")
    return {
        "family": found,
        "name": name,
        "cite": method.cite,
        "title": words.title,
        "what": list(words.does),
        "paper": list(words.paper),
        "differs": list(words.differs),
        "claims": method.claims(),
        "claims_in_words": _in_words(method),
        "settings": [
            {
                "name": row.name,
                "default": row.value,
                "written": row.default,
                "range": row.range,
                "about": row.about,
                "minimum": row.minimum,
                "maximum": row.maximum,
                "choices": list(row.choices),
            }
            for row in settings
        ],
        "example": example + (f" --set {shown.name}={shown.default}" if shown else ""),
    }


def _find(name: str, family: str | None) -> tuple[str, type[Method]]:
    """A method and the family it is of."""
    known: dict[str, Any] = {**REGISTRIES, Training.name: {Training.name: Training}}
    if family is not None and family not in known:
        raise SettingError(f"no family is called {family!r}; {nearest(family, known)}")
    if ":" in name:
        return _foreign(name)
    having = [one for one, methods in known.items() if name in methods and family in {None, one}]
    if not having:
        every = {other for one in known if family in {None, one} for other in known[one]}
        raise SettingError(f"no method is called {name!r}, see 'sesame list'; {nearest(name, every)}")
    if len(having) > 1:
        raise SettingError(f"{name!r} is the name of several: {', '.join(having)}; say which with --family")
    return having[0], known[having[0]][name]


def _foreign(name: str) -> tuple[str, type[Method]]:
    module, _, attribute = name.partition(":")
    found = getattr(import_by_name(module), attribute, None)
    for registry in REGISTRIES.values():
        if isinstance(found, type) and issubclass(found, registry.base):
            return registry.family, found
    raise SettingError(
        f"{name!r} must be a sub-class of Attack, Removal or Architecture, and {module} has "
        f"{'no ' + repr(attribute) if found is None else 'another ' + repr(attribute)}"
    )


def _settings_of(method: type[Method]) -> list[Setting]:
    return attack_settings(method) if issubclass(method, Attack) else settings_of(method)


def _in_words(method: type[Method]) -> dict[str, str]:
    """The claims of a method, as sentences are made of them."""
    if issubclass(method, Attack):
        clean = method.claims()["clean_label"]
        return {
            "heard": method.audible,
            "needs": f"{'nothing' if method.needs == 'nothing' else method.needs} beside the training set",
            "labels": f"poisoned clips {'keep their true' if clean else 'get the target'} label",
        }
    if issubclass(method, Removal):
        data = "clean clips"
        if method.untrusted:
            data = "the untrusted training set, poison among it, instead of clean clips"
        elif method.data_free:
            data = "no clips at all"
        return {
            "needs": data + (f"; a model with {method.requires}" if method.requires else ""),
            "takes": method.cost,
        }
    if issubclass(method, Architecture) and method.parameters_of_paper:
        return {"size": f"{method.parameters_of_paper:,} parameters as published"}
    return {}


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
