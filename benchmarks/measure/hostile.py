"""Values that nobody meant, and files with something wrong in them, drawn from a generator."""

import json
import random
from collections.abc import Iterator
from typing import Any

Tree = Any
"""JSON."""

WORDS = (
    "", " ", "none", "NaN", "-inf", "true", "0", "-1", "1e309", "1_000", "٣", "0x10", "é", "日本", "..",
    "a/b", "../..", "/etc/passwd", "os:system", "closesesame.demo:run", "\0", "\ud800", "a\nb", "\x1b[31mred",
    "%s{0}", "<b>&", "low", "resnet", "badnets", "ft", "[", "{", "[1, 2", '{"a": 1}', "[[[[1]]]]", "x" * 300,
    "word", "9" * 5_000, "start", "1e-320", "random", "0.5", "16000",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 3, 7, 64, 255, 8_000, 65_537, 10**9, 2**63, -(2**63), 10**40, 10**400, 0.0, -0.0, 0.5, 1.5,
    1e-9, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip


def hostile(rng: random.Random, depth: int = 0) -> Tree:
    """A value that nobody meant, or that somebody could mean elsewhere."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(NUMBERS)
    if kind < 0.75:
        return rng.choice(WORDS)
    if kind < 0.85 or depth > 3:
        return rng.choice((None, True, False))
    count = rng.choice((0, 1, 2, 3, 40))
    if kind < 0.95:
        return [hostile(rng, depth + 1) for _ in range(count)]
    return {rng.choice(WORDS): hostile(rng, depth + 1) for _ in range(count)}


def places_in(tree: Tree) -> Iterator[tuple[Any, Any]]:
    """Every list and mapping in a tree, with each of its keys."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(inside):
        yield tree, key
        yield from places_in(value)


def near(value: Tree, rng: random.Random) -> Tree:
    """A value like one that is there."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, 2 * value, value // 2, 10 * value, f"{value}"))
    if isinstance(value, float):
        return rng.choice((value * 2, value / 2, value * 10, -value, value // 1))
    if isinstance(value, str):
        return rng.choice((value.upper(), f"{value} ", value[1:], value * 2))
    return (
        rng.sample(value, len(value))
        if isinstance(value, list)
        else dict(reversed(value.items()))
        if value
        else value
    )


def mutated(tree: Tree, rng: random.Random) -> Tree:
    """A tree of JSON with one to three things wrong."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holder, key = rng.choice(list(places_in(tree)) or [({}, "")])
        what = rng.random()
        if what < 0.3 and key in (holder if isinstance(holder, dict) else range(len(holder))):
            holder[key] = near(holder[key], rng)
        elif what < 0.6:
            holder[key] = hostile(rng)
        elif what < 0.75 and holder:
            del holder[key]
        elif what < 0.85 and isinstance(holder, dict):
            holder[rng.choice((*WORDS, str(key).upper(), f"{key}s"))] = hostile(rng)
        elif isinstance(holder, dict):
            holder[key] = rng.choice(([holder.get(key)], {"a": holder.get(key)}, str(holder.get(key))))
        else:
            holder.extend(holder * rng.choice((1, 50)))
    return tree if rng.random() > 0.02 else hostile(rng)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes with some flipped, lost, doubled or zeroed."""
    found, kind = bytearray(content), rng.randrange(6)
    at, size = rng.randrange(len(found) + 1), rng.choice((1, 2, 8, 100, 4096))
    if kind == 0:
        del found[at:]
    elif kind == 1:
        del found[at : at + size]
    elif kind == 2:
        found[at:at] = rng.choice((found[at : at + size], bytes(size), b"\xff" * size))
    elif kind == 3:
        found[at : at + size] = bytes(min(size, len(found) - at))
    else:
        near = rng.choice((len(found), 64, 200))
        for _ in range(rng.choice((1, 1, 3, 20)) if found else 0):
            found[rng.randrange(min(near, len(found)))] = rng.randrange(256)
    return bytes(found)


def as_json(tree: Tree, rng: random.Random) -> bytes:
    """JSON as some programs write it, sometimes damaged."""
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.9)
    content = text.encode(rng.choice(("utf-8",) * 40 + ("utf-16", "latin-1")), "replace")
    return damaged(content, rng) if rng.random() < 0.1 else content


def as_toml(tree: Tree) -> str:
    """Names and values as TOML; entries in double brackets."""
    plain = {name: value for name, value in tree.items() if not _is_table(value)}
    lines = [f"{_key(name)} = {_value(value)}" for name, value in plain.items()]
    for name, value in tree.items():
        if _is_table(value):
            entries = value if isinstance(value, list) else [value]
            mark = f"[[{_key(name)}]]" if isinstance(value, list) else f"[{_key(name)}]"
            for entry in entries:
                lines += [mark, *(f"{_key(key)} = {_value(inner)}" for key, inner in entry.items())]
    return "\n".join(lines) + "\n"


def _is_table(value: Tree) -> bool:
    whole = isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)
    return whole or isinstance(value, dict)


def _key(name: object) -> str:
    return json.dumps(str(name))


def _value(value: Tree) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(name)} = {_value(inner)}' for name, inner in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value) if isinstance(value, bool | str) else repr(value).replace("None", '""')


def as_setting(value: Tree) -> object:
    """A value as `--set` has it: text."""
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)
