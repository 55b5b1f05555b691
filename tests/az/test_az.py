"""The real Azure CLI, unmodified, against the simulator: what people type changes the world, and events name them.

Runs where the CLI is found (GUARDRAIL_AZ, else `az` on the PATH); docs/how-to/drive-the-simulator-with-az.md says how.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator import Simulator
from simulator.identity import ACTORS

AZ = os.environ.get("GUARDRAIL_AZ") or shutil.which("az")
pytestmark = [
    pytest.mark.az,
    pytest.mark.skipif(
        not AZ, reason="no Azure CLI: put azure-cli into an environment of its own and its az into GUARDRAIL_AZ"
    ),
]
GROUP = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/ai"
STORAGE = f"{GROUP}/providers/Microsoft.Storage/storageAccounts"
OPENAI = f"{GROUP}/providers/Microsoft.CognitiveServices/accounts"
VAULTS = f"{GROUP}/providers/Microsoft.KeyVault/vaults"
NETWORK = f"{GROUP}/providers/Microsoft.Network"
PAGE = Path(__file__).parents[2] / "docs/how-to/drive-the-simulator-with-az.md"


class Az:
    """The CLI signed in as one actor, with a configuration folder of its own."""

    def __init__(self, sim: Simulator, folder: Path, actor: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AZURE_", "IDENTITY_"))}
        self.env = kept | {
            "AZURE_CONFIG_DIR": str(folder),
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
            "AZURE_EXTENSION_USE_DYNAMIC_INSTALL": "no",
            "REQUESTS_CA_BUNDLE": sim.ca_file,
            "NO_PROXY": "localhost,127.0.0.1",
            "IDENTITY_ENDPOINT": f"{sim.https_url}/msi/token",
            "IDENTITY_HEADER": actor,
        }
        self(f"cloud register -n Simulated --endpoint-resource-manager {sim.https_url}")
        self("cloud set -n Simulated")
        self("login --identity")

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """The command as it is typed, without the word az."""
        assert AZ
        words = [AZ, *shlex.split(command), "-o", "json"]
        return subprocess.run(words, env=self.env, capture_output=True, text=True, check=False, timeout=120)

    def __call__(self, command: str) -> Any:
        """What the command printed, as JSON; the test fails with az's own words if it does."""
        done = self.run(command)
        assert done.returncode == 0, f"az {command}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    made = Simulator(folder=tmp_path_factory.mktemp("certificates"))
    made.start(tls_port=0)
    made.seed(GROUP, {"location": "eastus"})
    yield made
    made.stop()


@pytest.fixture(scope="module")
def actor(sim: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Az]:
    known: dict[str, Az] = {}

    def signed_in(name: str) -> Az:
        if name not in known:
            known[name] = Az(sim, tmp_path_factory.mktemp(name), name)
        return known[name]

    return signed_in


@pytest.fixture
def az(actor: Callable[[str], Az]) -> Az:
    return actor("ml-engineer")


def properties(sim: Simulator, id: str) -> dict[str, Any]:
    document = sim.document(id)
    assert document is not None, id
    found: dict[str, Any] = document["properties"]
    return found


def test_the_page_works_as_it_stands(sim: Simulator, actor: Callable[[str], Az]) -> None:
    """Every az command of the how-to, in its order, but for those that sign in."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.strip() for line in "".join(blocks).replace("\\\n", "").splitlines()]
    commands = [line.removeprefix("az ") for line in lines if line.startswith("az ")]
    typed = [command for command in commands if not command.startswith(("cloud", "login"))]
    assert len(typed) > 10
    for command in typed:
        actor("ml-engineer")(command)
    assert properties(sim, f"{OPENAI}/secure-openai")["publicNetworkAccess"] == "Enabled"


def test_each_configuration_folder_is_an_actor(sim: Simulator, actor: Callable[[str], Az]) -> None:
    for name in ("ml-engineer", "deploy-pipeline"):
        actor(name)(f"group create -n group-of-{name} -l eastus")
        event = sim.events.record[-1]
        assert event["data"]["operationName"] == "Microsoft.Resources/subscriptions/resourceGroups/write"
        assert event["data"]["claims"]["name"] == name
        assert sim.log[-1].actor == name
        assert event["data"]["authorization"]["evidence"]["principalId"] == ACTORS[name].oid.replace("-", "")


def test_a_service_principal_signs_in_with_its_app_id(sim: Simulator, tmp_path: Path) -> None:
    az = Az(sim, tmp_path, "ml-engineer")
    az.env["AZURE_CORE_INSTANCE_DISCOVERY"] = "false"
    az(f"login --service-principal -u {ACTORS['deploy-pipeline'].appid} -p any --tenant {sim.tenant}")
    az("group create -n by-principal -l eastus")
    assert sim.log[-1].actor == "deploy-pipeline"


def test_groups(az: Az, sim: Simulator) -> None:
    az("group create -n short -l eastus --tags env=dev")
    assert az("group exists -n short") is True
    assert az("group show -n short")["tags"] == {"env": "dev"}
    az("group delete -n short --yes")
    assert az("group exists -n short") is False
    assert sim.document(GROUP.replace("/ai", "/short")) is None


def test_a_storage_account_is_opened(az: Az, sim: Simulator) -> None:
    az(
        "storage account create -g ai -n azdata -l eastus --sku Standard_LRS --public-network-access "
        "Disabled --default-action Deny --allow-blob-public-access false --min-tls-version TLS1_2"
    )
    before = properties(sim, f"{STORAGE}/azdata")
    assert (before["publicNetworkAccess"], before["networkAcls"]["defaultAction"]) == ("Disabled", "Deny")
    az("storage account update -g ai -n azdata --public-network-access Enabled --default-action Allow")
    after = properties(sim, f"{STORAGE}/azdata")
    assert (after["publicNetworkAccess"], after["networkAcls"]["defaultAction"]) == ("Enabled", "Allow")
    assert after["minimumTlsVersion"] == before["minimumTlsVersion"]
    event = sim.events.record[-1]
    assert (event["subject"].lower(), event["data"]["httpRequest"]["method"]) == (f"{STORAGE}/azdata".lower(), "PATCH")
    assert az("storage account show -n azdata")["publicNetworkAccess"] == "Enabled"
    az("storage account network-rule add -g ai --account-name azdata --ip-address 192.0.2.7")
    assert [rule["value"] for rule in properties(sim, f"{STORAGE}/azdata")["networkAcls"]["ipRules"]] == ["192.0.2.7"]


def test_its_child_services(az: Az, sim: Simulator) -> None:
    az("storage account create -g ai -n azblobs -l eastus --sku Standard_LRS")
    az(
        "storage account blob-service-properties update -g ai -n azblobs --enable-delete-retention true "
        "--delete-retention-days 7"
    )
    assert properties(sim, f"{STORAGE}/azblobs/blobServices/default")["deleteRetentionPolicy"]["days"] == 7
    az("storage container-rm create -g ai --storage-account azblobs -n data --public-access blob")
    assert properties(sim, f"{STORAGE}/azblobs/blobServices/default/containers/data")["publicAccess"].lower() == "blob"


def test_an_openai_account(az: Az, sim: Simulator) -> None:
    id = f"{OPENAI}/az-openai"
    az(
        "cognitiveservices account create -g ai -n az-openai -l eastus --kind OpenAI --sku S0 "
        "--custom-domain az-openai --assign-identity --yes"
    )
    assert properties(sim, id)["publicNetworkAccess"] == "Enabled", "created without a word on it, it is public"
    az("cognitiveservices account network-rule add -g ai -n az-openai --ip-address 192.0.2.7")
    assert properties(sim, id)["networkAcls"]["ipRules"] == [{"value": "192.0.2.7"}]
    az(
        "cognitiveservices account deployment create -g ai -n az-openai --deployment-name chat "
        "--model-name gpt-4o --model-version 2024-08-06 --model-format OpenAI --sku-name Standard "
        "--sku-capacity 10"
    )
    assert properties(sim, f"{id}/deployments/chat")["model"]["name"] == "gpt-4o"
    az("cognitiveservices account keys list -g ai -n az-openai")
    assert (
        sim.events.record[-1]["data"]["operationName"].lower() == "microsoft.cognitiveservices/accounts/listkeys/action"
    )
    az(f"resource update --ids {id} --set properties.publicNetworkAccess=Disabled")
    assert properties(sim, id)["publicNetworkAccess"] == "Disabled"
    assert properties(sim, id)["networkAcls"]["ipRules"] == [{"value": "192.0.2.7"}], (
        "a PUT of the whole document loses nothing"
    )


def test_the_published_recipe_is_refused_by_the_cli_itself(az: Az, sim: Simulator) -> None:
    before = len(sim.log)
    done = az.run(
        "cognitiveservices account create -g ai -n secure -l eastus --kind OpenAI --sku S0 "
        "--custom-domain secure --public-network-access Disabled"
    )
    assert done.returncode == 2 and "unrecognized arguments: --public-network-access" in done.stderr
    assert not [line for line in sim.log[before:] if line.method == "PUT"]


def test_a_vault(az: Az, sim: Simulator) -> None:
    az("keyvault create -g ai -n az-vault -l eastus")
    assert properties(sim, f"{VAULTS}/az-vault")["enableRbacAuthorization"] is True
    az("keyvault update -g ai -n az-vault --public-network-access Disabled")
    assert properties(sim, f"{VAULTS}/az-vault")["publicNetworkAccess"] == "Disabled"
    az("keyvault network-rule add -g ai -n az-vault --ip-address 192.0.2.7")
    assert len(properties(sim, f"{VAULTS}/az-vault")["networkAcls"]["ipRules"]) == 1
    assert properties(sim, f"{VAULTS}/az-vault")["publicNetworkAccess"] == "Disabled"


def test_network_rules_and_subnets(az: Az, sim: Simulator) -> None:
    nsg, subnet = f"{NETWORK}/networkSecurityGroups/az-nsg", f"{NETWORK}/virtualNetworks/az-vnet/subnets/ai"
    az("network nsg create -g ai -n az-nsg -l eastus")
    az(
        "network nsg rule create -g ai --nsg-name az-nsg -n ssh --priority 100 --access Allow "
        "--direction Inbound --protocol Tcp --destination-port-ranges 22"
    )
    assert [rule["name"] for rule in properties(sim, nsg)["securityRules"]] == ["ssh"]
    assert (
        sim.events.record[-1]["data"]["operationName"] == "Microsoft.Network/networkSecurityGroups/securityRules/write"
    )
    az("network nsg rule update -g ai --nsg-name az-nsg -n ssh --source-address-prefixes 10.0.0.0/8")
    assert properties(sim, f"{nsg}/securityRules/ssh")["sourceAddressPrefix"] == "10.0.0.0/8"
    assert [rule["name"] for rule in az("network nsg rule list -g ai --nsg-name az-nsg")] == ["ssh"]
    az(
        "network vnet create -g ai -n az-vnet --address-prefixes 10.0.0.0/16 --subnet-name ai "
        "--subnet-prefixes 10.0.0.0/24 --network-security-group az-nsg"
    )
    assert properties(sim, subnet)["networkSecurityGroup"]["id"].lower() == nsg.lower()
    az("network vnet subnet update -g ai --vnet-name az-vnet -n ai --remove networkSecurityGroup")
    assert "networkSecurityGroup" not in properties(sim, subnet)


def test_diagnostic_settings_and_locks(az: Az, sim: Simulator) -> None:
    id = f"{OPENAI}/az-logged"
    sim.seed(id, {"location": "eastus", "kind": "OpenAI", "sku": {"name": "S0"}, "properties": {}})
    workspace = f"{GROUP}/providers/Microsoft.OperationalInsights/workspaces/logs"
    az(
        f"monitor diagnostic-settings create --resource {id} -n audit --workspace {workspace} --logs "
        f'\'[{{"category":"Audit","enabled":true}}]\''
    )
    setting = f"{id}/providers/Microsoft.Insights/diagnosticSettings/audit"
    assert properties(sim, setting)["workspaceId"] == workspace
    assert [it["name"] for it in az(f"monitor diagnostic-settings list --resource {id}")] == ["audit"]
    az(f"lock create -n keep --lock-type CanNotDelete --resource {id}")
    refused = az.run(f"monitor diagnostic-settings delete --resource {id} -n audit")
    assert refused.returncode == 1 and "ScopeLocked" in refused.stderr
    az(f"lock delete -n keep --resource {id}")
    az(f"monitor diagnostic-settings delete --resource {id} -n audit")
    assert sim.document(setting) is None
    assert sim.events.record[-1]["eventType"] == "Microsoft.Resources.ResourceDeleteSuccess"


def test_role_assignments(az: Az, sim: Simulator) -> None:
    scope = f"{STORAGE}/azroles"
    sim.seed(scope, {"location": "eastus", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, "properties": {}})
    principal = "00000000-0000-0000-0000-0000000000b1"
    made = az(
        f"role assignment create --role Owner --assignee-object-id {principal} --assignee-principal-type "
        f"ServicePrincipal --scope {scope}"
    )
    assert properties(sim, made["id"])["principalId"] == principal
    assert properties(sim, made["id"])["roleDefinitionId"].endswith("8e3af657-a8ff-443c-a75c-2fe8c4bcb635")
    az(f"role assignment create --role Reader --assignee {ACTORS['deploy-pipeline'].appid} --scope {scope}")
    listed = az(f"role assignment list --scope {scope}")
    assert sorted(it["roleDefinitionName"] for it in listed) == ["Owner", "Reader"]
    az(f"role assignment delete --ids {made['id']}")
    assert sim.document(made["id"]) is None


def test_any_resource_by_its_id(az: Az, sim: Simulator) -> None:
    id = f"{OPENAI}/az-generic"
    sim.seed(
        id,
        {
            "location": "eastus",
            "kind": "OpenAI",
            "sku": {"name": "S0"},
            "tags": {"env": "prod"},
            "properties": {"publicNetworkAccess": "Disabled"},
        },
    )
    az(f'resource patch --ids {id} --properties \'{{"publicNetworkAccess": "Enabled"}}\'')
    assert properties(sim, id)["publicNetworkAccess"] == "Enabled"
    az(f"resource tag --ids {id} --tags env=dev")
    az(f"tag update --resource-id {id} --operation Merge --tags team=ai")
    assert (sim.document(id) or {})["tags"] == {"env": "dev", "team": "ai"}
    az(
        f'rest --method patch --url {id}?api-version=2025-06-01 --body \'{{"properties": '
        f'{{"disableLocalAuth": true}}}}\''
    )
    assert properties(sim, id)["disableLocalAuth"] is True
    assert az(f"rest --method get --url {id}?api-version=2025-06-01")["name"] == "az-generic"
    assert "az-generic" in {it["name"] for it in az("resource list -g ai")}
    assert az(f"monitor activity-log list --offset 1h --resource-id {id}")[0]["status"]["value"] == "Succeeded"


def test_an_update_that_was_read_before_a_revert_writes_the_old_state_back(az: Az, sim: Simulator) -> None:
    """az reads, changes and writes neighbouring settings without If-Match: what was reverted in between comes back."""
    id = f"{STORAGE}/azrace"
    sim.seed(
        id,
        {
            "location": "eastus",
            "kind": "StorageV2",
            "sku": {"name": "Standard_LRS"},
            "properties": {
                "networkAcls": {
                    "defaultAction": "Allow",
                    "bypass": "AzureServices",
                    "ipRules": [],
                    "virtualNetworkRules": [],
                }
            },
        },
    )
    revert = {"properties": {"networkAcls": {"defaultAction": "Deny"}}}
    sim.faults.before_write(f"PATCH {id}", lambda: sim.request("PATCH", id, revert, as_="guardrail"))
    az("storage account update -g ai -n azrace --https-only true")
    writers = [version.who for version in sim.history(id)][-2:]
    assert writers == ["guardrail", "ml-engineer"]
    assert properties(sim, id)["networkAcls"]["defaultAction"] == "Allow"


def test_throttling_is_waited_out_and_faults_are_shown(az: Az, sim: Simulator) -> None:
    sim.faults.answer(f"GET {GROUP}", 429, "TooManyRequests", headers={"Retry-After": "0.1"}, times=2)
    assert az("group show -n ai")["name"] == "ai"
    sim.faults.answer(f"GET {GROUP}", 403, "AuthorizationFailed", "not yours", times=1)
    refused = az.run("group show -n ai")
    assert refused.returncode == 1 and re.search("AuthorizationFailed.*not yours", refused.stderr)
