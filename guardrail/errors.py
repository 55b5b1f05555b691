"""Every way the engine can fail, sorted by what has to happen next. Nobody matches message texts."""

from __future__ import annotations


class GuardrailError(Exception):
    """The root: catch it at the edge of one item, never around a batch."""


class Retryable(GuardrailError):
    """The same look, later: it goes back with `after_s` (seconds), and nothing has failed."""

    def __init__(self, message: str = "", after_s: float = 15.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class Throttled(Retryable):
    """429, or our own read budget is empty."""


class Unavailable(Retryable):
    """5xx, no answer, no token."""


class Busy(Retryable):
    """409 or 429 because another operation runs on the resource."""


class StoreDown(Retryable):
    """Our own store did not answer: raised to the trigger, so that nothing is acknowledged."""


class Stale(GuardrailError):
    """The world moved (412, a changed before-value, another worker's commit): read and plan anew."""


class Final(GuardrailError):
    """Recorded and shown, never retried blindly."""

    def __init__(self, message: str = "", *, code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.code = code                # ARM's error code, or ours
        self.request_id = request_id    # x-ms-request-id, for a ticket at Azure


class Malformed(Final):
    """Input that is not what it must be: an event, an id, a row, an answer."""


class Denied(Final):
    """403, a lock, a policy, a deny assignment: the message names the blocker."""


class Gone(Final):
    """404: the resource, its group or its subscription is not there."""


class Immutable(Final):
    """The value cannot be changed after creation."""


class Unsafe(Final):
    """The plan would widen access, drop what it does not own, or write where nothing allows it."""


class Unanswered(Final):
    """A POST was sent and no answer came: whether it took effect is a person's to settle."""


class Refused(Final):
    """A person may not do this, or not any more; `code` says why in a word: role, four-eyes, stale, expired, decided ..."""

    def __init__(self, code: str, message: str, cure: str = "") -> None:
        super().__init__(message, code=code)
        self.cure = cure                # as the API told it, if it did


class Held(GuardrailError):
    """Not a failure: a breaker, a freeze or the switch says not now."""


class ConfigError(GuardrailError):
    """Bad configuration, before any event is looked at: it names file, key, value and cure."""

    def __init__(self, where: str, key: str, value: object, cure: str) -> None:
        super().__init__(f"{where}: {key} is {value!r}.  cure: {cure}  Nothing is acted on until this is valid.")
        self.where, self.key, self.value, self.cure = where, key, value, cure
