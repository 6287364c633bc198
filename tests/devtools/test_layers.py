from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import devtools

_IMPORT_ALL = """
import sys
sys.modules["airflow"] = sys.modules["airflow_imagesync"] = None
for name in sys.argv[1:]:
    __import__(f"devtools.{name}")
"""


def test_devtools_need_neither_airflow_nor_what_they_help_to_test():
    names = [module.name for module in pkgutil.iter_modules(devtools.__path__)]
    assert len(names) >= 5
    root = Path(devtools.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", _IMPORT_ALL, *names], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
