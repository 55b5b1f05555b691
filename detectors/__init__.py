"""Every control there is, in one explicit tuple: a service a module, nothing registers itself."""

from guardrail.values import Control

from . import (
    apim,
    authorization,
    bot,
    cognitive,
    cognitive_data,
    foundry,
    keyvault,
    machinelearning,
    monitor,
    network,
    openai,
    openai_deployments,
    openai_policies,
    registry,
    search,
    storage,
)

CONTROLS: tuple[Control, ...] = (
    *storage.CONTROLS, *keyvault.CONTROLS, *network.CONTROLS, *cognitive.CONTROLS,
    *cognitive_data.CONTROLS, *foundry.CONTROLS, *openai.CONTROLS, *openai_deployments.CONTROLS,
    *openai_policies.CONTROLS, *monitor.CONTROLS,
    *authorization.CONTROLS, *machinelearning.CONTROLS,
    *bot.CONTROLS, *search.CONTROLS, *registry.CONTROLS, *apim.CONTROLS,
)
