"""espeak-ng, a speech synthesiser, called in this process; it is GPL-3 and comes with the extra `speech`.

The engine keeps state from one word to the next, so it is loaded anew for each: no word depends on what was
spoken before it. That holds as long as no other package of the process has the same library open.
"""

import _ctypes
import ctypes
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from closesesame.core.errors import DataError

RATE_HZ = 22_050
_DATA = ("phondata", "phonindex", "phontab", "intonations", "en_dict")


@dataclass(frozen=True)
class Engine:
    """The engine's library, and the folder that its data folder lies in."""

    library: str
    data: Path

    @contextmanager
    def in_english(self) -> Iterator[Self]:
        """A copy of the data in which an accent's file bears its name, as the engine looks for it first.

        Otherwise it searches the files of all languages for each word, which takes three times as long.
        """
        with tempfile.TemporaryDirectory(prefix="closesesame-") as scratch:
            whole, copy = self.data / "espeak-ng-data", Path(scratch, "espeak-ng-data")
            try:
                shutil.copytree(whole / "voices" / "!v", copy / "voices" / "!v")
                for name in _DATA:
                    shutil.copy(whole / name, copy)
                (copy / "lang").mkdir()
                for accent in (whole / "lang" / "gmw").glob("en*"):
                    shutil.copy(accent, copy / "lang" / accent.name.lower())
            except OSError as error:
                raise _unusable(str(error)) from None
            yield replace(self, data=Path(scratch))

    @contextmanager
    def _open(self) -> Iterator[ctypes.CDLL]:
        try:
            library = ctypes.CDLL(self.library)
        except OSError as error:
            raise _unusable(str(error)) from None
        try:
            yield library
        finally:
            unload = getattr(_ctypes, "FreeLibrary" if sys.platform == "win32" else "dlclose")
            unload(library._handle)  # noqa: SLF001 - ctypes offers no other way

    def version(self) -> str:
        """The version of the library."""
        with self._open() as library:
            library.espeak_Info.restype = ctypes.c_char_p
            return str(library.espeak_Info(None).decode())

    def say(self, text: str, voice: str, *, rate: int, pitch: int) -> np.ndarray:
        """Speaks at `rate` words a minute and `pitch` of 0 to 100.

        Returns:
            float32 (time,) at `RATE_HZ`, in the whole numbers of 16 bits.

        Raises:
            DataError: if it does not start, or has no such voice.
        """
        heard = bytearray()

        def listen(samples: int | None, count: int, _: int | None) -> int:
            if samples and count > 0:
                heard.extend(ctypes.string_at(samples, 2 * count))
            return 0

        listener = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(listen)
        spoken = text.encode()
        with self._open() as library:
            # Mode 2 speaks into the callback before it returns; 0x8000: an error must not end the process.
            if library.espeak_Initialize(2, 0, os.fsencode(self.data), 0x8000) != RATE_HZ:
                raise _unusable("it does not start")
            try:
                library.espeak_ng_SetRandSeed(ctypes.c_long(1))
                library.espeak_SetSynthCallback(listener)
                failed = library.espeak_SetVoiceByName(voice.encode())
                # Louder, and some voices are clipped.
                for number, value in ((1, rate), (2, 30), (3, pitch)):
                    failed |= library.espeak_SetParameter(number, value, 0)
                size = ctypes.c_size_t(len(spoken) + 1)
                failed |= library.espeak_Synth(spoken, size, 0, 0, 0, 1, None, None)
            finally:
                library.espeak_Terminate()
        if failed:
            raise _unusable(f"it cannot speak as {voice}")
        return np.frombuffer(heard, np.int16).astype(np.float32)


def find_engine() -> Engine:
    """The engine that the extra `speech` brings.

    Raises:
        DataError: if it is not installed or does not work.
    """
    try:
        loader = importlib.import_module("espeakng_loader")
    except ImportError:
        raise DataError("synthetic speech needs espeak-ng; run: pip install espeakng-loader") from None
    try:
        return Engine(loader.get_library_path(), Path(loader.get_data_path()).parent)
    except RuntimeError as error:
        raise _unusable(str(error)) from None


def _unusable(why: str) -> DataError:
    return DataError(f"espeak-ng cannot be used ({why}); run: pip install --force-reinstall espeakng-loader")
