"""Files of released services, downloaded once by Maven (pom.xml) to ~/.cache/lapwing/."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
CACHE = Path.home() / ".cache" / "lapwing"
FETCH_S = 600


class NotFetched(Exception):
    """Maven could not fetch the files; the message says why."""


def lacking() -> str:
    """Return why Maven's files cannot be used here, "" if they can."""
    absent = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    return f"{' and '.join(absent)} not on the PATH" if absent else ""


def version(of: str) -> str:
    """Return a version that pom.xml names."""
    text = POM.read_text("utf-8")
    return text.split(f"<{of}.version>")[1].split("<")[0]


def fetch(profile: str) -> Path:
    """Return the folder with all files of a profile; its name has version and pom hash."""
    return fetch_pom(POM, f"{profile}-{version(_VERSIONS[profile])}", profile)


def fetch_pom(pom: Path, name: str, profile: str = "") -> Path:
    """Return the folder with all files of a pom, or of a profile of it; raises NotFetched."""
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:8]
    folder = CACHE / f"{name}-{digest}"
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        shutil.copy(pom, Path(scratch, "pom.xml"))
        command = ["mvn", "-q", "-B", *(["-P", profile] if profile else [])]
        command.append("dependency:copy-dependencies")
        command += ["-DoutputDirectory=files", "-DincludeScope=runtime"]
        ran = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, timeout=FETCH_S, check=False
        )
        files = Path(scratch, "files")
        if ran.returncode or not files.is_dir():
            raise NotFetched(
                f"mvn could not fetch {name} (see {pom}):\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
            )
        unpack(files)
        if not folder.is_dir():
            files.rename(folder)
    return folder


def unpack(folder: Path) -> None:
    """Unpack the archives in a folder in place."""
    for archive in folder.glob("*.tar.gz"):
        shutil.unpack_archive(archive, folder, filter="data")
        archive.unlink()


_VERSIONS = {"kafka": "kafka", "registry": "apicurio"}
