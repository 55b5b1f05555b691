"""What a request says beside its path: the equalities of an OData filter, the JSON object of its body."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from simulator.ids import fold
from simulator.wire import Request


def equalities(filter: str) -> Iterator[tuple[str, str]]:
    """Each `name eq 'value'`, names folded; anything else in the filter is passed over."""
    for key, value in re.findall(r"(\w+) eq '([^']*)'", filter):
        yield fold(key), value


def sent(request: Request) -> dict[str, Any]:
    """The body's object; empty where it is none."""
    try:
        body = json.loads(request.body or b"{}")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
