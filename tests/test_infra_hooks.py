"""azure.yaml, its parameters and its hooks: what they name is there. The hooks run, against an `az` that only takes notes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests import infra
from tests.bicep import Template, parsed

HOOKS = infra.INFRA / "hooks"
AZD = YAML(typ="safe").load((infra.ROOT / "azure.yaml").read_text("utf-8"))
PARAMETERS = json.loads((infra.INFRA / "main.parameters.json").read_bytes())["parameters"]
ONE = "00000000-0000-0000-0000-00000000000a"
GROUP = f"/subscriptions/{ONE}/resourceGroups/rg-guardrail-test"
ENVIRONMENT = {
    "AZURE_ENV_NAME": "test", "AZURE_SUBSCRIPTION_ID": ONE, "GUARDRAIL_AUDIENCE": "api://x", "GUARDRAIL_GUARDED": ONE,
    "GUARDRAIL_HANDS_PRINCIPAL": "principal", "GUARDRAIL_GROUP": GROUP, "GUARDRAIL_AUDIT_GROUP": "rg-guardrail-test-audit",
    "GUARDRAIL_FRONT": "front-app", "GUARDRAIL_HANDS": "hands-app", "GUARDRAIL_URL": "https://console",
}
# what people may set beside the outputs and parameters
OWN = {"AZURE_ENV_NAME", "AZURE_SUBSCRIPTION_ID", "GUARDRAIL_DEPLOY", "GUARDRAIL_CLI", "PYTHON"}
# what Azure publishes: every action that our roles name, in letters of its own
USUAL = {'"az provider operation show"*': """sed -n 's|^ *"\\(.*/.*\\)",*$|\\1|p' infra/roles.json | tr R r"""}
STUB = """#!/bin/sh
printf '%s\\n' "{name} $*" >>"$LOG"
case "{name} $*" in
{cases}
esac
"""


def run(hook: str, tmp_path: Path, answers: Mapping[str, str] = {}, **more: str) -> tuple[int, str, list[str]]:
    """(exit code, what it said, calls) of a hook; `answers`: pattern of a call -> shell that answers it."""
    answers = {**answers, **{pattern: answer for pattern, answer in USUAL.items() if pattern not in answers}}
    log = tmp_path / "log"
    log.write_text("")
    cases = "".join(f"  {pattern}) {answer} ;;\n" for pattern, answer in answers.items())
    for name in ("az", "azd", "guardrail", "python"):
        (tmp_path / name).write_text(STUB.replace("{name}", name).replace("{cases}", cases))
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log), **ENVIRONMENT,
                   "GUARDRAIL_CLI": str(tmp_path / "guardrail"), "PYTHON": str(tmp_path / "python"), **more}
    words = hook.split()
    command = ["sh", str(HOOKS / words[0]), *words[1:]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, log.read_text("utf-8").splitlines()


def test_both_services_are_one_package_for_two_apps() -> None:
    assert set(AZD["services"]) == {one.body["tags"]["azd-service-name"] for one in infra.made("Microsoft.Web/sites")}
    assert all(service == {"project": ".", "language": "py", "host": "function", "remoteBuild": False}
               for service in AZD["services"].values())


def test_azd_is_told_in_which_group_the_apps_are() -> None:
    """More than one carries the tag azd-env-name, by which azd would look; and which azd leaves others' groups alone."""
    tagged = [one for one in infra.made("Microsoft.Resources/resourceGroups") if "azd-env-name" in one.body["tags"]]
    assert len(tagged) > 1
    group = AZD["resourceGroup"].replace("${AZURE_ENV_NAME}", infra.LEAST["environmentName"])
    assert {one.id.split("/")[4] for one in infra.made("Microsoft.Web/sites")} == {group}
    assert AZD["requiredVersions"] == {"azd": ">= 1.24.1"}


def test_every_hook_is_there_and_can_be_run() -> None:
    named = {infra.ROOT / path for hook in AZD["hooks"].values() for path in re.findall(r"[\w/]+\.sh", hook["run"])}
    assert {path for path in named if not os.access(path, os.X_OK)} == set()
    assert named == set(HOOKS.glob("*.sh")), "each is called by azd; publishing.sh closes what it opened"
    for path in named:
        assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0


def test_azd_does_one_after_the_other_and_leaves_what_hooks_print_on_the_screen() -> None:
    """Its own `up` packages while it provisions; what a hook that is not interactive prints, it wipes out."""
    assert AZD["workflows"]["up"]["steps"] == [{"azd": "provision"}, {"azd": "deploy --all"}]
    assert all(hook["interactive"] for hook in AZD["hooks"].values())


def test_a_deployment_alone_builds_its_package_before_it_opens_the_door() -> None:
    """azd deploy calls no prepackage."""
    build, _, door = AZD["hooks"]["predeploy"]["run"].partition(" && ")
    assert (build, door) == (AZD["hooks"]["prepackage"]["run"], "infra/hooks/publishing.sh open")


def test_nobody_is_told_to_run_a_hook_without_the_environment_of_azd() -> None:
    """By hand they have none of its values: azd hooks run NAME gives them."""
    told = [*HOOKS.glob("*.sh"), *(infra.ROOT / "docs").rglob("*.md"), *(infra.ROOT / "cli").rglob("*.py")]
    run = re.compile(r"(?:Cure: .*|`|\")sh infra/hooks")
    assert {path.name for path in told if run.search(path.read_text("utf-8"))} == set()
    named = {name for path in told for name in re.findall(r"azd hooks run (\w+)", path.read_text("utf-8"))}
    assert named <= set(AZD["hooks"])


def test_the_packages_are_there_whichever_command_deploys(tmp_path: Path) -> None:
    """The second call, of azd up, may not take away what azd is packing."""
    for name in ("infra/hooks/package.sh", "requirements.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(infra.ROOT / name, tmp_path / name)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho \"$*\" >>{tmp_path}/log\nmkdir -p .python_packages/lib\n")
    python.chmod(0o755)

    def package() -> int:
        subprocess.run(["sh", tmp_path / "infra/hooks/package.sh"], env={**os.environ, "PYTHON": str(python)}, check=True)
        return len((tmp_path / "log").read_text("utf-8").splitlines())

    assert package() == 2, "is it 3.13, and then the packages"
    (tmp_path / ".python_packages/lib/kept").touch()
    assert package() == 2
    assert (tmp_path / ".python_packages/lib/kept").exists()
    (tmp_path / "requirements.txt").write_text("other==1\n")
    assert package() == 4
    assert not (tmp_path / ".python_packages/lib/kept").exists()


def test_the_parameters_are_those_of_the_template() -> None:
    known = parsed(infra.INFRA / "main.bicep")["parameters"]
    mandatory = {name for name, row in known.items() if row["default"] is None}
    assert mandatory <= set(PARAMETERS) <= set(known)
    for name, row in PARAMETERS.items():
        found = re.fullmatch(r"\$\{(AZURE|GUARDRAIL)_[A-Z_]+(?:=([^}]*))?\}", row["value"])
        assert found, name
        default = (known[name]["default"] or "").lstrip("\u00a7")
        assert (found[2] is None) == (name in mandatory)
        assert name in mandatory or found[2] == default, "azd and the template differ in what is the default"


def test_hooks_use_only_what_the_template_puts_out_or_people_may_set() -> None:
    outputs = set(infra.template().outputs())
    told = {found for row in PARAMETERS.values() for found in re.findall(r"\$\{(\w+)", row["value"])}
    text = "".join(path.read_text("utf-8") for path in HOOKS.glob("*.sh"))
    used = set(re.findall(r"\$\{?((?:AZURE|GUARDRAIL)_[A-Z_]+)", text))
    assert used <= outputs | told | OWN


def test_without_an_app_registration_nothing_is_made(tmp_path: Path) -> None:
    code, said, calls = run("preprovision.sh", tmp_path, GUARDRAIL_AUDIENCE="")
    assert code == 1
    assert "Cure: docs/tutorials/first-deployment.md" in said
    assert not [call for call in calls if " register" in call or call.startswith("azd")]


@pytest.mark.parametrize(("more", "answers", "cure"), [
    ({"AZURE_SUBSCRIPTION_ID": ""}, {}, "azd env set AZURE_SUBSCRIPTION_ID"),
    ({"GUARDRAIL_SUBSCRIPTIONS": "theirs"}, {'"az account show --subscription theirs"*': "exit 1"},
     "not to subscription theirs"),
    ({}, {'"python "*': "exit 1"}, "is not Python 3.13"),
    ({"GUARDRAIL_CLI": "/nowhere"}, {}, "Cure: make setup")],
    ids=["no subscription", "not signed in there", "another Python", "no self-check"])
def test_what_would_fail_half_an_hour_later_is_said_before(
        more: Mapping[str, str], answers: Mapping[str, str], cure: str, tmp_path: Path) -> None:
    code, said, calls = run("preprovision.sh", tmp_path, answers, **more)
    assert code == 1
    assert cure in said and "Cure: " in said
    assert not [call for call in calls if " register" in call or call.startswith("azd")]


@pytest.mark.parametrize(("more", "cure"), [
    ({"GUARDRAIL_CONSOLE_ACCESS": "private"}, "Event Grid cannot reach a private front"),
    ({"GUARDRAIL_FRONT": ""}, "a function that is not deployed yet")])
def test_events_are_not_sent_straight_to_what_they_cannot_reach(more: Mapping[str, str], cure: str, tmp_path: Path) -> None:
    code, said, calls = run("preprovision.sh", tmp_path, GUARDRAIL_DELIVERY="function", **more)
    assert code == 1
    assert cure in said
    assert not [call for call in calls if " register" in call or call.startswith("azd")]


@pytest.mark.threat("F1")
@pytest.mark.parametrize(("guarded", "is_said"), [(ONE, True), ("00000000-0000-0000-0000-00000000000b", False)])
def test_it_warns_where_it_lives_in_what_it_guards(guarded: str, is_said: bool, tmp_path: Path) -> None:
    answers = {'"az account show"*': f"echo {ONE}"}
    code, said, _ = run("preprovision.sh", tmp_path, answers, GUARDRAIL_SUBSCRIPTIONS=guarded)
    assert code == 0
    assert ("whoever owns that can become it" in said) == is_said


@pytest.mark.parametrize(("found", "code", "kept"), [
    ("", 0, ""),
    ("/x/evgt-guardrail-test\\tSystemAssigned", 0, ""),
    ("/x/evgt-other\\tSystemAssigned", 0, "/x/evgt-other"),
    ("/x/evgt-other\\tNone", 1, None),
])
def test_a_topic_of_another_product_is_used_if_it_can_deliver_by_identity(
        found: str, code: int, kept: str | None, tmp_path: Path) -> None:
    answers = {'"az account show"*': f"echo {ONE}", '"az eventgrid system-topic list"*': f"printf '{found}'"}
    done, said, calls = run("preprovision.sh", tmp_path, answers)
    assert done == code
    told = [call for call in calls if call.startswith("azd env set GUARDRAIL_TOPICS")]
    assert told == ([] if kept is None else [f"azd env set GUARDRAIL_TOPICS {kept}"])
    assert ("--identity systemassigned" in said) == (code == 1)


@pytest.mark.parametrize(("ceiling", "said"), [
    ("report", "no permission to change"), ("enforce", "Guardrail remediator, which writes")])
def test_it_says_before_what_it_will_be_allowed_to_do(ceiling: str, said: str, tmp_path: Path) -> None:
    answers = {'"az account show"*': f"echo {ONE}"}
    _, told, _ = run("preprovision.sh", tmp_path, answers, GUARDRAIL_CEILING=ceiling)
    reads = json.loads((infra.INFRA / "roles.json").read_bytes())["reader"]
    assert said in told
    assert f"({len(reads)} read actions" in told


def test_an_action_that_azure_does_not_publish_is_left_out_of_the_roles_and_said(tmp_path: Path) -> None:
    """Azure refuses a role definition that names one, and the deployment with it."""
    read, write = "Microsoft.Search/searchServices/read", "Microsoft.BotService/botServices/channels/write"
    shows = USUAL['"az provider operation show"*'] + f" | grep -vi -e {read} -e {write}"
    code, said, calls = run("preprovision.sh", tmp_path, {'"az provider operation show"*': shows})
    assert code == 0
    assert f"azd env set GUARDRAIL_UNKNOWN_ACTIONS {read},{write}" in calls
    assert f"shows as unreadable: {read},{write}" in said
    given = {**infra.LEAST, "ceiling": "enforce", "unknownActions": f"{read},{write}"}
    left = Template(infra.INFRA / "main.bicep", given, f"/subscriptions/{ONE}").resources()
    held = {action for one in left if one.type == infra.DEFINITIONS and "probe" not in one.body["properties"]["roleName"]
            for action in one.body["properties"]["permissions"][0]["actions"]}
    wanted = json.loads((infra.INFRA / "roles.json").read_bytes())
    assert held == {*wanted["reader"], *wanted["remediator"]} - {read, write}


@pytest.mark.threat("C3")
@pytest.mark.parametrize(("more", "state"), [({}, ""), ({"GUARDRAIL_ANCHORS": "stgranchor"}, "Locked")])
def test_it_looks_whether_the_anchors_are_locked(more: Mapping[str, str], state: str, tmp_path: Path) -> None:
    _, _, calls = run("preprovision.sh", tmp_path, {'"az storage container immutability-policy show"*': "echo Locked"}, **more)
    assert f"azd env set GUARDRAIL_ANCHORS_STATE {state}" in calls


@pytest.mark.parametrize("answer", ["exit 1", "true"])
def test_actions_that_cannot_be_read_stop_it(answer: str, tmp_path: Path) -> None:
    code, said, calls = run("preprovision.sh", tmp_path, {'"az provider operation show"*': answer})
    assert code == 1
    assert "could not be read" in said
    assert not [call for call in calls if "UNKNOWN" in call]


@pytest.mark.threat("F8")
@pytest.mark.parametrize(("ceiling", "removed"), [("report", ["a", "b"]), ("approve", [])])
def test_going_back_to_report_takes_the_write_role_away(ceiling: str, removed: list[str], tmp_path: Path) -> None:
    answers = {'"az role assignment list"*': "printf 'a\\nb\\n'"}
    code, _, calls = run("postprovision.sh", tmp_path, answers, GUARDRAIL_CEILING=ceiling)
    assert code == 0
    assert [call.split()[5] for call in calls if "assignment delete" in call] == removed


@pytest.mark.threat("F1")
@pytest.mark.parametrize(("console", "front"), [("public", "Enabled"), ("private", "Disabled")])
def test_publishing_is_shut_again_for_both_apps(console: str, front: str, tmp_path: Path) -> None:
    code, _, calls = run("publishing.sh close", tmp_path, GUARDRAIL_CONSOLE_ACCESS=console)
    assert code == 0
    told = {call.split("--url ")[1].split()[0]: call.split("--body ")[1].split(" --only")[0] for call in calls
            if call.startswith("az rest --method patch ")}
    sites, version = f"{GROUP}/providers/Microsoft.Web/sites", "?api-version=2025-03-01"
    sent = {url.removeprefix(f"{sites}/").removesuffix(version): json.loads(body)["properties"] for url, body in told.items()}
    assert sent == {
        "front-app": {"publicNetworkAccess": front}, "hands-app": {"publicNetworkAccess": "Disabled"},
        "front-app/config/web": {"scmIpSecurityRestrictionsDefaultAction": "Deny"},
        "hands-app/config/web": {"scmIpSecurityRestrictionsDefaultAction": "Deny"}}


def test_a_door_that_does_not_shut_is_said_and_the_other_is_shut_all_the_same(tmp_path: Path) -> None:
    code, said, calls = run("publishing.sh close", tmp_path, {'*front-app*': "exit 1"})
    assert code == 1
    assert "Cure: azd hooks run postdeploy closes it" in said
    assert len([call for call in calls if "hands-app" in call]) == 2


def test_a_self_check_that_fails_leaves_the_door_shut(tmp_path: Path) -> None:
    code, said, calls = run("postdeploy.sh", tmp_path, {'"guardrail doctor"*': "exit 1"})
    assert code == 1
    assert "The self-check found something" in said
    assert [call.split()[0] for call in calls] == ["az"] * 4 + ["guardrail"]
    assert calls[-1] == "guardrail doctor --probe"


def test_down_takes_rights_first_then_events_then_the_definitions(tmp_path: Path) -> None:
    answers = {'"az role assignment list"*': "echo right", '"az eventgrid system-topic list"*': "printf 'topic\\tgroup\\n'",
               '"az role definition list"*': "echo definition"}
    never_succeeded = dict.fromkeys(("GUARDRAIL_GUARDED", "GUARDRAIL_HANDS_PRINCIPAL", "GUARDRAIL_GROUP"), "")
    for more in ({}, {}, never_succeeded):
        code, said, calls = run("predown.sh", tmp_path, answers, **more)
        assert code == 0
        kinds = ("assignment", "event-subscription", "definition")
        order = [word for call in calls for word in kinds if f"{word} delete" in call]
        assert order == ["assignment", "event-subscription", "event-subscription", "definition", "assignment", "definition"]
        assert f"[?roleName=='Guardrail probe (test, {ONE})'].name" in calls[-2]
        assert f"--scope {GROUP} " in calls[-1]
        assert "is locked: it stays" in said
    assert not [call for call in calls if "group delete" in call or "storage" in call]
