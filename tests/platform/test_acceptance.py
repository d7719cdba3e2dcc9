"""`make acceptance`, rehearsed: the real playbook against a double of Hetzner's API.

All other steps run against doubles of ssh, ansible-playbook, kubectl and the suite, which a test lets fail at will.
"""

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import acceptance
import acceptance_steps
import pytest
from acceptance_steps import Place
from hetzner_double import TOKEN, Cloud, serving
from rendered import ANSIBLE, skip_without_ansible

SSH = """#!/bin/bash
echo "ssh $*" >>"$DOUBLES/asked"
for argument in "$@"; do
  case $argument in
    *os-release*) printf 'Warning: added\\n%s\\n6.8.0\\n4\\n15900\\n' "${DOUBLE_SYSTEM:-Ubuntu 24.04.3 LTS}"; exit ;;
    *k3s.yaml) echo "server: https://127.0.0.1:6443"; exit ;;
    127.0.0.1:*:127.0.0.1:6443) exec python3 -c '
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1].split(":")[1]))) as door:
    while True: door.accept()[0].close()' "$argument" ;;
  esac
done
"""
ANSIBLE_DOUBLE = """#!/bin/bash
name=$(printf '%s\\n' "$@" | grep -o 'playbooks/[a-z0-9-]*' | head -1)
echo "ansible $name in $PWD token=${HCLOUD_TOKEN:+set} $*" >>"$DOUBLES/asked"
[[ ! -e $DOUBLES/fail-${name##*/} ]] || { echo "fatal: it does not work"; exit 2; }
if [[ $name == playbooks/hetzner ]]; then echo "vm: {ansible_host: 192.0.2.7, ansible_user: root}"; exit; fi
if [[ $name == *bootstrap* ]]; then
  folder=$(printf '%s\\n' "$@" | sed -n 's/^observability_dir=//p'); mkdir -p "$folder"
  printf '#!/bin/sh\\necho "forward $1" >>"$DOUBLES/asked"\\n' >"$folder/port-forward-all.sh"
  chmod +x "$folder/port-forward-all.sh"
fi
changed=3; [[ $(grep -c "$name in" "$DOUBLES/asked") == 1 ]] || changed=$(cat "$DOUBLES/changed-again")
printf 'PLAY RECAP *****\\nvm              : ok=12   changed=%s    unreachable=0    failed=0    skipped=1\\n' "$changed"
"""
DRIFTLOOP = """#!/bin/bash
echo "driftloop $* url=$DRIFTLOOP_SERVER_URL token-file=$(stat -c %a "$DRIFTLOOP_TOKEN_FILE")" >>"$DOUBLES/asked"
folder=$(printf '%s\\n' "$@" | grep -A1 -x -- --results | tail -1); mkdir -p "$folder"
cp "$DOUBLES/metrics.json" "$folder/recovery_metrics.json"
"""
METRICS = {
    "recovered": True, "requests_failed": 0, "requests_total": 812, "detection_s": 9.1, "core_recovery_s": 48.2,
    "total_s": 77.5, "data_source": "simulator",
}  # fmt: skip


@pytest.fixture
def doubles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs that the steps call, and what they were asked, in the file `asked`."""
    folder = tmp_path / "doubles"
    (folder / "root" / "tests").mkdir(parents=True)
    suite = f'#!/bin/sh\necho "suite $KUBECONFIG" >>"$DOUBLES/asked"\n{{ cat "{folder}/suite"; }}\n'
    programs = {
        "ssh": SSH, "ansible-playbook": ANSIBLE_DOUBLE, "driftloop": DRIFTLOOP, "root/tests/run-all.sh": suite,
        "kubectl": '#!/bin/sh\necho "kubectl $*" >>"$DOUBLES/asked"\nprintf the-retrainers-token\n',
        "jq": "#!/bin/sh\n", "curl": "#!/bin/sh\n",
    }  # fmt: skip
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "suite").write_text("ok    a fact\n150 passed, 0 failed, 2 skipped\n")
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    (folder / "changed-again").write_text("0")
    (folder / "asked").write_text("")
    monkeypatch.setenv("DOUBLES", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(acceptance_steps, "ANSIBLE", folder / "ansible-playbook")
    monkeypatch.setattr(acceptance_steps, "DRIFTLOOP", folder / "driftloop")
    monkeypatch.setattr(acceptance_steps, "ROOT", folder / "root")
    return folder


def asked(doubles: Path) -> list[str]:
    return (doubles / "asked").read_text().splitlines()


def accept(tmp_path: Path, *more: str) -> int:
    return acceptance.main(["--machine", "ubuntu@192.0.2.1", "--folder", str(tmp_path / "run"), *more])


def report(tmp_path: Path) -> dict[str, dict[str, object]]:
    told = json.loads((tmp_path / "run" / "report.json").read_text())
    return {each["name"]: each for each in told["steps"]} | {"": told}


def test_everything_is_done_in_order_and_reported(tmp_path: Path, doubles: Path) -> None:
    assert accept(tmp_path) == 0
    told = report(tmp_path)
    assert told[""]["accepted"] is True
    outcomes = [each["outcome"] for name, each in told.items() if name]
    assert outcomes == ["left out", "ok", "ok", "left out", "ok", "ok", "ok", "ok", "ok", "ok"]
    assert told["reach"]["showed"] == {
        "system": "Ubuntu 24.04.3 LTS", "kernel": "6.8.0", "cores": 4, "memory_mb": 15900,
    }  # fmt: skip
    assert told["unchanged"]["showed"] == {"ok": 12, "changed": 0, "failed": 0}
    assert told["suite"]["showed"] == {"passed": 150, "failed": 0, "skipped": 2}
    assert told["loop"]["showed"]["core_recovery_s"] == 48.2  # type: ignore[index]
    plays = [line.split()[1] for line in asked(doubles) if line.startswith("ansible ")]
    assert plays == [f"playbooks/{name}" for name in ("site", "site", "00-bootstrap-scripts", "backup", "restore")]
    text = (tmp_path / "run" / "report.md").read_text()
    assert "Accepted: commit" in text
    assert "| ask every fact about the platform | ok |" in text
    assert "150" in text
    assert [line for line in asked(doubles) if line.startswith("forward ")] == ["forward start", "forward stop"]
    assert "token-file=600" in next(line for line in asked(doubles) if line.startswith("driftloop "))
    # What is done is not done again.
    before = asked(doubles)
    assert accept(tmp_path) == 0
    assert asked(doubles) == before


def test_a_failure_is_told_and_the_next_run_goes_on_there(
    tmp_path: Path, doubles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (doubles / "fail-backup").touch()
    assert accept(tmp_path) == 1
    assert "backup failed: ansible-playbook ended with 2: fatal: it does not work" in capsys.readouterr().err
    told = report(tmp_path)
    assert [told[name]["outcome"] for name in ("loop", "backup", "restore")] == ["ok", "failed", "not yet"]
    assert told[""]["accepted"] is False
    assert "Not accepted" in (tmp_path / "run" / "report.md").read_text()
    (doubles / "fail-backup").unlink()
    (doubles / "asked").write_text("")
    assert accept(tmp_path) == 0
    plays = [line.split()[1] for line in asked(doubles) if line.startswith("ansible ")]
    assert plays == ["playbooks/backup", "playbooks/restore"]


def test_what_must_not_be_is_no_success(tmp_path: Path, doubles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (doubles / "changed-again").write_text("2")
    assert accept(tmp_path) == 1
    assert "2 tasks changed something the second time" in capsys.readouterr().err
    (doubles / "changed-again").write_text("0")
    (doubles / "suite").write_text("it was cut off\n")
    assert accept(tmp_path) == 1
    assert "the suite did not say what it found" in capsys.readouterr().err
    (doubles / "suite").write_text("1 passed, 0 failed, 0 skipped\n")
    (doubles / "metrics.json").write_text(json.dumps(METRICS | {"requests_failed": 3}))
    assert accept(tmp_path) == 1
    assert "recovered: True, 3 requests failed" in capsys.readouterr().err
    # The tunnels are closed all the same.
    assert asked(doubles)[-1] == "forward stop"
    (doubles / "metrics.json").write_text(json.dumps(METRICS))
    assert accept(tmp_path) == 0
    (doubles / "changed-again").write_text("1")
    assert accept(tmp_path, "--again", "unchanged") == 1


def test_a_machine_that_is_no_ubuntu_is_refused(
    tmp_path: Path, doubles: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOUBLE_SYSTEM", "Plan 9")
    assert accept(tmp_path) == 1
    assert "runs Plan 9: the platform is for Ubuntu" in capsys.readouterr().err
    assert not [line for line in asked(doubles) if line.startswith("ansible ")]


def test_an_older_version_is_installed_with_its_own_variables_first(
    tmp_path: Path, doubles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = doubles / "root"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.test", "-C", str(root)]
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "old"], check=True)
    subprocess.run([*git, "tag", "v0.1.0"], check=True)
    monkeypatch.setattr(acceptance_steps.play, "__kwdefaults__", {"folder": root})
    monkeypatch.setattr(acceptance_steps.execute, "__kwdefaults__", {"folder": root})
    assert accept(tmp_path, "--from", "v0.1.0") == 0
    run = tmp_path / "run"
    places = [line.split(" in ")[1].split()[0] for line in asked(doubles) if line.startswith("ansible playbooks/site")]
    assert places == [str(run / "old"), str(root), str(root)]
    assert (run / "inventory-old" / "group_vars").readlink() == run / "old" / "inventory" / "group_vars"
    assert not (run / "old").exists(), "the checkout of the old version is left"
    assert report(tmp_path)["install"]["showed"]["version"] == "v0.1.0"  # type: ignore[index]


def test_a_folder_of_another_run_is_refused(tmp_path: Path, doubles: Path) -> None:
    assert accept(tmp_path) == 0
    with pytest.raises(SystemExit, match="holds a run with other arguments"):
        accept(tmp_path, "--from", "v0.1.0")
    assert asked(doubles)


def test_a_rented_machine_is_found_again_and_removed(
    tmp_path: Path, doubles: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--hetzner", "--folder", str(tmp_path / "run")]
    monkeypatch.delenv("HCLOUD_TOKEN", raising=False)
    assert acceptance.main(run) == 2
    assert "HCLOUD_TOKEN is not set" in capsys.readouterr().err
    monkeypatch.setenv("HCLOUD_TOKEN", TOKEN)
    (doubles / "fail-hetzner").touch()
    assert acceptance.main(run) == 1
    rented = json.loads((tmp_path / "run" / "state.json").read_text())["place"]["rented"]
    assert f"{rented} is still there: --clean-up removes it" in capsys.readouterr().out
    (doubles / "fail-hetzner").unlink()
    assert acceptance.main(run) == 0
    made, removed = [line for line in asked(doubles) if "hetzner_name" in line][1:]
    assert f"hetzner_name={rented}" in made
    assert f"hetzner_state=absent -e hetzner_name={rented}" in removed
    assert "ubuntu@" not in "".join(asked(doubles))
    assert any("root@192.0.2.7" in line for line in asked(doubles))
    # The token is in the environment of what needs it, and nowhere else.
    assert "token=set" in made
    written = [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN in path.read_text(errors="replace")]
    assert written == []


@contextlib.contextmanager
def open_door() -> Iterator[int]:
    """A port where something answers, as the rented machine's SSH server does."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        yield door.getsockname()[1]


@skip_without_ansible
def test_the_playbook_rents_and_removes_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real playbook and Hetzner's own modules, against a double of the API."""
    with open_door() as port:
        cloud = Cloud("127.0.0.1")
        with serving(cloud) as address:
            monkeypatch.setenv("HCLOUD_ENDPOINT", address)
            monkeypatch.setenv("HCLOUD_TOKEN", TOKEN)
            rented = acceptance_steps._rented
            monkeypatch.setattr(acceptance_steps, "_rented", lambda place: [*rented(place), "-e", f"ssh_port={port}"])
            monkeypatch.setattr(acceptance_steps, "ANSIBLE", ANSIBLE)
            place = Place(tmp_path, None, None, None, {"rented": "driftloop-acceptance-1"})
            assert acceptance_steps.rent(place) == {"address": "127.0.0.1"}
            assert place.login == "root@127.0.0.1"
            [server] = cloud.kept["servers"]
            [wall] = cloud.kept["firewalls"]
            assert server["name"] == wall["name"] == "driftloop-acceptance-1"
            assert [each["port"] for each in wall["rules"]] == [str(port)]
            assert cloud.kept["ssh_keys"][0]["public_key"].startswith("ssh-ed25519 ")
            assert acceptance_steps.rent(place) == {"address": "127.0.0.1"}
            assert len(cloud.kept["servers"]) == 1, "a second run rents a second machine"
            acceptance_steps.clean_up(place)
            assert cloud.kept == {"ssh_keys": [], "firewalls": [], "servers": []}
            monkeypatch.setenv("HCLOUD_TOKEN", "x" * 64)
            with pytest.raises(acceptance_steps.FailedError):
                acceptance_steps.rent(place)
            assert cloud.denied
    logs = "".join(path.read_text(errors="replace") for path in tmp_path.glob("*.log"))
    assert TOKEN not in logs
