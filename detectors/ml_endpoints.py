"""Machine learning endpoints: online ones with their deployments, which are mounted in them, and serverless ones.

Defaults and enumerations: schema 2026-05-01; what GET shows when a value was never set: recorded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from detectors import floors
from detectors.ml_common import NETWORKS, NETWORKS_FLOOR, ONLINE, SERVERLESS, SPACE, certain, in_managed_network, noted
from guardrail import ids
from guardrail.documents import Node
from guardrail.paths import ABSENT, fold, join, show
from guardrail.values import Check, Control, Drift, Parameters, Response, Severity

ACCESS = "properties.publicNetworkAccess"
DEPLOYMENTS = "+deployments"
TRAFFIC = ("properties.traffic", "properties.mirrorTraffic")
TOKENS = ("AADToken", "AMLToken")
COLLECTIONS = "properties.dataCollector.collections"


def endpoint_closed(endpoint: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while the endpoint answers from the Internet. Absent means Enabled.

    A closed workspace closes it as well, which cannot be seen here: its own switch is judged.
    """
    yield from endpoint.expect(ACCESS, one_of=("Disabled",), absent="Enabled")


def tokens_only(endpoint: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while static keys open the endpoint. Required; taken for immutable, since no change was ever recorded."""
    yield from endpoint.expect("properties.authMode", one_of=tuple(p["allowed_auth_modes"]), known=("Key", *TOKENS))


def traffic_as_approved(endpoint: Node, p: Parameters) -> Iterator[Drift]:
    """Drift when live or mirrored requests go to a deployment that is not approved; all shares go back together.

    Approved: `approved_deployments`; without any, the deployments that had a share when the endpoint last was good.
    What to go back to: that same good traffic; where it is not known, or holds what is not approved, a person decides.
    """
    approved = {fold(one) for one in p["approved_deployments"]}
    for path in TRAFFIC:
        now, good = _shares(endpoint, path), _shares(endpoint.known_good, path)
        fine = approved or {fold(name) for name in good}
        bad = [name for name in now if fine and fold(name) not in fine]
        if not bad:
            continue
        if not good or not {fold(name) for name in good} <= fine:
            for name in bad:
                yield from endpoint.undecided(join(path, show((name,))), "not approved, and no approved traffic is known")
            continue
        for name in dict.fromkeys((*good, *(name for name in now if fold(name) not in map(fold, good)))):
            at = join(path, show((name,)))
            observed, wanted = endpoint.get(at), endpoint.known_good.get(at)
            if observed != wanted:
                sound = observed is ABSENT or (isinstance(observed, int) and not isinstance(observed, bool))
                yield Drift(at, observed, wanted, decided=sound, note="not the traffic that was known good")


def _shares(endpoint: Node, path: str) -> dict[str, Any]:
    """Deployment -> its share, where it has one; what is no object is told as such."""
    endpoint.text(f"{path}.x")      # notes another shape
    shares = endpoint.get(path)
    return {name: share for name, share in shares.items() if share not in (None, 0)} if isinstance(shares, Mapping) else {}


def no_way_out(endpoint: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each deployment whose container may call the Internet. Absent means Enabled; taken for immutable.

    In the workspaces that `managed_network_workspaces` names the service ignores it for the managed network's rules.
    """
    for deployment in endpoint.items(DEPLOYMENTS, "name"):
        if not in_managed_network(endpoint, p):
            yield from deployment.expect("properties.egressPublicNetworkAccess", one_of=("Disabled",), absent="Enabled")


def data_collected(endpoint: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each deployment that does not keep what goes in and comes out. An absent dataCollector keeps nothing.

    An absent samplingRate counts as all of it.
    """
    whole = {"collections": {name: {"dataCollectionMode": "Enabled"} for name in p["required_collections"]}}
    for deployment in endpoint.items(DEPLOYMENTS, "name"):
        if deployment.get("properties.dataCollector") is ABSENT:
            yield from deployment.expect("properties.dataCollector", one_of=(whole,))
            continue
        for name in p["required_collections"]:
            at = join(COLLECTIONS, show((name,)))
            mode = f"{at}.dataCollectionMode"
            yield from deployment.expect(mode, one_of=("Enabled",), absent="Disabled")
            rate = deployment.get(f"{at}.samplingRate")
            is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
            if rate is not ABSENT and not (is_number and rate >= p["min_sampling"]):
                known = (rate,) if is_number else ()
                yield from deployment.expect(f"{at}.samplingRate", one_of=(p["min_sampling"],), known=known)


def source_approved(endpoint: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each deployment of a model, environment or code that comes neither from the workspace nor from an
    allowed registry.

    No model at all is a custom container: its environment is judged. Batch deployments are not read.
    """
    space = ids.up_to(endpoint.id, SPACE)
    ours = fold(space) if space else "?"
    for deployment in endpoint.items(DEPLOYMENTS, "name"):
        for path, kind, registries in (
            ("properties.model", "models", p["allowed_registries"]),
            ("properties.environmentId", "environments", p["allowed_environment_registries"]),
            ("properties.codeConfiguration.codeId", "codes", ()),
        ):
            asset = deployment.text(path)
            if asset and not _is_from(asset, kind, ours, registries):
                yield from certain(deployment.undecided(path, "not of this workspace, nor of an allowed registry"))
            elif asset and kind == "models" and not _is_approved(asset, p):
                yield from certain(deployment.undecided(path, "not an approved model"))


_ASSET = r"/(models|environments|codes)/[\w.-]+(?:/(?:versions|labels)/[\w.-]+)?"
_OURS = re.compile(r"(?:azureml:/?)?(/subscriptions/[^/]+/resourcegroups/[^/]+/"
                   r"(?:providers/microsoft\.machinelearningservices/)?workspaces/[^/]+)" + _ASSET, re.ASCII)
_REGISTRY = re.compile(r"azureml://registries/([\w-]+)" + _ASSET, re.ASCII)


def _is_from(asset: str, kind: str, ours: str, registries: Any) -> bool:
    """`asset` folded: an ARM id, azureml:id, azureml://subscriptions/..., or azureml://registries/..."""
    own, registry = _OURS.fullmatch(asset), _REGISTRY.fullmatch(asset)
    if own:
        space = own[1] if "/providers/" in own[1] else own[1].replace(
            "/workspaces/", "/providers/microsoft.machinelearningservices/workspaces/")
        return space == ours and own[2] == kind
    return registry is not None and registry[2] == kind and registry[1] in map(fold, registries)


def _is_approved(asset: str, p: Parameters) -> bool:
    """By the model's name, with or without its version; without `approved_models` any that is not denied."""
    _, _, tail = asset.rpartition("/models/")
    names = {tail, tail.split("/")[0], tail.replace("/versions/", "/")}
    return not names & set(map(fold, p["denied_models"])) and (
        not p["approved_models"] or bool(names & set(map(fold, p["approved_models"]))))


def telemetry_kept(endpoint: Node, _: Parameters) -> Iterator[Drift]:
    """Drift for each deployment without Application Insights. Absent means off."""
    for deployment in endpoint.items(DEPLOYMENTS, "name"):
        drifts = deployment.expect("properties.appInsightsEnabled", one_of=(True,), absent=False)
        yield from noted(drifts, "switching it on rolls the deployment")


def content_safe(endpoint: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while a model of the catalogue answers unfiltered. Absent means the service's default, which filters."""
    status = "properties.contentSafety.contentSafetyStatus"
    if p["require_explicit"] or endpoint.get("properties.contentSafety") is not ABSENT:
        yield from endpoint.expect(status, one_of=("Enabled",), known=("Disabled",))


def no_serverless_key(endpoint: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while static keys spend the budget. Required; AAD and KeyAndAAD exist since 2025-12-01, Key before."""
    yield from endpoint.expect("properties.authMode", one_of=("AAD",), known=("Key", "KeyAndAAD"))


def _sampling(value: Any) -> str:
    """Floor: less than a hundredth of the requests shows no drift."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return "" if is_number and 0.01 <= value <= 1 else "must be a share from 0.01 to 1"


DEPLOYED = tuple(f"{ONLINE}/deployments/{verb}" for verb in ("write", "delete"))
CUT = "every caller: the endpoint is closed to the Internet, and no deployment gets traffic"


def _control(id: str, check: Check, severity: Severity, response: Response, title: str, why: str, breaks: str,
             drift: dict[str, Any], *, on: str = ONLINE, **more: Any) -> Control:
    return Control(f"ml-{id}", check, on=on, severity=severity, response=response, title=title, why=why, breaks=breaks,
                   drift=drift, triggered_by=more.pop("triggered_by", (f"{on}/write",)), **more)


_deployed = partial(_control, also_reads=(DEPLOYMENTS,), triggered_by=DEPLOYED)
BLUE = f"{DEPLOYMENTS}[name='blue'].properties"

CONTROLS = (
    _control(
        "online-endpoint-public-network-access", endpoint_closed, "high", "revert",
        "Scoring endpoint is closed to the Internet",
        "anybody can query the model, draw it out, or run up the bill", "callers outside the workspace's private endpoint",
        {ACCESS: "Enabled"}),
    _control(
        "online-endpoint-auth-mode", tokens_only, "high", "isolate", "Scoring endpoint takes tokens, not keys",
        "a static key does not expire and has no user", f"{CUT}; new keys are made by a person",
        {"properties.authMode": "Key"},
        triggered_by=tuple(f"{ONLINE}/{verb}" for verb in ("write", "regenerateKeys/action", "listKeys/action")),
        parameters={"allowed_auth_modes": TOKENS}, floors={"allowed_auth_modes": floors.some_of(TOKENS)}),
    _control(
        "online-endpoint-traffic", traffic_as_approved, "medium", "revert",
        "Live and mirrored traffic goes to approved deployments",
        "a poisoned or untested model gets live requests, or copies of them", "a rollout that was meant",
        {"properties.traffic.blue": 0, "properties.traffic.green": 100}, learns=True,
        asks="a rollout looks the same",
        parameters={"approved_deployments": ()}, floors={"approved_deployments": floors.names}),
    _deployed(
        "online-deployment-egress", no_way_out, "medium", "isolate", "Deployments cannot call the Internet",
        "a scoring container that was broken into can carry data out", CUT,
        {f"{BLUE}.egressPublicNetworkAccess": "Enabled"}, parameters=NETWORKS, floors=NETWORKS_FLOOR),
    _deployed(
        "online-deployment-data-collector", data_collected, "medium", "revert",
        "Deployments keep inputs and outputs for monitoring", "no data to see drift or misuse in",
        "rolls the deployment; requests may hold personal data", {f"{BLUE}.dataCollector": ABSENT},
        asks="what people ask the model is kept from then on",
        parameters={"required_collections": ("model_inputs", "model_outputs"), "min_sampling": 1},
        floors={"required_collections": floors.keeps("model_inputs"), "min_sampling": _sampling}),
    _deployed(
        "online-deployment-model-source", source_approved, "high", "isolate",
        "Deployments serve models of the workspace or of allowed registries",
        "weights of unknown origin run inside the tenant", CUT,
        {f"{BLUE}.model": "azureml://registries/elsewhere/models/backdoored/versions/1"},
        parameters={"allowed_registries": (), "allowed_environment_registries": ("azureml",), "approved_models": (),
                    "denied_models": ()},
        floors={"allowed_registries": floors.names,
                "allowed_environment_registries": floors.names,
                "approved_models": floors.names,
                "denied_models": floors.names}),
    _deployed(
        "online-deployment-app-insights", telemetry_kept, "low", "report", "Deployments send request telemetry",
        "no telemetry of requests when an incident is looked into", "", {f"{BLUE}.appInsightsEnabled": False}),
    _control(
        "serverless-endpoint-content-safety", content_safe, "high", "revert", "Serverless model endpoint filters content",
        "models of the catalogue answer unfiltered", "work that needs unfiltered output",
        {"properties.contentSafety.contentSafetyStatus": "Disabled"}, on=SERVERLESS,
        parameters={"require_explicit": False}, floors={"require_explicit": floors.flag}),
    _control(
        "serverless-endpoint-auth", no_serverless_key, "medium", "revert", "Serverless endpoint takes tokens, not keys",
        "a static key spends a budget that is paid by the token", "clients that hold keys",
        {"properties.authMode": "Key"}, on=SERVERLESS,
        triggered_by=tuple(f"{SERVERLESS}/{verb}" for verb in ("write", "regenerateKeys/action", "listKeys/action")),
        asks="whether the mode of a standing endpoint can be changed was never recorded"),
)
