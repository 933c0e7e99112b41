"""ONNX files, run by onnxruntime on the processor, within bounded memory and time."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from closesesame.core.bounds import MOST_BYTES
from closesesame.core.errors import ModelError, short

from .graph import check_graph
from .reading import read_graph
from .runtime import Arrays, Port, Runtime, deadline, needed, within

_KINDS = {"float": "float32", "double": "float64"}
"""What onnxruntime calls otherwise than numpy."""


class OnnxFile(Runtime):
    """A file that onnxruntime runs."""

    format: ClassVar[str] = "onnx"

    def __init__(self, content: bytes, path: Path, threads: int) -> None:
        self.content, self.path = content, path
        # Checked before onnxruntime writes out its functions, which may stand for any number of operators.
        self.findings = check_graph(read_graph(content, path))
        runtime = needed("onnxruntime", "onnx")
        _bound(runtime)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 4  # what is wrong is raised, too
        # It would recognise a file of its own format, which is not checked here, by the content.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.add_session_config_entry("session.use_env_allocators", "1")
        self._run_options = runtime.RunOptions

        def opened() -> Any:
            with _raising(path):
                return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

        self.session = within(deadline(), path, opened, lambda: None)
        self.inputs = tuple(map(_port, self.session.get_inputs()))
        self.outputs = tuple(map(_port, self.session.get_outputs()))

    def run(self, values: Arrays, until: float) -> Arrays:
        """All outputs by name."""
        names, options = [port.name for port in self.outputs], self._run_options()

        def given() -> Any:
            with _raising(self.path):
                return self.session.run(names, dict(values), options)

        def stop() -> None:
            options.terminate = True  # onnxruntime looks at it from operator to operator

        return dict(zip(names, within(until, self.path, given, stop), strict=True))


@contextmanager
def _raising(path: Path) -> Iterator[None]:
    """Turns what onnxruntime raises into an error that names the file."""
    try:
        yield
    except Exception as error:  # its errors have no base of their own
        raise ModelError(f"{path} cannot be run: {short(error)}") from None


def _port(argument: object) -> Port:
    """An input or output as onnxruntime describes it."""
    name, shape, kind = argument.name, argument.shape, argument.type  # type: ignore[attr-defined]
    sizes = tuple(size if isinstance(size, int) and size > 0 else None for size in shape)
    kind = kind.removeprefix("tensor(").removesuffix(")")
    return Port(name, sizes, _KINDS.get(kind, kind))


@cache
def _bound(runtime: ModuleType) -> None:
    """Lets onnxruntime allocate so much in all: a small file can ask for any amount."""
    where = runtime.OrtMemoryInfo(
        "Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
    )
    arena = runtime.OrtArenaCfg({"max_mem": MOST_BYTES, "arena_extend_strategy": 1})
    runtime.create_and_register_allocator(where, arena)
