"""What can go wrong between here and the store: knocking at a server, and MLflow's exceptions put into words."""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import requests
from mlflow.exceptions import RestException

from retino_cli.errors import RunNotFoundError, TrackingError
from retino_cli.tracking.location import Location

BUSY_PATIENCE = 60.0
"""Seconds to go on trying while SQLite says that the database is locked."""


class Unavailable(TrackingError):
    """The store does not answer: worth another try later."""


def knock(location: Location, patience: float) -> None:
    """Ask a server for a sign of life: any HTTP answer but 502, 503, 504 will do. Nothing to do for a local store.

    Raises Unavailable after ``patience`` seconds.
    """
    if location.is_server:
        reason = _run_with_deadline(lambda: _knock_http(location.uri, patience), patience)
    elif (address := location.host_and_port) is not None:
        reason = _run_with_deadline(lambda: _knock_tcp(address, patience), patience)
    else:
        return
    if reason:
        raise Unavailable(
            f"The tracking server {location.display} does not answer: {reason}",
            "Start it, or check --tracking-uri and MLFLOW_TRACKING_URI; without them runs are kept in ./mlflow.db",
        )


def translate_error(error: Exception, location: Location) -> TrackingError:
    """The TrackingError for what MLflow raised."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    code = str(getattr(error, "error_code", ""))
    where = location.display
    status = next((e.response.status_code for e in _chain(error) if getattr(e, "response", None) is not None), 0)
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED") or status in (401, 403):
        hint = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        return TrackingError(f"The tracking server {where} refuses access: {text}", hint)
    away = any(isinstance(e, (requests.ConnectionError, requests.Timeout, requests.exceptions.RetryError))
               for e in _chain(error))  # fmt: skip
    server_failed = isinstance(error, RestException) and code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
    if away or status >= 500 or server_failed:
        return Unavailable(f"The tracking server {where} does not answer: {_shorten_reason(error)}")
    if location.is_server and not isinstance(error, RestException) and "error code 404" in text:
        endpoint = text.partition("endpoint ")[2].partition(" ")[0]
        return TrackingError(
            f"{where} answers, but not as an MLflow tracking server (it has no {endpoint})",
            "Check --tracking-uri and MLFLOW_TRACKING_URI",
        )
    if code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
        return RunNotFoundError(text, "`retino runs` lists the runs")
    if "database is locked" in str(error):
        return Unavailable(f"The database {where} stayed locked for {BUSY_PATIENCE:.0f} s by another process")
    if "out-of-date database schema" in str(error):
        return TrackingError(
            f"{where} was made by another version of MLflow: {text}",
            f"Take a copy of it, then run `mlflow db upgrade {where}`",
        )
    if "Can't locate revision" in str(error):
        return TrackingError(f"{where} was made by a newer MLflow than the one installed", "pip install -U mlflow")
    return TrackingError(f"MLflow ({where}): {text}")


def _chain(error: BaseException) -> Iterator[Any]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _shorten_reason(error: BaseException) -> str:
    """'connection refused', not three nested exceptions of urllib3."""
    text = str(error)
    for sign, reason in (
        ("Connection refused", "connection refused"),
        ("Name or service not known", "unknown host"),
        ("name resolution", "unknown host"),
        ("NameResolutionError", "unknown host"),
        ("nodename nor servname", "unknown host"),
        ("timed out", "timed out"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate cannot be verified (see MLFLOW_TRACKING_SERVER_CERT_PATH)"),
        ("Connection aborted", "connection closed"),
        ("Connection reset", "connection closed"),
    ):
        if sign in text:
            return reason
    return text.splitlines()[0][:200] if text else type(error).__name__


def _run_with_deadline(knock: Callable[[], str], patience: float) -> str:
    """What ``knock`` returns ('' for an answer). In a thread, since looking up a name has no time limit of its own."""
    result: list[str] = []
    thread = threading.Thread(target=lambda: result.append(knock()), daemon=True)
    thread.start()
    thread.join(patience)
    return result[0] if result else f"nothing within {patience:.0f} s"


def _knock_http(uri: str, patience: float) -> str:
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    verify: bool | str = not insecure and (os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # urllib3's warning of an unverified certificate, which the user asked for
            response = requests.get(
                f"{uri}/health", timeout=patience, verify=verify, allow_redirects=False, stream=True
            )
    except (requests.RequestException, ValueError) as error:
        return _shorten_reason(error)
    with response:
        return f"HTTP {response.status_code}" if response.status_code in (502, 503, 504) else ""


def _knock_tcp(address: tuple[str, int], patience: float) -> str:
    try:
        socket.create_connection(address, timeout=patience).close()
    except OSError as error:
        return _shorten_reason(error)
    return ""
