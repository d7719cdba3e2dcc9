"""The environment of the processes that driftloop starts: chosen, so that variables of other programs reach none.

`WEB_CONCURRENCY`, `MLFLOW_STATIC_PREFIX` or `GUNICORN_CMD_ARGS` are read by libraries that are in use here, and were
set for something else. What is passed on is therefore a list of families, each for a reason; and `forget_others` takes
the rest of what those libraries read out of a process that a person started.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from driftloop.settings import Settings

_FAMILIES = (
    # Where programs, packages and libraries are found, and where a user may write.
    r"PATH|HOME|USER|LOGNAME|TMPDIR|TEMP|TMP|XDG_(CACHE|CONFIG|DATA|RUNTIME)_(HOME|DIR)|MPLCONFIGDIR",
    r"VIRTUAL_ENV|PYTHON(PATH|HOME|USERBASE|NOUSERSITE|DONTWRITEBYTECODE|PYCACHEPREFIX|FAULTHANDLER)",
    r"(LD|DYLD)_LIBRARY_PATH|LD_PRELOAD|DYLD_FALLBACK_LIBRARY_PATH",
    # Language and time zone.
    r"LANG|LANGUAGE|LC_\w+|TZ|TZDIR",
    # Processors and the threads of numerical libraries.
    r"CUDA_\w+|NVIDIA_\w+|(OMP|MKL|OPENBLAS)_\w+",
    # Whom to trust, and the store of an archive.
    r"SSL_CERT_(FILE|DIR)|(REQUESTS|CURL|AWS)_CA_BUNDLE|AWS_\w+",
    # What is driftloop's own.
    r"DRIFTLOOP_\w+|CMAPSS_DIR|ENABLE_RETRAINING",
)
_OWN = re.compile("|".join(_FAMILIES))
_PROXIES = re.compile(r"(https?|all|no)_proxy", re.IGNORECASE)
_NO_PROXY = ("no_proxy", "NO_PROXY")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
"""Where libraries that bring a list of authorities of their own look for another one."""
_ALWAYS = {
    "PYTHONUNBUFFERED": "1",
    # Whatever the language of the machine: logs hold names of every alphabet.
    "PYTHONUTF8": "1",
    # Else Python looks for its own modules in the folder that a person happens to be in first.
    "PYTHONSAFEPATH": "1",
    # MLflow counts its users by default.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
_OTHERS = re.compile(
    r"WEB_CONCURRENCY|FORWARDED_ALLOW_IPS|(UVICORN|GUNICORN|MLFLOW)_\w+|prometheus_multiproc_dir", re.IGNORECASE
)


def chosen(settings: Settings | None = None, source: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a process that driftloop starts: what of `source` is meant for it, and `settings`.

    `source` is by default this process's own. Proxies are passed on only where the archive is in a store that may be
    outside: all else that these processes talk to is part of the platform.
    """
    given = os.environ if source is None else source
    proxies = settings is not None and settings.archive.startswith("s3://")
    kept = {
        name: value for name, value in given.items() if _OWN.fullmatch(name) or (proxies and _PROXIES.fullmatch(name))
    }
    if proxies and settings is not None:
        reach_directly(kept, settings.mlflow_url, settings.server_url, settings.retrainer_url)
    return {**kept, **_ALWAYS, **(variables(settings) if settings is not None else {})}


def variables(settings: Settings) -> dict[str, str]:
    """These settings as environment variables, for processes that read them from there; folders are absolute."""
    from driftloop.settings import variable

    found = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if value is not None:
            found[variable(name)] = str(value.resolve() if isinstance(value, Path) else value)
    return found


def forget_others() -> None:
    """Take out of this process's environment what its libraries would read, but was set for other programs.

    Proxies stay, but not for what listens on this machine.
    """
    for name in [name for name in os.environ if _OTHERS.fullmatch(name)]:
        del os.environ[name]
    reach_directly(os.environ)


def trust_this_machine() -> None:
    """Let every library trust whom this machine trusts, and SSL_CERT_FILE names, as the platform's own clients do.

    What asks S3, MLflow or a chat by requests or boto3 else trusts the list that came with its package alone, and no
    authority of one's own. Variables that are set stay.
    """
    import ssl

    trusted = ssl.get_default_verify_paths().cafile
    for name in _BUNDLES if trusted else ():
        os.environ.setdefault(name, str(trusted))


def reach_directly(environment: MutableMapping[str, str], *urls: str) -> None:
    """Add loopback and the hosts of `urls` to those that no library asks a proxy for, where there is a proxy at all."""
    if not any(_PROXIES.fullmatch(name) for name in environment):
        return
    hosts = [host for name in _NO_PROXY for host in environment.get(name, "").split(",") if host.strip()]
    hosts += [*_LOOPBACK, *(urlsplit(url).hostname or "" for url in urls)]
    # Libraries differ in which of the two they read.
    environment.update(dict.fromkeys(_NO_PROXY, ",".join(dict.fromkeys(host.strip() for host in hosts if host))))


def is_here(url: str) -> bool:
    """Whether the host of `url` is this machine: one can only listen on addresses that are its own."""
    try:
        host = urlsplit(url).hostname
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM) if host else []
    except (OSError, ValueError):
        return False
    return any(_can_listen(family, address[0]) for family, _, _, _, address in found)


def _can_listen(family: int, host: object) -> bool:
    with socket.socket(family) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
