"""The run-time rules: what tightens works at once, what loosens takes two, and a raised mode spares the backlog."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from guardrail import people, switches
from guardrail.errors import Refused
from guardrail.ids import ResourceId
from guardrail.policy_schema import Exemption, Freeze
from guardrail.stores import HOME
from guardrail.values import Look
from tests.flow.harness import restart
from tests.flow.test_loop import OPEN, STORAGE
from tests.flow.test_people import APPROVER, GROUP, ONCALL, POLICY, asked, person
from tests.flow.world import DEV, PROD, World, world

pytestmark = pytest.mark.anyio

ADMIN, OTHER = person("approver", "Administrator"), person("oncall", "Administrator")
PUBLIC = "storage-public-network-access"
DEV_ONLY = POLICY.replace(f"development: [/subscriptions/{DEV}]", f"development: [/subscriptions/{DEV}, /subscriptions/{PROD}]")


@pytest.mark.threat("D12")
async def test_one_stops_it_and_two_let_it_go_on(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        engine = here.guardrail.engine
        assert (await switches.switch(engine, "report", ONCALL, "migration tonight")).switch == "report"
        with pytest.raises(Refused, match="Administrator"):
            await switches.switch(engine, "policy", ONCALL, "over")
        assert (await switches.switch(engine, "policy", ADMIN, "over")).switch == "report"
        assert (await switches.switch(engine, "policy", ADMIN, "over, again")).switch == "report", "one person is one yes"
        assert (await switches.switch(engine, "policy", OTHER, "agreed")).switch == "policy"


async def test_a_second_yes_after_an_hour_is_a_first(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY, switch="report") as here:
        engine = here.guardrail.engine
        await switches.switch(engine, "policy", ADMIN, "over")
        here.clock.forward(3601)
        assert (await switches.switch(engine, "policy", OTHER, "agreed")).switch == "report"
        here.clock.forward(60)
        assert (await switches.switch(engine, "policy", ADMIN, "now then")).switch == "policy"


async def test_where_nothing_is_production_one_is_enough(tmp_path: Path) -> None:
    async with world(tmp_path, DEV_ONLY, switch="report") as here:
        assert (await switches.switch(here.guardrail.engine, "policy", ADMIN, "go")).switch == "policy"


@pytest.mark.threat("D12", "R34")
async def test_the_switch_of_a_scope_stops_what_lies_below_it_and_nothing_else(tmp_path: Path) -> None:
    """Also what people had approved, and what was to be sent next; a page names the scope."""
    async with world(tmp_path, POLICY) as here:
        engine, (stopped, action) = here.guardrail.engine, await asked(here)
        other = here.stands(STORAGE)
        group = f"{stopped.partition('/providers/')[0]}".upper()
        await people.approve(engine, stopped, action.id, action.plan.hash, APPROVER, "yes")
        rules = await switches.switch(engine, "report", ONCALL, "only there", ResourceId(group))
        assert (rules.switch, rules.scoped) == ("policy", {group.lower(): "report"})
        here.write("PATCH", other, OPEN)
        await here.forward(120)
        assert {line.path for line in here.ours} == {other}
        case = await here.case(stopped)
        assert case.acting is not None and case.acting.state == "approved"
        (told,) = [one["detail"] for one in await here.records(HOME) if one["event"] == "mode.switched"]
        assert (told["scope"], told["was"], told["now"]) == (group, "policy", "report")
        await restart(here, POLICY)
        assert (await here.guardrail.engine.rules()).scoped == {group.lower(): "report"}, "and it is signed"
        with pytest.raises(Refused, match="Administrator"):
            await switches.switch(here.guardrail.engine, "policy", ONCALL, "over", group)
        await here.guardrail.store.send(Look(stopped, "person"))
        await here.settle()
        assert {line.path for line in here.ours} == {other}


async def test_where_the_scope_only_reports_nobody_approves(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        engine, (id, action) = here.guardrail.engine, await asked(here)
        await switches.switch(engine, "report", ONCALL, "only there", id)
        with pytest.raises(Refused, match="report-only"):
            await people.approve(engine, id, action.id, action.plan.hash, APPROVER, "yes")
        await switches.switch(engine, "approve", ADMIN, "people may", id)
        await switches.switch(engine, "approve", OTHER, "people may", id)
        await people.approve(engine, id, action.id, action.plan.hash, APPROVER, "yes")


async def test_a_scope_is_let_go_by_two_where_it_is_production(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        engine = here.guardrail.engine
        for scope in (f"/subscriptions/{PROD}", f"/subscriptions/{DEV}"):
            await switches.switch(engine, "approve", ONCALL, "quiet", scope)
        assert (await switches.switch(engine, "policy", ADMIN, "over", f"/subscriptions/{DEV}")).scoped == {
            f"/subscriptions/{PROD}": "approve"}
        waits = await switches.switch(engine, "policy", ADMIN, "over", f"/subscriptions/{PROD}")
        assert waits.scoped and [one.what for one in waits.pending] == [f"policy /subscriptions/{PROD}"]
        with pytest.raises(Refused, match="no switch waits"):
            await switches.confirm(engine, waits.generation, OTHER, "agreed")
        done = await switches.confirm(engine, waits.generation, OTHER, "agreed", f"/subscriptions/{PROD}")
        assert (done.switch, done.scoped, done.pending) == ("policy", {}, ())


async def test_the_switch_of_a_scope_is_never_looser_than_that_of_everything(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        engine, id = here.guardrail.engine, here.stands(STORAGE)
        await switches.switch(engine, "approve", ONCALL, "quiet here", f"/subscriptions/{DEV}")
        await switches.switch(engine, "report", ONCALL, "stop")
        here.write("PATCH", id, OPEN)
        await here.settle()
        case = await here.case(id)
        assert here.ours == [] and case.asked is None and case.findings
        with pytest.raises(Refused, match="guarded"):
            await switches.switch(engine, "report", ONCALL, "a slip", "/subscriptions/00000000-0000-0000-0000-00000000000f")


@pytest.mark.threat("R42")
async def test_a_raised_mode_asks_for_the_backlog_and_enforces_what_is_new(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY, switch="report") as here:
        id = here.stands(STORAGE)
        here.write("PATCH", id, {"properties": {"publicNetworkAccess": "Enabled"}})
        await here.settle()
        await here.rules(switch="policy")
        here.clock.forward(10)
        await here.guardrail.sweep()
        await here.settle()
        assert here.ours == []
        asked = (await here.case(id)).asked
        assert asked is not None and asked.plan.controls == (PUBLIC,)
        here.write("PATCH", id, {"properties": {"minimumTlsVersion": "TLS1_0"}})
        await here.forward(20, step=10)
        assert here.show(id)["properties"]["minimumTlsVersion"] == "TLS1_2"
        assert here.show(id)["properties"]["publicNetworkAccess"] == "Enabled", "the backlog still waits for people"
        assert (await here.case(id)).asked is not None


@pytest.mark.threat("A17")
async def test_a_freeze_asks_and_its_end_decides_anew(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        engine, until = here.guardrail.engine, here.clock.now + timedelta(hours=2)
        await switches.freeze(engine, Freeze(name="tonight", start=here.clock.now, until=until), ONCALL, "migration")
        id = here.stands(STORAGE)
        here.write("PATCH", id, OPEN)
        await here.settle()
        assert here.ours == [] and (await here.case(id)).asked is not None
        await here.forward(3 * 3600, step=1800)
        assert (await engine.store.rules()).freezes == ()
        await here.guardrail.store.send(Look(id, "sweep"))
        await here.forward(60)
        assert len(here.ours) == 1


def exemption(here: World, id: str, days: float = 7) -> Exemption:
    until = here.clock.now + timedelta(days=days)
    return Exemption(control=PUBLIC, scope=id, reason="open data set", owner="data-platform", until=until)


@pytest.mark.threat("A14")
async def test_an_exemption_takes_two_and_holds_for_the_value_that_was_seen(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        engine, id = here.guardrail.engine, here.stands(STORAGE)
        wanted = exemption(here, id)
        await switches.ask_exemption(engine, wanted, ADMIN)
        with pytest.raises(Refused, match="another person"):
            await switches.confirm_exemption(engine, wanted.id, ADMIN, GROUP)
        assert (await engine.store.rules()).exemptions == ()
        await switches.confirm_exemption(engine, wanted.id, ONCALL, GROUP)
        here.write("PATCH", id, {"properties": {"publicNetworkAccess": "Enabled"}})
        await here.settle()
        assert here.ours == []
        removed = await switches.remove_exemption(engine, wanted.id, APPROVER, "review over")
        assert removed.exemptions == () and removed.pins == ()


@pytest.mark.threat("A14", "R34")
async def test_an_exemption_ends_by_itself(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        engine, id = here.guardrail.engine, here.stands(STORAGE)
        wanted = exemption(here, id, 1)
        await switches.ask_exemption(engine, wanted, ADMIN)
        await switches.confirm_exemption(engine, wanted.id, ONCALL, GROUP)
        here.write("PATCH", id, {"properties": {"publicNetworkAccess": "Enabled"}})
        await here.settle()
        await here.forward(25 * 3600, step=3600 * 5)
        assert (await engine.store.rules()).exemptions == ()
        await here.guardrail.sweep()
        await here.settle()
        case = await here.case(id)
        assert case.asked is not None, "tolerated until a date: then it asks"


@pytest.mark.parametrize(("days", "scope", "control"), [
    (91, "", PUBLIC), (-1, "", PUBLIC), (7, f"/subscriptions/{DEV}", PUBLIC), (7, "", "no-such-control")])
async def test_what_is_no_exemption_is_refused(days: float, scope: str, control: str, tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id = scope or here.stands(STORAGE)
        wanted = Exemption(control=control, scope=id, reason="r", owner="o", until=here.clock.now + timedelta(days=days))
        with pytest.raises(Refused):
            await switches.ask_exemption(here.guardrail.engine, wanted, ADMIN)
