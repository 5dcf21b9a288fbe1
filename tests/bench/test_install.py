"""What `make setup` asks before it spends minutes, and what it does with an install that was cut off."""

import os
import subprocess
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parents[2] / ".ci" / "install"
pytestmark = pytest.mark.slow

PYTHON = """#!/bin/sh
case "$*" in
    *sys.exit*) exit {old};;
    *platform*) echo 3.9.2;;
    "-c import ensurepip, venv") exit {bare};;
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo "venv $3" >> "$LOG";;
    *dry-run*) exit {alone};;
    *"pip install"*) echo "pip" >> "$LOG"; exit {broken};;
esac
"""


@pytest.fixture
def install(tmp_path):
    """(environment, faults of the machine) → status, what was said, what was done; without network or Python of its own."""

    def call(environment=None, old=0, bare=0, alone=0, broken=0):
        python, log = tmp_path / "python", tmp_path / "log"
        python.write_text(PYTHON.format(old=old, bare=bare, alone=alone, broken=broken))
        python.chmod(0o755)
        for made in tmp_path.glob("venv/bin/python"):
            made.write_text(python.read_text())
        log.write_text("")
        (tmp_path / "lock").write_text("")
        variables = {
            **os.environ,
            "PYTHON": str(python),
            "LOG": str(log),
            "NEED_GB": "0",
            **(environment or {}),
        }
        found = subprocess.run(
            [str(INSTALL), "venv", "lock"],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        return found.returncode, found.stderr.strip(), log.read_text().split("\n")[:-1]

    return call


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"old": 1}, "Python 3.11 or newer is needed"),
        ({"bare": 1}, "has no venv"),
        ({"environment": {"NEED_GB": "99999999"}}, "GB of disk are needed here"),
        ({"environment": {"PYTHON": "no-such-python"}}, "there is no 'no-such-python'"),
    ],
)
def test_what_cannot_work_is_one_line_and_nothing_is_done(install, faults, said):
    status, told, done = install(**faults)
    assert (
        status == 1 and said in told and "\n" not in told and told.startswith("setup: error: ") and not done
    )


def test_without_a_registry_nothing_is_installed_and_the_next_call_mends_it(install, tmp_path):
    status, told, done = install(alone=1)
    assert status == 1 and "no package registry can be reached" in told and "pip" not in done
    assert not (tmp_path / "venv" / ".installed").exists()
    status, _, done = install()
    assert status == 0 and done == ["venv venv", "pip", "pip"]
    assert (tmp_path / "venv" / ".installed").exists() and not (tmp_path / "venv" / ".installing").exists()


def test_an_install_that_was_cut_off_is_made_anew(install, tmp_path):
    assert install(broken=1)[0] == 1
    (tmp_path / "venv" / "half").write_text("a package")
    status, _, done = install()
    assert status == 0 and done == ["venv venv", "pip", "pip"] and not (tmp_path / "venv" / "half").exists()
    assert install()[2] == ["pip", "pip"], "what is whole is kept"
