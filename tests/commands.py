"""What tests of commands share: a way to run them in this process, and options that make them fast."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from closesesame import cli

FolderOf = Callable[..., Path]
FAST = ("--sample-rate", "8000", "--duration-s", "0.5")
WIDTHS = ("--set", "widths=[8,16]")


class Sesame:
    """Runs commands in this process; `noted` is what the last one said on standard error."""

    noted = ""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.patch, self.capture = patch, capture

    def __call__(self, *words: object) -> str:
        self.patch.setattr(sys, "argv", ["sesame", *map(str, words)])
        self.capture.readouterr()
        cli.run()
        out, self.noted = self.capture.readouterr()
        return out

    def json(self, *words: object) -> Any:
        return json.loads(self(*words, "--json"))

    def fails(self, *words: object) -> str:
        with pytest.raises(SystemExit) as end:
            self(*words)
        assert end.value.code == 2
        out, error = self.capture.readouterr()
        assert out == ""
        assert error.startswith("sesame: ")
        assert error.count("\n") == 1
        return error
