"""The command line: each command is a file in `verbs` and one call of the library.

torch is imported by the commands that need it, when they run.
"""

import importlib
import os
import pkgutil
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType

from cyclopts import CycloptsError, UnusedCliTokensError

from closesesame.core.errors import ClosesesameError, SettingError, listed, plain, short
from closesesame.core.memory import keep_freed
from closesesame.core.method import import_by_name

from . import verbs
from .app import app

for found in pkgutil.iter_modules(verbs.__path__):
    importlib.import_module(f"{verbs.__name__}.{found.name}")

DEBUG, IMPORT = "--debug", "--import"
RENAMED = {
    "--rate": "--rate is called --sample-rate (Hz); the poisoning rate is '--set rate=0.05'",
    "--duration": "--duration is called --duration-s (seconds)",
    "--timeout": "--timeout is called --timeout-s (seconds)",
}
"""Options of version 0.1."""


def run() -> None:
    """Runs the command of `sys.argv`; an error is one sentence on standard error and exit status 2."""
    _mend_streams()
    keep_freed()
    words = sys.argv[1:]
    debug = DEBUG in words
    try:
        _run([word for word in words if word != DEBUG])
    except BrokenPipeError:  # whoever read the output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            traceback.print_exc()
        _fail(_sentence(error, words))
    except KeyboardInterrupt:
        sys.exit(130)


def _mend_streams() -> None:
    """Lets every text be printed, and what goes to a closed stream go nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        with suppress(AttributeError, ValueError):  # some that stand in for a terminal cannot
            getattr(sys, name).reconfigure(errors="backslashreplace")


def _run(words: list[str]) -> None:
    if "" in words:
        raise SettingError("one of the words of the command is empty: is a variable of the shell not set?")
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, _terminate)
    app(_imported(words), exit_on_error=False, print_error=False, result_action="return_value")
    sys.stdout.flush()


def _terminate(number: int, frame: FrameType | None) -> None:
    """Ends as Ctrl-C does: what was begun is put back in order."""
    del frame
    sys.exit(128 + number)


def _imported(words: list[str]) -> list[str]:
    """The words without `--import MODULE`, whose modules are imported: the user trusts them."""
    left, waiting = [], iter(words)
    for word in waiting:
        option, equals, module = word.partition("=")
        if option != IMPORT:
            left.append(word)
        else:
            import_by_name(module if equals else next(waiting, ""))
    return left


def _sentence(error: Exception, words: list[str]) -> str:
    if isinstance(error, CycloptsError):
        if isinstance(error, UnusedCliTokensError):
            unused = listed([repr(word) for word in error.unused_tokens or ()])
            return f"{unused} is more than the command takes; put a path with spaces in quotes"
        old = [RENAMED[name] for word in words if (name := word.partition("=")[0]) in RENAMED]
        return old[0] if old else " ".join(str(error).split())
    if isinstance(error, ClosesesameError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'the output'}: {error.strerror or error}"
    said = short(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in said:
        return f"memory ran out ({said or 'no more is known'}); take fewer clips, or smaller settings"
    return (
        f"{type(error).__name__}: {said}; this is a fault of closesesame: run it again with {DEBUG} and "
        "report what it prints"
    )


def _fail(sentence: str) -> None:
    with suppress(OSError):  # standard error may be closed, or on a full disk
        sys.stderr.write(f"sesame: {plain(sentence)}\n")
    sys.exit(2)
