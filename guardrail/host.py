"""What the Functions host needs of us before the first invocation: settings, and a Guardrail made when it is first used.

The only reader of the environment. Imports little: a cold start pays for nothing that it does not use.
"""

from __future__ import annotations

import asyncio
import os
from functools import lru_cache
from typing import TYPE_CHECKING

from guardrail.errors import GuardrailError
from guardrail.settings import Settings, read

if TYPE_CHECKING:
    from guardrail.app import Guardrail

_loops: set[asyncio.Task[None]] = set()


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Of this process. Errors: ConfigError."""
    return read(os.environ)


@lru_cache(maxsize=1)
def worker() -> Guardrail:
    """The Guardrail of this process, made at the first invocation. Errors: ConfigError."""
    from guardrail import app, logs

    logs.configure(settings().log_level)
    return app.build(settings())


def keep_running() -> None:
    """Without a queue (SQLite, also under Core Tools) this process answers the looks itself; called by each trigger."""
    if not settings().has_tables and not _loops:
        task = asyncio.get_running_loop().create_task(worker().run())
        _loops.add(task)
        task.add_done_callback(_loops.discard)


def unheard(message: bytes, error: GuardrailError) -> None:
    """A poison message that names nothing: a line is all that it can leave."""
    from guardrail import logs

    logs.line("look.poisoned", error=str(error), raw=message[:200].decode("utf-8", "backslashreplace"))
