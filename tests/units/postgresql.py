"""A throwaway PostgreSQL, for tests of the store."""

import os
import pwd
import signal
import subprocess
import time
import uuid
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from ports import free_port

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class Postgres:
    """A throwaway PostgreSQL on a port of its own; it can be stopped at once and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.password = folder, free_port(), folder / "password"
        self.address = f"postgresql+psycopg2://units@127.0.0.1:{self.port}/postgres"
        self._become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.binaries = BINARIES[-1].parent
        self.password.write_text("a-password-in-a-file\n")
        user = pwd.getpwnam("postgres")
        for path in (folder, self.password):
            os.chown(path, user.pw_uid, user.pw_gid)
        init = [*self._become, str(self.binaries / "initdb"), "-D", str(folder / "data"), "-U", "units"]
        init += ["-A", "scram-sha-256", "-N", f"--pwfile={self.password}"]
        subprocess.run(init, check=True, capture_output=True, cwd=folder)

    def start(self) -> None:
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}"]
        options += ["-c", f"unix_socket_directories={self.folder}"]
        self._server = subprocess.Popen(
            [*self._become, str(self.binaries / "postgres"), "-D", str(self.folder / "data"), *options],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        engine = sa.create_engine(sa.make_url(self.address).set(password="a-password-in-a-file"))
        for _ in range(600):
            try:
                engine.connect().close()
                break
            except OperationalError:
                assert self._server.poll() is None
                time.sleep(0.1)
        engine.dispose()

    def stop(self) -> None:
        """At once: whoever is connected is cut off in the middle of whatever it does."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait()

    def new(self) -> str:
        """The address of a database of its own in it, without the password."""
        name = f"units_{uuid.uuid4().hex[:8]}"
        engine = sa.create_engine(sa.make_url(self.address).set(password="a-password-in-a-file"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return self.address.removesuffix("postgres") + name
