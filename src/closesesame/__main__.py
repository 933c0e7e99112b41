"""The program `sesame`, and `python -m closesesame`. Nothing is imported before Ctrl-C is looked after."""

import os
import signal
from types import FrameType


def main() -> None:
    """Runs a command."""
    before = signal.signal(signal.SIGINT, _stop)
    from .cli import run

    signal.signal(signal.SIGINT, before)
    run()


def _stop(number: int, frame: FrameType | None) -> None:
    """Ends at once and without a traceback: nothing was begun yet."""
    del frame
    os._exit(128 + number)


if __name__ == "__main__":
    main()
