"""What goes where: data to stdout, all else to stderr, colour only where a terminal shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from commands import Retino

from retino_cli.cli.app import app
from retino_cli.cli.display import clock
from retino_cli.tracking import open_store

ESCAPE = "\x1b"


def commands() -> dict[str, typer.main.TyperCommand]:
    """Every command by the words that call it."""
    found = {}

    def walk(group: object, words: tuple[str, ...]) -> None:
        for name, command in group.commands.items():  # type: ignore[attr-defined] # typer's own click
            if hasattr(command, "commands"):
                walk(command, (*words, name))
            else:
                found[" ".join((*words, name))] = command

    walk(typer.main.get_command(app), ())
    return found


def test_the_commands_are_there() -> None:
    assert {"train", "eval", "compare", "confusion", "lab", "runs", "data inspect", "data synth"} <= commands().keys()


@pytest.mark.parametrize("words", sorted(commands()))
def test_every_command_has_help_with_an_imperative_a_paragraph_and_an_example(words: str, retino: Retino) -> None:
    text = commands()[words].help or ""
    first, *rest = [part for part in text.split("\n\n") if part.strip()]
    verb = first.split()[0]
    assert verb[0].isupper()
    assert not verb.endswith(("s", "ing"))
    assert first.strip().endswith(".")
    assert len(rest) >= 3, "a paragraph, 'Example:', and the example"
    assert any(part.strip() in ("Example:", "Examples:") for part in rest)
    assert f"retino {words}" in rest[-1]
    ended = retino(*words.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert verb in ended.out


@pytest.mark.parametrize("words", sorted(commands()))
def test_every_option_has_help(words: str) -> None:
    for parameter in commands()[words].params:
        assert getattr(parameter, "help", ""), f"{words}: {parameter.name}"


def test_version_and_no_command(retino: Retino) -> None:
    from retino_cli import __version__

    assert retino("--version").out == f"retino {__version__}\n"
    ended = retino()
    assert ended.code == 2
    assert "Usage: retino" in ended.out + ended.err


@pytest.mark.figures
def test_json_is_all_there_is_on_stdout(
    workplace: Path, retino: Retino, quick_flags: tuple[object, ...], synthetic_data: Path
) -> None:
    trained = retino("train", *quick_flags, "--run-name", "one", "--json")
    assert trained.code == 0
    result = json.loads(trained.out)
    assert result["run_name"] == "one"
    assert open_store().find("one").run_id == result["run_id"]

    judged = json.loads(retino("eval", "one", "--device", "cpu", "--json").out)
    assert judged["run_id"] == result["run_id"]
    assert (judged["split"], judged["n_images"]) == ("test", 12)
    assert {"accuracy", "qwk", "referable_auc", "majority_accuracy"} <= judged["metrics"].keys()
    assert judged["metrics"] == result["evaluations"]["test"]["metrics"]

    drawn = json.loads(retino("confusion", "one", "--json", "--out", "pictures").out)
    assert drawn["runs"][0]["confusion_matrix"] == judged["confusion_matrix"]
    assert len(list(Path("pictures").iterdir())) == 4

    compared = json.loads(retino("compare", "one", judged["evaluation_run_id"][:8], "--json").out)
    assert [run["metrics"] for run in compared["runs"]] == [judged["metrics"]] * 2

    listed = json.loads(retino("runs", "--json").out)["runs"]
    assert [run["kind"] for run in listed] == ["compare", "confusion", "eval", "train"]
    assert listed[-1]["qwk"] == judged["metrics"]["qwk"]
    inspected = json.loads(retino("data", "inspect", synthetic_data, "--json").out)
    assert inspected["layout"] == "eyepacs"
    assert json.loads(retino("runs", "--kind", "train", "-n", 1, "--json").out)["runs"][0]["run_id"] == result["run_id"]


def test_without_json_people_get_tables_and_the_next_commands(
    workplace: Path, retino: Retino, quick_flags: tuple[object, ...]
) -> None:
    ended = retino("train", *quick_flags, "--run-name", "my [b]run[/b]")
    assert ended.code == 0
    assert ESCAPE not in ended.out + ended.err
    run_id = open_store().find("latest").run_id
    for text in (run_id, "majority baseline", f"retino eval {run_id[:8]}", "mlflow ui", "my [b]run[/b]"):
        assert text in ended.out
    assert "epoch 1/1" in ended.err  # one plain line an epoch
    assert "epoch 1/1" not in ended.out
    for arguments in (("eval", run_id, "--device", "cpu"), ("confusion", run_id), ("runs",)):
        shown = retino(*arguments)
        assert shown.code == 0, shown.err
        assert "my [b]run[/b]" in "".join(shown.out.split("\n")), arguments
        assert ESCAPE not in shown.out + shown.err
    quiet = retino("eval", run_id, "--device", "cpu", "--quiet")
    assert "COLLAPSED" in quiet.err or quiet.err == ""


def test_names_that_look_like_markup_are_shown_as_they_are(workplace: Path, retino: Retino) -> None:
    from samples import make_predictions, store_run

    for name, predicted in (("bad [/b]", [0, 1, 2]), ("[red]worse", [0, 1, 1])):
        store_run(name, make_predictions([0, 1, 2], predicted), params={"init": f"x{name}"})
    for arguments in (("compare",), ("confusion",)):
        ended = retino(*arguments, "bad [/b]", "[red]worse")
        assert ended.code == 0, ended.err
        for name in ("bad [/b]", "[red]worse"):
            assert name in ended.out


def test_a_collapse_is_said_in_red_by_every_command_also_with_json(workplace: Path, retino: Retino) -> None:
    from samples import make_predictions, store_run

    store_run("constant", make_predictions([0, 1, 2, 0], [0, 0, 0, 0]))
    store_run("better", make_predictions([0, 1, 2, 0], [0, 1, 2, 0]))
    for flags in ((), ("--json",)):
        ended = retino("compare", "constant", "better", *flags)
        assert "COLLAPSED: constant predicts (almost) only grade 0" in ended.err
    with open_store().resume_run(open_store().find("constant").run_id) as run:
        run.set_tags({"retino.collapsed": "grade 0"})
    assert "collapsed" in retino("runs").out


def test_colour_only_where_it_is_wanted(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "from retino_cli.cli.app import main; main()"
    arguments = [sys.executable, "-c", script, "runs", "--kind", "nonsense"]
    plain = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR")}
    for extra, coloured in (({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)):
        ended = subprocess.run(arguments, capture_output=True, text=True, env={**plain, **extra}, check=False)
        assert ended.returncode == 2
        assert ended.stdout == ""
        assert (f"{ESCAPE}[1;31m" in ended.stderr or f"{ESCAPE}[31m" in ended.stderr) == coloured


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (75, "1:15"), (3700, "1:01:40")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
