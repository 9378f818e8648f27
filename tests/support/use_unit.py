"""Uses an action on a unit as another user, in the process namespace of the host's: run by nsenter, told by argv.

    python -m tests.support.use_unit UID KIND CONNECTION PARAMS

Applies and, where it can, undoes. Prints `done`, or the name of the error and its message.
"""

import asyncio
import json
import os
import sys
from typing import Any

import dbus_fast.aio  # noqa: F401  # as the other user we could not read it any more

from remediator.actions.systemd import RestartUnit, StartUnit, StopUnit
from remediator.errors import ActionError

ACTIONS: dict[str, Any] = {one.kind: one for one in (RestartUnit, StartUnit, StopUnit)}


async def _use(kind: str, connection: str, params: str) -> str:
    model = ACTIONS[kind]
    action = model(model.Connection.model_validate_json(connection))
    given = model.Params.model_validate_json(params)
    try:
        (effect,) = action.plan(given, await action.observe(given))
        result = await action.apply(effect)
        if effect.undo:
            await action.undo(effect, result)
    except ActionError as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def main() -> None:
    """Become that user, and do it."""
    uid, kind, connection, params = sys.argv[1:]
    loop = asyncio.new_event_loop()
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    sys.stdout.write(json.dumps(loop.run_until_complete(_use(kind, connection, params))))
    loop.close()


if __name__ == "__main__":
    main()
