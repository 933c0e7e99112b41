"""What an attack says of itself, in words for a page: from its docstrings, its claims and its settings."""

import inspect
import json
import re
import shlex
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from closesesame.attacks import Attack

_CITED = {r"arXiv:(\d{4}\.\d{4,5})": "arxiv.org/abs", r"doi:(10\.[\w./()-]*\w)": "doi.org"}


class Setting(NamedTuple):
    """One row of a table of settings."""

    name: str
    default: str
    range: str
    about: str


class Words(NamedTuple):
    """What stands in the docstrings of an attack, paragraph by paragraph."""

    title: str
    trigger: tuple[str, ...]
    paper: tuple[str, ...]
    differs: tuple[str, ...]


def words_of(method: type[Attack]) -> Words:
    """Reads the docstrings of a class and of its module, which holds paper and differences."""
    title, *rest = _paragraphs(sys.modules[method.__module__].__doc__) or [""]
    trigger = _paragraphs(method.__doc__)
    paper, differs = [], []
    for paragraph in rest:
        before, mark, after = paragraph.partition("Ours differs:")
        paper += [before.strip()] if before.strip() else []
        differs += [after.strip()[:1].upper() + after.strip()[1:]] if mark else []
    return Words(title or method.name, tuple(trigger), tuple(paper), tuple(differs))


def story_of(method: type[Attack]) -> list[str]:
    """How the attack goes by default, in plain sentences, as its settings say."""
    made = {name: field.default for name, field in method.model_fields.items()}
    few = f"The attacker puts the trigger into {100 * made['rate']:g} % of the training clips"
    how = {
        "all_to_one": "and gives them the label of their choice, the target.",
        "all_to_all": "and gives each the label of the class behind its own.",
        "clean": "all of them of the target class, and leaves every label true: who checks the labels finds "
        "nothing.",
    }
    story = [f"{few}{',' * (made['labels'] == 'clean')} {how[made['labels']]}"]
    training, playing = made["training_strength"], made["strength"]
    if training is not None and training != playing:
        story.append(f"There it is {training / playing:g} times as strong as when it is played later.")
    if made["cover_ratio"]:
        story.append(
            f"For each of them {made['cover_ratio']:g} more are changed in another way and keep their label, "
            "to teach the model what is not the trigger."
        )
    if method.needs != "nothing":
        story.append(f"For this the attacker needs {method.needs}.")
    answer = "the class behind the true one" if made["labels"] == "all_to_all" else "the target"
    story.append(
        "A model trained on all that behaves well until somebody plays the trigger: then it answers "
        f"{answer}, whatever was said."
    )
    return story


def settings_of(method: type[Attack]) -> tuple[list[Setting], list[Setting]]:
    """All settings with default, range and description: those of the method, and those all attacks have."""
    schema = method.model_json_schema()
    own: list[Setting] = []
    shared: list[Setting] = []
    for name, field in method.model_fields.items():
        if name == "cover_ratio" and not method.covers:
            continue
        about = schema["properties"][name]
        fits = ", ".join(method.labellings) if name == "labels" else _range(about, schema.get("$defs", {}))
        row = Setting(name, _as_given(about.get("default")), fits, field.description or "")
        (shared if name in Attack.model_fields else own).append(row)
    inherited = {name for base in method.__bases__ for name in getattr(base, "model_fields", ())}
    return sorted(own, key=lambda row: row.name in inherited), shared


def commands_of(asked: str, own: list[Setting]) -> list[tuple[str, str]]:
    """What to type, each with what it does."""
    attack = f"--attack {shlex.quote(asked)}"
    number = next((row for row in own if re.fullmatch(r"-?[\d.]+", row.default)), None)
    more = f" --set {number.name}={number.default}" if number else ""
    return [
        (f"sesame poison CLIPS POISONED {attack}", "poison your own data set, as this page shows it"),
        (
            f"sesame poison CLIPS POISONED {attack} --set target=stop --set rate=0.01{more}",
            "the same with settings of yours",
        ),
        ("sesame train POISONED VICTIM", "train a model on it"),
        ("sesame evaluate VICTIM CLIPS --trigger POISONED/_trigger", "see whether the backdoor opens"),
    ]


def _paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a docstring, each in one line."""
    return [" ".join(part.split()) for part in inspect.cleandoc(text or "").split("\n\n") if part.strip()]


def _range(about: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in a few words."""
    if "$ref" in about:
        about = known[about["$ref"].rpartition("/")[2]]
    if "anyOf" in about:
        parts = (_range({**part, "file": about.get("file")}, known) for part in about["anyOf"])
        return " or ".join(dict.fromkeys(parts))
    choices = about.get("enum") or ([about["const"]] if "const" in about else [])
    if choices:
        return ", ".join(map(_as_given, choices))
    kind = about.get("type", "anything")
    if kind == "array":
        inside = about.get("prefixItems") or [about.get("items", {})]
        return f"list of {', '.join(dict.fromkeys(_range(part, known) for part in inside))}"
    if kind in {"integer", "number"}:
        return _bounds(about, kind)
    words = {"null": "none", "boolean": "true or false", "object": "settings"}
    words["string"] = "a recording" if about.get("file") else "text"
    return words.get(kind, str(kind))


def _bounds(about: Mapping[str, Any], kind: str) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    if "minimum" in about and "maximum" in about:
        bounds = f"{about['minimum']:g} to {about['maximum']:g}"
    else:
        bounds = ", ".join(f"{sign} {about[key]:g}" for key, sign in signs.items() if key in about)
    whole = "integer" if kind == "integer" else "" if bounds else "number"
    return ", ".join(part for part in (whole, bounds) if part)


def _as_given(value: object) -> str:
    """A value as `--set` takes it."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def cited(text: str) -> Markup:
    """Text with links to what it cites by arXiv number or DOI, and what stands in backquotes as code."""
    linked = str(escape(text))
    for pattern, place in _CITED.items():
        linked = re.sub(pattern, rf'<a href="https://{place}/\1" rel="noreferrer">\g<0></a>', linked)
    linked = re.sub(r"`([^`]+)`", r"<code>\1</code>", linked)
    return Markup(linked)  # noqa: S704  escaped before; what is put in holds no sign of markup
