"""The program `sesame`, and how a function becomes one of its commands."""

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from cyclopts import App, Parameter

from closesesame._version import __version__
from closesesame.core.errors import DataWarning, plain

from .help import HelpFormatter
from .printing import Answer, notes

Body = TypeVar("Body", bound=Callable[..., Answer])
Json = Annotated[bool, Parameter(help="Print JSON on standard output.")]


def examples(*lines: str) -> str:
    """The end of a help page: commands to type."""
    return "\n".join(("Examples:", *(f"  {line}" for line in lines)))


app = App(
    name="sesame",
    version=__version__,
    help="Plants backdoors in speech models, removes them, and measures how well both worked.\n\n"
    "Every command also takes --import MODULE, which imports a module of yours with methods or models, and "
    "--debug, which prints the traceback of an error.",
    help_epilogue=examples("sesame demo", "sesame list removal", "sesame show pbsm", "sesame train --help"),
    help_format="plaintext",
    help_formatter=HelpFormatter(),
    default_parameter=Parameter(negative="", show_default=lambda value: None if value is False else value),
)
app.register_install_completion_command(
    help="Install the completion of commands and options with the tab key.",
    help_epilogue=examples("sesame --install-completion", "sesame --install-completion --shell zsh"),
)


def command(name: str, *, of: App = app, bars: bool = True) -> Callable[[Body], Body]:
    """Registers a function as a command, which also takes `--json`.

    The command prints what the function returns. Warnings about data become notes on standard error, and
    long work shows a bar there. The docstring is the help: what stands above `Args`, each of these, and
    below `Examples` one command a line.

    Args:
        name: what is typed.
        of: the program, or a command with commands of its own.
        bars: whether to show the bars of long work; False for a command with a display of its own.
    """

    def register(function: Body) -> Body:
        text, _, shown = inspect.cleandoc(function.__doc__ or "").partition("Examples:\n")
        paragraphs = text.partition("Args:\n")[0].strip().split("\n\n")
        of.command(
            _with_json(function, bars),
            name=name,
            help="\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs),
            help_epilogue=examples(*map(str.strip, shown.splitlines())),
        )
        return function

    return register


def _with_json(function: Callable[..., Answer], bars: bool) -> Callable[..., None]:
    """The function as it is called by the command line, with one parameter more."""

    def run(*given: Any, json: bool = False, **options: Any) -> None:
        with _bars(bars), _warnings_as_notes():
            found = function(*given, **options)
        found.print(json)
        if found.failure:
            sys.stderr.write(f"sesame: {plain(found.failure)}\n")
            sys.exit(1)

    kind = inspect.Parameter.KEYWORD_ONLY
    own = inspect.signature(function)
    added = inspect.Parameter("json", kind, default=False, annotation=Json)
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__annotations__ = function.__annotations__ | {"json": Json}
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), added])  # type: ignore[attr-defined]
    return run


@contextmanager
def _bars(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    from closesesame.core.progress import shown

    with shown():
        yield


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Prints each `DataWarning` within the block as a note; other warnings stay what they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", DataWarning)
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if issubclass(category, DataWarning):
                notes([str(message)])
            else:
                show(message, category, *where)

        warnings.showwarning = note  # type: ignore[assignment]
        yield
