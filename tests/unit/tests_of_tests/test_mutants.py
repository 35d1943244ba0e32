"""The mutants of the fault suite: each replaces text that is unique in its file by valid Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults import mutations
from tests.faults.mutants import Verdict, as_json, as_table, noticed
from tests.faults.mutations import PACKAGES, ROOT, Edit, Mutant, plant
from tests.faults.mutations_incidents import MUTANTS
from tests.faults.run import Counts
from tests.faults.table import ROWS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_has_its_place_in_the_code(mutant: Mutant):
    texts: dict[str, str] = {}
    for edit in mutant.edits:
        before = texts.setdefault(edit.file, (ROOT / edit.file).read_text("utf-8"))
        texts[edit.file] = edit.within(before)
        assert edit.file.split("/")[0] in PACKAGES
        assert texts[edit.file] != before
    for file, text in texts.items():
        compile(text, file, "exec")


@pytest.mark.parametrize(
    ("edited", "recompiled"),
    [
        ("shared/text.py", set()),
        ("shared/decode/kernels/gates.py", {"shared/decode/kernels"}),
        ("shared/kernels/wire.py", {"shared/decode/kernels", "shared/kernels"}),
    ],
)
def test_kernels_that_may_call_an_edited_helper_are_compiled_again(
    edited, recompiled, tmp_path, monkeypatch
):
    whole, tree, runs = tmp_path / "whole", tmp_path / "tree", []
    files = ("shared/text.py", "shared/decode/kernels/gates.py", "shared/kernels/wire.py")
    for file in files:
        path = whole / file
        (path.parent / "__pycache__").mkdir(parents=True)
        path.write_text("right\n")
    monkeypatch.setattr(mutations, "_run", lambda *arguments: runs.append(arguments))
    plant(Mutant("m", (Edit(edited, "right", "wrong"),), ()), whole, tree)
    assert (tree / edited).read_text() == "wrong\n"
    folders = {str(Path(file).parent) for file in files}
    assert {f for f in folders if not (tree / f / "__pycache__").exists()} == recompiled
    assert runs == ([(tree, "-m", "shared.kernels")] if recompiled else [])


def test_mutants_have_names_of_their_own_and_rows_that_are_there():
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= 12
    known = {row.name for row in ROWS}
    assert {name for mutant in MUTANTS for name in mutant.rows} <= known


@pytest.mark.parametrize("text", ["", "one", "a line\na line\n"])
def test_a_text_that_is_not_there_once_is_an_error(text):
    with pytest.raises(ValueError, match=r"file\.py: [02] places"):
        Edit("file.py", "a line\n", "").within(text)


@pytest.mark.parametrize(
    ("counts", "sign", "how"),
    [
        (Counts(), "", ""),
        (Counts(lost=2, wrong=1, problems=["stuck"]), "", "lost 2, wrong 1"),
        (Counts(problems=["the machine is slow"]), "", ""),
        (Counts(problems=["the machine is slow"]), "stuck", ""),
        (Counts(problems=["slow", "run1 is\nstuck"]), "stuck", "run1 is stuck"),
    ],
)
def test_a_mutant_is_noticed_by_figures_or_by_the_problem_that_it_must_make(
    counts: Counts, sign: str, how: str
):
    assert noticed(counts, sign) == how


def test_a_survivor_stands_in_table_and_json():
    verdicts = [Verdict("auto-commit on", "SIGTERM drains", "wrong 7"), Verdict("nothing", "", "")]
    assert as_table(verdicts).splitlines() == [
        "mutant          caught by       how",
        "auto-commit on  SIGTERM drains  wrong 7",
        "nothing         NOBODY",
    ]
    assert json.loads(as_json(verdicts)) == [
        {"mutant": "auto-commit on", "caught_by": "SIGTERM drains", "how": "wrong 7"},
        {"mutant": "nothing", "caught_by": None, "how": ""},
    ]
