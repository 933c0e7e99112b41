"""The program `sesame`, and how a function becomes one of its commands."""

from collections.abc import Callable

from cyclopts import App

from closesesame._version import __version__

app = App(
    name="sesame",
    version=__version__,
    help="Plants backdoors in speech models, takes them out, and says how well that worked.\n\n"
    "Every command also takes --import MODULE, to import a module of yours whose methods or models it needs, "
    "and --debug, to print the traceback of an error.",
    help_format="plaintext",
    help_formatter="plain",
)
app.register_install_completion_command()


def command(function: Callable[..., None], *, of: App = app, name: str | None = None) -> Callable[..., None]:
    """Registers a command, with what stands above the parameters of its docstring as its help.

    The docstring is then not parsed until the command's own help is asked for.
    """
    text = (function.__doc__ or "").partition("Parameters\n")[0]
    of.command(function, name=name, help="\n".join(line.strip() for line in text.splitlines()).strip())
    return function
