"""Pages as these tests look at them: parsed, and in a real browser."""

import base64
import html
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from closesesame.evaluation.measures import ACC, ASR, AUROC, DER, RA, TPR_AT_1, Measure

VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""Names that Debian, Fedora and Google give the same browser."""
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None,
    reason="no Chromium or Chrome on the PATH (package chromium); it draws pages and runs their code",
)


class SomeFamily(NamedTuple):
    """A family as the page of a grid takes it."""

    name: str
    title: str
    measures: tuple[Measure, ...]


REMOVAL = SomeFamily("removal", "Removals", (ASR, RA, ACC, DER))
DETECTION = SomeFamily("detection", "Detection", (AUROC, TPR_AT_1))


class Page(HTMLParser):
    """The elements of a page in their order, each with its attributes and the words in it."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.pieces: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.comments: list[str] = []
        self._open: list[int] = []
        self.feed(markup)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        around = [self.elements[number] for number in self._open]
        self.pieces.append((around[-1][0] if around else "", data))
        for _, _, words in around:
            words.append(data)
        if {"td", "th"} & {tag for tag, _, _ in around}:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def all(self, tag: str, **wanted: str) -> list[tuple[dict[str, str], str]]:
        """Attributes and words of every element with that tag and at least those attributes."""
        found = [(attrs, "".join(words)) for name, attrs, words in self.elements if name == tag]
        return [(attrs, words) for attrs, words in found if wanted.items() <= attrs.items()]

    def words(self, tag: str, **wanted: str) -> str:
        """The words of the one element with that tag and at least those attributes."""
        ((_, words),) = self.all(tag, **wanted)
        return words

    def json(self, name: str) -> Any:
        """What the script with that id holds, in strict JSON."""

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is not JSON")

        return json.loads(self.words("script", id=name), parse_constant=refuse)

    def row(self, first: str) -> list[str]:
        (found,) = [row for row in self.rows if row[0].split()[:1] == [first]][:1]
        return found

    @property
    def tags(self) -> list[tuple[str, dict[str, str]]]:
        return [(tag, attrs) for tag, attrs, _ in self.elements]

    @property
    def text(self) -> str:
        """All words but those of style sheets, one space apart."""
        return " ".join(" ".join(data for tag, data in self.pieces if tag != "style").split())

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] for _, attrs, _ in self.elements if name in attrs]


def browse(address: str, profile: Path, *more: str) -> tuple[str, list[str]]:
    """The page as a browser has it, and what the browser says on its console; `more` are flags."""
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    flags += "disable-component-update disable-sync enable-logging=stderr v=0 dump-dom"
    assert BROWSER is not None
    command = [BROWSER, *(f"--{flag}" for flag in (*flags.split(), *more)), f"--user-data-dir={profile}"]
    ended = subprocess.run([*command, address], capture_output=True, text=True, timeout=120, check=True)
    return ended.stdout, [line for line in ended.stderr.splitlines() if "CONSOLE" in line]


class Hands:
    """A page in a browser that is worked as by hand, through the pipe of its DevTools protocol."""

    def __init__(self, command: int, answer: int) -> None:
        self._command, self._answer, self._buffer, self._count = command, answer, b"", 0
        self._session: str | None = None
        self.complaints: list[str] = []

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """One call of the protocol; what the page says on its console meanwhile is kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._command, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                self._buffer += os.read(self._answer, 2**20) or b"{}\0"
            first, _, self._buffer = self._buffer.partition(b"\0")
            told = json.loads(first)
            if told.get("method") in {
                "Log.entryAdded",
                "Runtime.exceptionThrown",
                "Runtime.consoleAPICalled",
            }:
                self.complaints.append(json.dumps(told["params"]))
            if told.get("id") == self._count:
                assert "error" not in told, (method, told)
                return dict(told["result"])

    def open(self, address: str, downloads: Path) -> None:
        """Opens a page in a tab of its own; what it downloads goes to a folder."""
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)
        self.wait(lambda: self.ask("document.readyState === 'complete' && location.href !== 'about:blank'"))

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page, as plain JSON."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, (expression, found)
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Presses and releases one key: a letter, `Tab`, `ArrowDown`..."""
        code = {"Tab": 9, "ArrowDown": 40, "ArrowUp": 38, " ": 32}.get(key, ord(key[0].upper()))
        text = {"text": key} if len(key) == 1 else {}
        same = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **same, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def click(self, where: str) -> None:
        """Clicks in the middle of the first element that a selector finds."""
        self.ask(f"found = document.querySelector({json.dumps(where)}), 0")
        self.ask("found.scrollIntoView({ block: 'center' }), box = found.getBoundingClientRect(), 0")
        at = self.ask("[box.x + box.width / 2, box.y + box.height / 2]")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1)

    def wait(self, until: Callable[[], Any], seconds: float = 60) -> Any:
        """Waits for something to be true."""
        end = time.monotonic() + seconds
        while not (found := until()):
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.05)
        return found

    def photograph(self, file: Path, *, scheme: str, width: int = 1280, height: int = 900) -> None:
        """Writes what is seen in a light or dark scheme as a PNG file."""
        feature = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=feature)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def hands_on(address: str, folder: Path) -> Iterator[Hands]:
    """A page in a real browser; its profile and its downloads go to a folder."""
    assert BROWSER is not None
    flags = "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    flags += "disable-component-update disable-sync mute-audio remote-debugging-pipe window-size=1280,900"
    profile, downloads = folder / "profile", folder / "downloads"
    downloads.mkdir(parents=True)
    (theirs_in, command), (answer, theirs_out) = os.pipe(), os.pipe()
    # The browser reads from descriptor 3 and writes to 4; the shell puts the pipes there.
    moved = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    words = [*(f"--{flag}" for flag in flags.split()), f"--user-data-dir={profile}", "about:blank"]
    started = subprocess.Popen(
        ["bash", "-c", moved, BROWSER, *words],
        pass_fds=(theirs_in, theirs_out),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    hands = Hands(command, answer)
    try:
        hands.open(address, downloads)
        yield hands
    finally:
        started.terminate()
        started.wait(30)
        os.close(command)
        os.close(answer)


def width_of(page: Path, window: int, profile: Path) -> int:
    """How wide a page is in a window so many pixels wide: more than that if it scrolls sideways.

    The window is a frame, since the browser's own is 500 wide or more.
    """
    held = html.escape(page.read_text("utf-8"))
    measure = "document.title = frames[0].document.documentElement.scrollWidth"
    around = page.with_name(f"{page.stem}-in-a-frame.html")
    around.write_text(
        f'<iframe style="border: 0; width: {window}px; height: 900px" srcdoc="{held}"></iframe>'
        f"<script>onload = () => {{ {measure} }}</script>",
        "utf-8",
    )
    dom, _ = browse(around.as_uri(), profile, "hide-scrollbars", "virtual-time-budget=3000")
    return int(dom.partition("<title>")[2].partition("</title>")[0])
