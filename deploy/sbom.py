"""Writer of the SBOM: ``python deploy/sbom.py PYTHON TARGET``, part of ``make release``.

PYTHON is the interpreter of an environment in which requirements/full.txt is installed, and nothing
else. cyclonedx-py reads licences and dependencies from it, and the hashes from the lock.

Invariant: each component is one of THIRD_PARTY.md, in the same version, with the licence that its
           own metadata state.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from third_party import LOCK, ROOT, licence_of, vendored

DESCRIBED = ("--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application")


def read(*source: str) -> Bom:
    """Return what cyclonedx-py says about an environment or a file of requirements."""
    command = ["cyclonedx-py", *source, *DESCRIBED, "--output-reproducible", "--of", "JSON"]
    command += ["-o", "-"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if ran.returncode:
        sys.exit(f"{' '.join(command)}: {ran.stderr}")
    bom: Bom = Bom.from_json(json.loads(ran.stdout))
    bom.serial_number = None
    bom.metadata.timestamp = None
    return bom


def packages_of(python: Path) -> dict[str, importlib.metadata.PackageMetadata]:
    """Return {name: metadata} of the packages in an environment."""
    [folder] = (python.parent.parent / "lib").glob("python3.*/site-packages")
    found = importlib.metadata.distributions(path=[str(folder)])
    return {str(one.metadata["Name"]): one.metadata for one in found}


def inside() -> Iterator[Component]:
    """Yield the files of others that the wheel contains."""
    for one in vendored():
        purl = PackageURL("npm", None, one.name.lower(), one.version)
        yield Component(
            name=one.name,
            version=one.version,
            type=ComponentType.LIBRARY,
            purl=purl,
            bom_ref=str(purl),
            licenses=[_licence(one.licence)],
        )


def _licence(text: str) -> object:
    declared = LicenseAcknowledgement.DECLARED
    return LicenseFactory().make_from_string(text, license_acknowledgement=declared)


def document(python: Path) -> str:
    """Return the SBOM, as JSON of CycloneDX 1.6; raises SystemExit if a licence is missing."""
    bom = read("environment", str(python))
    locked = {component.purl: component for component in read("requirements", str(LOCK)).components}
    packages = packages_of(python)
    for component in bom.components:
        if component.purl not in locked:
            sys.exit(f"{component.purl} is installed in {python}, but is not in {LOCK.name}")
        component.external_references.update(locked[component.purl].external_references)
        if not component.licenses:
            licence = licence_of(packages[component.name])
            if not licence:
                sys.exit(f"{component.purl}: its metadata name no licence")
            component.licenses.add(_licence(licence))
    for component in inside():
        bom.components.add(component)
        bom.register_dependency(bom.metadata.component, [component])
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        sys.exit(f"the SBOM does not follow its schema: {wrong}")
    return text + "\n"


def main() -> None:
    """Write the SBOM to the file that the command line names."""
    if len(sys.argv) != 3:
        sys.exit("usage: python deploy/sbom.py PYTHON TARGET")
    Path(sys.argv[2]).write_text(document(Path(sys.argv[1])), "utf-8")


if __name__ == "__main__":
    main()
