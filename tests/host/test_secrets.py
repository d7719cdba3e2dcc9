"""scripts/vault-password.sh and scripts/generate_secrets.py as a playbook calls them."""

import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PYTHON = REPOSITORY / ".venv-ansible" / "bin" / "python"
needs_ansible = pytest.mark.skipif(not PYTHON.exists(), reason="Ansible is not installed: scripts/setup-ansible.sh")


def key(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [REPOSITORY / "scripts" / "vault-password.sh"],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "DRIFTLOOP_CONFIG_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def generate(folder: Path, vault_key: str, *names: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [PYTHON, REPOSITORY / "scripts" / "generate_secrets.py", folder, *names],
        input=vault_key,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_first_call_makes_a_key_that_only_its_owner_reads_and_the_next_gives_the_same(tmp_path: Path) -> None:
    first = key(tmp_path / "config")
    assert first.returncode == 0, first.stderr
    assert len(first.stdout) >= 40
    assert key(tmp_path / "config").stdout == first.stdout
    assert (tmp_path / "config" / "vault-key").stat().st_mode & 0o777 == 0o600


def test_two_first_calls_at_once_agree_on_one_key(tmp_path: Path) -> None:
    command = [REPOSITORY / "scripts" / "vault-password.sh"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "DRIFTLOOP_CONFIG_DIR": str(tmp_path)}
    calls = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert len({call.communicate()[0] for call in calls}) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vault-key"]


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    key(tmp_path)
    (tmp_path / "vault-key").chmod(0o644)
    refused = key(tmp_path)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "chmod 600" in refused.stderr


def test_no_new_key_is_made_while_secrets_of_the_old_one_are_there(tmp_path: Path) -> None:
    (tmp_path / "secrets-001.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n")
    refused = key(tmp_path)
    assert refused.returncode == 1
    assert "restore the key" in refused.stderr


@needs_ansible
def test_a_name_that_is_added_later_gets_its_secret_and_no_file_is_rewritten(tmp_path: Path) -> None:
    vault_key = "k" * 40
    made = generate(tmp_path, vault_key, "first", "second")
    assert (made.returncode, made.stdout.split()) == (0, ["first", "second"]), made.stderr
    before = (tmp_path / "secrets-001.yml").read_bytes()
    assert before.startswith(b"$ANSIBLE_VAULT;1.1;AES256")
    assert generate(tmp_path, vault_key, "first", "second").stdout.split() == []
    assert generate(tmp_path, vault_key, "first", "second", "third").stdout.split() == ["third"]
    assert (tmp_path / "secrets-001.yml").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secrets-001.yml", "secrets-002.yml"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


@needs_ansible
def test_another_key_or_a_plain_file_stops_everything(tmp_path: Path) -> None:
    generate(tmp_path, "k" * 40, "first")
    wrong = generate(tmp_path, "x" * 40, "first", "second")
    assert wrong.returncode != 0
    assert "does not open" in wrong.stderr
    (tmp_path / "secrets-002.yml").write_text("secret_second: plain\n")
    plain = generate(tmp_path, "k" * 40, "first")
    assert plain.returncode != 0
    assert "not encrypted" in plain.stderr
