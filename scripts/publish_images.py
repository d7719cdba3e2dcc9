"""Images between builds, a throwaway environment and a registry: built once, tried, and promoted by digest.

    scripts/publish_images.py push REGISTRY ARCHIVE... >digests.json    as candidates; prints {"NAME:TAG": DIGEST}
    scripts/publish_images.py fetch REGISTRY FOLDER <digests.json       the very same images, by digest, as archives
    scripts/publish_images.py promote REGISTRY <digests.json            gives what was tried the tag `promoted`

REGISTRY is such as ghcr.io/owner/driftloop; skopeo must be logged in. An archive is one of files/images/build.sh, named
NAME-TAG.tar, where TAG is the hash of what went into it. Nothing is built here, and what is promoted is what was tried.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def skopeo(*arguments: str) -> None:
    """Call skopeo. Raises `CalledProcessError`."""
    subprocess.run(["skopeo", *arguments], check=True, stdout=subprocess.DEVNULL)


def split(image: str) -> tuple[str, str]:
    name, _, tag = image.rpartition(":")
    return name, tag


def push(registry: str, archives: list[Path]) -> dict[str, str]:
    """Push each archive under its tag. The digests by which the registry knows them."""
    digests = {}
    for archive in archives:
        name, _, tag = archive.stem.rpartition("-")
        if not name:
            sys.exit(f"publish_images: {archive} is not named NAME-TAG.tar")
        with tempfile.NamedTemporaryFile("r") as told:
            target = f"docker://{registry}/{name}:{tag}"
            skopeo("copy", "--quiet", "--digestfile", told.name, f"oci-archive:{archive}", target)
            digests[f"{name}:{tag}"] = told.read().strip()
    return digests


def fetch(registry: str, folder: Path, digests: dict[str, str]) -> None:
    """The images as archives under the names that build.sh looks for, so that it builds none of them again."""
    folder.mkdir(parents=True, exist_ok=True)
    for image, digest in digests.items():
        name, tag = split(image)
        archive = folder / f"{name}-{tag}.tar"
        half = archive.with_name(archive.name + ".part")
        half.unlink(missing_ok=True)
        known_as = f"localhost/driftloop/{name}:{tag}"
        skopeo("copy", "--quiet", f"docker://{registry}/{name}@{digest}", f"oci-archive:{half}:{known_as}")
        half.rename(archive)


def promote(registry: str, digests: dict[str, str]) -> None:
    """The tag `promoted` of each image is what has this digest."""
    for image, digest in digests.items():
        name, _ = split(image)
        skopeo(
            "copy", "--quiet", "--all", f"docker://{registry}/{name}@{digest}", f"docker://{registry}/{name}:promoted"
        )


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["push", registry, *archives] if archives:
                print(json.dumps(push(registry, [Path(each) for each in archives]), indent=1, sort_keys=True))
            case ["fetch", registry, folder]:
                fetch(registry, Path(folder), json.load(sys.stdin))
            case ["promote", registry]:
                promote(registry, json.load(sys.stdin))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except subprocess.CalledProcessError as error:
        print(f"publish_images: skopeo ended with {error.returncode}: {' '.join(error.cmd)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
