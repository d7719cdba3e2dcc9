"""The doors for people, rendered: who is let in by which, what the console believes, and off by default."""

import json
from pathlib import Path
from typing import Any

import pytest
from rendered import Manifest, pods, render, skip_without_ansible

from driftloop.access.proxy import Proxies

pytestmark = skip_without_ansible

PROVIDER = {
    "issuer": "https://login.example:8443/realms/x",
    "client_id": "driftloop",
    "client_secret": "made-up",
    "scope": "openid email profile",
    "groups_claim": "roles",
}
ROLES = {"view": ["planners"], "predict": [], "operate": ["reliability"], "admin": ["platform", "user:anna"]}


def arguments(manifests: list[Manifest]) -> dict[str, list[str]]:
    """What each door is told, by its name."""
    [pod] = [pod for name, _, _, pod in pods(manifests) if name == "doors"]
    return {container["name"]: container["args"] for container in pod["containers"]}


def console(manifests: list[Manifest]) -> dict[str, Any]:
    """The console's own variables."""
    [pod] = [pod for name, _, _, pod in pods(manifests) if name == "driftloop-console"]
    return {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}


@pytest.fixture(scope="module")
def with_provider(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    folder = tmp_path_factory.mktemp("provider")
    for name in ("chain", "key"):
        (folder / name).write_text("made up")
    return render(
        folder,
        doors_enabled=True,
        doors_address="https://platform.example",
        doors_certificate={"chain": str(folder / "chain"), "key": str(folder / "key")},
        doors_provider=PROVIDER,
        doors_roles=ROLES,
    )


@pytest.fixture(scope="module")
def with_passwords(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return render(tmp_path_factory.mktemp("passwords"), doors_enabled=True)


def test_off_by_default_nobody_is_believed(tmp_path: Path) -> None:
    told = console(render(tmp_path))
    assert not any("PROX" in name for name in told), told


def test_groups_open_the_doors_of_their_roles_and_no_door_is_everybodys(with_provider: list[Manifest]) -> None:
    groups = {
        door: {each.partition("=")[2] for each in told if each.startswith("--allowed-group=")}
        for door, told in arguments(with_provider).items()
    }
    assert groups == {
        "console": {"planners", "reliability", "platform"},
        "mlflow": {"reliability", "platform"},
        "prometheus": {"planners", "reliability", "platform"},
        "grafana": {"planners", "reliability", "platform"},
        "minio": {"platform"},
    }


def test_a_provider_is_asked_as_it_should_be(with_provider: list[Manifest]) -> None:
    for door, told in arguments(with_provider).items():
        assert "--code-challenge-method=S256" in told, door
        assert "--insecure-oidc-skip-nonce=false" in told, door
        assert "--cookie-secure=true" in told, door
        assert f"--oidc-issuer-url={PROVIDER['issuer']}" in told, door
        assert "--oidc-groups-claim=roles" in told, door
        assert not any("htpasswd" in each for each in told), door
    [policy] = [e for e in with_provider if e["kind"] == "NetworkPolicy" and e["metadata"]["name"] == "doors"]
    assert {"ports": [{"port": 8443}]} in policy["spec"]["egress"]


def test_no_secret_is_an_argument(with_provider: list[Manifest], with_passwords: list[Manifest]) -> None:
    for told in (arguments(with_provider), arguments(with_passwords)):
        text = json.dumps(told)
        assert "made-up" not in text
        assert "doors_cookie" not in text
        assert "doors_proxy" not in text


def test_each_door_has_a_cookie_and_a_file_of_people_of_its_own(with_passwords: list[Manifest]) -> None:
    for door, told in arguments(with_passwords).items():
        assert f"--cookie-name=driftloop_{door}" in told
        assert f"--htpasswd-file=/secrets/doors/htpasswd-{door}" in told


def test_only_the_console_is_told_who_it_is_and_it_believes_only_who_has_the_password(
    with_provider: list[Manifest], tmp_path: Path
) -> None:
    for door, told in arguments(with_provider).items():
        assert ("--pass-user-headers=false" in told) is (door != "console")
    told = console(with_provider)
    assert told["DRIFTLOOP_PROXY_PASSWORD_FILE"] == "/secrets/doors/proxy"
    (tmp_path / "password").write_text("a" * 40)
    proxies = Proxies.of(
        told["DRIFTLOOP_TRUSTED_PROXIES"], "u", "g", told["DRIFTLOOP_PROXY_ROLES"], tmp_path / "password"
    )
    assert proxies.identity({"u": "ben", "g": "planners"}) == ("ben", "view")
    assert proxies.identity({"u": "anna", "g": ""}) == ("anna", "admin")
    assert proxies.identity({"u": "ben", "g": "others"}) == ("ben", None)


def test_a_port_of_the_node_needs_a_certificate(with_provider: list[Manifest], with_passwords: list[Manifest]) -> None:
    for manifests, kind in ((with_provider, "NodePort"), (with_passwords, None)):
        [service] = [e for e in manifests if e["kind"] == "Service" and e["metadata"]["name"] == "doors"]
        assert service["spec"].get("type") == kind
        for told in arguments(manifests).values():
            assert any(each.startswith("--tls-cert-file=") for each in told) is (kind is not None)


def test_what_lies_in_other_namespaces_is_known_as_the_doors(with_provider: list[Manifest]) -> None:
    named = [
        each["metadata"]["name"]
        for each in with_provider
        if each["metadata"].get("labels", {}).get("driftloop/addition") == "doors"
    ]
    assert sorted(named) == sorted(f"{door}-from-doors" for door in arguments(with_provider))
