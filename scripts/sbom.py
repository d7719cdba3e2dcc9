"""Writes a bill of materials (CycloneDX 1.6) for each image, beside its OCI archive: ARCHIVE.tar gets ARCHIVE.cdx.json.

    .venv-audit/bin/python scripts/sbom.py ARCHIVE...

`files/images/build.sh archive NAME` makes an archive and prints its path; those of a bundle lie in its folder images/.
The same archive gives the same file, byte by byte, and nothing is written that CycloneDX's own schema does not allow.
"""

import datetime
import sys
import uuid
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from image_contents import Image, NoImageError, Part, read
from packageurl import PackageURL

NAMESPACE = uuid.UUID("b0c0c1a2-6f0e-4d1c-9f3e-3c9d8f0a7e11")


def component(part: Part) -> Component:
    """One package or module."""
    namespace, _, name = part.name.rpartition("/")
    qualifiers = {"arch": part.architecture} if part.architecture else None
    # Debian is whose packages they are; a module's name is its path.
    purl = PackageURL(part.kind, "debian" if part.kind == "deb" else namespace or None, name, part.version, qualifiers)
    licences = [LicenseFactory().make_from_string(part.licence)] if part.licence else []
    return Component(
        name=part.name,
        version=part.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=licences,
    )


def bill(image: Image) -> str:
    """The bill of an image, as JSON."""
    name, _, tag = image.name.rpartition(":")
    whole = Component(
        name=name or image.name or image.digest,
        version=tag or image.digest,
        type=ComponentType.CONTAINER,
        purl=PackageURL("oci", None, (name or "image").rpartition("/")[2], image.digest),
        bom_ref=image.digest,
    )
    made = datetime.datetime.fromisoformat(image.created[:19]).replace(tzinfo=datetime.UTC) if image.created else None
    bom = Bom(
        components=[component(part) for part in image.parts],
        serial_number=uuid.uuid5(NAMESPACE, image.digest),
        metadata=BomMetaData(component=whole, timestamp=made or datetime.datetime.fromtimestamp(0, datetime.UTC)),
    )
    bom.register_dependency(whole, bom.components)
    written = JsonV1Dot6(bom).output_as_string(indent=1)
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(written)
    if wrong is not None:
        raise NoImageError(f"{image.name}: its bill is not what CycloneDX allows: {wrong}")
    return written + "\n"


def main(archives: list[str]) -> int:
    if not archives:
        print(__doc__, file=sys.stderr)
        return 2
    failed = 0
    for path in map(Path, archives):
        try:
            image = read(path)
            target = path.with_suffix(".cdx.json")
            half = target.with_name(target.name + ".part")
            half.write_text(bill(image))
            half.rename(target)
        except NoImageError as error:
            print(f"sbom: {error}", file=sys.stderr)
            failed = 1
            continue
        kinds = [part.kind for part in image.parts]
        counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("deb", "pypi", "golang"))
        print(f"{target}: {counted}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
