"""Where the cache lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from retino_cli.cache import cache_root


def test_cache_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RETINO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_root() == tmp_path / ".cache" / "retino"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == tmp_path / ".cache" / "retino"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "retino"
    monkeypatch.setenv("RETINO_CACHE", "~/prepared")
    assert cache_root() == tmp_path / "prepared"
