"""What the inventory promises about downloads and secrets, read as plain YAML."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

GROUP_VARS = Path(__file__).parents[2] / "inventory" / "group_vars" / "all"


def variables(name: str) -> dict[str, Any]:
    return yaml.safe_load((GROUP_VARS / f"{name}.yml").read_text())


def test_every_tool_is_pinned_by_version_and_by_a_whole_or_an_absent_checksum() -> None:
    for tool in variables("versions")["tools"]:
        assert tool["version"].removeprefix("v") in tool["url"], tool["name"]
        assert set(tool["sha256"]) == {"amd64", "arm64"}, tool["name"]
        for checksum in tool["sha256"].values():
            assert checksum == "" or re.fullmatch("[0-9a-f]{64}", checksum), tool["name"]
        assert re.fullmatch("[0-9a-f]{64}", tool["sha256"]["amd64"]), tool["name"]


def test_k3s_is_pinned_by_version_and_checksum() -> None:
    versions = variables("versions")
    assert re.fullmatch(r"v\d+\.\d+\.\d+\+k3s\d+", versions["k3s_version"])
    assert re.fullmatch("[0-9a-f]{64}", versions["k3s_sha256"]["amd64"])


def test_no_two_checksums_are_the_same() -> None:
    checksums = re.findall("[0-9a-f]{64}", (GROUP_VARS / "versions.yml").read_text())
    assert len(checksums) == len(set(checksums))


@pytest.mark.parametrize("name", ["defaults", "versions", "sizes"])
def test_no_secret_stands_in_the_inventory(name: str) -> None:
    for key, value in variables(name).items():
        assert not key.startswith("secret_") or key == "secret_names", key
        assert not (isinstance(value, str) and re.search(r"password|token", key)), key


def test_each_secret_has_one_name() -> None:
    names = variables("defaults")["secret_names"]
    assert len(names) == len(set(names))
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in names)
