"""Files with secrets, and what ends: who may read them, tokens, certificates."""

import os
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from driftloop.access import audit
from driftloop.access.people import FILE as PEOPLE
from driftloop.access.tokens import FILE as TOKENS
from driftloop.access.tokens import Tokens
from driftloop.embedded.doctor.findings import Finding, fine, problem, warning
from driftloop.settings import OWN_TOKEN, Settings

SOON_S = 14 * 86_400.0
"""What ends within this time is told of."""


def modes(settings: Settings) -> Iterator[Finding]:
    """Whether others than their owner can read or change files with secrets."""
    folder = settings.access_folder
    kept = [settings.token_file or settings.state_dir / OWN_TOKEN]
    kept += [folder / name for name in (TOKENS, PEOPLE, audit.FILE)]
    kept += [
        path
        for path in (
            settings.tls_key, settings.notify_file, settings.units_password_file, settings.units_stream_password_file,
        )
        if path is not None
    ]  # fmt: skip
    private = 0
    for path in kept:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            if path != settings.state_dir / OWN_TOKEN and path.parent != folder:
                what = "a setting names this file, and it is not there"
                yield problem("credentials", what, str(path), "write it, or unset the setting")
            continue
        others = [who for who, bits in (("its group", 0o070), ("everybody", 0o007)) if mode & bits]
        if mode & 0o007:
            what = f"everybody on this machine may read or change it (mode {mode:o})"
            yield problem("credentials", what, str(path), f"chmod 600 {path}")
        elif others:
            what = f"its group may read or change it (mode {mode:o})"
            yield warning("credentials", what, str(path), f"chmod 600 {path}, unless that is how secrets are mounted")
        elif not os.access(path, os.R_OK):
            yield problem("credentials", "this user cannot read it", str(path), "let its owner run this, or chown it")
        else:
            private += 1
    yield fine("credentials", f"{private} files with secrets are their owner's alone", str(folder))


def tokens(settings: Settings, now: float | None = None) -> Iterator[Finding]:
    """Named tokens that have ended or will soon."""
    here = time.time() if now is None else now
    for one in Tokens(settings.access_folder).list():
        if one["expires"] is None:
            continue
        left = datetime.fromisoformat(str(one["expires"])).timestamp() - here
        if left < SOON_S:
            what = f"token {one['name']} {_ends(left)}"
            yield warning("credentials", what, str(settings.access_folder), f"driftloop tokens rotate {one['name']}")


def certificates(settings: Settings) -> Iterator[Finding]:
    """When the certificates of settings end, and whether certificate and key belong together."""
    if settings.tls_cert is None:
        return
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    here, where = time.time(), str(settings.tls_cert)
    renew = "renew it; running processes take the new one with the next connection"
    try:
        chain = x509.load_pem_x509_certificates(settings.tls_cert.read_bytes())
    except ValueError as error:
        yield problem("certificates", f"is no certificate in PEM: {error}", where, "write the chain as PEM")
        return
    for one in chain:
        left = one.not_valid_after_utc.timestamp() - here
        name = one.subject.rfc4514_string() or f"number {one.serial_number}"
        if left < 0:
            yield problem("certificates", f"{name} {_ends(left)}", where, renew)
        elif left < SOON_S:
            yield warning("certificates", f"{name} {_ends(left)}", where, renew)
        elif one.not_valid_before_utc.timestamp() > here:
            yield problem("certificates", f"{name} does not count yet", where, "is this machine's clock right?")
        else:
            yield fine("certificates", f"{name} counts until {one.not_valid_after_utc:%Y-%m-%d}", where)
    if settings.tls_key is None:
        yield problem("certificates", "there is a certificate and no key", where, "set DRIFTLOOP_TLS_KEY")
        return
    try:
        key = load_pem_private_key(settings.tls_key.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        yield problem("certificates", f"is no key in PEM: {error}", str(settings.tls_key), "write the key as PEM")
        return
    if chain and key.public_key() != chain[0].public_key():
        what = "the key is another certificate's"
        yield problem("certificates", what, str(settings.tls_key), "write certificate and key of one pair")


def _ends(left_s: float) -> str:
    days = abs(left_s) / 86_400
    said = f"{days:.0f} days" if days >= 2 else f"{abs(left_s) / 3600:.0f} hours"
    when = datetime.fromtimestamp(time.time() + left_s, UTC)
    return f"ended {said} ago" if left_s < 0 else f"ends in {said} ({when:%Y-%m-%d})"
