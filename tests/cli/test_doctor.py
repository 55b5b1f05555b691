"""doctor, against a simulated Azure in which a deployment of infra/ stands, and a console beside it."""

from __future__ import annotations

import asyncio
import copy
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

import cli.doctor
import cli.seen
from cli import checks, live
from guardrail import app, ids
from guardrail.authorize import Person
from simulator import Simulator
from tests import infra
from tests.bicep import SUBSCRIPTION
from tests.cli.conftest import Guardrail
from tests.cli.deployed import EMPTY, READ, READER, ROLE, SCOPE, WRITE, Deployed, Site, without
from tests.deployment import GROUP
from tests.infra import ACCOUNTS, DEFINITIONS, OTHER, SUBSCRIPTIONS, TOPIC

AUDIT = f"{GROUP}-audit"
CONTRIBUTOR = f"{SCOPE}/providers/{DEFINITIONS}/b24988ac-6180-42a0-ab88-20f7382dd24c"
POLICIES = f"{ACCOUNTS}/blobServices/containers/immutabilityPolicies"
QUEUES = f"{ACCOUNTS}/queueServices/queues"
KEYS = "Microsoft.KeyVault/vaults/keys"


@pytest.fixture
def site(deployed: Deployed, own_store: Path) -> Iterator[Site]:
    found = Site(own_store, deployed.simulator.url)
    yield found
    found.stop()


@pytest.fixture
def doctor(deployed: Deployed, site: Site, guardrail: Guardrail, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """doctor(*flags) -> (exit code, the rows, what stderr said), with azd's environment of the deployment."""
    monkeypatch.delenv("GUARDRAIL_STORE")
    outputs = infra.template(deployed.name).outputs()
    for name in ("GUARDRAIL_GROUP", "GUARDRAIL_AUDIT_GROUP", "GUARDRAIL_RECORDS_ID", "GUARDRAIL_ANCHORS", "GUARDRAIL_GUARDED"):
        monkeypatch.setenv(name, outputs[name])
    monkeypatch.setenv("GUARDRAIL_URL", site.url)
    monkeypatch.setenv("PATH", "/nowhere")

    def call(*flags: str) -> tuple[int, list[dict[str, str]], str]:
        answer = guardrail("doctor", "--cloud", deployed.simulator.url, "-o", "json", *flags)
        return answer.code, json.loads(answer.out), answer.err

    return call


def bad(rows: list[dict[str, str]], *marks: str) -> list[str]:
    return [f"{row['check']}: {row['text']}" for row in rows if row["mark"] in (marks or ("failed", "warning"))]


SKIPPED = {
    "as it comes": {"channels"}, "two subscriptions, one with a topic": {"channels"}, "straight to the function": {"channels"},
    "enforcing, cheap, with chats": {"report-only", "probe"}}


@pytest.mark.parametrize("deployed", list(SKIPPED), indirect=True)
def test_a_deployment_as_the_template_makes_it_is_fine(deployed: Deployed, doctor: Any) -> None:
    if deployed.name.startswith("two"):         # it was there before, and so the template does not make it
        deployed.simulator.seed(TOPIC, {"properties": {"topicType": "Microsoft.Resources.Subscriptions",
                                                       "source": f"/subscriptions/{OTHER}"}})
    code, rows, said = doctor("--strict")
    assert (code, bad(rows)) == (0, []), said
    assert {row["check"] for row in rows if row["mark"] == "skipped"} == SKIPPED[deployed.name]
    guarded = 2 if deployed.name.startswith("two") else 1
    assert sum(row["check"] == "filters" for row in rows) == guarded
    assert [line for line in deployed.simulator.writes() if not line.path.endswith("/appsettings/list")] == []


def of(type: str, has: str, path: str, value: Any) -> Callable[[Deployed], None]:
    return lambda one: one.edit(type, has, path, value)


FILTER = "filter.advancedFilters"
TO = "deliveryWithResourceIdentity.destination.properties"
# check, mark, what is broken, what its line says
DEFECTS: list[tuple[str, str, Callable[[Deployed], None], str]] = [
    ("identity", "failed", of("Microsoft.Web/sites", "front", "/tags", {}), "no app in the group is tagged"),
    ("identity", "failed", of("Microsoft.Web/sites", "hands", "/identity.type", "SystemAssigned, UserAssigned"), "hands"),
    ("role", "failed", of(DEFINITIONS, READER, ROLE, without(READ)), "lacks 1 of"),
    ("role", "failed", lambda one: one.narrow(f"{SCOPE}/resourceGroups/rg-ai"), "lacks 48 of 48"),
    ("role", "warning", of(DEFINITIONS, READER, ROLE, lambda held: [*held, "Microsoft.Compute/disks/read"]), "no control"),
    ("report-only", "failed", lambda one: one.grant("hands", CONTRIBUTOR, SCOPE), "Contributor lets hands write"),
    ("report-only", "failed", lambda one: one.grant("hands", CONTRIBUTOR, f"{SCOPE}/resourceGroups/rg-ai"), "Contributor"),
    ("report-only", "failed", of(DEFINITIONS, READER, ROLE, lambda held: [*held, WRITE]), WRITE),
    ("front", "failed", lambda one: one.grant("front", CONTRIBUTOR, SCOPE), "front, which faces people, has Contributor"),
    ("filters", "failed", of(SUBSCRIPTIONS, "", f"{FILTER}.0.values", without("Microsoft.Storage/")), "Microsoft.Storage/"),
    ("filters", "failed", of(SUBSCRIPTIONS, "", "filter.includedEventTypes",
                             without("Microsoft.Resources.ResourceDeleteSuccess")), "ResourceDeleteSuccess"),
    ("filters", "failed", of(SUBSCRIPTIONS, "", "filter.subjectBeginsWith", "/x"), "narrowed by subjectBeginsWith"),
    ("filters", "failed", of(SUBSCRIPTIONS, "", FILTER, lambda held: [*held, {
        "key": "subject", "operatorType": "StringContains", "values": ["x"]}]), "narrowed by subject"),
    ("filters", "warning", of(SUBSCRIPTIONS, "", f"{FILTER}.0.values", lambda held: [*held, "Microsoft.Sql/"]), "no control"),
    ("delivery", "failed", of(SUBSCRIPTIONS, "", f"{TO}.queueName", "theirs"), "elsewhere"),
    ("delivery", "failed", of(SUBSCRIPTIONS, "", f"{TO}.resourceId", f"{GROUP}/x/theirs"), "theirs"),
    ("dead-letters", "failed", of(SUBSCRIPTIONS, "", "deadLetterWithResourceIdentity", None), "lost"),
    ("storage", "failed", of(ACCOUNTS, "records", "allowSharedKeyAccess", True), "shared keys are on"),
    ("storage", "failed", of(ACCOUNTS, "records", "allowSharedKeyAccess", None), "shared keys are on"),
    ("storage", "failed", of(ACCOUNTS, "hands", "allowBlobPublicAccess", True), "anonymous reads"),
    ("storage", "failed", of(ACCOUNTS, "records", "/properties", lambda held: {
        **held, "publicNetworkAccess": "Enabled", "networkAcls": {"defaultAction": "Allow"}}), "every network"),
    ("store", "failed", lambda one: one.gone(f"{ACCOUNTS}/tableServices/tables", "tables/open"), "table open"),
    ("store", "failed", lambda one: one.gone(f"{ACCOUNTS}/blobServices/containers", "containers/bodies"), "container bodies"),
    ("queues", "failed", lambda one: one.gone(QUEUES, "queues/looks-poison"), "looks-poison"),
    ("queues", "warning", of(QUEUES, "queues/events-poison", "approximateMessageCount", 3), "events-poison holds 3"),
    ("queues", "warning", of(QUEUES, "queues/looks", "approximateMessageCount", 2000), "looks holds 2000"),
    ("anchors", "failed", lambda one: one.gone(POLICIES), "no retention"),
    ("anchors", "failed", of(POLICIES, "", "allowProtectedAppendWrites", False), "forbids appends"),
    ("anchors", "warning", of(POLICIES, "", "state", "Unlocked"), "not locked"),
    ("keys", "failed", lambda one: one.gone(KEYS, "front-key"), "front-key"),
    ("keys", "failed", of(KEYS, "hands-key", "attributes", {"enabled": False}), "hands-key"),
    ("keys", "failed", lambda one: one.gone(KEYS, "storage-key"), "storage-key"),
    ("settings", "failed", of("Microsoft.Web/sites/config", "hands", "GUARDRAIL_CEILING", "enforced"), "GUARDRAIL_CEILING"),
    ("settings", "failed", of("Microsoft.Web/sites/config", "front", "GUARDRAIL_PART", "all"), "GUARDRAIL_PART is all"),
    ("settings", "failed", of("Microsoft.Web/sites/config", "hands", "GUARDRAIL_TEAMS", "@Microsoft.KeyVault(SecretUri=x)"),
     "this reference did not resolve"),
    ("settings", "failed", of("Microsoft.Web/sites/config", "hands", "GUARDRAIL_GROUP", AUDIT), "not the group"),
    ("console", "warning", of("Microsoft.Web/sites/config", "front", "GUARDRAIL_APPROVERS", ""), "nobody can approve"),
    ("api-versions", "failed",
     lambda one: one.simulator.surface.versions.clear(), "Microsoft.Storage/storageAccounts 2026"),
]


@pytest.mark.parametrize(("check", "mark", "broken", "text"), DEFECTS, ids=[f"{row[0]}: {row[3]}" for row in DEFECTS])
def test_one_defect_is_one_line_with_its_cure(
        check: str, mark: str, broken: Callable[[Deployed], None], text: str, deployed: Deployed, doctor: Any) -> None:
    broken(deployed)
    code, rows, _ = doctor()
    told = [row for row in rows if row["mark"] in ("failed", "warning")]
    assert [(row["check"], row["mark"]) for row in told] == [(check, mark)], bad(rows)
    assert text in told[0]["text"]
    assert told[0]["cure"]
    assert code == (1 if mark == "failed" else 0)


def test_a_warning_fails_a_strict_doctor(deployed: Deployed, doctor: Any) -> None:
    deployed.edit(POLICIES, "", "state", "Unlocked")
    assert (doctor()[0], doctor("--strict")[0]) == (0, 1)


# The console ----------------------------------------------------------------------------------------------------------

def spoilt(site: Site) -> None:
    """One record of the store says another thing than it did."""
    with sqlite3.connect(site.store) as db:
        db.execute("UPDATE records SET body = replace(body, '\"high\"', '\"low\"') WHERE instr(body, 'finding.raised') > 0")
    db.close()


def as_stranger(site: Site) -> None:
    site.person = Person("stranger", frozenset(), frozenset(), is_person=True)


def path_is(**told: Any) -> Callable[[Site], None]:
    return lambda site: site.event_path.update(told)


TOLD: list[tuple[str, str, Callable[[Site], None], str]] = [
    ("audit", "failed", spoilt, "chains are intact"),
    ("probe", "failed", path_is(state="broken", said="broken: probe"), "broken: probe"),
    ("probe", "warning", path_is(state="unproven", said="unproven", probe={"why": "403"}), "did not take the tag: 403"),
    ("policy", "warning", lambda site: setattr(site, "policy", "guardrail.story.yaml"), "is running"),
    ("version", "warning", lambda site: setattr(site, "version", "9.9.9"), "9.9.9 runs"),
]


@pytest.mark.parametrize(("check", "mark", "broken", "text"), TOLD, ids=[row[3] for row in TOLD])
def test_what_the_running_app_says(
        check: str, mark: str, broken: Callable[[Site], None], text: str, site: Site, doctor: Any) -> None:
    broken(site)
    code, rows, _ = doctor()
    told = [row for row in rows if row["mark"] in ("failed", "warning")]
    assert [(row["check"], row["mark"]) for row in told] == [(check, mark)], bad(rows)
    assert text in told[0]["text"] and told[0]["cure"]
    assert code == (1 if mark == "failed" else 0)


def test_who_has_no_app_role_learns_only_what_is_everyones(site: Site, doctor: Any) -> None:
    as_stranger(site)
    code, rows, _ = doctor("--strict")
    skipped = {row["check"]: row["text"] for row in rows if row["mark"] == "skipped"}
    assert code == 0 and set(skipped) == {"channels", "console", "audit"}
    assert "you have no app role there" in skipped["audit"]


def test_a_probe_is_waited_for(site: Site, doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.doctor, "PROBE_STEP_S", 0.01)
    site.event_path.update(state="unproven", said="unproven")
    site.back_after = 3
    code, rows, said = doctor("--probe")
    assert code == 0 and "waiting for the probe" in said
    assert "proven just now" in next(row["text"] for row in rows if row["check"] == "probe")


@pytest.mark.parametrize("front", [503, 404], ids=["not started", "the empty app before the package"])
def test_an_app_that_was_just_deployed_is_waited_for(
        front: int, site: Site, doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.doctor, "PROBE_STEP_S", 0.01)
    site.starts, site.front = len(cli.seen.PAGES) + 2, front
    code, rows, said = doctor("--probe")
    assert (code, bad(rows)) == (0, []), said
    assert {row["check"] for row in rows if row["mark"] == "done"} >= {"console", "audit", "probe", "version"}


def test_an_app_that_never_answers_has_failed(site: Site, doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.doctor, "PROBE_STEP_S", 0.01)
    monkeypatch.setattr(cli.doctor, "PROBE_WAIT_S", 0.05)
    site.starts = 99
    code, rows, _ = doctor("--probe")
    assert (code, bad(rows, "failed")) == (1, ["probe: event path: not known: the console answers 503"])


def test_a_console_that_is_not_reachable_from_here_says_so_once(
        deployed: Deployed, site: Site, doctor: Any, guardrail: Guardrail) -> None:
    site.starts, site.front = 99, 403
    code, rows, _ = doctor("--probe")
    assert code == 0
    assert {row["check"] for row in rows if "a private console" in row["text"]} == {"console", "audit", "probe", "version"}
    table = guardrail("doctor", "--cloud", deployed.simulator.url).out
    assert "Skipped: console, audit, probe, version: the console answers 403, it is not reachable from here" in table
    assert table.count("a private console") == 1


def test_a_probe_that_does_not_come_back_in_time_has_failed(site: Site, doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.doctor, "PROBE_STEP_S", 0.01)
    monkeypatch.setattr(cli.doctor, "PROBE_WAIT_S", 0.05)
    site.event_path.update(state="unproven", said="unproven")
    code, rows, _ = doctor("--probe")
    assert (code, bad(rows, "failed")) == (1, ["probe: event path: unproven"])


# What cannot be seen or is odd ------------------------------------------------------------------------------------

def test_a_wrong_clock_is_told(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = app.now()
    monkeypatch.setattr(app, "now", lambda: now + timedelta(minutes=10))
    code, rows, _ = doctor()
    assert code == 1 and [line.partition(":")[0] for line in bad(rows)] == ["clock"]


def test_a_policy_that_does_not_hold_is_told(doctor: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(f"{EMPTY}rules: [{{name: x, mode: enforced}}]\n", "utf-8")
    code, rows, _ = doctor("--policy", str(tmp_path / "bad.yaml"))
    assert code == 1 and [line.partition(":")[0] for line in bad(rows)] == ["policy"]


def test_without_a_sign_in_one_line_fails_and_azure_is_asked_no_more(deployed: Deployed, doctor: Any) -> None:
    deployed.may_not("*")
    before = len(deployed.simulator.log)
    code, rows, _ = doctor()
    assert (code, [line.partition(":")[0] for line in bad(rows)]) == (1, ["sign-in"])
    assert {row["text"].partition(": ")[2] for row in rows if row["check"] == "storage"} == {
        "Azure was not asked: the sign-in failed"}
    assert len(deployed.simulator.log) == before + 1


def test_without_any_sign_in_it_says_what_to_do(guardrail: Guardrail, monkeypatch: pytest.MonkeyPatch) -> None:
    """No az, no identity: what was tried is of no use to whoever reads it."""
    monkeypatch.setattr("azure.identity.aio.ChainedTokenCredential", lambda *_: Nobody())
    answer = guardrail("role", "show", "--missing", "--subscription", SUBSCRIPTION, "--principal", "x")
    assert answer.code == 1
    assert "nobody is signed in to Azure here: az login" in answer.err
    table = guardrail("doctor", "--group", GROUP)
    assert table.code == 1 and "Failed: sign-in: nobody is signed in" in table.out
    assert table.out.count("the sign-in failed") == 1, "one line for all that could not be asked"


def test_az_is_asked_before_the_identity_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else doctor would look as the machine, and ask the console as the person."""
    (tmp_path / "az").write_text(
        '#!/bin/sh\nprintf \'{"accessToken": "of az", "expires_on": 4102444800}\'\n', "utf-8")
    (tmp_path / "az").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("azure.identity.aio.DefaultAzureCredential", lambda **_: Nobody())

    async def token() -> Any:
        credential = live.sign_in("login.microsoftonline.com")
        try:
            return await credential.get_token("https://management.azure.com/.default", retry_total=0)
        finally:
            await credential.close()

    assert asyncio.run(token()).token == "of az"


class Nobody:
    """A credential that finds none; the real one asks the network of Azure first."""

    async def get_token(self, *_: str, **__: Any) -> Any:
        raise ClientAuthenticationError("each of ten that were tried")

    async def close(self) -> None:
        """Nothing is open."""


def test_whoever_may_not_look_at_something_is_told_so(deployed: Deployed, doctor: Any) -> None:
    for action in ("Microsoft.Web/sites/config/list/action", "Microsoft.KeyVault/vaults/read"):
        deployed.may_not(action)
    code, rows, _ = doctor("--strict")
    skipped = {row["check"]: row["text"] for row in rows if row["mark"] == "skipped"}
    assert code == 0, bad(rows)
    assert set(skipped) == {"settings", "channels", "console", "keys"}
    assert all("you may not look" in text for text in skipped.values())


def test_nothing_is_there(deployed: Deployed, doctor: Any) -> None:
    """A group of another kind: no app, no account, no vault. Nothing is called fine that was not seen."""
    deployed.simulator.seed(f"{SCOPE}/resourceGroups/rg-empty", {"location": "eastus"})
    _, rows, _ = doctor("--group", f"{SCOPE}/resourceGroups/rg-empty")
    done = {row["check"] for row in rows if row["mark"] == "done"}
    assert done == {"sign-in", "policy", "clock", "api-versions"}
    assert [line.partition(":")[0] for line in bad(rows)] == ["identity", "storage"]


def test_odd_answers_are_not_taken_for_good_ones(deployed: Deployed, doctor: Any) -> None:
    """Every document that doctor reads is emptied: no traceback, and no check is done but those of other things."""
    for one in infra.deployed():
        if not one.existing and not one.type.endswith(("/resourceGroups", "workspaces")):
            deployed.simulator.mutate(one.id, lambda body: {"properties": None})
    code, rows, _ = doctor()
    done = {row["check"] for row in rows if row["mark"] == "done"}
    assert code == 1
    assert done <= {"sign-in", "policy", "clock", "api-versions", "audit", "probe", "version", "keys", "queues", "store"}
    assert [row["text"] for row in rows if row["check"] in ("keys", "queues")] == [
        "queues are there; how many messages wait, Azure does not say",
        "keys: those that sign and the one that encrypts are there"]


@pytest.fixture(scope="session")
def seen_whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What doctor sees of a deployment that is fine, but for the console."""
    with Simulator((SUBSCRIPTION, OTHER), folder=tmp_path_factory.mktemp("seen")) as simulator:
        Deployed(simulator, "as it comes")
        known = cli.doctor.here("", "")

        async def look() -> Any:
            async with live.arm(simulator.url, SUBSCRIPTION) as arm:
                return await cli.seen.azure(arm, ids.parse(GROUP), {}, ["Microsoft.Storage"], app.now())

        pages: dict[str, Any] = {
            "/health": {"version": "0.1.0"}, "/modes": {"policy_hash": known["policy"]}, "/audit/verify": {"intact": True},
            "/event-path": {"state": "proven"}}
        return {**asyncio.run(look()), "here": known,
                "console": {page: {"status": 200, "body": body} for page, body in pages.items()}}


ODD = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2) | st.dictionaries(
    st.sampled_from(["name", "properties", "id"]), st.none() | st.text(max_size=3), max_size=2)


@given(data=st.data())
@settings_of(max_examples=150, deadline=None)
def test_whatever_others_answer_no_check_breaks(seen_whole: Any, data: st.DataObject) -> None:
    """Any place of any answer is something else: every check still has its line, and none of them raises."""
    changed = copy.deepcopy({name: one for name, one in seen_whole.items() if name != "here"})
    place: Any = changed
    while isinstance(place, (dict, list)) and place:
        key = data.draw(st.sampled_from(sorted(place, key=str)) if isinstance(place, dict) else st.integers(0, len(place) - 1))
        inner = place[key]
        if place is not changed and (not isinstance(inner, (dict, list)) or not inner or data.draw(st.integers(0, 2)) == 0):
            place[key] = data.draw(ODD)
            break
        place = inner
    found = list(checks.lines({**changed, "here": seen_whole["here"]}))
    silent = {"namesake", *(() if changed["guarded"] else PER_SUBSCRIPTION)}
    assert {name for name, _ in found} >= set(checks.CHECKS) - silent


PER_SUBSCRIPTION = {"role", "report-only", "front", "filters", "delivery", "dead-letters"}


def test_without_a_group_it_says_what_it_needs(guardrail: Guardrail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUARDRAIL_GROUP", raising=False)
    answer = guardrail("doctor")
    assert answer.code == 64 and "--group ID" in answer.err


def test_the_hook_calls_it_as_it_can_be_called(doctor: Any, guardrail: Guardrail) -> None:
    hook = (infra.INFRA / "hooks/postdeploy.sh").read_text("utf-8")
    [words] = re.findall(r'"\$GUARDRAIL" (doctor[^;\n]*);', hook)
    assert doctor(*words.split()[1:])[0] == 0
