"""Resource logs: some diagnostic setting of the resource sends them to an approved Log Analytics workspace.

One check, one Control a guarded type. Source: Microsoft.Insights/diagnosticSettings 2021-05-01-preview (no stable
version exists); absent lists mean that no resource log leaves the resource.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from guardrail import ids
from guardrail.documents import Node
from guardrail.errors import Malformed
from guardrail.paths import ABSENT, Item, fold, get, show
from guardrail.values import Check, Control, Drift, Parameters, Severity

SETTINGS = "+diagnosticSettings"
BLOB_SETTINGS = "+blobDiagnosticSettings"       # of {account}/blobServices/default: the account itself has only metrics
WORKSPACE = "Microsoft.OperationalInsights/workspaces"
MOST_SETTINGS = 5       # a sixth is refused
MOST_SWITCHES = 10      # entries for the same logs: Azure shows one
LEVELS = ("audit", "allLogs", "categories")


def logs_kept(resource: Node, p: Parameters, part: str = SETTINGS) -> Iterator[Drift]:
    """Drift while no setting sends the wanted logs to an approved workspace.

    Without `approved_workspaces` the workspaces of the known good settings count as approved, and before anything is
    known any workspace does. What is missing is restored from what was known good, else made from the parameters.
    """
    settings = list(resource.items(part, "name"))
    declared = tuple(p["approved_workspaces"])
    known = [old for old in resource.known_good.items(part, "name") if covers(old, p) and _ships(old, declared)]
    approved = declared or tuple(str(old.get("properties.workspaceId")) for old in known)
    if any(covers(setting, p) and _ships(setting, approved) for setting in settings):
        return
    if not approved:
        yield from resource.undecided(part, "approved_workspaces is empty, and no setting was ever known good")
        return
    weak = _weakened(settings, known, approved, p["setting_name"])
    if weak is not None:
        yield from _mended(weak, approved, p)
    elif len(settings) >= MOST_SETTINGS:
        yield from resource.undecided(part, f"{MOST_SETTINGS} settings stand there, and Azure takes no more")
    else:
        # a setting that ships to a declared workspace and covers what is asked for is vouched for by the parameters
        yield from resource.missing(part, _setting(known, approved, p), "name", learned=False if declared else None)


def blob_logs_kept(account: Node, p: Parameters) -> Iterator[Drift]:
    """The same for a storage account's blob service, where its kind has one."""
    if account.text("kind") != "filestorage":
        yield from logs_kept(account, p, BLOB_SETTINGS)


def covers(setting: Node, p: Parameters) -> bool:
    """Whether the setting keeps all logs, or the audit group where that is enough, or every category asked for."""
    lit, dark = set[str](), set[str]()
    for name, is_on, _ in _switches(setting):
        (lit if is_on else dark).add(name)
    lit -= dark         # of two switches for the same logs one is off: which of them counts is not known
    categories = {"category=" + fold(name) for name in p["categories"]}
    return ("categoryGroup=alllogs" in lit or (p["level"] == "audit" and "categoryGroup=audit" in lit)
            or (bool(categories) and categories <= lit))


def _switches(setting: Node) -> Iterator[tuple[str, bool, Item]]:
    """Each entry of `logs`: "categoryGroup=audit" or "category=trace", whether it is on, and how a path names it.

    An entry names a group or a category and shows the other as null, so no one key names them all.
    """
    logs = setting.get("properties.logs")
    seen: dict[str, int] = {}
    for entry in logs if isinstance(logs, list) else ():
        for key in ("categoryGroup", "category"):
            value = get(entry, (key,))
            if isinstance(value, str):
                name = f"{key}={fold(value)}"
                seen[name] = seen.get(name, 0) + 1
                yield name, get(entry, ("enabled",)) is True, Item(((key, value),), seen[name])
                break


def _ships(setting: Node, approved: tuple[str, ...]) -> bool:
    """Whether the setting's workspace is one of `approved`; any sound workspace id if there are none."""
    workspace = setting.get("properties.workspaceId")
    if not isinstance(workspace, str):
        return False
    return fold(workspace) in map(fold, approved) if approved else not _no_workspace(workspace)


def _weakened(settings: list[Node], known: list[Node], approved: tuple[str, ...], name: str) -> Node | None:
    """The setting to mend instead of adding one: it was the good one, or ships to an approved workspace, or is ours.

    Azure refuses two settings that send the same logs to the same workspace.
    """
    names = {setting.text("name") for setting in known}
    choices: tuple[Callable[[Node], bool], ...] = (
        lambda setting: setting.text("name") in names,
        lambda setting: _ships(setting, approved),
        lambda setting: setting.text("name") == fold(name),
    )
    return next((setting for fits in choices for setting in settings if fits(setting)), None)


def _mended(setting: Node, approved: tuple[str, ...], p: Parameters) -> Iterator[Drift]:
    workspace = setting.get("properties.workspaceId")
    foreign = (workspace,) if isinstance(workspace, str) else ()        # not approved: known to be wrong
    yield from setting.expect("properties.workspaceId", one_of=approved, known=foreign)
    if covers(setting, p):
        return
    for key, name in _wanted(p):
        dark = [item for switch, is_on, item in _switches(setting) if switch == f"{key}={fold(name)}" and not is_on]
        if len(dark) > MOST_SWITCHES:
            yield from setting.undecided("properties.logs", f"{len(dark)} entries for {name}")
            continue
        for item in dark or [Item(((key, name),))]:
            yield from setting.expect(f"properties.logs{show((item,))}.enabled", one_of=(True,), absent=False)


def _wanted(p: Parameters) -> list[tuple[str, str]]:
    if p["level"] == "categories":
        return [("category", name) for name in p["categories"]]
    return [("categoryGroup", p["level"])]


def _setting(known: list[Node], approved: tuple[str, ...], p: Parameters) -> dict[str, Any]:
    if known:
        said = {key: value for key, value in known[0].get("properties").items() if value is not None}
        return {"name": known[0].get("name"), "properties": said}
    logs = [{key: name, "enabled": True} for key, name in _wanted(p)]
    return {"name": p["setting_name"], "properties": {"workspaceId": approved[0], "logs": logs, "metrics": []}}


def _no_workspace(value: Any) -> str:
    """"" if `value` is the id of a workspace, else why not."""
    try:
        return "" if fold(ids.type_of(ids.parse(value))) == fold(WORKSPACE) else f"{value!r} is no {WORKSPACE}"
    except (Malformed, TypeError):
        return f"{value!r} is no id of a {WORKSPACE}"


def _workspaces(value: Any) -> str:
    """Floor: ids of workspaces, and nothing that stands for many."""
    if not isinstance(value, (list, tuple)):
        return "must be a list of ids"
    return next(filter(None, map(_no_workspace, value)), "")


def _name(value: Any) -> str:
    sound = isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", value)
    return "" if sound else "must be the name of a diagnostic setting"


def _level(value: Any) -> str:
    return "" if value in LEVELS else f"must be one of {', '.join(LEVELS)}"


def _at_least(least: tuple[str, ...]) -> Callable[[Any], str]:
    """Floor: a list of categories that keeps those which tell who did what."""
    def floor(value: Any) -> str:
        if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
            return "must be a list of log categories"
        lost = {fold(name) for name in least} - {fold(name) for name in value}
        return f"leaves out {', '.join(name for name in least if fold(name) in lost)}" if lost else ""
    return floor


STORAGE_LOGS = ("StorageRead", "StorageWrite", "StorageDelete")
EVENTS = ("Microsoft.Insights/diagnosticSettings/write", "Microsoft.Insights/diagnosticSettings/delete")


def _control(id: str, type: str, severity: Severity, what: str, level: str, categories: tuple[str, ...],
             least: tuple[str, ...], check: Check = logs_kept, part: str = SETTINGS) -> Control:
    return Control(
        id, check, on=type, severity=severity, response="revert", learns=True, also_reads=(part,),
        triggered_by=(f"{type}/write", *EVENTS),
        title=f"{what}: resource logs go to the approved workspace",
        why="who switches logging off works unseen: no log, no incident",
        breaks="nothing; costs ingestion",
        parameters={"approved_workspaces": (), "setting_name": "guardrail-logs", "level": level,
                    "categories": categories},
        floors={"approved_workspaces": _workspaces, "setting_name": _name, "level": _level,
                "categories": _at_least(least)},
        drift={f"{part}[name='logs']": ABSENT},
    )


CONTROLS = (
    _control("diag-cognitiveservices", "Microsoft.CognitiveServices/accounts", "high", "AI services account",
             "audit", ("Audit", "RequestResponse", "AzureOpenAIRequestUsage", "Trace"), ("Audit", "RequestResponse")),
    _control("diag-keyvault", "Microsoft.KeyVault/vaults", "high", "Key Vault",
             "audit", ("AuditEvent", "AzurePolicyEvaluationDetails"), ("AuditEvent",)),
    # Category groups of the storage services were not verified: their three categories by name.
    _control("diag-storage-blob", "Microsoft.Storage/storageAccounts", "high", "Storage blob service",
             "categories", STORAGE_LOGS, STORAGE_LOGS, blob_logs_kept, BLOB_SETTINGS),
    _control("diag-nsg", "Microsoft.Network/networkSecurityGroups", "medium", "Network security group",
             "allLogs", ("NetworkSecurityGroupEvent", "NetworkSecurityGroupRuleCounter"),
             ("NetworkSecurityGroupEvent",)),
    # The documented list of the workspace's categories is partial: the group says more.
    _control("diag-ml-workspace", "Microsoft.MachineLearningServices/workspaces", "high", "ML workspace", "audit",
             ("AmlComputeClusterEvent", "AmlComputeJobEvent", "AmlRunStatusChangedEvent", "ComputeInstanceEvent",
              "DataStoreChangeEvent", "DataStoreReadEvent", "DataSetChangeEvent", "DataSetReadEvent",
              "DataLabelChangeEvent"),
             ("AmlComputeJobEvent", "ComputeInstanceEvent", "DataStoreReadEvent")),
    # It has no audit group. The console's log may carry prompts.
    _control("diag-ml-online-endpoint", "Microsoft.MachineLearningServices/workspaces/onlineEndpoints", "medium",
             "Online endpoint", "allLogs",
             ("AmlOnlineEndpointTrafficLog", "AmlOnlineEndpointConsoleLog", "AmlOnlineEndpointEventLog"),
             ("AmlOnlineEndpointTrafficLog",)),
    _control("diag-ml-registry", "Microsoft.MachineLearningServices/registries", "medium", "ML registry", "audit",
             ("RegistryAssetReadEvent", "RegistryAssetWriteEvent"), ("RegistryAssetWriteEvent",)),
    # It has no audit group either.
    _control("diag-botservice", "Microsoft.BotService/botServices", "high", "Bot", "allLogs", ("BotRequest",), ("BotRequest",)),
    _control("diag-search", "Microsoft.Search/searchServices", "high", "AI Search service", "audit", ("OperationLogs",),
             ("OperationLogs",)),
    # The categories of these two were not looked up: the group says it.
    _control("diag-containerregistry", "Microsoft.ContainerRegistry/registries", "medium", "Container registry", "audit",
             (), ()),
    _control("diag-apim", "Microsoft.ApiManagement/service", "medium", "API Management service", "audit", (), ()),
)
