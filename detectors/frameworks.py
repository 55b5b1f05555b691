"""Which requirement of a benchmark or framework each control serves: only where a source says so.

A control of ours is one part of what such a requirement asks for; none is met by settings alone. Each table goes from
the requirement to the controls, so that the tables read like their sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework, the edition its ids are of, and who says which control serves them."""

    name: str
    edition: str
    source: str


FRAMEWORKS: Mapping[str, Framework] = {
    "mcsb": Framework(
        "Microsoft cloud security benchmark", "v1; AI-1 to AI-7 are of v2 (preview)",
        "Azure Policy's initiative MCSBv2 1.3.0-preview through the built-in policy that checks the same; "
        "by topic where no built-in policy does"),
    "cis": Framework(
        "CIS Microsoft Azure Foundations Benchmark", "each id begins with its edition: 3.0, 4.0, 5.0 or 6.0",
        "the mappings that Prowler publishes for these editions, and Azure Policy's initiative CIS Azure Foundations v3.0.0"),
    "nist-ai-rmf": Framework(
        "NIST AI Risk Management Framework", "AI 100-1, 1.0",
        "Azure Policy's initiative NIST AI RMF v1.0, 1.0.0, which holds one policy: diagnostic logs of AI services"),
    "iso-42001": Framework(
        "ISO/IEC 42001", "2023",
        "none: no published source leads from a setting in Azure to a clause, and we invent none"),
    "eu-ai-act": Framework(
        "EU AI Act", "Regulation (EU) 2024/1689",
        "Azure Policy's initiative EU AI Act 2024 1689, 1.0.1, through the built-in policy that checks the same"),
}

_MCSB_BY_POLICY = {
    "AI-1": "ml-online-deployment-model-source",
    "DP-3": "storage-https-only storage-minimum-tls bot-endpoint-https",
    "DP-5": "storage-cmk cognitive-cmk-encryption ml-workspace-cmk bot-cmk",
    "DP-8": "keyvault-network-default-action keyvault-purge-protection diag-keyvault",
    "IM-1": (
        "storage-shared-key-access cognitive-local-auth-disabled ml-compute-local-auth search-local-auth "
        "acr-ml-admin-user"
    ),
    "IM-3": "cognitive-managed-identity ml-workspace-identity",
    "LT-3": "diag-cognitiveservices diag-keyvault diag-ml-workspace diag-search",
    "NS-1": "nsg-inbound-internet-management-ports nsg-inbound-internet-any",
    "NS-2": (
        "storage-public-network-access storage-network-default-action storage-network-ip-rules "
        "storage-blob-anonymous-access keyvault-public-network-access keyvault-network-default-action "
        "cognitive-public-network-access cognitive-network-acls-default-deny cognitive-network-acls-ip-rules "
        "cognitive-private-endpoint-approved ml-workspace-public-network-access ml-workspace-private-endpoint "
        "ml-workspace-managed-network-isolation ml-compute-node-public-ip ml-compute-in-vnet "
        "bot-public-network-access search-public-network-access search-private-link-capable-sku "
        "acr-ml-public-network-access"
    ),
    "NS-3": "nsg-inbound-internet-management-ports",
    "PA-7": "rbac-privileged-role-assignment",
    "PV-2": "ml-compute-instance-os-outdated",
}

_MCSB_BY_TOPIC = {
    "AI-1": (
        "openai-deployment-sku-data-residency openai-deployment-model-allow-list "
        "openai-deployment-version-upgrade ml-marketplace-subscription ml-online-endpoint-traffic "
        "ml-model-version-tampered ml-registry-model-version"
    ),
    "AI-2": (
        "openai-rai-policy-hate openai-rai-policy-sexual openai-rai-policy-violence "
        "openai-rai-policy-selfharm openai-rai-policy-jailbreak openai-rai-policy-indirect-attack "
        "openai-rai-policy-protected-material openai-rai-policy-mode openai-deployment-rai-policy "
        "openai-deployment-spillover openai-rai-policy-base openai-rai-policy-blocklists "
        "openai-rai-policy-safety-provider openai-rai-policy-unused-or-deleted openai-subscription-rai-policy "
        "ml-serverless-endpoint-content-safety apim-openai-content-safety"
    ),
    "AI-6": "ml-online-deployment-data-collector ml-model-monitor-schedule",
    "AM-2": (
        "cognitive-account-kind-and-sku cognitive-project-management ml-workspace-kind "
        "ml-marketplace-subscription ml-compute-attached-target bot-channel-allow-list"
    ),
    "BR-2": "cognitive-account-deleted-soft",
    "DP-1": "ml-workspace-hbi",
    "DP-2": (
        "storage-cross-tenant-replication cognitive-outbound-restricted cognitive-stored-completions "
        "openai-deployment-sku-data-residency ml-datastore-target ml-registry-storage-public-blob "
        "bot-directline-user-upload"
    ),
    "DP-5": (
        "cognitive-user-owned-storage cognitive-capability-host cognitive-project-capability-host "
        "search-cmk-enforcement"
    ),
    "IM-1": (
        "cognitive-custom-subdomain ml-workspace-system-datastores-auth ml-batch-endpoint-auth "
        "ml-online-endpoint-auth-mode ml-serverless-endpoint-auth bot-local-auth bot-directline-enhanced-auth "
        "bot-webchat-sites acr-ml-anonymous-pull"
    ),
    "IM-3": (
        "cognitive-connection-key-auth cognitive-project-identity cognitive-project-connection-key-auth "
        "ml-datastore-credentials ml-connection-key-auth bot-app-type bot-oauth-connection search-identity"
    ),
    "IM-7": "ml-compute-instance-sso",
    "IM-8": "cognitive-connection-key-auth cognitive-project-connection-key-auth ml-connection-key-auth",
    "LT-1": "cognitive-abuse-monitoring cognitive-defender-for-ai",
    "LT-3": (
        "diag-storage-blob diag-nsg diag-ml-online-endpoint diag-ml-registry diag-botservice "
        "diag-containerregistry diag-apim ml-online-deployment-data-collector "
        "ml-online-deployment-app-insights"
    ),
    "NS-1": "ml-compute-instance-ssh ml-amlcompute-remote-login",
    "NS-2": (
        "cognitive-outbound-restricted cognitive-network-acls-bypass cognitive-aml-workspace-link "
        "cognitive-network-injection-agent cognitive-managed-network-isolation cognitive-connection-target "
        "cognitive-capability-host cognitive-project-connection-target cognitive-project-capability-host "
        "ml-workspace-v1-legacy-mode ml-workspace-allow-public-behind-vnet ml-workspace-image-build-compute "
        "ml-workspace-serverless-compute-public-ip ml-outbound-rule-allow-list ml-datastore-target "
        "ml-amlcompute-isolated-network ml-online-endpoint-public-network-access ml-online-deployment-egress "
        "ml-registry-public-network-access ml-registry-storage-public-blob search-network-rules "
        "search-data-exfiltration-protection search-shared-private-link"
    ),
    "PA-7": (
        "cognitive-connection-shared cognitive-project-connection-shared "
        "cognitive-agent-application-authorization ml-compute-instance-personal ml-schedule-unapproved-job"
    ),
    "PV-2": "ml-compute-instance-ssh ml-compute-instance-idle-shutdown ml-compute-instance-setup-scripts",
}

_CIS = {
    "3.0 3.3.5": "keyvault-purge-protection",
    "3.0 4.1": "storage-https-only",
    "3.0 4.6": "storage-public-network-access storage-blob-anonymous-access",
    "3.0 4.7": "storage-network-default-action storage-network-ip-rules",
    "3.0 4.11": "storage-cmk",
    "3.0 4.15": "storage-minimum-tls",
    "3.0 6.1.3": "storage-cmk",
    "3.0 6.1.4": "diag-keyvault",
    "4.0 2.1.1.2.1": "storage-cmk",
    "4.0 2.2.1.2": "storage-network-default-action",
    "4.0 7.1.1.4": "diag-keyvault",
    "4.0 9.3.5": "keyvault-purge-protection",
    "4.0 9.3.7": "keyvault-public-network-access",
    "4.0 10.3.1.3": "storage-shared-key-access",
    "4.0 10.3.2.2": "storage-public-network-access",
    "4.0 10.3.2.3": "storage-network-default-action",
    "4.0 10.3.4": "storage-https-only",
    "4.0 10.3.7": "storage-minimum-tls",
    "4.0 10.3.8": "storage-cross-tenant-replication",
    "4.0 10.3.9": "storage-blob-anonymous-access",
    "5.0 5.3.3": "rbac-privileged-role-assignment",
    "5.0 7.1": "nsg-inbound-internet-management-ports",
    "5.0 7.2": "nsg-inbound-internet-management-ports",
    "5.0 7.4": "nsg-inbound-internet-any",
    "6.0 6.1.1.4": "diag-keyvault",
    "6.0 8.3.5": "keyvault-purge-protection",
    "6.0 9.3.1.3": "storage-shared-key-access",
    "6.0 9.3.2.2": "storage-public-network-access",
    "6.0 9.3.2.3": "storage-network-default-action",
    "6.0 9.3.4": "storage-https-only",
    "6.0 9.3.6": "storage-minimum-tls",
    "6.0 9.3.7": "storage-cross-tenant-replication",
    "6.0 9.3.8": "storage-blob-anonymous-access",
}


_LOGS = "diag-cognitiveservices diag-search"
_NIST_AI_RMF = {"MEASURE 2.4": _LOGS, "MANAGE 2.3": _LOGS, "MANAGE 3.2": _LOGS, "MANAGE 4.1": _LOGS}

_SECURED = f"{_LOGS} cognitive-private-endpoint-approved search-public-network-access search-private-link-capable-sku"
_EU_AI_ACT = {"Art. 12(1)": _LOGS, "Art. 12(2)": _LOGS, "Art. 15(5)": _SECURED, "Art. 55(1)(d)": _SECURED}

NO_MCSB: Mapping[str, str] = {
    "openai-deployment-capacity": "no requirement of the benchmark speaks of quotas",
    "apim-openai-token-limit": "no requirement of the benchmark speaks of quotas",
}
"""Controls that serve no requirement of the benchmark, and why."""

TABLES: Mapping[str, tuple[Mapping[str, str], ...]] = {
    "mcsb": (_MCSB_BY_POLICY, _MCSB_BY_TOPIC), "cis": (_CIS,), "nist-ai-rmf": (_NIST_AI_RMF,), "iso-42001": (),
    "eu-ai-act": (_EU_AI_ACT,),
}


def of(control: str) -> dict[str, tuple[str, ...]]:
    """Framework -> the requirements that the control serves; only frameworks that it serves at all."""
    served = {name: tuple(_served(tables, control)) for name, tables in TABLES.items()}
    return {name: requirements for name, requirements in served.items() if requirements}


def by_topic(control: str, requirement: str) -> bool:
    """Whether it was us who put the control under this requirement of the benchmark, for its topic."""
    return control in _MCSB_BY_TOPIC.get(requirement, "").split()


def named() -> frozenset[str]:
    """Every control that a table names."""
    return frozenset(one for tables in TABLES.values() for table in tables for ids in table.values() for one in ids.split())


def _served(tables: tuple[Mapping[str, str], ...], control: str) -> Iterator[str]:
    for table in tables:
        for requirement, controls in table.items():
            if control in controls.split():
                yield requirement
