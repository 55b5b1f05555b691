"""The two secure recipes of docs/how-to/secure-recipes.md: its commands are run over HTTP, and the real loop looks on.

What az sends for `cognitiveservices account create` was recorded with azure-cli 2.91.0; `az rest` sends what it is given.
"""

from __future__ import annotations

import copy
import json
import re
import shlex
import string
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from detectors import CONTROLS
from guardrail.ids import ResourceId
from guardrail.paths import ABSENT, parse, put
from tests.flow.world import ENFORCE, World, world

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parent.parent / "docs/how-to/secure-recipes.md").read_text("utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
GROUP = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups"
ACCOUNT = f"{GROUP}/ai-security-rg/providers/Microsoft.CognitiveServices/accounts/secure-openai"
WORKSPACE = f"{GROUP}/ml-security-rg/providers/Microsoft.MachineLearningServices/workspaces/secure-ml-workspace"
VAULT = f"{GROUP}/ml-security-rg/providers/Microsoft.KeyVault/vaults/ml-kv"
POLICY = ENFORCE.replace("  parameters:\n", f"""  parameters:
    cognitive-account-kind-and-sku: {{allowed_kinds: [OpenAI]}}
    ml-workspace-cmk: {{allowed_key_vault_ids: [{VAULT}]}}
""")

Request = tuple[str, str, Any]      # method, path with its api-version, body


def requests(script: str) -> Iterator[Request]:
    """What the commands of a block send, in order."""
    names = dict[str, str]()
    for line in _commands(script):
        words = [string.Template(word).safe_substitute(names) for word in shlex.split(line)]
        flags = {word: value for word, value in zip(words, [*words[1:], ""], strict=True) if word.startswith("--")}
        match words:
            case [assigned] if re.match(r"[A-Z]+=", assigned):
                name, _, given = assigned.partition("=")
                names[name] = given
            case ["az", "group", "create", *_]:
                yield "PUT", f"{GROUP}/{flags['--name']}?api-version=2024-11-01", {"location": flags["--location"]}
            case ["az", "cognitiveservices", "account", "create", *_]:
                assert "--public-network-access" not in flags, "az has no such flag"
                body: dict[str, Any] = {
                    "sku": {"name": flags["--sku"]}, "kind": flags["--kind"], "location": flags["--location"],
                    "properties": {"customSubDomainName": flags["--custom-domain"]}}
                if "--assign-identity" in flags:
                    body["identity"] = {"type": "SystemAssigned"}
                yield "PUT", f"{ACCOUNT}?api-version=2026-05-15-preview", body
            case ["az", "rest", *_]:
                yield flags["--method"].upper(), flags["--url"], json.loads(flags["--body"])
            case _:
                pytest.fail(f"the test does not know what this sends: {line}")


def _commands(script: str) -> list[str]:
    """Lines, those that go on after a backslash or inside a quote joined."""
    found = list[str]()
    open_line = ""
    for line in script.replace("\\\n", " ").splitlines():
        open_line = f"{open_line}\n{line}" if open_line else line
        if open_line.count("'") % 2 == 0:
            found.append(open_line)
            open_line = ""
    assert not open_line
    return [line for line in found if line.strip()]


async def send(here: World, method: str, path: str, body: Any) -> None:
    """Over HTTP, as an ml-engineer; anything but success fails the test."""
    token = here.sim.identity.token("ml-engineer")
    request = urllib.request.Request(here.sim.url + path, json.dumps(body).encode(), method=method, headers={
        "Authorization": f"Bearer {token}", "Content-Type": "application/json"})
    answer = await anyio.to_thread.run_sync(lambda: urllib.request.urlopen(request, timeout=10))
    answer.close()


async def found(here: World, id: str) -> set[str]:
    """The controls that speak once everything is looked at and settled."""
    await here.forward(70, step=35)
    assert here.ours == [], "report mode writes nothing"
    return {control for control, _ in (await here.case(ResourceId(id))).findings}


async def findings(folder: Path, id: str, sent: list[Request]) -> set[str]:
    async with world(folder, POLICY, ceiling="report") as here:
        for request in sent:
            await send(here, *request)
        return await found(here, id)


def at(path: str, value: Any) -> Callable[[Any], Any]:
    return lambda body: put(body, parse(path), value)


# flag -> (how it is undone in what was sent, and the controls that it serves). What is fixed at creation, or what PATCH
# does not take back, is undone in the request that creates; the rest by a PATCH afterwards (None).
Undone = tuple[Callable[[Any], Any] | None, Any, set[str]]
OPENAI: dict[str, Undone] = {
    "--kind OpenAI": (at("kind", "AIServices"), None, {"cognitive-account-kind-and-sku"}),
    "--sku S0": (at("sku.name", "F0"), None, {"cognitive-account-kind-and-sku"}),
    "--custom-domain": (at("properties.customSubDomainName", ABSENT), None, {"cognitive-custom-subdomain"}),
    "--public-network-access Disabled": (
        None, {"properties": {"publicNetworkAccess": "Enabled"}},
        {"cognitive-public-network-access", "cognitive-network-acls-default-deny"}),
    "--assign-identity": (None, {"identity": {"type": "None"}}, {"cognitive-managed-identity"}),
}
ML: dict[str, Undone] = {
    "--public-network-access Disabled": (
        None, {"properties": {"publicNetworkAccess": "Enabled"}}, {"ml-workspace-public-network-access"}),
    "--identity-type SystemAssigned": (None, {"identity": {"type": "None"}}, {"ml-workspace-identity"}),
    "--encryption-key-vault-id": (
        at("properties.encryption.keyVaultProperties.keyVaultArmId", VAULT + "-of-others"), None, {"ml-workspace-cmk"}),
    "--encryption-key-identifier": (at("properties.encryption", ABSENT), None, {"ml-workspace-cmk"}),
}
RECIPES = {
    "openai": (ACCOUNT, BLOCKS[0], OPENAI), "openai, one request": (ACCOUNT, BLOCKS[1], OPENAI),
    "ml": (WORKSPACE, BLOCKS[2], ML)}
each_recipe = pytest.mark.parametrize("name", RECIPES)


@each_recipe
async def test_what_the_flags_mean_raises_no_finding(name: str, tmp_path: Path) -> None:
    """And what the page says of the rest is so."""
    id, script, flags = RECIPES[name]
    speaking = await findings(tmp_path, id, list(requests(script)))
    assert speaking & {control for _, _, serves in flags.values() for control in serves} == set()
    told = re.findall(r"These still speak: ([^.]+)\.", PAGE)[id == WORKSPACE]
    assert speaking == set(told.replace("\n", " ").split(", ")), "the page names what the recipe leaves open"


@pytest.mark.parametrize(("name", "flag"), [(name, flag) for name, (_, _, flags) in RECIPES.items() for flag in flags])
async def test_each_flag_undone_is_caught_by_exactly_the_controls_it_serves(name: str, flag: str, tmp_path: Path) -> None:
    id, script, flags = RECIPES[name]
    edit, patch, serves = flags[flag]
    sent = list(requests(script))
    if edit is not None:
        sent = [(method, path, edit(copy.deepcopy(body)) if method == "PUT" and id in path else body)
                for method, path, body in sent]
    (tmp_path / "good").mkdir()
    good = await findings(tmp_path / "good", id, list(requests(script)))
    async with world(tmp_path, POLICY, ceiling="report") as here:
        for request in sent:
            await send(here, *request)
        if patch is not None:
            assert await found(here, id) == good
            await send(here, "PATCH", sent[-1][1], patch)
        after = await found(here, id)
        assert after - good == serves
        assert flag == "--kind OpenAI" or good <= after     # another kind is judged by fewer controls
        if patch is not None:
            raised = {record["detail"].get("control") for record in await here.records(ResourceId(id))
                      if record["event"] == "finding.raised"}
            assert serves <= raised


async def test_between_create_and_patch_the_account_is_public_and_said_to_be(tmp_path: Path) -> None:
    *create, patch = requests(BLOCKS[0])
    serves = OPENAI["--public-network-access Disabled"][2]
    async with world(tmp_path, POLICY, ceiling="report") as here:
        for request in create:
            await send(here, *request)
        assert await found(here, ACCOUNT) >= serves
        await send(here, *patch)
        assert await found(here, ACCOUNT) & serves == set()


@pytest.mark.parametrize(("flags", "nth"), [(OPENAI, 0), (ML, 1)], ids=["openai", "ml"])
def test_the_page_says_which_controls_watch_a_flag(flags: dict[str, Undone], nth: int) -> None:
    section = PAGE.split("\n## ")[nth + 1]
    rows = re.findall(r"^\| `(--[^`]+)` \| [^|]+ \| ([^|]+) \|$", section, re.MULTILINE)
    told = {flag: set(controls.split(", ")) for flag, controls in rows}
    assert told == {flag: serves for flag, (_, _, serves) in flags.items()}
    assert {control for serves in told.values() for control in serves} <= {control.id for control in CONTROLS}
