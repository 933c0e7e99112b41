"""The command line: every command is one call of the library. torch is imported when it is needed."""

import sys

from cyclopts import CycloptsError

from closesesame.core.errors import ClosesesameError

from . import bench as bench
from . import commands as commands
from .app import app
from .outputs import plain


def main() -> None:
    """Runs a command; an error is one sentence on standard error and exit status 2."""
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _fail(" ".join(str(error).split()))
    except ClosesesameError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(sentence: str) -> None:
    sys.stderr.write(f"sesame: {plain(sentence)}\n")
    sys.exit(2)
