"""`make audit`, against doubles of the tools that ask the advisory databases: what they say is what is told, and a part
that could not look never passes for one that found nothing."""

import json
from pathlib import Path

import audit
import pytest

CLEAN = {"dependencies": [{"name": "numpy", "version": "2.4", "vulns": []}]}


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository's folder with tools that say what a test writes."""
    folder = tmp_path / ".venv-audit" / "bin"
    folder.mkdir(parents=True)
    (tmp_path / "scripts" / "go").mkdir(parents=True)
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    monkeypatch.setattr(audit, "TOOLS", folder)
    monkeypatch.setattr(audit, "LOCKS", ("a.lock",))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def tool(folder: Path, name: str, said: str, code: int = 0, complaint: str = "") -> None:
    path = folder / name
    (folder / f"{name}.said").write_text(said)
    path.write_text(f'#!/bin/sh\necho "$@" >>"$0.asked"\necho "{complaint}" >&2\ncat "$0.said"\nexit {code}\n')
    path.chmod(0o755)


def test_a_known_hole_is_told_with_what_mends_it(tools: Path) -> None:
    hole = {"id": "PYSEC-2026-1", "fix_versions": ["2.5"], "aliases": [], "description": ""}
    told = {"dependencies": [{"name": "numpy", "version": "2.4", "vulns": [hole]}]}
    tool(tools, "pip-audit", json.dumps(told), code=1)
    part = audit.python()
    assert part.findings == ["a.lock: numpy 2.4: PYSEC-2026-1, mended in 2.5"]
    assert "--requirement a.lock" in (tools / "pip-audit.asked").read_text()
    assert audit.exit_code([part]) == audit.FOUND


def test_a_package_without_an_answer_was_not_looked_at(tools: Path) -> None:
    # What pip-audit says, with exit code 0, where PyPI serves packages but no advisories.
    skipped = {"name": "idna", "skip_reason": "Dependency not found on PyPI and could not be audited: idna (3.11)"}
    tool(tools, "pip-audit", json.dumps({"dependencies": [*CLEAN["dependencies"], skipped], "fixes": []}))
    part = audit.python()
    assert (part.findings, part.looked_at) == ([], 1)
    assert part.not_looked == ["a.lock: no advisories about 1 of 2, such as idna"]
    assert audit.exit_code([part]) == audit.NOT_LOOKED


def test_a_tool_that_fails_did_not_look(tools: Path) -> None:
    tool(tools, "pip-audit", "", code=1, complaint="ConnectionError: no route to host")
    part = audit.python()
    assert part.not_looked == ["a.lock: ConnectionError: no route to host"]
    assert audit.exit_code([part]) == audit.NOT_LOOKED


def test_nothing_found_by_all_is_clean(tools: Path) -> None:
    tool(tools, "pip-audit", json.dumps(CLEAN))
    part = audit.python()
    assert part.looked_at == 1
    assert audit.exit_code([part]) == 0


def stream(*messages: dict[str, object]) -> str:
    return "\n".join(json.dumps(message, indent=2) for message in messages)


def finding(osv: str, *, function: str | None) -> dict[str, object]:
    frame = {"module": "golang.org/x/net", "version": "v0.43.0", "package": "golang.org/x/net/http2"}
    return {
        "finding": {
            "osv": osv,
            "fixed_version": "v0.55.0",
            "trace": [{**frame, "function": function} if function else frame],
        }
    }


def test_of_a_module_only_what_is_called_counts() -> None:
    said = stream(
        {"config": {"protocol_version": "v1.0.0"}},
        finding("GO-2026-1", function=None),
        finding("GO-2026-2", function="ServeConn"),
        finding("GO-2026-2", function="ReadFrame"),
    )
    assert audit.called(said) == ["GO-2026-2 in golang.org/x/net v0.43.0, mended in v0.55.0"]
    assert audit.called("") == []


def test_every_program_of_every_image_is_asked_about(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "files" / "images" / "prometheus"
    image.mkdir(parents=True)
    (image / "go.mod").write_text("module a\n")
    (image / "go-build").write_text("server example.test/server some_tags\ntool example.test/tool - a.B=1\n")
    monkeypatch.setattr(audit, "modules", lambda _: [image / "go.mod"])
    tool(tools, "go", "")
    (tmp_path / "build" / "tools").mkdir(parents=True)
    tool(tmp_path / "build" / "tools", "govulncheck", stream(finding("GO-2026-2", function="Serve")))
    monkeypatch.setenv("GOVULNDB", "file:///advisories")
    part = audit.go()
    assert part.findings == ["files/images/prometheus: GO-2026-2 in golang.org/x/net v0.43.0, mended in v0.55.0"] * 2
    assert (tmp_path / "build" / "tools" / "govulncheck.asked").read_text().splitlines() == [
        "-format json -db file:///advisories -tags some_tags example.test/server",
        "-format json -db file:///advisories example.test/tool",
    ]
    tool(tmp_path / "build" / "tools", "govulncheck", "", 1, "vuln.go.dev: no such host")
    assert audit.go().not_looked == ["files/images/prometheus: vuln.go.dev: no such host"] * 2


@pytest.mark.parametrize(
    ("licence", "free"),
    [
        ("MIT", True),
        ("BSD License; Apache-2.0", True),
        ("LGPL-3.0", True),
        ("EPL-2.0 OR GPL-2.0-or-later", True),
        ("GPL-3.0-or-later", False),
        ("GNU General Public License v2 (GPLv2)", False),
        ("AGPL-3.0", False),
        ("UNKNOWN", False),
        ("LicenseRef-NVIDIA-Proprietary", False),
    ],
)
def test_which_licences_bind_us(licence: str, free: bool) -> None:
    assert audit.is_free(licence) is free


@pytest.mark.parametrize(
    ("name", "text", "licence"),
    [
        ("LICENSE", "Apache License\nVersion 2.0", "Apache-2.0"),
        ("LICENSE.md", "MIT\n\nPermission is hereby granted, free\nof charge, to any", "MIT"),
        ("COPYING", "GNU AFFERO GENERAL PUBLIC LICENSE", "AGPL-3.0"),
        ("LICENSE", "Redistribution and use in source and binary forms", "BSD"),
        ("README", "free for all", "UNKNOWN"),
    ],
)
def test_the_licence_of_a_go_module(tmp_path: Path, name: str, text: str, licence: str) -> None:
    (tmp_path / name).write_text(text)
    assert audit.licence_of(tmp_path) == licence


def test_secrets_that_are_not_known_to_be_none_are_found(tools: Path) -> None:
    tool(tools, "git", "a.py\nb.lock\n")
    found = {"results": {"a.py": [{"type": "Private Key", "line_number": 3}]}}
    tool(tools, "detect-secrets-hook", json.dumps(found), code=1)
    part = audit.secrets()
    assert part.findings == ["a.py:3: Private Key"]
    assert (tools / "detect-secrets-hook.asked").read_text().split()[-1] == "a.py"
    tool(tools, "detect-secrets-hook", "", code=2, complaint="the baseline cannot be read")
    assert audit.secrets().not_looked == ["the baseline cannot be read"]


def test_what_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    parts = {
        "python": lambda: audit.Part("python", not_looked=["no network"]),
        "secrets": lambda: audit.Part("secrets", findings=["a.py:3: Private Key"], looked_at=5),
    }
    monkeypatch.setattr(audit, "PARTS", parts)
    assert audit.main([]) == audit.FOUND
    said = capsys.readouterr().out
    assert "could not look: no network" in said
    assert "secrets: looked at 5, 1 found" in said
    assert audit.main(["python", "--json"]) == audit.NOT_LOOKED
    assert json.loads(capsys.readouterr().out)[0]["not_looked"] == ["no network"]
