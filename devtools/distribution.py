"""Runs real Distribution registries (2.8 or 3) as ordinary processes on loopback."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import bcrypt

from devtools import install

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_PORT_TRIES = 5
_SHARED_MEMORY = "/dev/shm"
#: Every answer carries this header, so that a stranger who took the port is not mistaken for our process.
_INSTANCE_HEADER = "X-Registry-Instance"
_SETTLE_PARAMETER = "log-settled"

# Apache's combined format, which 2.8 and 3 both print to standard output.
_ACCESS_LINE = re.compile(
    r'^\S+ - \S+ \[[^\]]+\] "(?P<method>\S+) (?P<path>\S+) HTTP/[^"]*" (?P<status>\d{3}) (?P<size>\d+)'
    r' ".*" "(?P<agent>.*)"$'
)


class RegistryFailedError(RuntimeError):
    """The registry did not start; the message has the end of its log."""


class _PortTakenError(RegistryFailedError):
    """Somebody else took the port between choosing and using it."""


class TokenAuth(NamedTuple):
    """How a registry trusts a token service: what it tells clients, and whose signatures it accepts."""

    realm: str
    service: str
    issuer: str
    certificates: Path


class LoggedRequest(NamedTuple):
    """One line of a registry's access log; the size is that of the answer's body."""

    method: str
    path: str
    status: int
    size: int
    user_agent: str


class DistributionRegistry:
    """A registry process with its own configuration, storage and logs; a context manager.

    ``stop`` keeps the port and the content, so that ``start`` or ``restart`` go on with them; ``close`` and
    the end of the ``with`` block remove what was made for it.

    ``client_authority`` has it demand certificates of its clients, signed by an authority that signed its own, too.
    ``settings`` is merged into the configuration file, for the rare option that has no argument here.
    """

    def __init__(
        self,
        *,
        htpasswd: Mapping[str, str] | None = None,
        token_auth: TokenAuth | tuple[str, str, str, Path] | None = None,
        tls: tuple[Path, Path] | None = None,
        client_authority: Path | None = None,
        delete_enabled: bool = True,
        readonly: bool = False,
        storage: Path | None = None,
        in_shared_memory: bool = False,
        address: str = "127.0.0.1",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if htpasswd is not None and token_auth is not None:
            raise ValueError("a registry has either a password file or a token service")
        self._htpasswd = htpasswd
        self._token_auth = TokenAuth(*token_auth) if token_auth is not None else None
        self._tls = tls
        self._client_authority = client_authority
        self._delete_enabled = delete_enabled
        self._readonly = readonly
        self._storage = storage
        self._in_shared_memory = in_shared_memory
        self._address = address
        self._settings = settings or {}
        self._instance = secrets.token_hex(8)
        self._secret = secrets.token_hex(16)
        self._port: int | None = None
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._container: tuple[Path, str] | None = None
        self._settled = 0

    @property
    def host(self) -> str:
        """The address as it stands in image references: ``127.0.0.1:PORT``."""
        if self._port is None:
            raise RuntimeError("the registry has not been started")
        return f"[{self._address}]:{self._port}" if ":" in self._address else f"{self._address}:{self._port}"

    @property
    def url(self) -> str:
        """The address with its scheme."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def storage(self) -> Path:
        """The root of the stored content."""
        return self._storage or self._home / "storage"

    @property
    def pid(self) -> int:
        """The process that runs now."""
        if self._process is None:
            raise RuntimeError("the registry is not running")
        return self._process.pid

    @property
    def access_log(self) -> Path:
        """The file that the registry writes a line to for each request."""
        return self._home / "access.log"

    @property
    def error_log(self) -> Path:
        """The file with what the registry says of itself."""
        return self._home / "registry.log"

    def start(self) -> Self:
        """Start the process and wait until it answers."""
        if self._process is not None:
            raise RuntimeError("the registry is running already")
        if self._directory is None:
            parent = _SHARED_MEMORY if self._in_shared_memory else None
            self._directory = Path(tempfile.mkdtemp(prefix="registry-", dir=parent))
        if self._port is not None:
            self._launch(self._port)
            return self
        for _ in range(_PORT_TRIES - 1):
            try:
                self._launch(_free_port(self._address))
            except _PortTakenError:
                continue
            return self
        self._launch(_free_port(self._address))
        return self

    def stop(self) -> None:
        """End the process, and only that one; does nothing when it has ended already."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            if self._container is not None:
                docker, name = self._container
                subprocess.run([docker, "rm", "--force", name], capture_output=True, check=False)
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Stop and start again on the same port with the same content."""
        self.stop()
        self.start()

    def limit_files(self, size: int | None) -> None:
        """Let the running process make no file larger than so many bytes, as if its storage were full; None: any.

        A registry in a container is not reached by this.
        """
        _, highest = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (highest if size is None else size, highest))

    def close(self) -> None:
        """Stop, and remove what was made for this registry: its configuration, logs and own storage."""
        self.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def __enter__(self) -> Self:
        if self._process is not None:
            return self
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def requests_log(self) -> list[LoggedRequest]:
        """Return all requests answered so far.

        For those of one step, take the length before it and slice.
        """
        self._settle_log()
        entries = []
        for line in self.access_log.read_text(errors="replace").splitlines():
            match = _ACCESS_LINE.match(line)
            # What this class asks for itself is nobody's request.
            if match is None or match["agent"] == _INSTANCE_HEADER:
                continue
            entries.append(
                LoggedRequest(match["method"], match["path"], int(match["status"]), int(match["size"]), match["agent"])
            )
        return entries

    @property
    def _home(self) -> Path:
        if self._directory is None:
            raise RuntimeError("the registry has not been started")
        return self._directory

    def _launch(self, port: int) -> None:
        self._port = port
        config = self._home / "config.yml"
        config.write_text(json.dumps(self._configuration(), indent=2))  # JSON is YAML
        self.storage.mkdir(parents=True, exist_ok=True)
        log_start = self.error_log.stat().st_size if self.error_log.exists() else 0
        with self.access_log.open("ab") as access_log, self.error_log.open("ab") as error_log:
            self._process = subprocess.Popen(
                self._command(config),
                stdin=subprocess.DEVNULL,
                stdout=access_log,
                stderr=error_log,
                cwd=self._home,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C is for the one who started us; we end the registry in order
            )
        try:
            self._wait_until_ready(log_start)
        except BaseException:
            self.stop()
            raise

    def _command(self, config: Path) -> list[str | Path]:
        program = install.ensure("registry")
        if program.name != "docker":
            return [program, "serve", config]
        name = f"registry-{secrets.token_hex(8)}"  # one for each start: the last one may still be going
        self._container = (program, name)
        directories = {self._home}
        if self._storage is not None:
            directories.add(self._storage.resolve())
        if self._tls is not None:
            directories |= {path.resolve().parent for path in self._tls}
        if self._client_authority is not None:
            directories.add(self._client_authority.resolve().parent)
        if self._token_auth is not None:
            directories.add(self._token_auth.certificates.resolve().parent)
        command: list[str | Path] = [program, "run", "--rm", "--init", "--network", "host", "--name", name]
        command += ["--user", f"{os.getuid()}:{os.getgid()}", "--env", "OTEL_TRACES_EXPORTER=none"]
        for directory in sorted(directories):
            command += ["--volume", f"{directory}:{directory}"]
        return [*command, "--entrypoint", "registry", install.REGISTRY_IMAGE, "serve", config]

    def _environment(self) -> dict[str, str]:
        # REGISTRY_... in the environment overrides the configuration, and 3.x looks for a trace collector
        # unless told not to.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "OTEL_"))}
        return {**kept, "OTEL_TRACES_EXPORTER": "none"}

    def _configuration(self) -> dict[str, Any]:
        http_section: dict[str, Any] = {
            "addr": self.host,
            "secret": self._secret,
            "headers": {_INSTANCE_HEADER: [self._instance]},
        }
        if self._tls is not None:
            certificate, key = self._tls
            http_section["tls"] = {"certificate": str(certificate), "key": str(key)}
            if self._client_authority is not None:
                http_section["tls"]["clientcas"] = [str(self._client_authority)]
        configuration: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "cache": {"blobdescriptor": "inmemory"},
                "delete": {"enabled": self._delete_enabled},
                "maintenance": {
                    "uploadpurging": {"enabled": False},
                    "readonly": {"enabled": self._readonly},
                },
            },
            "http": http_section,
        }
        if self._htpasswd is not None:
            configuration["auth"] = {
                "htpasswd": {"realm": "registry", "path": str(self._write_password_file(self._htpasswd))}
            }
        if self._token_auth is not None:
            configuration["auth"] = {
                "token": {
                    "realm": self._token_auth.realm,
                    "service": self._token_auth.service,
                    "issuer": self._token_auth.issuer,
                    "rootcertbundle": str(self._token_auth.certificates),
                }
            }
        return _merged(configuration, self._settings)

    def _write_password_file(self, users: Mapping[str, str]) -> Path:
        # Distribution accepts bcrypt only; the least rounds, since it checks the password on every request.
        path = self._home / "htpasswd"
        lines = [
            f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=4)).decode()}\n"
            for user, password in users.items()
        ]
        path.write_text("".join(lines))
        return path

    def _wait_until_ready(self, log_start: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if self._process is None or self._process.poll() is not None:
                tail = self._log_tail(log_start)
                if "address already in use" in tail:
                    raise _PortTakenError(f"port {self._port} is taken:\n{tail}")
                raise RegistryFailedError(f"the registry ended while it was starting:\n{tail}")
            if self._answers_as_us("/v2/"):
                return
            if time.monotonic() > deadline:
                raise RegistryFailedError(
                    f"the registry did not answer within {_START_SECONDS:.0f} s:\n{self._log_tail(log_start)}"
                )
            time.sleep(0.02)

    def _answers_as_us(self, path: str) -> bool:
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(self._address, self._port, timeout=5)
        else:
            # Whose certificate it is does not matter here: the header tells who answers.
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if self._client_authority is not None:
                context.load_cert_chain(*self._tls)
            connection = http.client.HTTPSConnection(self._address, self._port, timeout=5, context=context)
        try:
            connection.request("GET", path, headers={"User-Agent": _INSTANCE_HEADER})
            return connection.getresponse().getheader(_INSTANCE_HEADER) == self._instance
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _settle_log(self) -> None:
        """Wait until the log has caught up: a client has its answer just before the registry logs it."""
        if self._process is None or self._process.poll() is not None:
            return
        self._settled += 1
        mark = f"/v2/?{_SETTLE_PARAMETER}={self._settled}"
        if not self._answers_as_us(mark):
            return
        deadline = time.monotonic() + 5
        while f" {mark} " not in self.access_log.read_text(errors="replace"):
            if time.monotonic() > deadline:
                raise RegistryFailedError(f"the registry does not write to its access log {self.access_log}")
            time.sleep(0.005)

    def _log_tail(self, start: int = 0) -> str:
        if not self.error_log.exists():
            return "(no log)"
        with self.error_log.open("rb") as log:
            log.seek(start)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-20:]) or "(its log is empty)"


def _free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
    return port


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base with the changes laid over it, section by section."""
    result = dict(base)
    for key, value in changes.items():
        known = result.get(key)
        result[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, Mapping) else value
    return result
