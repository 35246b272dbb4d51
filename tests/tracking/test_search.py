"""Finding runs by what a user types."""

from __future__ import annotations

import re

import pytest

from retino_cli.errors import RunNotFoundError
from retino_cli.tracking import Store, open_store


def add(store: Store, name: str, *, kind: str = "train", experiment: str = "retino", parent: str | None = None) -> str:
    with store.start_run(experiment=experiment, name=name, kind=kind, params={}, tags={}, parent=parent) as run:
        return run.run_id


@pytest.fixture
def ids(store: Store) -> dict[str, str]:
    ids = {name: add(store, name) for name in ("resnet18-a", "resnet50-a", "it's")}
    ids["eval-a"] = add(store, "eval-a", kind="eval", parent=ids["resnet18-a"])
    ids["far"] = add(store, "far", experiment="another")
    ids["foreign"] = str(
        store._connection.client.create_run(
            store._connection.client.get_experiment_by_name("retino").experiment_id, run_name="foreign"
        ).info.run_id
    )
    return ids


def test_by_id_prefix_name_and_latest(store: Store, ids: dict[str, str]) -> None:
    for name in ("resnet18-a", "resnet50-a", "it's", "far"):
        assert store.find(name).run_id == ids[name]
        assert store.find(ids[name]).name == name
        assert store.find(ids[name][:12]).name == name
    assert store.find("latest").name == "far"
    assert store.find("latest", kinds=("eval",)).name == "eval-a"
    assert store.find("latest", kinds=("train", "eval")).name == "far"


def test_a_name_that_looks_like_an_id_wins(store: Store, ids: dict[str, str]) -> None:
    run_id = add(store, ids["far"][:6])
    assert store.find(ids["far"][:6]).run_id == run_id


def test_a_wrong_name_gets_near_ones(store: Store, ids: dict[str, str]) -> None:
    with pytest.raises(RunNotFoundError, match="No run answers to 'resnet18'") as caught:
        store.find("resnet18")
    assert caught.value.hint.startswith(f"Near ones: resnet18-a ({ids['resnet18-a'][:8]})")
    assert "`retino runs`" in caught.value.hint
    wrong = ids["resnet50-a"][:9] + ("0" if ids["resnet50-a"][9] != "0" else "1")
    with pytest.raises(RunNotFoundError) as caught:
        store.find(wrong)
    assert "resnet50-a" in caught.value.hint
    with pytest.raises(RunNotFoundError, match="No run answers to 'zzz'") as caught:
        store.find("zzz")
    assert "The latest is far" in caught.value.hint
    with pytest.raises(RunNotFoundError):
        store.find("0" * 32)
    with pytest.raises(RunNotFoundError):
        store.find("%")  # no wildcard
    with pytest.raises(RunNotFoundError):
        store.find("")


def test_three_characters_of_an_id_are_too_few(store: Store, ids: dict[str, str]) -> None:
    with pytest.raises(RunNotFoundError, match="No run answers"):
        store.find(ids["far"][:3])


def test_more_than_one_run_of_a_name(store: Store, ids: dict[str, str]) -> None:
    second = add(store, "resnet18-a")
    with pytest.raises(RunNotFoundError, match="2 runs answer to 'resnet18-a'") as caught:
        store.find("resnet18-a")
    assert second[:8] in str(caught.value)
    assert ids["resnet18-a"][:8] in str(caught.value)
    assert "by its id" in caught.value.hint


def test_a_run_of_another_kind(store: Store, ids: dict[str, str]) -> None:
    with pytest.raises(RunNotFoundError, match=r"eval-a \(.*\) is a run of kind eval; what is needed here is train"):
        store.find("eval-a")
    with pytest.raises(RunNotFoundError, match="kind foreign"):
        store.find("foreign")


def test_a_run_that_others_belong_to_names_them(store: Store) -> None:
    parent = add(store, "all", kind="repeats")
    for seed in (0, 1):
        add(store, f"all-s{seed}", parent=parent)
    with pytest.raises(RunNotFoundError, match="is a run of kind repeats") as caught:
        store.find("all")
    assert re.search(r"belong to it: all-s0 \(\w{8}\), all-s1 \(\w{8}\)$", caught.value.hint)


def test_an_empty_store(store: Store) -> None:
    with pytest.raises(RunNotFoundError, match="no train run") as caught:
        store.find("latest")
    assert "retino train" in caught.value.hint
    with pytest.raises(RunNotFoundError) as caught:
        store.find("x")
    assert "no train run" in caught.value.hint


def test_latest(store: Store, ids: dict[str, str]) -> None:
    names = ["foreign", "far", "eval-a", "it's", "resnet50-a", "resnet18-a"]
    assert [run.name for run in store.latest(10)] == names
    assert [run.name for run in store.latest(2)] == names[:2]
    assert [run.name for run in store.latest(10, kinds=("train",))] == ["far", "it's", "resnet50-a", "resnet18-a"]
    assert [run.name for run in store.latest(2, kinds=("train", "eval"))] == ["far", "eval-a"]
    assert [run.name for run in store.latest(10, experiment="another")] == ["far"]
    assert store.latest(10, experiment="none") == []
    (child,) = store.latest(10, parent=ids["resnet18-a"])
    assert (child.name, child.parent) == ("eval-a", ids["resnet18-a"])
    assert store.latest(10, kinds=("train",), parent=ids["resnet18-a"]) == []


def test_unknown_runs_are_told(store: Store) -> None:
    for act in (store.history, store.resume_run, lambda run_id: store.download(run_id, "a.txt")):
        with pytest.raises(RunNotFoundError, match="not found"):
            act("0" * 32)


def test_artifacts_that_are_not_there_are_told(store: Store, ids: dict[str, str]) -> None:
    with store.start_run(experiment="retino", name="r", kind="eval", params={}, tags={}) as run:
        run.log_text("x", "test/metrics.json")
    with pytest.raises(RunNotFoundError, match="has no artifact 'checkpoint/best'") as caught:
        open_store().download(run.run_id, "checkpoint/best")
    assert caught.value.hint == "It has: test"
    with pytest.raises(RunNotFoundError, match="has no artifact"):
        store.download(ids["far"], "test/metrics.json")
