"""Randomness that repeats: a seed goes in, and the global generators are left as they were."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *purpose: object) -> int:
    """Returns a 63-bit seed for one purpose, so that two uses of one seed do not share their numbers."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """Returns a CPU generator of its own for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def isolated(seed: int, *purpose: object) -> Iterator[None]:
    """Seeds torch's global generator for a block (weights, dropout), and puts it back afterwards."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        torch.random.manual_seed(derive(seed, *purpose))
        yield
