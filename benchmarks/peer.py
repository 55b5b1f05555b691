"""Cloud Custodian's Azure side, as a worker (see measure.py), run in an environment of its own.

`way`: "function" is what its Azure Function does for one queue message, c7n_azure.handler.run: it loads the policies,
signs in, runs each of them, and forgets all of it. "loaded" keeps policies and session, as its container host does.
One of our controls is one of its policies: a filter on one property and, in the case "mend", its own action.

Patched, to reach the stub and for nothing else: the public cloud's ARM endpoint, and azure.core's refusal to send a
token over http. The token is in the authorization file, a form that its session reads; it is never asked for. The
output folder that it makes for each message is made where it can be removed afterwards.
"""

from __future__ import annotations

import json
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.measure import SUBSCRIPTION, Cell, Events, Meter, Result, begin, work

# (key, operator, value) of the drift, in the order of our controls
FILTERS: tuple[tuple[str, str, Any], ...] = (
    ("properties.supportsHttpsTrafficOnly", "ne", True),
    ("properties.publicNetworkAccess", "ne", "Disabled"),
    ("properties.networkAcls.defaultAction", "ne", "Deny"),
    ("properties.networkAcls.ipRules[0].value", "ne", None),
    ("properties.allowBlobPublicAccess", "ne", False),
    ("properties.minimumTlsVersion", "ne", "TLS1_2"),
    ("properties.allowSharedKeyAccess", "ne", False),
    ("properties.allowCrossTenantReplication", "ne", False),
    ("properties.encryption.keySource", "ne", "Microsoft.Keyvault"),
)


def policies(cell: Cell) -> dict[str, Any]:
    rest = FILTERS[1:] * (1 + cell.controls // len(FILTERS[1:]))
    mode = {"type": "azure-event-grid", "events": ["StorageWrite"],
            "provision-options": {"identity": {"type": "SystemAssigned"}}}
    return {"policies": [
        {"name": f"policy-{number}", "resource": "azure.storage", "mode": mode,
         "filters": [{"type": "value", "key": key, "op": operator, "value": value}],
         "actions": [{"type": "require-secure-transfer", "value": True}] if cell.case == "mend" else []}
        for number, (key, operator, value) in enumerate([FILTERS[0], *rest][: cell.controls])]}


class Side:
    def __init__(self, cell: Cell, folder: Path) -> None:
        from c7n_azure import entry, handler, policy

        entry.initialize_azure()
        point_at(cell.stub)
        self.cell, self.found, self._lock = cell, 0, threading.Lock()
        self.config, self.output = policies(cell), folder / "output"
        handler.get_tmp_output_dir = lambda: tempfile.mkdtemp(dir=folder)
        (folder / "config.json").write_text(json.dumps(self.config))
        (folder / "auth.json").write_text(json.dumps(
            {"access_token": "t", "tenant_id": SUBSCRIPTION, "subscription_id": SUBSCRIPTION}))
        self.context = {"config_file": str(folder / "config.json"), "auth_file": str(folder / "auth.json")}
        self._plain, self._mode = policy.AzureModeCommon.run_for_event, policy.AzureModeCommon
        self._mode.run_for_event = staticmethod(self.counted)
        self.one = self.function if cell.way == "function" else self.loaded()

    def counted(self, policy: Any, event: Any = None) -> Any:
        """Their function, and how many resources it found."""
        resources = self._plain(policy, event)
        if resources:
            with self._lock:
                self.found += len(resources)
        return resources

    def close(self) -> None:
        self._mode.run_for_event = staticmethod(self._plain)

    def function(self, event: dict[str, Any]) -> None:
        from c7n_azure import handler

        handler.run(event, self.context, SUBSCRIPTION)

    def loaded(self) -> Callable[[dict[str, Any]], None]:
        from c7n.config import Config
        from c7n.policy import PolicyCollection
        from c7n.resources import load_resources
        from c7n.structure import StructureParser
        from c7n_azure.provider import Azure

        load_resources(StructureParser().get_resource_types(self.config))
        options = Config.empty(authorization_file=self.context["auth_file"], account_id=SUBSCRIPTION,
                               output_dir=str(self.output))
        kept = list(PolicyCollection.from_data(self.config, Azure().initialize(options)))

        def one(event: dict[str, Any]) -> None:
            for policy in kept:
                policy.push(event, None)

        return one

    def drive(self, events: Iterator[tuple[str, str]]) -> int:
        """Handles the events, in as many threads as are in flight; returns how many."""
        lock, count = threading.Lock(), 0

        def lane() -> None:
            nonlocal count
            while True:
                with lock:
                    event = next(events, None)
                    if event is None:
                        return
                    count += 1
                self.one(json.loads(event[0]))

        if self.cell.in_flight == 1:
            lane()
        else:
            with ThreadPoolExecutor(self.cell.in_flight) as pool:
                for done in [pool.submit(lane) for _ in range(self.cell.in_flight)]:
                    done.result()
        return count


def point_at(url: str) -> None:
    from azure.core.pipeline.policies import _authentication
    from msrestazure.azure_cloud import AZURE_PUBLIC_CLOUD

    AZURE_PUBLIC_CLOUD.endpoints.resource_manager = f"{url}/"
    _authentication._enforce_https = lambda request: None


def run(cell: Cell) -> Result:
    begin(cell)
    with tempfile.TemporaryDirectory() as folder:
        side, events = Side(cell, Path(folder)), Events()
        try:
            side.drive(events.until(0, cell.in_flight if cell.warm else 0))
            side.found = 0
            meter = Meter(cell.stub)
            count = side.drive(events.until(cell.seconds, max(cell.least, 2 * cell.in_flight if cell.warm else 0)))
            wanted = 0 if cell.case == "clean" else count
            return meter.stop(count, count if side.found == wanted else side.found)
        finally:
            side.close()


def quiet() -> None:
    """Their lines are made and thrown away, as ours are; the SDK's own line a request is not made."""
    logging.basicConfig(stream=Path("/dev/null").open("w"), level=logging.INFO)  # noqa: SIM115
    logging.getLogger("azure").setLevel(logging.WARNING)


if __name__ == "__main__":
    quiet()
    work(run)
