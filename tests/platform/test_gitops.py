"""What Git is given, and how: no secret, nobody's replicas, a commit for each change, images promoted by digest."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gitops
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rendered import ROOT, WORKLOADS, Manifest, pods, render, skip_without_ansible

from ports import free_port

# What stays the playbooks' own: what gives rights, what is secret, and what everything else is in.
KEPT = {"Namespace", "Secret", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
NOT_IN_GIT = {"kubeflow", "gitops", "logs", "doors"}
KINDS = ["ConfigMap", "Deployment", "Job", "PersistentVolumeClaim", "StatefulSet"]
DIGEST = {name: f"sha256:{digit * 64}" for name, digit in (("old", "1"), ("new", "2"))}


def git(place: Path, *arguments: str) -> str:
    who = ("-c", "user.name=anna", "-c", "user.email=anna@example.test")
    return subprocess.run(
        ["git", "-C", str(place), *who, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch", "main", str(place)], check=True)
    monkeypatch.setenv("DRIFTLOOP_GITOPS_REMOTE", place.as_uri())
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copy"


def deployment(name: str = "server", image: str = "localhost/driftloop/server:old", **spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": name, "image": image}]}}
    metadata = {"name": name, "namespace": "serving"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {**spec, "template": template}}


def of(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "serving"}, **fields}


def wanted(environment: str = "production", tag: str = "old", **parts: list[dict[str, Any]]) -> gitops.Publication:
    return {
        "environment": environment,
        "parts": parts or {"serving": [deployment(image=f"localhost/driftloop/server:{tag}")]},
        "kinds": KINDS,
        "images": {"server": {"reference": f"localhost/driftloop/server:{tag}", "digest": DIGEST[tag]}},
        "secrets": ["p4ssw0rd-of-postgres"],
    }


def held(remote: Path, path: str) -> str:
    return git(remote, "show", f"main:{path}")


def commits(remote: Path) -> list[str]:
    return git(remote, "log", "--format=%s", "main").splitlines()


def objects(remote: Path, path: str) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(held(remote, path))


def test_a_change_is_one_commit_and_nothing_is_none(remote: Path, folder: Path) -> None:
    first = gitops.publish(folder, wanted())
    assert first == {"changed": True, "revision": git(remote, "rev-parse", "main")}
    assert commits(remote) == ["production: serving"]
    assert yaml.safe_load(held(remote, "production/kustomization.yaml"))["resources"] == ["serving.yml"]
    assert gitops.publish(folder, wanted()) == {"changed": False, "revision": first["revision"]}
    assert gitops.publish(folder, wanted(tag="new"))["changed"]
    assert commits(remote) == ["production: serving", "production: serving"]


@pytest.mark.usefixtures("remote")
def test_another_working_copy_changes_nothing_either(folder: Path, tmp_path: Path) -> None:
    gitops.publish(folder, wanted())
    assert not gitops.publish(tmp_path / "of another machine", wanted())["changed"]


def test_check_mode_says_what_would_be_and_does_nothing(remote: Path, folder: Path) -> None:
    assert gitops.publish(folder, wanted(), check=True)["changed"]
    assert git(remote, "for-each-ref") == ""
    gitops.publish(folder, wanted())
    assert gitops.publish(folder, wanted(tag="new"), check=True)["changed"]
    assert len(commits(remote)) == 1
    assert not gitops.publish(folder, wanted(), check=True)["changed"]


def test_components_stand_beside_each_other(remote: Path, folder: Path) -> None:
    gitops.publish(folder, wanted())
    gitops.publish(folder, wanted(drift=[deployment("watch")]))
    assert yaml.safe_load(held(remote, "production/kustomization.yaml"))["resources"] == ["drift.yml", "serving.yml"]
    assert gitops.holds(folder, "production")["components"] == ["drift", "serving"]
    assert gitops.holds(folder, "staging") == {
        "revision": git(remote, "rev-parse", "main"),
        "components": [],
        "images": {},
    }


def test_who_pushed_meanwhile_is_kept(
    remote: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gitops.publish(folder, wanted())
    real, pushes = gitops.commit, []

    def late(place: Path, message: str) -> bool:
        if not pushes:
            pushes.append(message)
            monkeypatch.setattr(gitops, "commit", real)
            gitops.publish(tmp_path / "other", wanted("staging"))
            monkeypatch.setattr(gitops, "commit", late)
        return real(place, message)

    monkeypatch.setattr(gitops, "commit", late)
    assert gitops.publish(folder, wanted(tag="new"))["changed"]
    assert commits(remote) == ["production: serving", "staging: serving", "production: serving"]
    assert "server:new" in held(remote, "production/serving.yml")
    assert "server:old" in held(remote, "staging/serving.yml")


def test_what_a_person_changed_by_hand_is_set_to_what_the_playbooks_say(
    remote: Path, folder: Path, tmp_path: Path
) -> None:
    gitops.publish(folder, wanted())
    git(tmp_path, "clone", "--quiet", str(remote), "hers")
    (tmp_path / "hers/production/serving.yml").write_text("kind: Nothing\n")
    (tmp_path / "hers/README.md").write_text("ours\n")
    git(tmp_path / "hers", "add", "--all")
    git(tmp_path / "hers", "commit", "--quiet", "--message", "by hand")
    git(tmp_path / "hers", "push", "--quiet", "origin", "main")
    assert gitops.publish(folder, wanted())["changed"]
    assert [each["kind"] for each in objects(remote, "production/serving.yml")] == ["Deployment"]
    assert held(remote, "README.md") == "ours"


def test_a_run_that_was_killed_leaves_nothing_behind(remote: Path, folder: Path) -> None:
    gitops.publish(folder, wanted())
    (folder / "production/serving.yml").write_text("half")
    (folder / "production/left-over.yml").write_text("half")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "never pushed")
    assert not gitops.publish(folder, wanted())["changed"]
    assert commits(remote) == ["production: serving"]


def test_a_branch_that_is_gone_is_not_begun_anew_by_itself(remote: Path, folder: Path) -> None:
    gitops.publish(folder, wanted())
    git(remote, "update-ref", "-d", "refs/heads/main")
    with pytest.raises(gitops.Refused, match="has no branch main any more"):
        gitops.publish(folder, wanted())


@pytest.mark.parametrize(
    ("address", "said"), [("", "does not say where"), ("https://anna:secret@git.example/x", "holds a password")]
)
def test_a_remote_that_cannot_be(folder: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str) -> None:
    monkeypatch.setenv("DRIFTLOOP_GITOPS_REMOTE", address)
    with pytest.raises(gitops.Refused, match=said) as refused:
        gitops.publish(folder, wanted())
    assert "secret" not in str(refused.value)


def test_a_remote_that_does_not_answer_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLOOP_GITOPS_REMOTE", f"http://127.0.0.1:{free_port()}/platform.git")
    with pytest.raises(gitops.Refused, match=r"platform\.git"):
        gitops.publish(folder, wanted())


def test_a_folder_is_made_where_it_is_the_remote(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLOOP_GITOPS_REMOTE", (tmp_path / "made.git").as_uri())
    assert gitops.holds(folder, "production")["components"] == []
    assert gitops.publish(folder, wanted())["changed"]
    assert commits(tmp_path / "made.git") == ["production: serving"]


@pytest.mark.parametrize("kind", ["Secret", "Namespace", "Role", "ClusterRoleBinding", "ServiceAccount"])
def test_what_gives_rights_or_is_secret_is_refused(remote: Path, folder: Path, kind: str) -> None:
    with pytest.raises(gitops.Refused, match=f"serving: {kind} x: Git holds no such kind"):
        gitops.publish(folder, wanted(serving=[of(kind, "x")]))
    assert git(remote, "for-each-ref") == ""


@pytest.mark.parametrize("text", ["url=postgres://a:p4ssw0rd-of-postgres@x", "cDRzc3cwcmQtb2YtcG9zdGdyZXM="])
def test_a_password_is_refused_wherever_it_stands_and_not_named(remote: Path, folder: Path, text: str) -> None:
    with pytest.raises(gitops.Refused, match="one of the platform's secrets") as refused:
        gitops.publish(folder, wanted(serving=[of("ConfigMap", "x", data={"key": text})]))
    assert "p4ssw0rd" not in str(refused.value)
    assert git(remote, "for-each-ref") == ""


@given(
    st.sampled_from(["Deployment", "StatefulSet"]), st.integers(0, 9), st.dictionaries(st.text(max_size=5), st.text())
)
def test_replicas_are_nobodys_and_the_rest_stays(kind: str, replicas: int, spec: dict[str, str]) -> None:
    spec.pop("replicas", None)
    manifest = of(kind, "x", spec={**spec, "replicas": replicas})
    assert gitops.fit("serving", manifest, KINDS)["spec"] == spec
    assert manifest["spec"]["replicas"] == replicas


def test_volumes_and_settings_outlive_their_manifests_and_jobs_are_made_anew() -> None:
    def annotations(part: str, kind: str) -> dict[str, str]:
        found: dict[str, str] = gitops.fit(part, of(kind, "x"), KINDS)["metadata"].get("annotations", {})
        return found

    prune, force = "kustomize.toolkit.fluxcd.io/prune", "kustomize.toolkit.fluxcd.io/force"
    assert annotations("serving", "PersistentVolumeClaim") == {prune: "disabled"}
    assert annotations("namespace-serving", "ConfigMap") == {prune: "disabled"}
    assert annotations("serving", "ConfigMap") == {}
    assert annotations("minio", "Job") == {force: "enabled"}


# --- promotion ------------------------------------------------------------------------------------------------------


def pipeline(tag: str) -> dict[str, Any]:
    return of("ConfigMap", "pipeline", data={"job.yml": f"image: localhost/driftloop/server:{tag}\nargs: [x]\n"})


def test_images_are_promoted_by_one_commit_that_names_their_digests(remote: Path, folder: Path) -> None:
    gitops.publish(folder, wanted("production", serving=[deployment(), pipeline("old")]))
    gitops.publish(folder, wanted("staging", tag="new"))
    before = list(objects(remote, "production/serving.yml"))
    assert gitops.promote(folder, "staging", "production")["promoted"] == ["server"]
    after = list(objects(remote, "production/serving.yml"))
    assert json.dumps(after) == json.dumps(before).replace("server:old", "server:new")
    assert "server:old" not in held(remote, "production/serving.yml")
    assert gitops.holds(folder, "production")["images"]["server"]["digest"] == DIGEST["new"]
    body = git(remote, "log", "-1", "--format=%B", "main")
    assert body.startswith("production: take server from staging\n")
    assert f"server {DIGEST['new']}" in body
    # Nothing is promoted twice.
    revision = git(remote, "rev-parse", "main")
    assert gitops.promote(folder, "staging", "production") == {"changed": False, "promoted": [], "revision": revision}


@pytest.mark.usefixtures("remote")
def test_the_playbooks_and_a_promotion_agree(folder: Path) -> None:
    gitops.publish(folder, wanted("production"))
    gitops.publish(folder, wanted("staging", tag="new"))
    gitops.promote(folder, "staging", "production")
    assert not gitops.publish(folder, wanted("production", tag="new"))["changed"]


@pytest.mark.usefixtures("remote")
def test_what_never_ran_is_not_promoted(folder: Path) -> None:
    gitops.publish(folder, wanted("production"))
    untried = wanted("staging", tag="new")
    untried["images"]["server"]["digest"] = ""
    gitops.publish(folder, untried)
    with pytest.raises(gitops.Refused, match="no digest of server"):
        gitops.promote(folder, "staging", "production")
    with pytest.raises(gitops.Refused, match=r"elsewhere: .* says nothing of its images"):
        gitops.promote(folder, "elsewhere", "production")


# --- and back -------------------------------------------------------------------------------------------------------


def entry(manager: str, operation: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": fields}


def test_what_flux_applied_is_ansibles_without_a_mark() -> None:
    marks = {"kustomize.toolkit.fluxcd.io/name": "production", "kustomize.toolkit.fluxcd.io/namespace": "gitops"}
    spec = entry("kustomize-controller", "Apply", {"f:spec": {}})
    scaler = entry("kube-controller-manager", "Update", {"f:status": {}})
    flux = deployment()
    flux["metadata"] |= {
        "labels": {"app": "x", **marks},
        "annotations": {"kustomize.toolkit.fluxcd.io/prune": "disabled"},
        "managedFields": [spec, scaler],
    }
    given_back = gitops.back(flux)
    assert given_back["spec"] == flux["spec"]
    assert given_back["metadata"] == {
        "name": "server",
        "namespace": "serving",
        "labels": {"app": "x"},
        "managedFields": [{**spec, "manager": "driftloop"}, scaler],
    }


def test_who_applied_it_already_is_its_only_owner() -> None:
    ours = entry("driftloop", "Apply", {"f:spec": {}})
    flux = deployment()
    flux["metadata"]["managedFields"] = [ours, entry("kustomize-controller", "Apply", {"f:spec": {}, "f:x": {}})]
    assert gitops.back(flux)["metadata"]["managedFields"] == [ours]


# --- what the platform gives to Git ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return render(
        tmp_path_factory.mktemp("gitops"),
        gitops_remote="https://git.example:8443/platform.git",
        gitops_reader={"ca": "x"},
    )


@pytest.fixture(scope="module")
def given_kinds() -> dict[str, list[str]]:
    inventory = yaml.safe_load((ROOT / "inventory/group_vars/all/components.yml").read_text())
    found: dict[str, list[str]] = inventory["gitops_kinds"]
    return found


@skip_without_ansible
def test_every_kind_is_either_gits_or_the_playbooks(
    manifests: list[Manifest], given_kinds: dict[str, list[str]]
) -> None:
    assert not given_kinds.keys() & KEPT
    others = {each["kind"] for each in manifests} - given_kinds.keys() - KEPT
    assert others == {"GitRepository", "Kustomization"}, "new kinds belong into gitops_kinds or KEPT"


@skip_without_ansible
def test_git_holds_no_secret_and_no_replicas(
    manifests: list[Manifest], given_kinds: dict[str, list[str]], remote: Path, folder: Path
) -> None:
    names = yaml.safe_load((ROOT / "inventory/group_vars/all/defaults.yml").read_text())["secret_names"]
    given_to_git = [
        each for each in manifests if each["kind"] in given_kinds and each["metadata"]["namespace"] not in NOT_IN_GIT
    ]
    assert len(given_to_git) > 60
    publication = wanted(platform=given_to_git)
    # What the tests render as the secrets' values.
    gitops.publish(
        folder, {**publication, "kinds": list(given_kinds), "secrets": [f"made-up {name}" for name in names]}
    )
    held_by_git = list(objects(remote, "production/platform.yml"))
    assert len(held_by_git) == len(given_to_git)
    assert sum(each["kind"] in WORKLOADS for each in held_by_git) > 12
    for each in held_by_git:
        assert "replicas" not in each.get("spec", {}), each["metadata"]


@skip_without_ansible
def test_whom_flux_acts_as_may_change_what_git_holds_in_its_namespaces_alone(
    manifests: list[Manifest], given_kinds: dict[str, list[str]]
) -> None:
    roles = [each for each in manifests if each["kind"] == "Role" and each["metadata"]["name"] == "gitops-production"]
    assert {each["metadata"]["namespace"] for each in roles} == {"storage", "mlflow", "monitoring", "serving"}
    for role in roles:
        may = {(group, name) for rule in role["rules"] for group in rule["apiGroups"] for name in rule["resources"]}
        assert may == {tuple(each) for each in given_kinds.values()}
    cluster = [each for each in manifests if each["kind"] == "ClusterRole" and "gitops" in str(each)]
    assert cluster == []
    [own] = [
        each["rules"]
        for each in manifests
        if each["kind"] == "Role" and each["metadata"]["name"] == "kustomize-controller"
    ]
    assert [rule for rule in own if "impersonate" in rule["verbs"]] == [
        {"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["production"], "verbs": ["impersonate"]}
    ]
    assert [rule["verbs"] for rule in own if "secrets" in rule["resources"]] == [["list", "watch"]]


@skip_without_ansible
def test_flux_reaches_gits_server_and_takes_nothing_down_as_it_goes(manifests: list[Manifest]) -> None:
    [policy] = [e for e in manifests if e["kind"] == "NetworkPolicy" and e["metadata"]["name"] == "source-controller"]
    assert {port["port"] for port in policy["spec"]["egress"][0]["ports"]} == {443, 6443, 8443}
    [kustomization] = [each["spec"] for each in manifests if each["kind"] == "Kustomization"]
    assert kustomization["deletionPolicy"] == "Orphan"
    assert kustomization["serviceAccountName"] == "production"
    [source] = [each["spec"] for each in manifests if each["kind"] == "GitRepository"]
    assert source["secretRef"] == {"name": "reader"}
    [applies] = [pod for name, _, _, pod in pods(manifests) if name == "kustomize-controller"]
    assert "--override-manager=driftloop" in applies["containers"][0]["args"]
