"""What is logged about kernels that are compiled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from numba import config, njit
from structlog.testing import capture_logs

from shared.operations import compiling
from shared.operations.compiling import compilation_logged, compile_all, kernels_compiled

compiles = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")


def compile_two() -> None:
    """Compile two functions that no cache has."""

    @njit("i8(i8)")  # type: ignore[untyped-decorator]
    def inner(number: int) -> int:
        return number + 1

    @njit("i8(i8)")  # type: ignore[untyped-decorator]
    def outer(number: int) -> int:
        return number + 2


@compiles
def test_compiled_kernels_are_named_and_counted() -> None:
    ticks = iter([0.0, 60.0, 60.0, 61.0, 63.5, 67.0])
    waits: list[str] = []

    def compile_missing(tell: Callable[[str], None]) -> None:
        tell("compiled ensemble_rows")

    with (
        capture_logs() as logged,
        compilation_logged(waits.append, lambda: next(ticks), compile_missing),
    ):
        compile_two()
    assert [(line["event"], line.get("seconds")) for line in logged] == [
        ("compiling kernels", None),
        ("compiling kernels", None),
        ("kernel compiled", 1.0),
        ("kernel compiled", 3.5),
        ("kernels compiled", 64.5),
    ]
    assert logged[1]["progress"] == "compiled ensemble_rows"
    assert logged[2]["kernel"].endswith(".inner")
    assert logged[4]["kernels"] == 2
    assert waits[2].endswith(".outer")


def test_nothing_is_logged_where_nothing_is_compiled() -> None:
    waits: list[str] = []
    with capture_logs() as logged, compilation_logged(waits.append), kernels_compiled(waits.append):
        pass
    assert (logged, waits) == ([], [])


@compiles
def test_the_first_kernel_that_is_missing_compiles_all() -> None:
    told: list[str] = []
    with kernels_compiled(told.append, lambda tell: tell("compiled all")):
        compile_two()
    assert told == ["compiling the kernels, once; this takes a minute or two", "compiled all"]


def replace_compiler(root: Path, program: str) -> None:
    """Write a package ``shared.kernels`` that runs a program."""
    package = root / "shared" / "kernels"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "__main__.py").write_text(program)


def test_all_kernels_are_compiled_in_another_process_once_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_compiler(
        tmp_path,
        "import os, pathlib, time\n"
        "def main():\n"
        "    path = pathlib.Path(os.environ['COMPILING'])\n"
        "    path.mkdir()\n"
        "    time.sleep(0.5)\n"
        "    path.rmdir()\n"
        "    print('compiled one')\n",
    )
    monkeypatch.setattr(compiling, "ROOT", tmp_path)
    monkeypatch.setenv("COMPILING", str(tmp_path / "begun"))
    told: list[str] = []
    threads = [threading.Thread(target=compile_all, args=(told.append,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == ["compiled one"] * 2


def test_a_compiler_that_fails_leaves_the_kernels_to_who_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    replace_compiler(tmp_path, "def main(): return 'no room is left'\n")
    monkeypatch.setattr(compiling, "ROOT", tmp_path)
    told: list[str] = []
    compile_all(told.append)
    assert told == []
    assert "no room is left" in capfd.readouterr().err


def test_without_processes_the_kernels_are_left_to_who_needs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiling.sys, "executable", "/nowhere/python")
    told: list[str] = []
    compile_all(told.append)
    (line,) = told
    assert line.startswith("not compiled in processes of their own: ")
    assert "/nowhere/python" in line
