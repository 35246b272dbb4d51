"""``python -m retino_cli`` is ``retino``."""

from retino_cli.cli.app import main

main()
