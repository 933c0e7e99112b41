"""The checkpoint inside of a .nemo file: a tar archive, with gzip or without, that also holds a YAML.

The YAML names classes to make, and is never read. Nothing is unpacked to disk under a name of the archive.
"""

import gzip
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from closesesame.core.bounds import MOST_BYTES
from closesesame.core.errors import ModelError, listed, short

SUFFIXES = frozenset({".ckpt", ".pt", ".pth"})
GZIP = b"\x1f\x8b"


@contextmanager
def checkpoint_in(path: Path) -> Iterator[IO[bytes]]:
    """Gives the checkpoint in an archive, to read.

    Raises:
        ModelError: if the archive is damaged, unpacks to more than 2 GB, or holds none or several.
    """
    with path.open("rb") as packed, tempfile.TemporaryFile() as made, tempfile.TemporaryFile() as found:
        try:
            archive: IO[bytes] = packed
            if packed.read(2) == GZIP:
                _unpack(packed, made, path)
                archive = made
            archive.seek(0)
            with tarfile.open(fileobj=archive, mode="r:") as tar:
                # A sparse file would be as large as it says.
                members = [one for one in tar if one.isreg() and not one.issparse()]
                inside = [one for one in members if PurePosixPath(one.name).suffix in SUFFIXES]
                if len(inside) != 1:
                    names = listed([one.name for one in inside]) or "none"
                    raise ModelError(
                        f"{path} must hold one checkpoint ({', '.join(sorted(SUFFIXES))}), holds {names}"
                    )
                content = tar.extractfile(inside[0])
                assert content is not None
                shutil.copyfileobj(content, found)
        except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
            raise ModelError(f"{path} is damaged ({short(error)}); get the file again") from None
        found.seek(0)
        yield found


def _unpack(packed: IO[bytes], made: IO[bytes], path: Path) -> None:
    """Undoes the compression, as far as it is not too much."""
    packed.seek(0)
    with gzip.open(packed) as stream:
        while block := stream.read(2**20):
            made.write(block)
            if made.tell() > MOST_BYTES:
                raise ModelError(f"{path} is refused: it unpacks to more than {MOST_BYTES / 1e9:g} GB")
