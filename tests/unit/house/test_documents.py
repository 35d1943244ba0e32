"""The documents against the product: commands parse; names, quotations and links are right."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from lapwing.app import app
from shared.settings import load_settings
from shared.settings.names import RENAMED, SECRETS, variable_of
from tests.support import documents
from tests.support.documents import (
    ROOT,
    SECTIONS,
    SETTINGS,
    STRINGS,
    TEXTS,
    anchors,
    blocks,
    code,
    commands,
    parse,
    real,
    spans,
)

SECRET_VARIABLES = {variable_of(name) for name in SECRETS}
OTHER_VARIABLES = (
    "LAPWING_NAB_DIR",
    "LAPWING_TRACES_DIR",
    "LAPWING_FAILPOINT",
    "LAPWING_CONFIG",
)
BY_DOCUMENT = pytest.mark.parametrize("document", TEXTS)


# -- commands --------------------------------------------------------------------------------------


@BY_DOCUMENT
def test_every_command_parses(document):
    for words in commands(TEXTS[document], "lapwing"):
        parse(real(words))


def test_commands_are_found_and_wrong_ones_refused():
    found = [" ".join(words) for words in commands(TEXTS["README.md"], "lapwing")]
    assert {
        "demo --once --json",
        "topics ensure",
        "train --once",
        "--set train.trees=200 train --once",
    } <= set(found)
    for wrong in (
        "demo --twice",
        "explain",
        "topics destroy",
        "dlq replay x y",
        "tail nothing",
        "train --once --no",
        "--no",
    ):
        with pytest.raises(AssertionError, match="lapwing"):
            parse(wrong.split())


def test_every_command_is_spoken_of():
    settings = {
        words[0]
        for text in TEXTS.values()
        for words in commands(text, "lapwing")
        if words[0] != "--set"
    }
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    assert names - settings == set()


def every(command, path="lapwing"):
    """Every command and every group of commands, with the words that call it."""
    yield path, command
    for name, sub_command in getattr(command, "commands", {}).items():
        yield from every(sub_command, f"{path} {name}")


def test_every_command_has_an_example_that_parses():
    found = dict(every(typer.main.get_command(app)))
    assert {"lapwing topics", "lapwing topics ensure", "lapwing dlq replay"} <= set(found)
    del found["lapwing"]
    for path, command in found.items():
        for line in examples(path, command):
            assert line.startswith(path)
            parse(shlex.split(line)[1:])


def examples(path, command):
    """The examples at the end of a help text: one on its line, several on a line each."""
    begin, _, rest = (command.epilog or "").removeprefix("\b\n").partition(":")
    lines = [line.strip() for line in rest.strip().splitlines()]
    assert (begin, lines) in [("Example", lines[:1]), ("Examples", lines)], path
    assert lines, f"{path}: the help text ends without an example"
    return lines


def test_no_list_of_commands_ends_in_the_middle_of_a_sentence():
    for path, command in every(typer.main.get_command(app)):
        if hasattr(command, "commands"):
            shown = command.get_help(typer.Context(command, info_name=path))
            _, _, listed = shown.partition("Commands:")
            assert listed
            assert "..." not in listed, f"{path}: short_help says it in a few words\n{listed}"


def test_commands_that_messages_and_help_name_parse():
    found = {
        span
        for texts in STRINGS.values()
        for text in texts
        for span in re.findall(r"`(lapwing [^`…]+)`", re.sub(r"\s+", " ", text))
    }
    assert {"lapwing topics ensure", "lapwing data fetch", "lapwing train --once"} <= found
    for span in sorted(found):
        parse(real(shlex.split(span)[1:]))


@BY_DOCUMENT
def test_values_given_with_set_are_accepted(document):
    for words in commands(TEXTS[document], "lapwing"):
        given = {
            word for before, word in itertools.pairwise(words) if before == "--set" and "=" in word
        }
        flags: dict = {}
        for one in given:
            name, _, value = one.partition("=")
            section, _, inner = name.partition(".")
            flags |= {section: {inner: value}} if inner else {section: value}
        load_settings(flags, environ={})


def test_make_targets_exist():
    targets = set(
        re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    for name, text in TEXTS.items():
        for words in commands(text, "make"):
            if "=" not in words[0]:
                assert words[0] in targets, f"{name}: make {' '.join(words)}"


def test_arguments_for_the_fault_table_parse():
    from tests.faults.__main__ import _parser as faults
    from tests.faults.mutants import _parser as mutants

    seen = 0
    for text in TEXTS.values():
        for words in commands(text, "make"):
            parser = {"faults": faults, "mutants": mutants}.get(words[0])
            for word in words[1:] if parser else ():
                parser().parse_args(real(shlex.split(word.partition("=")[2])))
                seen += 1
    assert seen > 5


def test_modules_that_are_run_exist_with_their_options():
    seen = set()
    for name, text in TEXTS.items():
        for line in code(text):
            for module, tail in re.findall(r"python -m ([\w.]+)([^|;&]*)", line):
                spec = importlib.util.find_spec(module)
                assert spec is not None, f"{name}: {line}"
                path = Path(str(spec.origin))
                source = (
                    path.with_name("__main__.py") if path.name == "__init__.py" else path
                ).read_text("utf-8")
                for option in re.findall(r"--[a-z][a-z-]*", tail):
                    assert f'"{option}"' in source, f"{name}: {module} has no option {option}"
                seen.add(module)
    assert {"benchmarks.nab", "tests.fuzz.records"} <= seen


def options_of(command):
    return typer.main.get_command(app).commands[command].params


def test_defaults_that_help_texts_quote_are_those_of_the_parser():
    from lapwing.demo.run import WATCHABLE_SPEED

    (speed,) = (option for option in options_of("produce") if option.name == "speed")
    assert re.search(r"(\d+) is 5-minute", speed.help)[1] == f"{speed.default:.0f}"
    (speed,) = (option for option in options_of("demo") if option.name == "speed")
    assert speed.help.endswith(f"default {WATCHABLE_SPEED:.0f}.")


def test_settings_that_options_name_exist():
    seen = 0
    for option in [*options_of("predict"), *options_of("train")]:
        named = re.match(r"([a-z_.]+)(?=:|$)", option.help or "")
        if named:
            assert named[1] in SETTINGS, f"{option.opts}: {option.help}"
            assert named[1].rpartition(".")[2] == option.name
            seen += 1
    assert seen >= 9


# -- settings --------------------------------------------------------------------------------------


@BY_DOCUMENT
def test_settings_that_are_named_exist(document):
    for span in spans(TEXTS[document]):
        for name in re.findall(rf"^((?:{'|'.join(SECTIONS)})\.[a-z_]+)(?: ?=.*)?$", span):
            if name in RENAMED:
                assert document == "docs/upgrading.md"
            else:
                assert name in SETTINGS, f"{document}: {span}"


def test_settings_that_messages_name_exist():
    """A reader of a message then looks for the setting."""
    others = {"model.npz", "train.log", "produce.log", "predict.log"}
    for module, texts in STRINGS.items():
        for text in texts:
            if module == "shared/settings/names.py" and text in RENAMED:
                continue
            for name in re.findall(
                rf"(?<![\w./`])((?:{'|'.join(SECTIONS)})\.[a-z_]+)(?![\w.(/])", text
            ):
                assert name in SETTINGS or name in others, f"{module}: {text[:120]}"


@BY_DOCUMENT
def test_variables_that_are_named_are_settings(document):
    for line in code(TEXTS[document]):
        for name, value in re.findall(
            r"\b(LAPWING_[A-Z_]*[A-Z])(?:=('[^']*'|\{.*\}|[^\s`]+))?", line
        ):
            if name in OTHER_VARIABLES:
                continue
            if name.removesuffix("_FILE") in SECRET_VARIABLES and name.endswith("_FILE"):
                continue
            setting = name.removeprefix("LAPWING_").lower().replace("__", ".", 1)
            assert setting in SETTINGS or setting.startswith("kafka."), f"{document}: {name}"
            if value:
                load_settings(environ={name: value.strip("'")})


@BY_DOCUMENT
def test_settings_files_are_accepted(document, tmp_path):
    for number, block in enumerate(blocks(TEXTS[document], "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(block, "utf-8")
        assert tomllib.loads(block)
        load_settings(file=file, environ={})


def test_former_names_are_told_where_one_looks_for_them():
    for former, present in RENAMED.items():
        assert f"| `{former}` | `{present}` |" in TEXTS["docs/upgrading.md"]
        assert present in SETTINGS


# -- links and files -------------------------------------------------------------------------------


@BY_DOCUMENT
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", documents.BLOCK.sub("", TEXTS[document])):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / document).parent / path if path else ROOT / document
        assert file.exists(), f"{document}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), f"{document}: {target}"


@BY_DOCUMENT
def test_files_that_are_named_exist(document):
    tops = {
        path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")
    } - {
        "models",
        "state",
        "out",
    }
    for span in spans(TEXTS[document]):
        if re.fullmatch(rf"(?:{'|'.join(sorted(tops))})/[\w./*<>-]*", span) and not span.startswith(
            "data/nab"
        ):
            pattern = re.sub(r"<\w+>", "*", span)
            assert list(ROOT.glob(pattern.rstrip("/"))) or "__pycache__" in span, (
                f"{document}: {span}"
            )


def test_every_document_can_be_reached_from_the_readme():
    reached, new = set(), {"README.md"}
    while new:
        reached |= new
        linked = set()
        for name in new:
            for target in re.findall(r"\]\(([^)#\s]+\.md)", TEXTS.get(name, "")):
                linked.add(((ROOT / name).parent / target).resolve().relative_to(ROOT).as_posix())
        new = linked - reached
    assert {name for name in TEXTS if name.startswith("docs/")} <= reached
