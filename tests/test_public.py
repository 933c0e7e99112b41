"""The public names: all there, listed once, and free until they are used."""

import subprocess
import sys

import closesesame


def test_every_public_name_can_be_imported() -> None:
    assert len(closesesame.__all__) > 20
    for name in closesesame.__all__:
        assert getattr(closesesame, name) is not None


def test_neither_the_package_nor_its_command_line_waits_for_torch() -> None:
    code = "import sys, closesesame, closesesame.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
