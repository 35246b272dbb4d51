"""What the command line loads before it is needed: nothing that takes long."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "mlflow", "numpy", "pandas", "matplotlib", "sklearn", "scipy", "PIL", "safetensors")
SCRIPT = """
import sys
sys.argv = ["retino", *{arguments!r}]
from retino_cli.cli.app import main
try:
    main()
except SystemExit as end:
    code = end.code
loaded = sorted(name for name in {heavy!r} if name in sys.modules)
print("LOADED", code, loaded)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["data", "inspect", "--help"],
        ["data", "cache", "--help"],
        ["data", "paint", "--help"],
        ["predict", "--help"],
        ["explain", "--help"],
        ["export", "--help"],
        ["train", "--epochs", "0"],
        ["nonsense"],
    ],
)
def test_help_and_usage_errors_load_nothing_heavy(arguments: list[str]) -> None:
    script = SCRIPT.format(arguments=arguments, heavy=HEAVY)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    code = 0 if arguments[-1] in ("--help", "--version") else 2
    assert ended.stdout.splitlines()[-1] == f"LOADED {code} []"


def test_the_package_itself_loads_nothing_heavy_until_a_name_is_used() -> None:
    script = (
        "import sys, retino_cli\n"
        "from retino_cli import TrainConfig, RetinoError\n"
        "TrainConfig(arch='resnet50')\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
        "from retino_cli import load_manifest\n"
        "print('pandas' in sys.modules, 'torch' in sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["[]", "True False"]


def test_every_public_name_can_be_had() -> None:
    import retino_cli

    for name in retino_cli.__all__:
        assert getattr(retino_cli, name) is not None
        assert name in dir(retino_cli)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        retino_cli.trian  # noqa: B018 # the access is what is tested
