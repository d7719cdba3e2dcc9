#!/usr/bin/env python3
"""Makes the secrets that are missing, encrypted for ansible-vault; called by playbooks/tasks/secrets.yml.

Usage: generate_secrets.py [--check] FOLDER NAME...   with the vault's key on standard input

Each run that finds a name without a secret writes one new file FOLDER/secrets-NNN.yml with a variable `secret_NAME`
for every missing name; files that exist are read and never rewritten. Values pass through no argument, no plain file
and no output. Prints the names that were made (or, with --check, would be), one a line.
"""

import os
import re
import secrets
import string
import sys
from pathlib import Path

import yaml
from ansible.constants import DEFAULT_VAULT_ID_MATCH
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret

LENGTH = 40
ALPHABET = string.ascii_letters + string.digits


def known_names(folder: Path, vault: VaultLib) -> set[str]:
    """Names that have a secret already; exits where a file is not encrypted or the key does not open it."""
    names: set[str] = set()
    for path in sorted(folder.glob("secrets-*.yml")):
        content = path.read_bytes()
        if not content.startswith(b"$ANSIBLE_VAULT;"):
            sys.exit(f"generate_secrets: {path} is not encrypted: encrypt it with `ansible-vault encrypt {path}`")
        try:
            variables = yaml.safe_load(vault.decrypt(content)) or {}
        except AnsibleError:
            sys.exit(f"generate_secrets: the vault key does not open {path}: restore the key that made it")
        names |= {name.removeprefix("secret_") for name in variables}
    return names


def write_new(folder: Path, vault: VaultLib, secret: VaultSecret, names: list[str]) -> Path:
    """Writes one new encrypted file with a secret for each of the names, 0600, complete or not at all."""
    values = {f"secret_{name}": "".join(secrets.choice(ALPHABET) for _ in range(LENGTH)) for name in names}
    number = 1 + max((int(path.stem[8:]) for path in folder.glob("secrets-[0-9][0-9][0-9].yml")), default=0)
    path = folder / f"secrets-{number:03d}.yml"
    draft = folder / f".{path.name}.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(vault.encrypt(yaml.safe_dump(values).encode(), secret=secret))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink()
    return path


def main(arguments: list[str]) -> None:
    check = "--check" in arguments
    folder_name, *names = [argument for argument in arguments if argument != "--check"]
    wrong = [name for name in names if not re.fullmatch(r"[a-z][a-z0-9_]*", name)]
    if wrong:
        sys.exit(f"generate_secrets: not a variable name: {', '.join(wrong)}; use letters, digits and _")
    secret = VaultSecret(sys.stdin.buffer.read().strip())
    vault = VaultLib([(DEFAULT_VAULT_ID_MATCH, secret)])
    folder = Path(folder_name)
    if not check:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = known_names(folder, vault)
    missing = [name for name in names if name not in known]
    if missing and not check:
        write_new(folder, vault, secret, missing)
    print("\n".join(missing))


if __name__ == "__main__":
    main(sys.argv[1:])
