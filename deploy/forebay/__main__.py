"""The ``forebay`` command: a user's verbs and an operator's."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit."""
    from forebay.commands import add_commands, translators
    from producers.cli.app import build_app, run

    app = build_app()
    add_commands(app)
    sys.exit(run(app, sys.argv[1:], translators()))


if __name__ == "__main__":
    main()
