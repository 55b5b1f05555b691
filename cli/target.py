"""What a command works on beside a guardrail: a policy, the local store, and the embedded run that holds it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cli.identities import GROUP
from cli.output import Code, Ended
from guardrail import app, policy, policy_file
from guardrail.errors import ConfigError
from guardrail.settings import Settings
from guardrail.settings import read as read_settings
from guardrail.values import Control, Decision, Finding


def load_policy(name: str = "") -> policy.Policy:
    """From a file of the caller's, else GUARDRAIL_POLICY or guardrail.yaml of the package. Errors: ConfigError, Ended."""
    if not name:
        return app.load_policy(os.environ.get("GUARDRAIL_POLICY", "guardrail.yaml"))
    try:
        loaded = policy_file.load(Path(name).read_bytes(), name)
    except OSError as error:
        raise Ended(Code.BAD_POLICY, f"{name}: {error.strerror}. cure: name a policy file that can be read.") from error
    policy_file.check(loaded, app.CONTROLS)
    return loaded


def policy_text(loaded: policy.Policy) -> str:
    return f"policy {loaded.source} {loaded.hash[:8]}" if loaded.hash else "no policy file (everything is on, report only)"


def decide(finding: Finding, control: Control, loaded: policy.Policy, tags: Any) -> Decision:
    """What the policy says of a finding where nothing else lowers it: no ceiling, no switch, no actor."""
    place = policy.place(finding.resource, loaded)
    held = tags if isinstance(tags, Mapping) else {}
    return policy.decide(finding, control, place, held, loaded, policy.Rules(switch="policy"), "enforce", app.now())


def store_path() -> Path:
    """Of the local store. Errors: ConfigError for one that is no file."""
    name = os.environ.get("GUARDRAIL_STORE") or ".run/guardrail.db"
    if "://" in name:
        raise ConfigError("environment", "GUARDRAIL_STORE", name, "name a SQLite file: these commands work on a local one.")
    return app.ROOT / name


def shown_path(path: Path) -> str:
    """As short as it can be typed here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def settings(simulator: str, subscriptions: Sequence[str], policy: str) -> Settings:
    """Of the embedded run, and of every command that works beside it."""
    return read_settings({
        "GUARDRAIL_SUBSCRIPTIONS": ",".join(subscriptions), "GUARDRAIL_CLOUD": simulator, "GUARDRAIL_APPROVERS": GROUP,
        "IDENTITY_ENDPOINT": f"{simulator}/msi/token", "GUARDRAIL_CEILING": "enforce", "GUARDRAIL_POLICY": policy,
        "GUARDRAIL_STORE": str(store_path())})


@dataclass(frozen=True, slots=True)
class Running:
    """An embedded run of this machine, as it left its mark beside the store."""

    pid: int
    simulator: str
    url: str
    subscriptions: tuple[str, ...]
    policy: str


def mark_path() -> Path:
    return store_path().with_suffix(".run.json")


def running() -> Running | None:
    """The embedded run on this store, if one is up."""
    try:
        found = msgspec.json.decode(mark_path().read_bytes(), type=Running)
        os.kill(found.pid, 0)
    except (OSError, msgspec.MsgspecError):
        return None
    return found


def running_text() -> str:
    run = running()
    return f" (embedded run at {run.url})" if run else ""
