"""One clock for many processes: time runs faster than on the wall, and jumps when the driver says so."""

from __future__ import annotations

import mmap
import struct
import time
from datetime import UTC, datetime
from pathlib import Path

_FORM = struct.Struct("ddd")        # began (seconds since 1970), speed, what was jumped


class Clock:
    """The shared time plus this process's own `offset_s` (S21). Without `speed` it joins the clock of that file."""

    def __init__(self, file: Path, speed: float | None = None, offset_s: float = 0) -> None:
        if speed is not None:
            file.write_bytes(_FORM.pack(time.time(), speed, 0))
        with file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), _FORM.size)
        self.offset_s = offset_s

    @property
    def speed(self) -> float:
        return float(_FORM.unpack_from(self._shared)[1])

    def seconds(self) -> float:
        """Since 1970."""
        began, speed, jumped = _FORM.unpack_from(self._shared)
        return float(began + (time.time() - began) * speed + jumped + self.offset_s)

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.seconds(), UTC)

    def forward(self, seconds: float) -> None:
        """For every process at once."""
        began, speed, jumped = _FORM.unpack_from(self._shared)
        _FORM.pack_into(self._shared, 0, began, speed, jumped + seconds)
