"""`make outdated`: everything pinned is found, and each registry is asked by its own client.

Here against doubles: an index of wheels, a module proxy and git repositories on this disk, clients with one answer.
"""

import datetime
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import newest
import outdated
import pins
import pytest
from pins import Pin

TODAY = datetime.date(2026, 11, 29)


def client(folder: Path, name: str, script: str) -> None:
    """A program that stands in for a registry's client."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of clients that comes before all others."""
    folder = tmp_path / "clients"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin")
    return folder


def wheel(index: Path, name: str, version: str, needs: str) -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(index / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        told = (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {needs}\nRequires-Dist: gone\n"
        )
        archive.writestr(f"{info}/METADATA", told)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


def test_everything_that_is_pinned_is_found() -> None:
    found = pins.all_pins()
    assert {pin.kind for pin in found} == set(newest.ASK)
    by_name = {(pin.kind, pin.name): pin.version for pin in found}
    assert by_name["debian", "debian"] == "trixie"
    assert by_name["release", "postgresql"] == "17"
    assert by_name["release", "helm"].startswith("v3.")
    for module in ("github.com/minio/minio", "github.com/coredns/coredns", "k8s.io/kubernetes", "golang.org/x/vuln"):
        assert by_name["go", module].startswith("v")
    assert ("npm", "uplot") in by_name
    assert ("action", "actions/checkout") in by_name
    assert len(found) == len(set(found))
    # Of what is kept in Git: a platform that has run here leaves locks of its own.
    kept = subprocess.check_output(["git", "-C", str(pins.ROOT), "ls-files", "*.lock", "*go.mod"], text=True).split()
    locks = {Path(path).name for path in kept if path.endswith(".lock")}
    assert locks == {Path(lock).name for lock in pins.LOCKS}, "a lock that nobody looks into"
    modules = [path for path in kept if not path.endswith(".lock")]
    assert {str(path.relative_to(pins.ROOT)) for path in pins.modules(pins.ROOT)} >= set(modules)


def test_of_every_product_with_dates_the_pinned_line_is_dated() -> None:
    lines, looked_up = outdated.support()
    assert looked_up <= datetime.datetime.now(tz=datetime.UTC).date()
    for pin in pins.all_pins():
        if pin.product:
            assert outdated.supported(pin, lines), f"support.toml says nothing of {pin.name} {pin.version}"
    assert all(each.source for each in lines.values())


@pytest.mark.parametrize(
    ("product", "version", "until"),
    [
        ("prometheus", "v0.313.5", "2027-07-31"),
        ("kubernetes", "v1.36.5+k3s1", "2027-06-28"),
        ("kubernetes", "v1.3.0", None),
        ("helm", "v3.22.0", "2027-02-10"),
        ("minio", "v0.0.0-20260212201848-7aac2a2c5b7c", "2026-04-25"),
        ("debian", "trixie", "2028-08-09"),
    ],
)
def test_the_line_of_a_version(product: str, version: str, until: str | None) -> None:
    found = outdated.supported(Pin("release", "x", version, "", "", product), outdated.support()[0])
    assert (str(found.until) if found else None) == until


@pytest.mark.parametrize(
    ("tag", "name", "numbers"),
    [
        ("v1.36.5+k3s1", "k3s", (1, 36, 5, 1)),
        ("REL_17_2", "postgresql", (17, 2)),
        ("kustomize/v5.8.0", "kustomize", (5, 8, 0)),
        ("api/v0.21.0", "kustomize", ()),
        ("v3.15.0rc1", "python", ()),
        ("4.0.21-ubuntu", "grafana", ()),
    ],
)
def test_only_releases_are_compared(tag: str, name: str, numbers: tuple[int, ...]) -> None:
    assert newest._numbers(tag, name) == numbers


def test_uv_says_which_package_is_newer_for_any_supported_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    for name, version, needs in (
        ("old", "1.0", ">=3.8"), ("old", "1.1", ">=3.8"), ("split", "2.19", ">=3.11"), ("split", "2.21", ">=3.12"),
        ("same", "3", ">=3.8"),
    ):  # fmt: skip
        wheel(index, name, version, needs)
    monkeypatch.setenv("UV_FIND_LINKS", str(index))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    asked = [
        Pin("python", name, version, "a.lock", name)
        for name, version in (("old", "1.0"), ("split", "2.19"), ("split", "2.21"), ("same", "3"))
    ]
    answers, unreached = newest.newest(asked)
    assert not unreached
    assert [(pin.name, pin.version, found.version, found.behind) for pin, found in answers.items()] == [
        ("old", "1.0", "1.1", True),
        ("split", "2.19", "2.21", False),
        ("split", "2.21", "2.21", False),
        ("same", "3", "3", False),
    ]


def test_go_says_which_module_is_newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = tmp_path / "proxy" / "example.test" / "part" / "@v"
    proxy.mkdir(parents=True)
    for version in ("v1.0.0", "v1.2.0"):
        (proxy / f"{version}.mod").write_text("module example.test/part\n")
        (proxy / f"{version}.info").write_text(json.dumps({"Version": version, "Time": "2026-01-01T00:00:00Z"}))
    (proxy / "list").write_text("v1.0.0\nv1.2.0\n")
    (tmp_path / "go.mod").write_text("module own\n\ngo 1.24.0\n\nrequire example.test/part v1.0.0\n")
    monkeypatch.setenv("GOPROXY", f"file://{tmp_path / 'proxy'}")
    monkeypatch.setenv("GONOSUMDB", "*")
    monkeypatch.setenv("GOFLAGS", "-mod=mod -modcacherw")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "cache"))
    pin = Pin("go", "example.test/part", "v1.0.0", "go.mod", "example.test/part")
    assert newest.newest([pin], tmp_path) == ({pin: newest.Newest("v1.2.0", True)}, {})
    monkeypatch.setenv("GOPROXY", "off")
    _, unreached = newest.newest([Pin("go", "example.test/gone", "v1.0.0", "go.mod", "example.test/gone")], tmp_path)
    assert [why.startswith("go: ") for why in unreached.values()] == [True]


def test_git_says_which_release_is_newer(tmp_path: Path) -> None:
    repository = tmp_path / "tool"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.test", "-C", str(repository)]
    subprocess.run(["git", "init", "--quiet", str(repository)], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "a"], check=True)
    for tag in ("v1.9.0", "v1.10.0", "v1.11.0-rc.1"):
        subprocess.run([*git, "tag", tag], check=True)
    behind = Pin("release", "tool", "v1.9.0", "versions.yml", str(repository))
    follows = Pin("action", "tool", "v1", "checks.yml", str(repository))
    answers, unreached = newest.newest(
        [behind, follows, Pin("release", "gone", "v1", "versions.yml", str(tmp_path / "gone"))]
    )
    assert answers == {follows: newest.Newest("1", False)}
    assert {pin.name for pin in unreached} == {"tool", "gone"}, (
        "what one host does not answer is said of all it was asked"
    )
    assert newest.newest([behind])[0] == {behind: newest.Newest("1.10.0", True)}


def test_the_other_clients_are_understood(clients: Path) -> None:
    client(clients, "npm", '[ "$*" = "view uplot version --json" ] && echo \'"1.7.0"\'')
    client(clients, "skopeo", '[ "$*" = "list-tags docker://docker.io/grafana/grafana" ] && '
           'echo \'{"Tags": ["latest", "13.2.3", "13.10.0", "14.0.0-rc1", "13.2.4-ubuntu"]}\'')  # fmt: skip
    client(clients, "debian-distro-info", "echo forky")
    client(clients, "ubuntu-distro-info", 'echo "26.04 LTS"')
    asked = [
        Pin("npm", "uplot", "1.6.32", "", "uplot"),
        Pin("image", "grafana", "13.2.3", "", "docker.io/grafana/grafana"),
        Pin("debian", "debian", "trixie", "", "trixie"),
        Pin("ubuntu", "ubuntu", "24.04", "", "ubuntu-24.04"),
    ]
    answers, unreached = newest.newest(asked)
    assert not unreached
    assert [(found.version, found.behind) for found in answers.values()] == [
        ("1.7.0", True),
        ("13.10.0", True),
        ("forky", True),
        ("26.04", True),
    ]


def test_a_registry_that_says_nothing_is_named(clients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest, "PATIENCE_S", 0.2)
    client(clients, "npm", "exec sleep 60")
    client(clients, "skopeo", "echo 'no route to host' >&2; exit 1")
    asked = [Pin("npm", "uplot", "1", "", "uplot"), Pin("image", "grafana", "13.2.3", "", "docker.io/grafana/grafana")]
    answers, unreached = newest.newest(asked)
    assert answers == {}
    assert list(unreached.values()) == ["npm got no answer within 0.2 s", "skopeo: no route to host"]


def test_what_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Pin(
        "go", "github.com/minio/minio", "v0.0.0-1", "files/images/minio/go.mod", "github.com/minio/minio", "minio"
    )
    behind = Pin("python", "pandas", "2.3.3", "requirements.lock", "pandas")
    fresh = Pin("python", "numpy", "2.4", "requirements.lock", "numpy")
    away = Pin("image", "grafana", "13.2.3", "images.yml", "grafana", "grafana")
    answers = {
        behind: newest.Newest("3.1", True),
        fresh: newest.Newest("2.4", False),
        ended: newest.Newest("v0.0.0-1", False),
    }
    monkeypatch.setattr(outdated, "all_pins", lambda: [ended, behind, fresh, away])
    monkeypatch.setattr(outdated, "newest", lambda _: (answers, {away: "skopeo is not installed"}))
    assert outdated.main([]) == 0
    said = capsys.readouterr().out
    assert "pandas" in said
    assert "ended 2026-04-25" in said
    assert "numpy" not in said
    assert "not reached, image: skopeo is not installed (grafana)" in said
    assert "4 pinned, 3 compared, 1 behind, 1 no longer supported" in said
    assert outdated.main(["--all", "--strict"]) == 1
    assert "numpy" in capsys.readouterr().out
    assert outdated.main(["--json"]) == 0
    told = {each["name"]: each for each in json.loads(capsys.readouterr().out)["pins"]}
    assert told["grafana"]["unreached"] == "skopeo is not installed"
    assert told["grafana"]["support_ended"] is False
    assert told["github.com/minio/minio"]["support_ended"] is True


def test_an_old_table_of_dates_says_so() -> None:
    fresh, stale = (outdated.notes([], TODAY - datetime.timedelta(days=days), TODAY) for days in (180, 181))
    assert len(fresh) == 1
    assert "look them up again" in stale[1]
