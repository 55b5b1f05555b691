"""What the policy has mended and no plan can mend: nothing is written, and people are told, once as long as it is so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from guardrail.documents import Node
from guardrail.ids import ResourceId
from guardrail.values import Control, Drift, Parameters
from remediators import TYPES
from tests.flow.harness import HTTPS, NOT_HTTPS, NSG, SSH, STORAGE, laid, looked, stand, world
from tests.flow.test_messages import on_a_file
from tests.flow.test_messages import told as message_world
from tests.flow.world import ENFORCE, World
from tests.receiver import Receiver
from tests.receiver import receiver as receiver

pytestmark = pytest.mark.anyio

TLS, MARK = "properties.minimumTlsVersion", "tags.bad"


def made(path: str, wanted: Any) -> Control:
    """A control that wants `wanted` at `path` where the resource has the mark."""
    def check(account: Node, _: Parameters) -> Iterator[Drift]:
        if account.get(MARK) == "yes":
            yield Drift(path, account.get(path), wanted)

    return Control("made", check, on=STORAGE, severity="critical", response="revert", title="It is so", why="w", breaks="b")


BAD: Mapping[str, Any] = {MARK: "yes"}
CASES: Mapping[str, tuple[Control | None, str, Mapping[str, Any], str]] = {
    # name: (a control besides ours, on what, what somebody did, what the record says)
    "the proof refuses": (made(TLS, "TLS1_0"), STORAGE, BAD, "request 1 of 1 would open storage-minimum-tls"),
    "nothing writes it": (made("id", "x"), STORAGE, BAD, "written by ARM alone"),
    "two controls want two things": (made(HTTPS, False), STORAGE, {**BAD, **NOT_HTTPS}, "would open storage-https-only"),
    "only a person knows": (None, STORAGE, {TLS: "TLS9_9"}, "a value that we do not know is not written over"),
    "no right to": (None, NSG, SSH, "is not in our role: opt in by"),
}
NO_REACH = ENFORCE.replace(f"  reach: [{', '.join(type.name for type in TYPES)}]\n", "")


def lay(here: World, name: str, *, good: bool = False) -> ResourceId:
    own, type, drift, _ = CASES[name]
    here.guardrail.engine.controls += (own,) if own and own not in here.guardrail.engine.controls else ()
    here.guardrail.engine._on.clear()
    return stand(here, laid(type, {} if good else drift))


async def refused(here: World, id: ResourceId, why: str = "") -> list[Any]:
    found = [one["detail"] for one in await here.records(id) if one["event"] == "plan.refused"]
    return [one for one in found if why in one["why"]]


@pytest.mark.parametrize("mode", ["enforce", "approve"])
@pytest.mark.parametrize("name", CASES)
async def test_what_cannot_be_mended_is_told_once_as_long_as_it_is_found(name: str, mode: str, tmp_path: Path) -> None:
    async with world(tmp_path, NO_REACH.replace("other: enforce", f"other: {mode}")) as here:
        id = lay(here, name, good=True)
        await looked(here, id)
        assert await refused(here, id) == []
        for times in (1, 2):
            lay(here, name)
            for _ in range(3):
                await looked(here, id)
                await here.forward(70, step=35)
            told = await refused(here, id, CASES[name][3])
            if mode == "approve" and "two controls" in name:        # the other fix waits for people first
                assert told == [] and (await here.case(id)).asked is not None
                return
            assert len(told) == times, [one["why"] for one in await refused(here, id)]
            case = await here.case(id)
            assert {path for _, path in case.findings} == set(told[-1]["paths"]) and case.asked is None
            assert len(here.ours) == times * ("two controls" in name)
            lay(here, name, good=True)      # somebody mends it by hand
            await looked(here, id)
            assert (await here.case(id)).findings == frozenset()


@pytest.mark.parametrize("how", [
    {"ceiling": "report"}, {"switch": "report"}, {"policy": NO_REACH.replace("enforce", "report")}], ids=str)
@pytest.mark.parametrize("name", CASES)
async def test_what_is_only_reported_is_refused_nothing(name: str, how: Any, tmp_path: Path) -> None:
    """And what is found while it is only reported is told once the policy has it mended."""
    async with world(tmp_path, **{"policy": NO_REACH, **how}) as here:
        id = lay(here, name)
        await looked(here, id)
        assert (await here.case(id)).findings and await refused(here, id) == []
        if "switch" in how and "two controls" not in name:
            here.clock.forward(60)
            await here.rules(switch="policy")
            await looked(here, id)
            assert len(await refused(here, id, CASES[name][3])) == 1


async def test_what_another_fix_takes_away_is_not_refused(tmp_path: Path) -> None:
    """A rule that one control knows to be wrong, and another only a person could judge: it is gone, and nobody is bothered."""
    async with world(tmp_path) as here:
        id = stand(here, laid(NSG, SSH))
        await looked(here, id)
        await here.forward(130)
        assert (await here.case(id)).findings == frozenset() and len(here.ours) == 1
        raised = [one["detail"] for one in await here.records(id) if one["event"] == "finding.raised"]
        assert {one["decided"] for one in raised} == {True, False} and await refused(here, id) == []


async def test_people_get_a_message_that_says_why(tmp_path: Path, receiver: Receiver) -> None:
    async with message_world(tmp_path, on_a_file(tmp_path), receiver) as here:
        id = lay(here, "the proof refuses")
        await looked(here, id)
        await here.forward(180)
        (message,) = [one for one in receiver.taken if one["kind"] == "plan.refused"]
        assert message["title"] == "Cannot be put back: stmltrain" and message["severity"] == "critical"
        assert message["text"].startswith("request 1 of 1 would open storage-minimum-tls at properties.minimumTlsVersion. ")
        assert "Still open: It is so." in message["text"] and message["must_do"]
