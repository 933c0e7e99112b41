"""What `sesame list` and `sesame show` say of methods: every family in one list."""

import shlex
from typing import Any

from closesesame.core.described import numeric, words_of
from closesesame.core.errors import SettingError, cut, nearest
from closesesame.core.method import Method, Registry, import_by_name
from closesesame.families import LISTED, Listed
from closesesame.models.showing import Shows
from closesesame.training import Training

ALL: dict[str, Listed] = {listed.name: listed for listed in LISTED}
TRAINING = Listed(
    registry=Registry(Training.name, Training, Training),
    title="Settings of a training",
    example="sesame train CLIPS MODEL",
)
"""No family, but it can be described like one."""


def describe_methods(family: str | None = None) -> list[dict[str, Any]]:
    """One entry a method: family, name, citation, claims, and what it does in one sentence.

    Raises:
        SettingError: if there is no such family.
    """
    wanted = None if family is None else family.removesuffix("s")
    if wanted is not None and wanted not in ALL:
        raise SettingError(f"no family is called {family!r}; {nearest(wanted, ALL)}")
    return [
        {
            "family": name,
            "name": method.name,
            "cite": method.cite,
            "claims": method.claims(),
            "what": (method.__doc__ or "").splitlines()[0],
        }
        for name, listed in ALL.items()
        if wanted in {None, name}
        for method in listed.registry.values()
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
    listed, words = ALL.get(found, TRAINING), words_of(method)
    settings = listed.settings(method)
    shown = numeric(settings)
    example = listed.example.format(name=shlex.quote(name))
    if getattr(method, "data_free", False):
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
        "claims_in_words": method.claims_in_words(),
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


def method_to_show(name: str) -> Shows:
    """A method at its defaults, of any family, that has something to show of a model.

    Args:
        name: of the method, or `module:Class`.

    Raises:
        SettingError: if there is none, or it has nothing to show, naming those that have.
    """
    known = {name: method for listed in LISTED for name, method in listed.registry.items()}
    showing = [one for one, method in known.items() if issubclass(method, Shows)]
    if name not in known and ":" not in name:
        raise SettingError(
            f"no method is called {cut(name)!r} that has something to show; {nearest(name, showing)}"
        )
    method = _foreign(name)[1] if name not in known else known[name]
    if not issubclass(method, Shows):
        raise SettingError(
            f"{cut(name)!r} has nothing to show of a model; methods that have are {', '.join(showing)}"
        )
    return method()


def _find(name: str, family: str | None) -> tuple[str, type[Method]]:
    """A method and the family it is of."""
    known = {one: listed.registry for one, listed in (ALL | {TRAINING.name: TRAINING}).items()}
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
    for family, listed in ALL.items():
        if isinstance(found, type) and issubclass(found, listed.registry.base):
            return family, found
    kinds = [listed.registry.base.__name__ for listed in ALL.values()]
    raise SettingError(
        f"{name!r} must be a sub-class of {', '.join(kinds[:-1])} or {kinds[-1]}, and {module} has "
        f"{'no ' + repr(attribute) if found is None else 'another ' + repr(attribute)}"
    )


def tabulate(entries: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """The table of one family: its columns and a row for each entry of `describe_methods`, in plain words."""
    claims = ALL[entries[0]["family"]].shown or tuple(entries[0]["claims"])
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
