"""How ARM reads and writes each guarded type, in one explicit tuple."""

from guardrail.values import ResourceType

from . import authorization, cognitive, keyvault, machinelearning, network, storage

TYPES: tuple[ResourceType, ...] = (
    *storage.TYPES, *keyvault.TYPES, *network.TYPES, *cognitive.TYPES, *authorization.TYPES, *machinelearning.TYPES,
)
