"""The identity of a job: a hash of all that its result depends on, and of nothing else.

That is: the contents of data and recordings, settings, the code that can be reached from the methods that
take part, precision, processor and torch. Where a folder lies is no part of it, so a result file can be
checked against its ids on any machine.
"""

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from closesesame.core import machine
from closesesame.core.disk import write_whole
from closesesame.core.errors import DataError, SettingError
from closesesame.data.folders import decisive_files, list_recordings
from closesesame.families import LISTED

from .recipe import DataEntry

OURS = "closesesame"
NOT_FOLLOWED = tuple(
    f"{OURS}.{name}"
    for name in ("bench", "report", "cli", "demo", "listing", "families", "core.progress", "_version")
)
"""The engine, the reports and the command line: they decide when a job runs and how it is shown."""
FAMILIES = tuple(next(iter(listed.registry.values())).__module__.rpartition(".")[0] for listed in LISTED)
"""Packages whose `__init__` lists all methods of a family: a job depends on those that it runs alone."""
ALWAYS = tuple(
    f"{OURS}.{name}"
    for name in ("running", "bench.tasks", "bench.judging", "bench.protocol", "models.files", "attacks.files")
)
"""Modules that every job runs. Their own code counts; the methods they look up by name count where used."""


@dataclass(frozen=True)
class Machine:
    """What of a machine decides the numbers that a job gives."""

    precision: str
    processor: str
    torch: str
    device: str = "cpu"

    @classmethod
    def here(cls, precision: str, device: str = "cpu") -> "Machine":
        """This machine.

        Args:
            precision: `fp32`, `bf16`, or `auto` for bf16 where the device has it.
            device: where models are trained, `cpu` or `cuda`.

        Raises:
            SettingError: if there is no such device, or it lacks the precision.
        """
        import torch

        if device != "cpu" and not (device == "cuda" and torch.cuda.is_available()):
            raise SettingError(f"the device must be 'cpu', or 'cuda' where there is one, got {device!r}")
        chosen = machine.choose_precision(precision, torch.device(device))
        processor = machine.processor_features() if device == "cpu" else torch.cuda.get_device_name()
        return cls(chosen, processor, torch.__version__, device)

    def settings(self) -> dict[str, str]:
        """As plain JSON values."""
        return asdict(self)


def identity(*parts: object) -> str:
    """A short hash of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]


class Contents:
    """Hashes of files by what they hold; kept in a file, so that a file is read again only if it changed.

    A file counts as unchanged while its size and its modification time stay what they were.
    """

    def __init__(self, memory: Path | None = None) -> None:
        """Reads what is known from `memory`, if it is there; `None` forgets at the end."""
        self._memory, self._known, self._new = memory, dict[str, list[Any]](), False
        if memory is not None and memory.is_file():
            try:
                self._known = dict(json.loads(memory.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError):
                self._known = {}  # it only saves time

    def of(self, path: Path) -> str:
        """The hash of one file.

        Raises:
            DataError: if it cannot be read.
        """
        try:
            return self._of(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None

    def _of(self, path: Path) -> str:
        about, key = path.stat(), str(path.resolve())
        stamp = [about.st_size, about.st_mtime_ns]
        known = self._known.get(key)
        if not isinstance(known, list) or len(known) != 3 or known[:2] != stamp:
            with path.open("rb") as file:
                known = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
            self._known[key], self._new = known, True
        return str(known[2])

    def of_recording(self, path: Path) -> str:
        """The hash of a recording, or of all files in a folder of them."""
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return identity([self.of(file) for file in files if file.is_file()])

    def of_data(self, entry: DataEntry, data_folder: Path) -> str:
        """The hash of a data set: how it is read, the names and contents of its files, and its lists.

        Raises:
            DataError: if it is not there, or a file of it cannot be read.
        """
        if entry.source == "synthetic":
            return identity("synthetic", entry.sample_rate, entry.duration_s)
        place = entry.place(data_folder)
        if not place.exists():
            raise DataError(
                f"{place} is not there, and data set {entry.name!r} should be; --data names the folder that "
                "data sets lie in, and 'source' of the entry the folder within it"
            )
        files = [(recording.id, self.of(recording.path)) for recording in list_recordings(place)]
        lists = [(path.name, self.of(path)) for path in sorted(decisive_files(place))]
        return identity(entry.model_dump(exclude={"name", "source"}), files, lists)

    def save(self) -> None:
        """Writes what is known."""
        if self._memory is not None and self._new:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            write_whole(json.dumps(self._known), self._memory)
            self._new = False


class Code:
    """The code that jobs run; each module is read once."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}
        self._imports: dict[str, list[str]] = {}

    def of(self, *modules: str) -> dict[str, str]:
        """A hash of each module that can be reached from these, and of `ALWAYS`.

        Imports are followed wherever they stand, within closesesame and within the package a module belongs
        to. A name that a package only passes on leads to the module that defines it. Comments and
        docstrings do not count.

        Args:
            modules: full names, such as `closesesame.removal.ft`; one of the engine that is named here is
                followed.

        Raises:
            SettingError: if the source of a module cannot be read.
        """
        found = {name: self._source(name).hash for name in ALWAYS}
        waiting = list(modules)
        while waiting:
            name = waiting.pop()
            if name not in {*found, *FAMILIES} and (name in modules or not name.startswith(NOT_FOLLOWED)):
                found[name] = self._source(name).hash
                waiting += self._imported(name)
        return dict(sorted(found.items()))

    def _imported(self, module: str) -> list[str]:
        """The modules of closesesame, and of its own package, that a module imports, in its functions too."""
        if module not in self._imports:
            packages, names = {OURS, module.partition(".")[0]}, list[str]()
            for node in self._source(module).imports:
                if isinstance(node, ast.Import):
                    names += [alias.name for alias in node.names]
                    continue
                source = _absolute(module, node)
                if source.partition(".")[0] in packages:
                    names += [self._definer(source, alias.name) for alias in node.names]
            own = dict.fromkeys(name for name in names if name.partition(".")[0] in packages)
            self._imports[module] = [name for name in own if _origin(name)]
        return self._imports[module]

    def _definer(self, module: str, name: str) -> str:
        """The module that `name` of `module` is, or is defined in: `__init__` files pass names on."""
        if _origin(f"{module}.{name}"):
            return f"{module}.{name}"
        for read in (self._source(module), *_stub(module)):
            for node in read.imports:
                source = _absolute(module, node) if isinstance(node, ast.ImportFrom) else module
                if source == module or source.partition(".")[0] != module.partition(".")[0]:
                    continue
                for alias in node.names:
                    if name == (alias.asname or alias.name):
                        return self._definer(source, alias.name)
        return module

    def _source(self, module: str) -> "Source":
        if module not in self._sources:
            self._sources[module] = _read(source_of(module))
        return self._sources[module]


class Source(NamedTuple):
    """What counts of the source of a module.

    Attributes:
        hash: of its code, without comments and docstrings.
        imports: its import statements, those in functions too.
    """

    hash: str
    imports: tuple[ast.Import | ast.ImportFrom, ...]


@cache
def _read(source: str) -> Source:
    """The same text is read once a process."""
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return Source(identity(_plain(tree)), tuple(imports))


def source_of(module: str) -> str:
    """The source of a module.

    Raises:
        SettingError: if it cannot be read.
    """
    origin = _origin(module)
    if origin is None:
        raise SettingError(
            f"the code of {module!r} is not there to be read, so its results cannot be kept apart"
        )
    return Path(origin).read_text(encoding="utf-8")


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """The full name of what stands behind `from`."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    is_package = Path(_origin(module) or "").stem == "__init__"
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, node.module] if node.module else base)


def _origin(module: str) -> str | None:
    """The source file of a module; None for what has none, such as a name or a compiled module."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    origin = None if spec is None else spec.origin
    return origin if origin and origin.endswith(".py") else None


def _stub(module: str) -> list[Source]:
    """The stub of a package, which holds the names that it passes on lazily."""
    stub = Path(f"{_origin(module)}i")
    return [_read(stub.read_text(encoding="utf-8"))] if stub.is_file() else []


def _plain(node: object) -> object:
    """A syntax tree as lists, the same for every version of Python, without docstrings."""
    if isinstance(node, ast.AST):
        fields: Iterable[tuple[str, Any]] = ast.iter_fields(node)
        has_docstring = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if has_docstring and ast.get_docstring(node, clean=False) is not None:  # type: ignore[arg-type]
            fields = [(name, value[1:] if name == "body" else value) for name, value in fields]
        kept = [[name, _plain(value)] for name, value in fields if value not in (None, []) and name != "ctx"]
        return [type(node).__name__, *kept]
    if isinstance(node, list):
        return [_plain(value) for value in node]
    return repr(node)


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The names whose hash is not what it was, or that came or went."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def check_data(entry: DataEntry, data_folder: Path, fingerprint: str) -> None:
    """Refuses data that are not those that were planned with.

    Raises:
        DataError: if a file changed since.
    """
    if Contents().of_data(entry, data_folder) != fingerprint:
        raise DataError(
            f"data set {entry.name!r} changed after the grid was planned; start 'sesame bench run' again"
        )
