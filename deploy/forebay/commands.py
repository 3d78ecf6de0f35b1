"""x"""

import typer


def add_commands(app: typer.Typer) -> None: ...
def translators():
    from producers.cli.exits import from_client

    return (from_client,)
