"""Files that are run as they are: packages that are not installed, and work that does not end."""

import sys
import time
from pathlib import Path
from threading import Event

import pytest

from closesesame.core.errors import ModelError
from closesesame.models import adapt_file
from closesesame.models.black_boxes.runtime import TooSlowError, deadline, within


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


def test_work_that_does_not_end_is_given_up_and_asked_to_stop() -> None:
    ended, asked = Event(), list[str]()

    def stop() -> None:
        asked.append("stop")
        ended.set()

    said = r"^theirs\.onnx is stopped: it took more than 300 s and may never end; give it shorter clips"
    started = time.monotonic()
    with pytest.raises(TooSlowError, match=said):
        within(started + 0.1, Path("theirs.onnx"), ended.wait, stop)
    assert asked == ["stop"]
    assert time.monotonic() >= started + 0.1
    with pytest.raises(TooSlowError):  # the time is over before it begins
        within(started, Path("theirs.onnx"), Event().wait, lambda: None)


def test_what_work_gives_and_raises_comes_back() -> None:
    assert within(deadline(), Path("a"), lambda: 3, lambda: None) == 3

    def fail() -> None:
        raise ModelError("it is damaged")

    with pytest.raises(ModelError, match="^it is damaged$"):
        within(deadline(), Path("a"), fail, lambda: None)


def test_more_clips_have_more_time() -> None:
    assert deadline(100) - deadline() == pytest.approx(3_000, abs=10)
    assert deadline() - time.monotonic() == pytest.approx(300, abs=10)
