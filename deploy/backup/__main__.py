"""`vlaapi backup …`. Composition root: the command line of the control plane, and the scratch server that it cannot know."""

import sys
from contextlib import AbstractAsyncContextManager

from control_plane.backups.commands import create_commands
from control_plane.cli import app, backup_places, main
from deploy.backup.scratch import scratch_server
from deploy.embedded.server import StartError


def _scratch() -> AbstractAsyncContextManager[str]:
    return scratch_server(backup_places().programs)


app.add_typer(create_commands(backup_places, _scratch), name="backup")

if __name__ == "__main__":
    try:
        main()
    except StartError as error:
        sys.exit(f"vlaapi: {error}")
