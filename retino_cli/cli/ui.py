"""``retino ui``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from retino_cli.cli import options as o
from retino_cli.errors import Terminated


def ui(
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Port to listen on.", show_default="the first free from 5000 on"),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    tracking_uri: o.TrackingUri = None,
) -> None:
    """Start MLflow's page for the runs that are kept here, and open it in the browser.

    The page of the experiment with the newest run is opened, in the view for trained models. MLflow runs until Ctrl-C,
    with one worker and without its job queue; the command that does the same by hand is printed. For a tracking server
    on the network nothing is started: its page is opened.

    Example:

    retino ui --port 5001
    """
    from retino_cli.cli.display import Display
    from retino_cli.cli.output import data_console, notes_console
    from retino_cli.tracking import open_store
    from retino_cli.tracking.interface import Interface, check_there, choose_port, experiment_page
    from retino_cli.tracking.location import locate

    notes, data = notes_console(), data_console()
    location = locate(tracking_uri)
    check_there(location)
    with Display():
        store = open_store(tracking_uri)
        newest = store.latest(1)
        experiment = store.experiment_id(newest[0].experiment) if newest else None
    if location.is_server:
        page = experiment_page(location.uri, experiment)
        shown = experiment_page(location.display, experiment)
        notes.print("A tracking server on the network: nothing is started here.", markup=False)
        data.print(shown, markup=False, soft_wrap=True)
        _open(page, wanted=not no_browser)
        return
    notes.print("MLflow starts ...", markup=False)
    try:
        with Interface(location, host=host, port=choose_port(host, port)) as interface:
            data.print(experiment_page(interface.address, experiment), markup=False, soft_wrap=True)
            sys.stdout.flush()
            for line in _advice(interface.address, host, store=store.where(), by_hand=interface.by_hand()):
                notes.print(line, markup=False, soft_wrap=True)
            if not no_browser and not _open(experiment_page(interface.address, experiment), wanted=True):
                notes.print("No browser could be opened from here: open the address in yours.", markup=False)
            notes.print("Ctrl-C ends it.", markup=False)
            interface.wait()
    except Terminated:
        raise
    except KeyboardInterrupt:
        notes.print("Ended.", markup=False)


def _advice(address: str, host: str, *, store: str, by_hand: str) -> Iterator[str]:
    """Where the runs are, how to do it by hand and, where it matters, who else can look."""
    yield f"Store    {store}"
    yield f"By hand  {by_hand}"
    if "SSH_CONNECTION" in os.environ:
        place = address.removeprefix("http://")
        yield f"From your own machine: ssh -L {place.rpartition(':')[2]}:{place} THIS-MACHINE, then the same address"
    if host not in ("127.0.0.1", "localhost", "::1"):
        yield "Whoever reaches this machine under that port can change and delete the runs."


def _open(page: str, *, wanted: bool) -> bool:
    """Open ``page`` in the person's browser; False where there is none. Browsers that would take over the terminal are
    no help here."""
    import webbrowser

    graphical = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    if not wanted or not graphical:
        return False
    try:
        return webbrowser.open(page)
    except (webbrowser.Error, OSError):
        return False
