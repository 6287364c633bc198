"""Makes the passwords and keys of one installation, in a folder: ``make_secrets.py FOLDER``.

What is there stays as it is. Needs nothing but Python, as root or as the user who shall own the files.
"""

import base64
import json
import os
import secrets
import sys
from pathlib import Path

USER = DATABASE = "airflow"  # as docker-compose.yml has them, and so the next two
DATABASE_HOST = "postgres"
LOGIN = "admin"

READABLE = 0o440
#: Airflow opens its password file for writing, too, to add users that its settings name.
WRITABLE = 0o660


def main(folder: Path) -> None:
    """Make what is missing in `folder`, for the group to read and nobody else."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o750)
    password = make(folder / "postgres_password", secrets.token_hex(24))
    make(folder / "sql_alchemy_conn", f"postgresql+psycopg2://{USER}:{password}@{DATABASE_HOST}/{DATABASE}")
    make(folder / "fernet_key", base64.urlsafe_b64encode(os.urandom(32)).decode())
    make(folder / "api_secret_key", secrets.token_hex(32))
    make(folder / "jwt_secret", secrets.token_hex(64))
    make(folder / "passwords.json", json.dumps({LOGIN: secrets.token_urlsafe(12)}), mode=WRITABLE)


def make(path: Path, content: str, mode: int = READABLE) -> str:
    """Return what `path` holds, which is `content` where there was no such file; never half a file."""
    if not path.exists():
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        with new.open("w", encoding="utf-8") as file:
            file.write(content)  # without a line end: Airflow takes the whole as the value
            file.flush()
            os.fsync(file.fileno())
        new.chmod(mode)
        new.rename(path)
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
