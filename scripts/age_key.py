#!/usr/bin/env python3
"""Makes the key that opens backups, where there is none yet, and prints whom age encrypts for.

Usage: age_key.py [--check] FILE    with --check nothing is made, and nothing printed where there is no key yet

The file is what age-keygen writes: an X25519 key. Says on standard error that it made one.
"""

import os
import secrets
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PREFIX = "age-secret-key-"
ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def bech32(prefix: str, content: bytes) -> str:
    """BIP 173, as age writes keys."""
    bits = int.from_bytes(content) << (-len(content) * 8 % 5)
    length = -(-len(content) * 8 // 5)
    data = [bits >> 5 * (length - 1 - place) & 31 for place in range(length)]
    spread = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    total = _polymod([*spread, *data, *[0] * 6]) ^ 1
    sums = [total >> 5 * (5 - place) & 31 for place in range(6)]
    return f"{prefix}1{''.join(ALPHABET[value] for value in data + sums)}"


def _polymod(values: list[int]) -> int:
    total = 1
    for value in values:
        top = total >> 25
        total = (total & 0x1FFFFFF) << 5 ^ value
        for place in range(5):
            total ^= GENERATOR[place] if top >> place & 1 else 0
    return total


def content_of(key: str) -> bytes:
    """The 32 bytes of a key that was written by `bech32`; refuses any other text."""
    letters = key.lower().removeprefix(f"{PREFIX}1")
    bits = 0
    for letter in letters[:-6]:
        bits = bits << 5 | ALPHABET.index(letter)
    content = (bits >> 4).to_bytes(32)
    if bech32(PREFIX, content).upper() != key:
        raise ValueError("its digest is another")
    return content


def recipient(content: bytes) -> str:
    """Whom age encrypts for, so that the key opens it."""
    public = X25519PrivateKey.from_private_bytes(content).public_key()
    return bech32("age", public.public_bytes(Encoding.Raw, PublicFormat.Raw))


def main(arguments: list[str]) -> None:
    check = arguments[:1] == ["--check"]
    paths = arguments[check:]
    if len(paths) != 1:
        sys.exit(__doc__)
    path = Path(paths[0])
    if not path.exists():
        if check:
            return
        content = secrets.token_bytes(32)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"# public key: {recipient(content)}\n{bech32(PREFIX, content).upper()}\n")
        print(f"age_key: made {path}: keep a copy of it where the backups are not", file=sys.stderr)
    try:
        [key] = [line for line in path.read_text(encoding="utf-8").split("\n") if line and not line.startswith("#")]
        print(recipient(content_of(key)))
    except (ValueError, OverflowError) as error:
        sys.exit(f"age_key: {path} is no key of age: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
