"""What the simulator knows of each ARM type: one module a provider family, one `Habits` a type, all of it data."""

from simulator.types import (
    authorization,
    cognitive,
    gateway,
    general,
    learning,
    monitoring,
    network,
    search,
    security,
    storage,
    vaults,
)
from simulator.types.habits import GENERAL, Answer, Birth, Body, Habits, Part

__all__ = ["GENERAL", "TYPES", "Answer", "Birth", "Body", "Habits", "Part", "habits_of"]

TYPES: dict[str, Habits] = {
    habits.type.lower(): habits
    for module in (
        authorization,
        cognitive,
        gateway,
        general,
        learning,
        monitoring,
        network,
        search,
        security,
        storage,
        vaults,
    )
    for habits in module.TYPES
}


def habits_of(type: str) -> Habits:
    """The habits of a type in any letter case; ARM's general rules for one that is not in the tables."""
    return TYPES.get(type.lower(), GENERAL)
