from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from sqlalchemy.engine import make_url

from retino_cli.errors import TrackingError
from retino_cli.tracking.location import Location, locate, mask_password, path_of_uri


def test_the_default_is_what_mlflow_ui_opens(empty_project: Path) -> None:
    location = locate()
    assert location.database == empty_project / "mlflow.db"
    assert location.artifact_root == empty_project / "mlruns"
    assert location.describe() == "./mlflow.db, artifacts below ./mlruns"
    assert location.ui_command() == "mlflow ui"
    # MLflow's own answer, its percent-encoding undone.
    assert make_url(mlflow.get_tracking_uri()).database == str(location.database)


def test_an_empty_mlruns_folder_changes_nothing(empty_project: Path) -> None:
    (empty_project / "mlruns").mkdir()
    (empty_project / "mlruns" / ".gitkeep").touch()
    assert locate().database == empty_project / "mlflow.db"


def test_a_store_of_mlflow_2_is_refused_with_the_way_out(empty_project: Path) -> None:
    (empty_project / "mlruns" / "0").mkdir(parents=True)
    (empty_project / "mlruns" / "0" / "meta.yaml").touch()
    assert mlflow.get_tracking_uri().startswith("file:")  # this is what MLflow would take
    with pytest.raises(TrackingError, match="file store") as caught:
        locate()
    assert "migrate-filestore" in caught.value.hint


@pytest.mark.parametrize("name", ["plain", "a b", "a#b", "a%20b", "a?b", "ünï", "a+b&c=d", "100%"])
def test_any_folder_name_gives_a_uri_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    location = locate()
    assert location.database == folder / "mlflow.db"
    assert make_url(location.uri).database == str(folder / "mlflow.db")


def test_the_environment_and_the_argument_override(empty_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    location = locate()
    assert location.database == empty_project / "other.db"
    assert location.ui_command() == f"mlflow ui --backend-store-uri sqlite:///{empty_project}/other.db"
    elsewhere = locate("sqlite:////somewhere/else/runs.db")
    assert elsewhere.artifact_root == Path("/somewhere/else/mlruns")
    server = locate("http://tracking.example:5000/")
    assert (server.uri, server.artifact_root, server.is_server) == ("http://tracking.example:5000", None, True)
    assert server.ui_command() == "http://tracking.example:5000"


def test_the_ui_command_names_the_store_where_the_environment_names_another(
    empty_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "sqlite:///other.db")
    assert locate().ui_command() == f"mlflow ui --backend-store-uri sqlite:///{empty_project}/mlflow.db"


@pytest.mark.parametrize("uri", ["runs.db", "file:///tmp/runs", "sqlite://", "sqlite:///:memory:"])
def test_uris_without_a_store_are_refused_with_a_hint(empty_project: Path, uri: str) -> None:
    with pytest.raises(TrackingError) as caught:
        locate(uri)
    assert "sqlite:///" in caught.value.hint


def test_passwords_are_not_shown() -> None:
    assert mask_password("https://me:secret@host:5000/x") == "https://me:***@host:5000/x"
    assert mask_password("https://host:5000/x") == "https://host:5000/x"
    location = Location("postgresql+psycopg2://me:secret@db.example/runs", None, Path("/x/mlruns"))
    assert "secret" not in location.describe() + location.ui_command()
    assert location.host_and_port == ("db.example", 5432)


def test_paths_of_artifact_uris() -> None:
    assert path_of_uri("file:///a/b%20c%23d") == Path("/a/b c#d")
    assert path_of_uri("/a/b#c%20?d") == Path("/a/b#c%20?d")
    assert path_of_uri("mlflow-artifacts:/0/x") is None
    assert path_of_uri("s3://bucket/x") is None
