"""Proves this checkout on a machine of yours, or on one that is rented for it, and writes a report for a release.

    scripts/acceptance.py --machine USER@HOST [--ssh-key FILE] [--from REF]     an Ubuntu machine that SSH reaches
    HCLOUD_TOKEN=... scripts/acceptance.py --hetzner [--from REF] [--keep]      one from Hetzner Cloud, removed again

What is done, in order: reach the machine; install (with --from that version first, and this one over it); the same
again, which changes nothing; the suite; the loop under traffic; a backup; a restore of it; the suite once more. What
has succeeded is remembered in the folder (--folder, build/acceptance) and not done again: once a failure is mended, the
same command goes on. --again STEP does one more time what comes from that step on. A rented machine is removed when all
is done, or by --clean-up at any time.

report.md and report.json in that folder say what was done, how long it took and what it showed; logs lie beside them.
The token is read from the environment alone and is written nowhere. Exit code 0: everything succeeded; 1: a step
failed; 2: it cannot be started.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceptance_report import write_report
from acceptance_steps import STEPS, FailedError, Place, clean_up, missing_program


@dataclass
class State:
    """What is known of the run so far, kept in the folder after every step."""

    path: Path
    told: dict[str, Any]

    def save(self) -> None:
        half = self.path.with_name(self.path.name + ".part")
        half.write_text(json.dumps(self.told, indent=1) + "\n")
        half.rename(self.path)


def begin(folder: Path, chosen: dict[str, Any]) -> State:
    """The state in a folder, or a new one. Refuses to go on with another machine than the run was begun with."""
    path = folder / "state.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        return State(path, {"chosen": chosen, "steps": {}, "place": {}})
    state = State(path, json.loads(path.read_text()))
    if state.told["chosen"] != chosen:
        sys.exit(
            f"acceptance: {folder} holds a run with other arguments, {state.told['chosen']}: repeat those, or name "
            f"another folder with --folder"
        )
    return state


def forget_from(state: State, step: str) -> None:
    """That a step and all after it have not been done."""
    names = [each.name for each in STEPS]
    for name in names[names.index(step) :]:
        state.told["steps"].pop(name, None)


def run(state: State, place: Place) -> int:
    """Do what is not done yet. The exit code."""
    steps = state.told["steps"]
    for step in STEPS:
        if steps.get(step.name, {}).get("outcome") in ("ok", "left out"):
            continue
        why = step.left_out(place)
        if why:
            steps[step.name] = {"outcome": "left out", "why": why}
            continue
        print(f"acceptance: {step.name}: {step.what}", flush=True)
        began = time.monotonic()
        try:
            showed, outcome = step.do(place), "ok"
        except FailedError as error:
            showed, outcome = {"why": str(error)}, "failed"
        steps[step.name] = {"outcome": outcome, "seconds": round(time.monotonic() - began), "showed": showed}
        state.told["place"] = place.known
        state.save()
        write_report(place.folder, state.told)
        if outcome == "failed":
            print(f"acceptance: {step.name} failed: {showed['why']}", file=sys.stderr)
            return 1
    state.save()
    write_report(place.folder, state.told)
    return 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Proves this checkout on a machine, and writes a report.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--machine", metavar="USER@HOST", help="an Ubuntu machine that SSH reaches")
    where.add_argument("--hetzner", action="store_true", help="rent one; the token is in HCLOUD_TOKEN")
    parser.add_argument("--ssh-key", type=Path, help="private key for --machine; without one, ssh's own choice")
    parser.add_argument(
        "--from", dest="old", metavar="REF", help="install this version first, and this checkout over it"
    )
    parser.add_argument("--folder", type=Path, default=Path("build/acceptance"), help="where everything is kept")
    parser.add_argument("--again", choices=[step.name for step in STEPS], help="do this step, and all after it, again")
    parser.add_argument("--keep", action="store_true", help="leave a rented machine as it is in the end")
    parser.add_argument("--clean-up", action="store_true", help="remove the rented machine and do nothing else")
    options = parser.parse_args(arguments)
    if options.hetzner and not os.environ.get("HCLOUD_TOKEN"):
        print("acceptance: HCLOUD_TOKEN is not set: export a token that may read and write", file=sys.stderr)
        return 2
    missing = missing_program()
    if missing:
        print(
            f"acceptance: {missing} is not installed here, where the suite and the loop are run from", file=sys.stderr
        )
        return 2
    chosen = {"machine": options.machine or "hetzner", "from": options.old}
    state = begin(options.folder.resolve(), chosen)
    place = Place(options.folder.resolve(), options.machine, options.ssh_key, options.old, state.told["place"])
    if options.hetzner:
        # Before it is asked for: what was made must be found again, whatever happens meanwhile.
        place.known.setdefault("rented", f"driftloop-acceptance-{time.strftime('%Y%m%d%H%M%S', time.gmtime())}")
        state.save()
    if options.clean_up:
        clean_up(place)
        return 0
    if options.again:
        forget_from(state, options.again)
    code = run(state, place)
    if code == 0 and not options.keep:
        clean_up(place)
    elif place.known.get("rented"):
        print(f"acceptance: {place.known['rented']} is still there: --clean-up removes it")
    print(f"acceptance: {place.folder / 'report.md'}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
