"""The commands that the demo suggests to try, and the environment that they need."""

from __future__ import annotations

import subprocess

from lapwing.demo.page import hints, write_environment


def test_the_environment_survives_a_shell_and_holds_only_what_is_ours(tmp_path):
    awkward = "a 'b' \"c\" $HOME `id`\nline"
    given = {"LAPWING_SLOT": awkward, "SCHEMA_REGISTRY_URL": "", "PATH": "/nowhere", "TOKEN": "x"}
    path = write_environment(tmp_path, given)
    assert path.stat().st_mode & 0o077 == 0
    shown = subprocess.run(
        ["/bin/sh", "-c", f'. "{path}"; printf %s "$LAPWING_SLOT"'],
        capture_output=True,
        text=True,
        check=True,
        env={},
    )
    assert shown.stdout == awkward
    assert set(path.read_text().split()) & {"TOKEN=x", "PATH=/nowhere"} == set()


def test_a_hint_is_a_command_with_a_remark(tmp_path):
    folder = tmp_path / "with space"
    folder.mkdir()
    path = write_environment(folder, {"LAPWING_SLOT": "7"})
    explain, kill, train = hints(path, "echo lapwing", [41, 42])
    assert kill.startswith("kill -9 41  #")
    for hint, said in ((train, "lapwing train --once"), (explain, "lapwing explain EVENT_ID")):
        shown = subprocess.run(["/bin/sh", "-c", hint], capture_output=True, text=True, check=True)
        assert shown.stdout.startswith(said)
    assert len(hints(path, "lapwing", [])) == 2
