from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devtools import install


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it but what the test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def _program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_distribution_is_found_under_debians_name(empty_path: Path):
    program = _program(empty_path / "docker-registry", "echo docker-registry github.com/docker/distribution 2.8.2")
    assert install.find_registry() == program


def test_some_other_program_called_registry_is_not_taken(empty_path: Path):
    _program(empty_path / "registry", "echo the windows registry 1.0")
    assert install.find_registry() is None


def test_docker_without_an_engine_is_not_taken(empty_path: Path):
    _program(empty_path / "docker", "echo; echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    assert install.find_docker() is None


def test_docker_stands_in_for_a_missing_registry(empty_path: Path):
    docker = _program(empty_path / "docker", "echo 28.0.0")
    assert install.ensure("registry") == docker


def test_postgres_is_found_where_debian_keeps_it(empty_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The highest version, by number: 9.6 is before 15."""
    monkeypatch.setattr(install, "_POSTGRES_FOLDER", tmp_path)
    assert install.find("postgres") is None
    for version in ("9.6", "15"):
        (tmp_path / version / "bin").mkdir(parents=True)
        _program(tmp_path / version / "bin" / "postgres", "")
    assert install.find("postgres") == tmp_path / "15" / "bin" / "postgres"
    on_path = _program(empty_path / "postgres", "")
    assert install.find("postgres") == on_path


@pytest.mark.parametrize(
    ("name", "package"), [("registry", "docker-registry"), ("skopeo", "skopeo")], ids=["registry", "skopeo"]
)
def test_what_cannot_be_had_is_named_with_its_package(empty_path: Path, name: str, package: str):
    with pytest.raises(install.MissingProgramError, match=f"apt-get install {package}"):
        install.ensure(name)


@pytest.mark.usefixtures("empty_path")
def test_the_command_line_says_what_to_install_without_a_traceback():
    done = subprocess.run([sys.executable, install.__file__, "skopeo"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "skopeo is missing: install it, on Debian by apt-get install skopeo"
        " (there is no apt-get here to install it with).\n"
    )


def test_a_failed_installation_says_why(empty_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(install, "_POLICY", empty_path / "policy-rc.d")
    _program(empty_path / "apt-get", "echo 'E: Unable to locate package skopeo'; exit 100")
    with pytest.raises(install.MissingProgramError, match="E: Unable to locate package skopeo"):
        install.ensure("skopeo")


def test_services_of_packages_are_not_started(empty_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Debian's docker-registry would take port 5000 otherwise; maintainer scripts ask policy-rc.d."""
    policy = empty_path / "policy-rc.d"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(install, "_POLICY", policy)
    skopeo = empty_path / "skopeo"
    _program(
        empty_path / "apt-get",
        f"{policy}; [ $? = 101 ] && echo '#!/bin/sh' > {skopeo}; /bin/chmod +x {skopeo}",
    )
    assert install.ensure("skopeo") == skopeo
    assert not policy.exists()


def test_it_runs_without_any_environment():
    """-I -S: neither site-packages nor the working directory."""
    done = subprocess.run([sys.executable, "-I", "-S", install.__file__, "nonsense"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "unknown program 'nonsense'" in done.stderr
