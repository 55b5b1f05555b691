"""How ARM reads and writes each guarded type, in one explicit tuple."""

from guardrail.values import ResourceType

from . import (
    apim,
    authorization,
    bot,
    cognitive,
    foundry,
    keyvault,
    machinelearning,
    network,
    registry,
    search,
    storage,
)

TYPES: tuple[ResourceType, ...] = (
    *storage.TYPES, *keyvault.TYPES, *network.TYPES, *cognitive.TYPES, *foundry.TYPES, *authorization.TYPES,
    *machinelearning.TYPES,
    *bot.TYPES, *search.TYPES, *registry.TYPES, *apim.TYPES,
)
