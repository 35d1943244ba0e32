"""Writer of THIRD_PARTY.md: ``python deploy/third_party.py TARGET``, part of ``make release``.

Invariant: it lists every package that requirements/full.txt installs here, in exactly the locked
           version, and the files of others that the wheel contains. A package without a licence is
           an error.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "full.txt"
VENDORED = ROOT / "dashboard" / "static" / "vendor"
_TEXTS = re.compile(r"(^|/)(licen[cs]e|copying|notice|authors)[^/]*$", re.IGNORECASE)
_NO_TEXTS = (".py", ".pyc", ".json", ".html")


@dataclass(frozen=True)
class Package:
    """A package that is installed.

    texts : {file: text} of its licence files; none where its wheel has none
    """

    name: str
    version: str
    licence: str
    home: str
    texts: dict[str, str]


def locked() -> Iterator[Requirement]:
    """Yield the requirements of the lock that apply to this Python and system."""
    for line in LOCK.read_text("utf-8").splitlines():
        if line and not line.startswith(("#", " ")):
            requirement = Requirement(line.rstrip(" \\"))
            if requirement.marker is None or requirement.marker.evaluate():
                yield requirement


def package_of(requirement: Requirement) -> Package:
    """Return the installed package; raises SystemExit where it is another version, or none."""
    try:
        found = importlib.metadata.distribution(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"{requirement} is not installed: `make install`, then again")
    if found.version not in requirement.specifier:
        sys.exit(f"{requirement.name} {found.version} is installed, {LOCK.name} has {requirement}")
    about = found.metadata
    licence = licence_of(about)
    if not licence:
        sys.exit(f"{requirement.name}: its metadata name no licence")
    texts = {}
    for file in found.files or ():
        if _TEXTS.search(str(file)) and file.suffix not in _NO_TEXTS:
            path = Path(str(file.locate()))
            if path.is_file():
                texts[str(file)] = path.read_text("utf-8", "replace").strip()
    return Package(str(about["Name"]), found.version, licence, _home(about), texts)


def licence_of(about: importlib.metadata.PackageMetadata) -> str:
    """Return the licence that a package's metadata state, or an empty text."""
    fields = about.json
    expression = str(fields.get("license_expression", ""))
    if expression:
        return expression
    classifiers = [
        name.rpartition(" :: ")[2]
        for name in about.get_all("Classifier") or ()
        if name.startswith("License :: ")
    ]
    specific = [name for name in classifiers if name != "OSI Approved"]
    text = str(fields.get("license", "")).strip().splitlines()
    return "; ".join(specific) or (text[0] if text else "")


def _home(about: importlib.metadata.PackageMetadata) -> str:
    if about.get_all("Home-page"):
        return str(about["Home-page"])
    links = {
        label.strip().lower(): url.strip()
        for label, _, url in (one.partition(",") for one in about.get_all("Project-URL") or ())
    }
    wanted = ("homepage", "home", "repository", "source", "source code", "github", "documentation")
    return next((links[label] for label in wanted if label in links), "")


def vendored() -> list[Package]:
    """Return the files of others that the wheel contains."""
    source = (VENDORED / "uplot.js").read_text("utf-8")
    version = re.search(r"\(v([\d.]+)\)", source)
    if version is None:
        sys.exit(f"{VENDORED / 'uplot.js'}: its head names no version")
    text = (VENDORED / "uplot-LICENSE.txt").read_text("utf-8").strip()
    home = "https://github.com/leeoniya/uPlot"
    return [Package("uPlot", version[1], "MIT", home, {"uplot-LICENSE.txt": text})]


def document() -> str:
    """Return the page."""
    inside = vendored()
    packages = sorted(map(package_of, locked()), key=lambda one: one.name.lower())
    lines = [
        "# Software of others",
        "",
        "Lapwing is licensed under Apache-2.0 (LICENSE). Its wheel contains:",
        "",
        *_table(inside),
        "",
        "Installed beside it, in the versions of requirements/full.txt, and part of the image:",
        "",
        *_table(packages),
        "",
        "The image is built on python:3.11-slim, whose packages have their licences in",
        "/usr/share/doc/*/copyright.",
    ]
    for one in (*inside, *packages):
        lines += ["", f"## {one.name} {one.version}"]
        if not one.texts:
            lines += ["", f"Its wheel has no text of its licence, {one.licence}."]
        for name, text in sorted(one.texts.items()):
            lines += ["", f"{name}:", "", "~~~~text", text, "~~~~"]
    return "\n".join(lines) + "\n"


def _table(packages: list[Package]) -> list[str]:
    rows = [
        f"| {one.name} | {one.version} | {one.licence.replace('|', '/')} | {one.home} |"
        for one in packages
    ]
    return ["| package | version | licence | home |", "|---|---|---|---|", *rows]


def main() -> None:
    """Write the page to the file that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python deploy/third_party.py TARGET")
    Path(sys.argv[1]).write_text(document(), "utf-8")


if __name__ == "__main__":
    main()
