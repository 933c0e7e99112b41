"""Every error a user can cause, each one sentence that says what is wrong, where, and what would be right.

ClosesesameError
├── SettingError   a hyper-parameter out of range, or an unknown name
├── DataError      audio, folders or labels that cannot be used
└── ModelError     a checkpoint that is refused, or a model that lacks what a method needs
    └── DivergedError  a training or a model whose loss, weights or answers are no numbers any more
"""

from collections.abc import Collection, Iterable

LONGEST = 160
"""Characters that are kept of what others say."""


class ClosesesameError(Exception):
    """Base of all errors raised on purpose; the command line prints it and exits with 2."""


class SettingError(ClosesesameError):
    """A setting is out of its range, of the wrong type, or unknown."""


class DataError(ClosesesameError):
    """A recording, a folder or a label cannot be used."""


class DataWarning(UserWarning):
    """Data can be used, and something about them may surprise: clips were cut, a class is missing."""


class ModelError(ClosesesameError):
    """A model is refused, or lacks a property that a method needs."""


class DivergedError(ModelError):
    """A loss, a weight or an answer is NaN or infinite."""


def plain(text: str) -> str:
    """One line without control characters: names of files are hostile text."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def cut(text: object, longest: int = 60) -> str:
    """A name for a sentence: on one line, without characters that steer a terminal, and not too long."""
    shown = plain(str(text))
    return shown if len(shown) <= longest else f"{shown[:longest]}..."


def listed(names: Collection[str], most: int = 3, longest: int = 60) -> str:
    """The first of many names for a sentence."""
    shown = ", ".join(cut(name, longest) for name in list(names)[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def counted(number: int, noun: str) -> str:
    """A number with its noun, which takes an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def short(error: BaseException) -> str:
    """What an error of others says, on one line and cut: a hostile file may make it repeat itself."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}..."


def nearest(wrong: str, right: Iterable[str], most: int = 30) -> str:
    """Ends a sentence about an unknown name: the nearest known one, and all of them if they are few."""
    import difflib

    known = sorted(right)
    close = difflib.get_close_matches(wrong, known, n=1)
    hint = f"; did you mean {cut(close[0])!r}?" if close else ""
    shown = listed(known, most) if len(known) <= most else f"{len(known)} names"
    return f"known are {shown}{hint}" if known else "none is known"
