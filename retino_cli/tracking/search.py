"""Searching runs across experiments, and finding the one that a user means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from retino_cli.errors import RunNotFoundError
from retino_cli.tracking.connection import Connection
from retino_cli.tracking.records import KIND_TAG, PARENT_TAG, RunRecord, is_run_id, shorten_id, to_record

_MIN_PREFIX = 4
_PAGE = 1000
_NEWEST_FIRST = ["attributes.start_time DESC"]


def search_runs(
    connection: Connection,
    where: str = "",
    *,
    limit: int,
    experiment: str | None = None,
    kinds: Sequence[str] | None = None,
) -> list[RunRecord]:
    """The newest ``limit`` runs that MLflow's filter ``where`` selects, newest first, of ``kinds`` (None: all)."""
    names = list_experiments(connection)
    ids = [key for key, name in names.items() if experiment is None or name == experiment]
    if not ids or limit < 1:
        return []
    filters = [where]
    if kinds is not None:
        # MLflow knows no IN for tags: one search a kind.
        filters = [f"{where} AND {kind}" if where else kind for kind in (f"tags.`{KIND_TAG}` = '{k}'" for k in kinds)]
    records: list[RunRecord] = []
    for text in filters:
        token, left = None, limit
        while left > 0:
            page = connection.call(
                connection.client.search_runs,
                ids,
                filter_string=text,
                max_results=min(left, _PAGE),
                order_by=_NEWEST_FIRST,
                page_token=token,
            )
            records += [to_record(run, names) for run in page]
            left -= len(page)
            token = page.token
            if not token:
                break
    return sorted(records, key=lambda record: record.started, reverse=True)[:limit]


def list_experiments(connection: Connection) -> dict[str, str]:
    """Names of the experiments by id; deleted ones are left out."""
    names: dict[str, str] = {}
    token = None
    while True:
        page = connection.call(connection.client.search_experiments, max_results=_PAGE, page_token=token)
        names |= {experiment.experiment_id: experiment.name for experiment in page}
        token = page.token
        if not token:
            return names


def find_run(connection: Connection, text: str, *, kinds: tuple[str, ...]) -> RunRecord:
    """The run that ``text`` names: "latest", a whole id, a name, or the first characters of an id, in this order.

    Raises RunNotFoundError if there is none or more than one, with those that come near.
    """
    wanted = " or ".join(kinds)
    if text == "latest":
        newest = search_runs(connection, limit=1, kinds=kinds)
        if not newest:
            raise RunNotFoundError(
                f"There is no {wanted} run in {connection.location.describe()}",
                "Make one with `retino train`, or run from the folder in which it was made",
            )
        return newest[0]
    if is_run_id(text):
        found = search_runs(connection, f"attributes.run_id = '{text}'", limit=2)
    else:
        found = [run for run in _search_by_name(connection, text) if run.name == text]
        if not found and len(text) >= _MIN_PREFIX and set(text) <= set("0123456789abcdef"):
            found = search_runs(connection, f"attributes.run_id LIKE '{text}%'", limit=_PAGE)
    fitting = [run for run in found if run.kind in kinds]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        listed = ", ".join(f"{_describe(run)} of {run.started:%Y-%m-%d %H:%M}" for run in fitting[:5])
        more = f" and {len(fitting) - 5} more" if len(fitting) > 5 else ""
        raise RunNotFoundError(f"{len(fitting)} runs answer to {text!r}: {listed}{more}", "Name one by its id")
    if found:
        kind = found[0].kind or "foreign"
        raise RunNotFoundError(
            f"{_describe(found[0])} is a run of kind {kind}; what is needed here is {wanted}",
            _name_children(connection, found[0], kinds),
        )
    raise RunNotFoundError(f"No run answers to {text!r}", _suggest(connection, text, kinds))


def _name_children(connection: Connection, parent: RunRecord, kinds: Sequence[str]) -> str:
    """What to do where a run was named that others belong to, such as the seeds of repeats."""
    below = search_runs(connection, f"tags.`{PARENT_TAG}` = '{parent.run_id}'", limit=20, kinds=kinds)
    if not below:
        return "`retino runs` lists the runs"
    return f"Name one of those that belong to it: {', '.join(_describe(run) for run in reversed(below))}"


def _search_by_name(connection: Connection, name: str) -> list[RunRecord]:
    # MLflow's filter language cannot quote a quote: such names are compared one by one.
    if "'" in name or '"' in name or "\\" in name:
        return search_runs(connection, limit=_PAGE)
    return search_runs(connection, f"attributes.run_name = '{name}'", limit=_PAGE)


def _suggest(connection: Connection, text: str, kinds: tuple[str, ...]) -> str:
    runs = search_runs(connection, limit=300, kinds=kinds)
    if not runs:
        return f"There is no {' or '.join(kinds)} run in {connection.location.describe()} yet"
    labels = {run.name.lower(): run for run in reversed(runs)} | {
        run.run_id[: len(text)]: run for run in reversed(runs)
    }
    near = difflib.get_close_matches(text.lower(), labels, n=5, cutoff=0.5)
    near_runs = list({labels[label].run_id: labels[label] for label in near}.values())
    if not near_runs:
        return f"The latest is {_describe(runs[0])}; `retino runs` lists the runs"
    return f"Near ones: {', '.join(_describe(run) for run in near_runs)}; `retino runs` lists the runs"


def _describe(run: RunRecord) -> str:
    return f"{run.name} ({shorten_id(run.run_id)})"
