"""Every control there is, in one explicit tuple: a service a module, nothing registers itself."""

from guardrail.values import Control

from . import authorization, cognitive, keyvault, machinelearning, monitor, network, openai, storage

CONTROLS: tuple[Control, ...] = (
    *storage.CONTROLS, *keyvault.CONTROLS, *network.CONTROLS, *cognitive.CONTROLS, *openai.CONTROLS, *monitor.CONTROLS,
    *authorization.CONTROLS, *machinelearning.CONTROLS,
)
