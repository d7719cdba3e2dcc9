"""What must not change: answers, error texts, documents, metrics and files, as they were at commit 8df0893.

A golden that no longer holds prints what changed. Where the change is wanted, `python tests/goldens/make.py NAME`
writes it anew, and CHANGES.md says why.
"""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import comparison, golden, material, subject

HERE = Path(__file__).parent
ORIGINAL = dict(line.split()[::-1] for line in (HERE / "data" / "ORIGINAL").read_text().splitlines())
"""SHA-256 of each golden's file as it was made at 8df0893."""
REASONS = re.findall(r"^\| (\w+) \| (.+) \| (.+) \|$", (HERE / "CHANGES.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", golden.GOLDENS)
def test_nothing_has_changed(name: str) -> None:
    changes = comparison.differences(comparison.read(name), golden.GOLDENS[name]())
    print(f"{name}: {len(changes)} changes", *changes[:60], sep="\n")
    assert not changes, changes[0]


@pytest.mark.parametrize("name", golden.GOLDENS)
def test_a_golden_that_was_made_anew_says_why(name: str) -> None:
    path = comparison.path_of(name)
    if hashlib.sha256(path.read_bytes()).hexdigest() != ORIGINAL.get(path.name):
        assert name in [row[0] for row in REASONS], f"{path.name} is not as at 8df0893, and CHANGES.md does not say why"


def test_a_run_that_was_archived_then_is_read(tmp_path: Path) -> None:
    for name, content in comparison.read("archive_object").items():
        (tmp_path / name).write_bytes(base64.b64decode(content))
    np.testing.assert_array_equal(subject.archived(tmp_path, material.RUN_ID), golden.archived_rows())


def test_a_bundle_as_it_was_then_answers_alike(tmp_path: Path) -> None:
    """Without any field that metadata and baseline have been given since."""
    then = comparison.read("loop_bundle")
    folder = tmp_path / "bundle"
    shutil.copytree(golden.bundle(), folder)
    metadata = json.loads((folder / "metadata.json").read_bytes())
    del metadata["fleet"]
    metadata["columns"] = list(subject.COLUMNS)
    entry = then["metadata.json"]["manifest"][0]
    metadata["manifest"] = [{key: one[key] for key in entry} for one in metadata["manifest"]]
    (folder / "metadata.json").write_text(json.dumps(metadata))
    baseline = json.loads((folder / "baseline.json").read_bytes())
    (folder / "baseline.json").write_text(json.dumps({key: baseline[key] for key in then["baseline.json"]["fields"]}))
    assert not comparison.differences(golden.good_answers(golden.bundle()), golden.good_answers(folder))


@pytest.mark.parametrize("name", golden.GOLDENS)
def test_a_change_anywhere_in_a_golden_is_noticed(name: str) -> None:
    kept = comparison.read(name)
    changed = [_altered(name, share) for share in np.linspace(0, 1, 12)]
    assert not comparison.differences(kept, comparison.read(name))
    assert all(comparison.differences(kept, one) for one in changed)


@pytest.mark.parametrize(
    ("kept", "present"),
    [
        ({"a": 1}, {"a": 1, "b": None}),
        ({"a": 1, "b": None}, {"a": 1}),
        ([1], [1, 1]),
        ([1, 1], [1]),
        (1, 1.0),
        (0, False),
        (None, ""),
        (100.0, 100.02),
        (0.0, 0.0002),
        (1.0, float("nan")),
        ("a\nb\n", "a\n"),
        ("a\nb\n", "b\na\n"),
    ],
)
def test_what_counts_as_a_change(kept: Any, present: Any) -> None:
    assert comparison.differences(kept, present)
    assert comparison.differences(present, kept)


def test_the_last_digits_of_a_float_are_no_change() -> None:
    assert not comparison.differences({"a": [100.0, 0.5, 1e6]}, {"a": [100.005, 0.50005, 1e6 + 50]})


def _altered(name: str, share: float) -> Any:
    """The golden with one value changed, that far into it."""
    kept = comparison.read(name)
    if isinstance(kept, str):
        at = round(share * (len(kept) - 1))
        return f"{kept[:at]}~{kept[at:]}"
    leaves = list(_leaves(kept))
    part, key = leaves[round(share * (len(leaves) - 1))]
    value = part[key]
    part[key] = not value if isinstance(value, bool) else value * 1.01 + 1 if isinstance(value, float) else [value]
    return kept


def _leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where the single values are: what holds each, and under which key."""
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(child, dict | list) and child:
            yield from _leaves(child)
        else:
            yield value, key
