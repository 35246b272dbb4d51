"""Where the MLflow store lies: the tracking URI, its SQLite file, and the folder for artifacts.

MLflow's own default is left alone: ``./mlflow.db`` with artifacts below ``./mlruns``, which ``mlflow ui`` without flags
shows. In order of precedence: the URI given, ``mlflow.set_tracking_uri``, ``MLFLOW_TRACKING_URI``, the default.

Relative SQLite URIs are made absolute, because MLflow keeps one open database per URI and process. MLflow's own
``get_tracking_uri()`` is not used for the default: it percent-encodes the path, which SQLAlchemy before 2.1 reads
literally, and which makes MLflow create folders with ``%20`` in their names.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

import mlflow
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from retino_cli.errors import TrackingError

_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_MASK = "***"


@dataclass(frozen=True)
class Location:
    """A tracking URI, resolved.

    ``uri`` is what MLflow gets. ``database`` is the SQLite file, if it is one. ``artifact_root`` is the folder below
    which new experiments keep their artifacts, or None where the store decides (a server, a file store).
    """

    uri: str
    database: Path | None
    artifact_root: Path | None

    @property
    def is_server(self) -> bool:
        return urlsplit(self.uri).scheme in ("http", "https")

    @property
    def display(self) -> str:
        """The URI without a password, for messages and files."""
        return mask_password(self.uri)

    @property
    def host_and_port(self) -> tuple[str, int] | None:
        """The address to knock at, for a database server; None for everything else."""
        kind = urlsplit(self.uri).scheme.partition("+")[0]
        if kind not in _DATABASE_PORTS:
            return None
        parts = urlsplit(self.uri)
        return (parts.hostname, parts.port or _DATABASE_PORTS[kind]) if parts.hostname else None

    def describe(self) -> str:
        """Where runs are kept, in words: ``./mlflow.db, artifacts below ./mlruns``."""
        if self.database is not None and self.artifact_root is not None:
            return f"{shorten_path(self.database)}, artifacts below {shorten_path(self.artifact_root)}"
        return self.display

    def ui_command(self) -> str:
        """The command that shows this store, typed in the current folder; for a server, its address."""
        if self.is_server:
            return self.display
        if self.database == _default_database() and not os.environ.get("MLFLOW_BACKEND_STORE_URI"):
            return "mlflow ui"
        return f"mlflow ui --backend-store-uri {shlex.quote(self.display)}"


def locate(tracking_uri: str | None = None) -> Location:
    """The store that ``tracking_uri`` (or MLflow's own setting, or its default) names.

    Raises TrackingError for a URI that no MLflow store has.
    """
    uri = tracking_uri or (mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None)
    if uri is None:
        database = _default_database()
        if database is None:
            raise _file_store_error(Path("mlruns").absolute())
        return _sqlite_location(database)
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file"):
        folder = path_of_uri(uri) or Path(uri)
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
            raise _file_store_error(folder.absolute())
        return Location(uri=folder.absolute().as_uri(), database=None, artifact_root=None)
    if scheme.partition("+")[0] == "sqlite":
        try:
            name = make_url(uri).database
        except ArgumentError as error:
            raise TrackingError(f"{uri}: not a database URI", "For SQLite: sqlite:///FILE.db") from error
        if not name or name == ":memory:":
            raise TrackingError(
                f"{uri}: a database in memory is lost with the process", "For SQLite: sqlite:///FILE.db"
            )
        return _sqlite_location(Path(name))
    if scheme in ("http", "https") or scheme.startswith("databricks") or uri == "databricks":
        return Location(uri=uri.rstrip("/"), database=None, artifact_root=None)
    return Location(uri=uri, database=None, artifact_root=Path("mlruns").absolute())


def path_of_uri(uri: str) -> Path | None:
    """The local path that an artifact URI (``file:///...`` or a plain absolute path) names; None for any other."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    # A plain path may hold '#', '?' and '%': it is not to be taken apart.
    return Path(uri) if Path(uri).is_absolute() else None


def shorten_path(path: Path) -> str:
    """``./mlflow.db`` below the current folder, else the whole path."""
    try:
        return f"./{path.relative_to(Path.cwd())}"
    except ValueError:
        return str(path)


def mask_password(uri: str) -> str:
    """``http://user:secret@host`` -> ``http://user:***@host``."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    user_and_password, _, address = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user_and_password.partition(':')[0]}:{_MASK}@{address}"))


def _default_database() -> Path | None:
    """What ``mlflow ui`` without flags opens here: ``./mlflow.db``; None where ``./mlruns`` is a store of MLflow 2."""
    try:
        with os.scandir("mlruns") as entries:
            if any(entry.name.isdigit() and os.path.lexists(f"{entry.path}/meta.yaml") for entry in entries):
                return None
    except OSError:
        pass
    return Path("mlflow.db").absolute()


def _sqlite_location(database: Path) -> Location:
    path = database.absolute()
    text = path.as_posix()
    # From 2.1 on, SQLAlchemy decodes percent signs in the path: take the spelling that this version reads as the path.
    for spelling in (text, quote(text, safe="/: #@+&=,;()[]{}!$'~")):
        uri = f"sqlite:///{spelling}"
        if make_url(uri).database == text:
            return Location(uri=uri, database=path, artifact_root=path.parent / "mlruns")
    raise TrackingError(f"{path}: this path cannot be written as a database URI", "Use a folder without '?' and '%'.")


def is_decoded_spelling(location: Location) -> bool:
    """Whether MLflow, which takes the URI's path literally, makes a stray folder when it opens this database."""
    return location.database is not None and unquote(location.uri) != location.uri


def _file_store_error(folder: Path) -> TrackingError:
    return TrackingError(
        f"{folder} is (or would be) an MLflow file store, which MLflow itself no longer opens",
        f"For an old store: `mlflow migrate-filestore --help`, or set MLFLOW_ALLOW_FILE_STORE=true. "
        f"For a new one, name a database: --tracking-uri sqlite:///{folder.name or 'mlflow'}.db",
    )
