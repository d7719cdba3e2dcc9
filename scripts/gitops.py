#!/usr/bin/env python3
"""What runs on a cluster, in Git: a folder for each environment, from which Flux applies it (docs/gitops.md).

    gitops.py publish [--check] FOLDER    commits and pushes what standard input says (see `Publication`)
    gitops.py holds FOLDER ENVIRONMENT    prints {"revision", "components", "images"} of an environment
    gitops.py promote FOLDER FROM TO      gives TO the images that FROM runs, and nothing else;
                                          prints {"changed", "promoted", "revision"}
    gitops.py back                        what Flux applied, as `kubectl get -o json` has it on standard input, as
                                          Ansible's again

FOLDER is a working copy that is nobody's: it is made, and made equal to the remote, as needed. The remote and branch
are told by DRIFTLOOP_GITOPS_REMOTE and DRIFTLOOP_GITOPS_BRANCH (main); a folder (file://) is made where there is none.
Whoever runs this pushes with their own credentials of Git. An environment has

    kustomization.yaml    what it consists of
    NAME.yml              objects of a component, or of a namespace
    images.json           {image: {"reference", "digest"}} of what it runs
"""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit

import yaml

Manifest = dict[str, Any]

AUTHOR = {"name": "driftloop", "email": "driftloop@localhost"}
# Pushes that somebody else's came before are made anew on top of it, so often.
TRIES = 5
FLUX = "kustomize.toolkit.fluxcd.io/"
FLUX_MANAGER, OWN_MANAGER = "kustomize-controller", "driftloop"


class Publication(TypedDict):
    """What `publish` reads.

    `parts` are the objects by the name of their file; `kinds` those that Git may hold; `images` what the pods of the
    parts run; `secrets` texts that must not be in any part.
    """

    environment: str
    parts: dict[str, list[Manifest]]
    kinds: list[str]
    images: dict[str, dict[str, str]]
    secrets: list[str]


class Refused(Exception):
    """What would be committed must not be, or cannot."""


# --- the working copy -----------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str, wanted: bool = True) -> subprocess.CompletedProcess[str]:
    """Call git in a folder. Raises `Refused` with what it said, unless a failure is an answer too."""
    identity = {f"GIT_{role}_{key.upper()}": text for role in ("AUTHOR", "COMMITTER") for key, text in AUTHOR.items()}
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**identity, **os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    if wanted and done.returncode != 0:
        raise Refused(f"git {' '.join(arguments[:2])} in {folder}: {done.stderr.strip() or done.stdout.strip()}")
    return done


def branch() -> str:
    return os.environ.get("DRIFTLOOP_GITOPS_BRANCH") or "main"


def remote() -> str:
    """Where the branch is. Raises `Refused` where there is none, or one with a password, which logs would show."""
    address = os.environ.get("DRIFTLOOP_GITOPS_REMOTE") or ""
    if not address:
        raise Refused("DRIFTLOOP_GITOPS_REMOTE does not say where the repository is")
    if urlsplit(address).password:
        raise Refused("the address of the remote holds a password: leave it to a credential helper of Git")
    return address


def bring(folder: Path) -> None:
    """Make the working copy what the remote's branch is; an empty one where there is none yet. Raises `Refused`."""
    if not (folder / ".git").exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        git(folder, "init", "--quiet", "--initial-branch", branch())
    if (place := urlsplit(remote())).scheme == "file" and not Path(place.path).exists():
        git(folder, "init", "--quiet", "--bare", "--initial-branch", branch(), place.path)
    # What an earlier run left half done.
    git(folder, "reset", "--quiet", "--hard", wanted=False)
    git(folder, "clean", "--quiet", "--force", "-d", "-x")
    known = git(folder, "ls-remote", "--heads", remote(), f"refs/heads/{branch()}").stdout
    if known:
        git(folder, "fetch", "--quiet", "--no-tags", remote(), f"+refs/heads/{branch()}:refs/remotes/origin/{branch()}")
        git(folder, "checkout", "--quiet", "--force", "-B", branch(), f"refs/remotes/origin/{branch()}")
    elif revision(folder):
        raise Refused(
            f"{remote()} has no branch {branch()} any more, of which {folder} has a copy: bring it back from there, "
            "or remove the folder to begin anew"
        )


def revision(folder: Path) -> str:
    """The commit of the working copy; empty where there is none yet."""
    return git(folder, "rev-parse", "--verify", "--quiet", "HEAD", wanted=False).stdout.strip()


def commit(folder: Path, message: str) -> bool:
    """Commit what differs and push it. False where somebody else pushed before: bring, change and commit again."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--no-verify", "--message", message)
    pushed = git(folder, "push", "--quiet", remote(), f"HEAD:refs/heads/{branch()}", wanted=False)
    if pushed.returncode == 0:
        return True
    if any(word in pushed.stderr for word in ("fetch first", "non-fast-forward", "cannot lock ref")):
        return False
    raise Refused(f"git push to {remote()}: {pushed.stderr.strip()}")


def differs(folder: Path) -> bool:
    return bool(git(folder, "status", "--porcelain", "--untracked-files=all").stdout)


# --- what is written ------------------------------------------------------------------------------------------------


def fit(part: str, manifest: Manifest, kinds: list[str]) -> Manifest:
    """An object as Git holds it. Raises `Refused` for a kind that Git must not hold.

    Nobody's manifest says how many replicas there are: an autoscaler, a person or a backup does. Volumes, and what pods
    of before still read, outlive their manifest; a Job whose image is another is made anew.
    """
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    if kind not in kinds:
        raise Refused(f"{part}: {kind} {name}: Git holds no such kind, only {', '.join(sorted(kinds))}")
    metadata = dict(manifest["metadata"])
    annotations = dict(metadata.get("annotations", {}))
    if kind == "PersistentVolumeClaim" or (kind == "ConfigMap" and part.startswith("namespace-")):
        annotations[f"{FLUX}prune"] = "disabled"
    if kind == "Job":
        annotations[f"{FLUX}force"] = "enabled"
    if annotations:
        metadata["annotations"] = annotations
    fitted = {**manifest, "metadata": metadata}
    if "spec" in fitted:
        fitted["spec"] = {key: value for key, value in fitted["spec"].items() if key != "replicas"}
    return fitted


def text_of(part: str, manifests: list[Manifest], kinds: list[str], secrets: list[str]) -> str:
    """The file of a part. Raises `Refused` where it would hold a secret, in itself or in base 64."""
    text: str = yaml.safe_dump_all([fit(part, each, kinds) for each in manifests], sort_keys=True, width=4096)
    for secret in secrets:
        if secret and (secret in text or base64.b64encode(secret.encode()).decode() in text):
            raise Refused(f"{part}: it holds one of the platform's secrets, which belong into a Secret")
    return text


def write(folder: Path, wanted: Publication) -> None:
    """Write the parts, the images and the list of an environment. Raises `Refused`."""
    place = folder / wanted["environment"]
    place.mkdir(exist_ok=True)
    for part, manifests in wanted["parts"].items():
        (place / f"{part}.yml").write_text(text_of(part, manifests, wanted["kinds"], wanted["secrets"]))
    write_images(place, {**images(place), **wanted["images"]})
    resources = sorted(each.name for each in place.glob("*.yml"))
    listed = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources}
    (place / "kustomization.yaml").write_text(yaml.safe_dump(listed, sort_keys=True))


def images(place: Path) -> dict[str, dict[str, str]]:
    """{image: {"reference", "digest"}} of an environment's folder."""
    path = place / "images.json"
    found: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
    return found


def write_images(place: Path, content: dict[str, dict[str, str]]) -> None:
    (place / "images.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


# --- commands -------------------------------------------------------------------------------------------------------


def publish(folder: Path, wanted: Publication, *, check: bool = False) -> dict[str, Any]:
    """Commit and push what is wanted where it differs. Raises `Refused`."""
    for _ in range(TRIES):
        bring(folder)
        write(folder, wanted)
        if not differs(folder):
            return {"changed": False, "revision": revision(folder)}
        if check:
            return {"changed": True, "revision": revision(folder)}
        if commit(folder, f"{wanted['environment']}: {', '.join(sorted(wanted['parts']))}"):
            return {"changed": True, "revision": revision(folder)}
    raise Refused(f"others pushed to {remote()} before each of {TRIES} tries: try again")


def holds(folder: Path, environment: str) -> dict[str, Any]:
    bring(folder)
    place = folder / environment
    components = sorted(each.stem for each in place.glob("*.yml"))
    return {"revision": revision(folder), "components": components, "images": images(place)}


def promote(folder: Path, source: str, target: str) -> dict[str, Any]:
    """Give one environment the images of another, by a commit of its own. Raises `Refused`."""
    for _ in range(TRIES):
        bring(folder)
        tried, runs = images(folder / source), images(folder / target)
        for environment, found in ((source, tried), (target, runs)):
            if not found:
                raise Refused(f"{environment}: {remote()} says nothing of its images; run the playbooks for it")
        promoted = sorted(name for name in tried.keys() & runs.keys() if tried[name] != runs[name])
        if not promoted:
            return {"changed": False, "promoted": [], "revision": revision(folder)}
        unproven = [name for name in promoted if not tried[name].get("digest")]
        if unproven:
            raise Refused(f"{source} says no digest of {', '.join(unproven)}: it never ran there")
        for path in (folder / target).glob("*.yml"):
            text = path.read_text()
            for name in promoted:
                text = text.replace(runs[name]["reference"], tried[name]["reference"])
            path.write_text(text)
        write_images(folder / target, {**runs, **{name: tried[name] for name in promoted}})
        digests = "\n".join(f"{name} {tried[name]['digest']}" for name in promoted)
        message = f"{target}: take {', '.join(promoted)} from {source}\n\nAs of {revision(folder)}:\n{digests}"
        if commit(folder, message):
            return {"changed": True, "promoted": promoted, "revision": revision(folder)}
    raise Refused(f"others pushed to {remote()} before each of {TRIES} tries: try again")


def back(manifest: Manifest) -> Manifest:
    """An object that Flux applied as one that Ansible applied: what runs is the same, and no mark of Flux is left."""
    metadata = dict(manifest["metadata"])
    for place in ("labels", "annotations"):
        kept = {key: value for key, value in metadata.get(place, {}).items() if not key.startswith(FLUX)}
        metadata.pop(place, None)
        if kept:
            metadata[place] = kept
    entries = metadata.get("managedFields", [])
    owned = {entry["manager"] for entry in entries if entry["operation"] == "Apply"}
    metadata["managedFields"] = [
        {**entry, "manager": OWN_MANAGER} if entry["manager"] == FLUX_MANAGER else entry
        for entry in entries
        if not (entry["manager"] == FLUX_MANAGER and (entry["operation"] != "Apply" or OWN_MANAGER in owned))
    ]
    return {**manifest, "metadata": metadata}


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["publish", "--check", folder]:
                answer = publish(Path(folder), json.load(sys.stdin), check=True)
            case ["publish", folder]:
                answer = publish(Path(folder), json.load(sys.stdin))
            case ["holds", folder, environment]:
                answer = holds(Path(folder), environment)
            case ["promote", folder, source, target]:
                answer = promote(Path(folder), source, target)
            case ["back"]:
                found = json.load(sys.stdin)
                answer = {**found, "items": [back(each) for each in found["items"]]}
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except Refused as error:
        print(f"gitops: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
