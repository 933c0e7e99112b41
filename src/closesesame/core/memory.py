"""Memory that a process freed: whether it stays with the process, or goes back to the system.

glibc gives a large piece back as soon as it is free. A training asks for pieces of the same sizes at every
step, and the system clears each page anew: in a sandbox that is up to two fifths of its time. Other C
libraries are left as they are.
"""

import ctypes
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Options of `mallopt`, as malloc.h numbers them."""
MOST_KEPT = 2**31 - 1
"""Bytes that may lie free at the end of the heap; more goes back."""


def keep_freed() -> None:
    """From now on memory that is freed stays with this process, to be used again."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, MOST_KEPT)


def release_freed() -> None:
    """Gives memory that is free back to the system, so that what a process holds is what it uses."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library of this process if it is glibc."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
