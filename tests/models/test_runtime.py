"""Files that are run as they are, where their packages are not installed."""

import sys
from pathlib import Path

import pytest

from closesesame.core.errors import ModelError
from closesesame.models import adapt_file


@pytest.mark.parametrize(("kind", "package"), [("onnx", "onnx"), ("tflite", "ai_edge_litert")])
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, kind: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for name in [one for one in sys.modules if one.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    path = tmp_path / f"model.{kind}"
    path.write_bytes(b"anything")
    said = rf"needs the package {package}, which is not installed: pip install 'closesesame\[{kind}\]'$"
    with pytest.raises(ModelError, match=said):
        adapt_file(path, ("a", "b"), (16_000,), 16_000)
