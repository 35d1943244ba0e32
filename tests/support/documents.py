"""Parses the documents for tests: code lines, spans, links, and command lines (not run)."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer.main

from shared.settings import Section, Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
"""What users and contributors read; the changelog has former names too."""

BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
PLACEHOLDERS = {
    "N": "3", "DIR": "dir", "FILE": "file", "FOLDER": "dir", "NAME": "name", "X": "3", "T": "1.5",
    "SECONDS": "3", "F": "0.5", "PARTITION": "2", "OFFSET": "7", "FROM..TO": "0..9",
    "KEY=VALUE,...": "threshold=1.5", "SHA256": "a" * 64, "MINUTES": "5", "TIME": "12h",
    "CODE": "not_avro", "D": "3", "URL": "http://localhost:1", "LINE": "0 3 * * *",
}  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str, *languages: str) -> list[str]:
    """Code blocks of these languages."""
    return [code for _, language, code in BLOCK.findall(text) if language in languages]


def spans(text: str) -> list[str]:
    """Return the inline code outside of code blocks; it may contain a line break."""
    plain = BLOCK.sub("", text)
    return [re.sub(r"\s+", " ", span) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", plain)]


def code(text: str) -> Iterator[str]:
    """Every line of code: of shell blocks, and spans."""
    yield from re.findall(r"(?<=\n) {4}((?:lapwing|make|python) [a-z-].*)", BLOCK.sub("", text))
    for block in blocks(text, "sh", "bash"):
        yield from (line for line in re.sub(r"\\\n\s*", " ", block).splitlines() if line.strip())
    yield from spans(text)


def commands(text: str, program: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of a program, without pipes, comments and prefixes."""
    for line in code(text):
        for tail in re.findall(
            rf"(?:^|[\s$|;(])(?:\.venv/bin/)?{program}((?: +[^|;&)\n]+)?)", line
        ):
            try:
                words = shlex.split(tail, comments=True)
            except ValueError:
                continue
            if words and re.match(r"-|[a-z]+$", words[0]):
                yield words


def real(words: Sequence[str]) -> list[str]:
    """Words with something in the place of what a document leaves open."""
    return [PLACEHOLDERS.get(word, word) for word in words if word != "..."]


def parse(words: Sequence[str]) -> None:
    """Parse a command line of ``lapwing`` as the program does, and run nothing.

    An option alone at the end, as in a sentence about it, is given a value if it wants one.

    raises : AssertionError with what the parser says
    """
    try:
        _parse(words)
    except AssertionError:
        if not words or not words[-1].startswith("--"):
            raise
        _parse([*words, "1"])


def _parse(words: Sequence[str]) -> None:
    from lapwing.app import app

    rest = list(words)
    command: Any = typer.main.get_command(app)
    context = None
    try:
        while True:
            if not rest and hasattr(command, "commands"):
                return  # the name of a group alone
            context = command.make_context(
                command.name, rest, parent=context, resilient_parsing="--help" in rest
            )
            if not hasattr(command, "commands"):
                break
            left = [
                *getattr(context, "_protected_args", getattr(context, "protected_args", [])),
                *context.args,
            ]
            if not left:
                return
            _, command, rest = command.resolve_command(context, left)
    except Exception as error:  # whatever click raises for a usage error
        shown = error.format_message() if hasattr(error, "format_message") else repr(error)
        raise AssertionError(f"lapwing {' '.join(words)}: {shown}") from error


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


TEXTS = {name_of(path): path.read_text("utf-8") for path in DOCUMENTS}
SOURCES = {
    name_of(path): path.read_text("utf-8")
    for top in ("shared", "producer", "consumer_training", "consumer_prediction", "lapwing")
    for path in sorted((ROOT / top).rglob("*.py"))
}


def names_of_settings() -> set[str]:
    found = set()
    for name, field in Settings.model_fields.items():
        section = field.annotation
        found.add(name)
        if isinstance(section, type) and issubclass(section, Section):
            found |= {f"{name}.{inner}" for inner in section.model_fields}
    return found


SETTINGS = names_of_settings()
SECTIONS = sorted({name.partition(".")[0] for name in SETTINGS if "." in name})


def strings(source: str) -> list[str]:
    """All texts of a module, f-strings with their gaps."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            found.append(
                "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in node.values
                )
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


STRINGS = {name: strings(source) for name, source in SOURCES.items()}
