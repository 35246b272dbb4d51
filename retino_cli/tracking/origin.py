"""Where a run comes from: version, command line, user, git commit."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
from pathlib import Path

from retino_cli.tracking.records import COMMIT_TAG, VERSION_TAG


def describe_origin() -> dict[str, str]:
    """Tags that say where a run comes from: version, command line, user, and the git commit of the current folder."""
    from retino_cli import __version__

    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else "python"
    tags = {
        VERSION_TAG: __version__,
        "mlflow.user": _find_user(),
        "mlflow.source.name": command[:5000],
        "mlflow.source.type": "LOCAL",
    }
    try:
        git = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return tags
    if git.returncode == 0:
        tags[COMMIT_TAG] = git.stdout.strip()
    return tags


def _find_user() -> str:
    """The name of the user, for MLflow's own tag; "unknown" where the system has no name for it (containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return os.environ.get("USER", "unknown")
