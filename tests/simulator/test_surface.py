"""What az and the SDKs read beside resources: subscriptions, groups, providers, names, tags, roles, the activity log,
the cloud's endpoints and the directory; and the certificates without which they send no token."""

from __future__ import annotations

import json
import ssl
import stat
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from simulator import Simulator
from simulator.identity import ACTORS, decode
from simulator.tls import certificates
from tests.simulator.calls import ACCOUNT, GROUP, NETWORK, NSG, SECURED, SUBSCRIPTION, Answer, Clock, call

GROUPS = "2024-11-01"
ROLES = "2022-05-01-preview"
TAGS = f"{ACCOUNT}/providers/Microsoft.Resources/tags/default"
LOG = f"{SUBSCRIPTION}/providers/Microsoft.Insights/eventtypes/management/values"


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulator]:
    with Simulator(folder=tmp_path) as made:
        made.seed(ACCOUNT, SECURED)
        made.seed(NSG, {"location": "westeurope", "properties": {}})
        yield made


class TestEndpoints:
    def test_the_cloud_is_described_without_a_token(self, sim: Simulator) -> None:
        cloud = call(sim, "GET", "/metadata/endpoints", version="2022-09-01", token="").body
        assert {
            "name",
            "portal",
            "authentication",
            "resourceManager",
            "graphAudience",
            "microsoftGraphResourceId",
            "suffixes",
            "batch",
            "gallery",
            "media",
            "sqlManagement",
            "vmImageAliasDoc",
            "activeDirectoryDataLake",
        } <= cloud.keys()
        assert {"loginEndpoint", "audiences", "tenant", "identityProvider"} <= cloud["authentication"].keys()
        assert {"storage", "keyVaultDns", "acrLoginServer"} <= cloud["suffixes"].keys()
        assert cloud["resourceManager"] == sim.url

    def test_the_older_version_is_a_list(self, sim: Simulator) -> None:
        assert isinstance(call(sim, "GET", "/metadata/endpoints", version="2019-05-01", token="").body, list)

    def test_a_service_principal_gets_a_token_by_its_app_id(self, sim: Simulator) -> None:
        known = call(sim, "GET", f"/{sim.tenant}/v2.0/.well-known/openid-configuration", token="").body
        assert known["token_endpoint"] == f"{sim.url}/{sim.tenant}/oauth2/v2.0/token"
        scope = "https://management.core.windows.net//.default"
        form = {"client_id": ACTORS["deploy-pipeline"].appid, "client_secret": "x", "scope": scope}
        request = urllib.request.Request(known["token_endpoint"], data=urlencode(form).encode(), method="POST")
        with urllib.request.urlopen(request) as answer:
            body = json.loads(answer.read())
        claims = decode(body["access_token"])
        assert (body["token_type"], claims["name"], claims["tid"]) == ("Bearer", "deploy-pipeline", sim.tenant)
        assert claims["aud"] == "https://management.core.windows.net/"

    @pytest.mark.parametrize("actor", ACTORS)
    def test_every_actor_has_a_token_of_its_own(self, sim: Simulator, actor: str) -> None:
        claims = decode(sim.identity.token(actor))
        assert {"aud", "exp", "iat", "nbf", "name", "oid", "tid", "appid"} <= claims.keys()
        assert ("upn" in claims) == ACTORS[actor].person
        assert len({it.oid for it in ACTORS.values()}) == len(ACTORS)

    def test_the_directory_knows_the_actors(self, sim: Simulator) -> None:
        pipeline, engineer = ACTORS["deploy-pipeline"], ACTORS["ml-engineer"]
        found = call(
            sim,
            "GET",
            "/v1.0/servicePrincipals",
            query={"$filter": f"servicePrincipalNames/any(c:c eq '{pipeline.appid}')"},
        )
        assert [it["id"] for it in found.body["value"]] == [pipeline.oid]
        both = call(sim, "POST", "/v1.0/directoryObjects/getByIds", {"ids": [pipeline.oid, engineer.oid]}).body["value"]
        assert {it["@odata.type"] for it in both} == {"#microsoft.graph.user", "#microsoft.graph.servicePrincipal"}
        assert call(sim, "GET", "/v1.0/me").body["id"] == engineer.oid
        assert call(sim, "GET", "/v1.0/me", as_="guardrail").status == 400


class TestSubscriptions:
    def test_are_listed_and_shown(self, sim: Simulator) -> None:
        [one] = call(sim, "GET", "/subscriptions").body["value"]
        assert {
            "id",
            "subscriptionId",
            "displayName",
            "tenantId",
            "state",
            "subscriptionPolicies",
            "managedByTenants",
        } <= one.keys()
        assert call(sim, "GET", one["id"].upper().replace("SUBSCRIPTIONS", "subscriptions")).body == one

    def test_an_unknown_one_is_not_found(self, sim: Simulator) -> None:
        answer = call(sim, "GET", "/subscriptions/00000000-0000-0000-0000-00000000ffff/resourceGroups")
        assert (answer.status, answer.body["error"]["code"]) == (404, "SubscriptionNotFound")

    def test_providers_name_their_types_with_versions_newest_first(self, sim: Simulator) -> None:
        provider = call(sim, "GET", f"{SUBSCRIPTION}/providers/microsoft.cognitiveservices").body
        types = {it["resourceType"]: it["apiVersions"] for it in provider["resourceTypes"]}
        assert provider["registrationState"] == "Registered"
        assert {"accounts", "accounts/deployments"} <= types.keys()
        assert all(versions and versions == sorted(versions, reverse=True) for versions in types.values())
        assert call(sim, "POST", f"{SUBSCRIPTION}/providers/Microsoft.Storage/register").status == 200
        assert call(sim, "GET", f"{SUBSCRIPTION}/providers/Contoso.Nothing").status == 404
        assert len(call(sim, "GET", f"{SUBSCRIPTION}/providers").body["value"]) > 10

    @pytest.mark.parametrize(
        ("path", "body", "expected"),
        [
            (
                f"{SUBSCRIPTION}/providers/Microsoft.Storage/checkNameAvailability",
                {"name": "free", "type": "Microsoft.Storage/storageAccounts"},
                {"nameAvailable": True},
            ),
            (
                f"{SUBSCRIPTION}/providers/Microsoft.Storage/checkNameAvailability",
                {"name": "AIDATA", "type": "Microsoft.Storage/storageAccounts"},
                {"nameAvailable": False},
            ),
            ("/providers/Microsoft.BotService/checkNameAvailability", {"name": "bot", "type": "bot"}, {"valid": True}),
        ],
    )
    def test_names_are_checked(self, sim: Simulator, path: str, body: Any, expected: dict[str, bool]) -> None:
        answer = call(sim, "POST", path, body)
        assert answer.status == 200 and expected.items() <= answer.body.items()
        assert not sim.writes(), "a check changes nothing"


class TestGroups:
    ML = f"{SUBSCRIPTION}/resourcegroups/ml"

    def test_live_and_die(self, sim: Simulator) -> None:
        assert call(sim, "HEAD", self.ML, version=GROUPS).status == 404
        made = call(sim, "PUT", self.ML, {"location": "eastus", "tags": {"a": "b"}}, version=GROUPS)
        assert made.status == 201
        assert made.body == {
            "id": f"{SUBSCRIPTION}/resourceGroups/ml",
            "name": "ml",
            "type": "Microsoft.Resources/resourceGroups",
            "location": "eastus",
            "tags": {"a": "b"},
            "properties": {"provisioningState": "Succeeded"},
        }
        assert call(sim, "PUT", self.ML, {"location": "eastus"}, version=GROUPS).status == 200
        assert call(sim, "HEAD", self.ML.upper(), version=GROUPS).status == 204
        assert call(sim, "PATCH", self.ML, {"tags": {"c": "d"}}, version=GROUPS).body["tags"] == {"c": "d"}
        assert call(sim, "GET", self.ML, version=GROUPS).body["location"] == "eastus"
        gone = call(sim, "DELETE", self.ML, version=GROUPS)
        assert gone.status == 202 and "/operationresults/" in gone.headers["location"].lower()
        poll = gone.headers["location"].removeprefix(sim.url).partition("?")[0]
        assert call(sim, "GET", poll, version=GROUPS).status in (200, 204)
        assert call(sim, "GET", self.ML, version=GROUPS).body["error"]["code"] == "ResourceGroupNotFound"

    def test_take_their_resources_with_them(self, sim: Simulator) -> None:
        call(sim, "DELETE", GROUP, version=GROUPS)
        assert call(sim, "GET", ACCOUNT).status == 404

    def test_are_listed_by_tag(self, sim: Simulator) -> None:
        call(sim, "PUT", self.ML, {"location": "eastus", "tags": {"env": "dev"}}, version=GROUPS)
        path = f"{SUBSCRIPTION}/resourcegroups"
        assert [it["name"] for it in call(sim, "GET", path, version=GROUPS).body["value"]] == ["ai", "ml"]
        query = {"$filter": "tagName eq 'env' and tagValue eq 'dev'"}
        assert [it["name"] for it in call(sim, "GET", path, version=GROUPS, query=query).body["value"]] == ["ml"]

    def test_need_a_location(self, sim: Simulator) -> None:
        assert call(sim, "PUT", self.ML, {}, version=GROUPS).body["error"]["code"] == "LocationRequired"

    @pytest.mark.parametrize(
        ("path", "filter", "names"),
        [
            (f"{SUBSCRIPTION}/resources", "", ["aidata", "ai-nsg"]),
            (f"{SUBSCRIPTION}/resources", "resourceType eq 'microsoft.storage/STORAGEACCOUNTS'", ["aidata"]),
            (f"{SUBSCRIPTION}/resources", "resourceGroup eq 'AI' and location eq 'westeurope'", ["ai-nsg"]),
            (f"{SUBSCRIPTION}/resources", "resourceGroup eq 'other'", []),
            (f"{SUBSCRIPTION}/resources", "tagName eq 'env' and tagValue eq 'production'", ["aidata"]),
            (f"{GROUP}/resources", "", ["aidata", "ai-nsg"]),
        ],
    )
    def test_resources_are_listed_by_filter(self, sim: Simulator, path: str, filter: str, names: list[str]) -> None:
        query = {"$filter": filter, "$expand": "createdTime,changedTime,provisioningState"}
        found = call(sim, "GET", path, version=GROUPS, query=query).body["value"]
        assert [it["name"] for it in found] == names
        assert all(
            {"id", "type", "location", "createdTime", "changedTime", "provisioningState"} <= it.keys() for it in found
        )
        assert all("properties" not in it for it in found)


class TestTags:
    @pytest.mark.parametrize(
        ("method", "body", "tags"),
        [
            (
                "PATCH",
                {"operation": "Merge", "properties": {"tags": {"ENV": "dev", "team": "ai"}}},
                {"env": "dev", "team": "ai"},
            ),
            ("PATCH", {"operation": "Replace", "properties": {"tags": {"team": "ai"}}}, {"team": "ai"}),
            ("PATCH", {"operation": "Delete", "properties": {"tags": {"env": ""}}}, {}),
            ("PATCH", {"operation": "Delete", "properties": {"tags": {"env": "other value"}}}, {"env": "production"}),
            ("PUT", {"properties": {"tags": {"team": "ai"}}}, {"team": "ai"}),
            ("DELETE", None, {}),
        ],
    )
    def test_are_changed_by_operation(self, sim: Simulator, method: str, body: Any, tags: dict[str, str]) -> None:
        assert call(sim, method, TAGS, body, version=GROUPS).status == 200
        assert call(sim, "GET", TAGS, version=GROUPS).body["properties"]["tags"] == tags
        assert call(sim, "GET", ACCOUNT).body.get("tags") in (tags, tags or None)

    def test_an_unknown_operation_is_refused(self, sim: Simulator) -> None:
        assert call(sim, "PATCH", TAGS, {"operation": "Add"}, version=GROUPS).status == 400

    def test_of_a_group(self, sim: Simulator) -> None:
        path = f"{GROUP}/providers/Microsoft.Resources/tags/default"
        call(sim, "PATCH", path, {"operation": "Merge", "properties": {"tags": {"probe": "1"}}}, version=GROUPS)
        assert call(sim, "GET", GROUP, version=GROUPS).body["tags"] == {"probe": "1"}


class TestRoles:
    @pytest.mark.parametrize("scope", ["", SUBSCRIPTION, ACCOUNT])
    def test_are_found_by_name_at_any_scope(self, sim: Simulator, scope: str) -> None:
        path = f"{scope}/providers/Microsoft.Authorization/roleDefinitions"
        [owner] = call(sim, "GET", path, version=ROLES, query={"$filter": "roleName eq 'Owner'"}).body["value"]
        assert owner["name"] == "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
        assert owner["properties"]["permissions"][0]["actions"] == ["*"]
        assert call(sim, "GET", f"{path}/{owner['name']}", version=ROLES).body["properties"]["roleName"] == "Owner"
        assert call(sim, "GET", path, version=ROLES, query={"$filter": "roleName eq 'Nobody'"}).body["value"] == []

    def test_own_ones_stand_beside_the_built_in(self, sim: Simulator) -> None:
        id = f"{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/00000000-0000-0000-0000-0000000000aa"
        sim.seed(id, {"properties": {"roleName": "Guardrail hands", "type": "CustomRole"}})
        query = {"$filter": "type eq 'CustomRole'"}
        path = f"{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions"
        assert [
            it["properties"]["roleName"] for it in call(sim, "GET", path, version=ROLES, query=query).body["value"]
        ] == ["Guardrail hands"]

    def test_permissions_of_somebody_without_limits(self, sim: Simulator) -> None:
        [one] = call(sim, "GET", f"{GROUP}/providers/Microsoft.Authorization/permissions", version="2022-04-01").body[
            "value"
        ]
        assert (one["actions"], one["notActions"]) == (["*"], [])


class TestActivityLog:
    def read(self, sim: Simulator, filter: str = "") -> Answer:
        return call(sim, "GET", LOG, version="2015-04-01", query={"$filter": filter})

    def test_tells_what_happened_newest_first(self, sim: Simulator) -> None:
        call(sim, "PATCH", ACCOUNT, {"tags": {}})
        call(sim, "DELETE", NSG, version=NETWORK, as_="deploy-pipeline")
        [newest, oldest] = self.read(sim).body["value"]
        assert newest["operationName"]["value"] == "Microsoft.Network/networkSecurityGroups/delete"
        assert newest["caller"] == ACTORS["deploy-pipeline"].appid
        assert (oldest["resourceId"], oldest["caller"]) == (ACCOUNT, "ml-engineer@simulated.example")
        assert oldest["status"]["value"] == "Succeeded" and oldest["resourceGroupName"] == "ai"

    def test_filters_by_time_resource_and_correlation(self, sim: Simulator) -> None:
        call(sim, "PATCH", ACCOUNT, {"tags": {}}, headers={"x-ms-correlation-request-id": "c-1"})
        call(sim, "DELETE", NSG, version=NETWORK)
        now = datetime.now(UTC).year
        for filter, count in [
            (f"resourceUri eq '{ACCOUNT.upper()}'", 1),
            ("correlationId eq 'c-1'", 1),
            ("correlationId eq 'c-2'", 0),
            ("resourceGroupName eq 'ai'", 2),
            (f"eventTimestamp ge '{now - 1}-01-01T00:00:00Z'", 2),
            (f"eventTimestamp ge '{now + 1}-01-01T00:00:00Z'", 0),
            (f"eventTimestamp le '{now - 1}-01-01T00:00:00Z'", 0),
        ]:
            assert len(self.read(sim, filter).body["value"]) == count, filter

    def test_s16_it_lags(self, tmp_path: Path) -> None:
        clock = Clock()
        with Simulator(folder=tmp_path, clock=clock) as sim:
            sim.seed(ACCOUNT, SECURED)
            sim.faults.activity_log(lag_s=300)
            call(sim, "PATCH", ACCOUNT, {"tags": {}})
            clock.move(299)
            assert self.read(sim).body["value"] == []
            clock.move(2)
            assert len(self.read(sim).body["value"]) == 1

    def test_changes_of_a_resource(self, sim: Simulator) -> None:
        call(sim, "PATCH", ACCOUNT, {"properties": {"publicNetworkAccess": "Enabled"}})
        [change] = call(sim, "GET", f"{ACCOUNT}/providers/Microsoft.Resources/changes", version="2022-05-01").body[
            "value"
        ]
        assert change["properties"]["changes"]["properties.publicNetworkAccess"]["previousValue"] == "Disabled"


class TestCertificates:
    def test_https_is_trusted_with_the_ca_alone(self, tmp_path: Path) -> None:
        sim = Simulator(folder=tmp_path)
        sim.start(tls_port=0)
        try:
            context = ssl.create_default_context(cafile=sim.ca_file)
            for host in ("localhost", "127.0.0.1"):
                url = sim.https_url.replace("localhost", host)
                with urllib.request.urlopen(
                    f"{url}/metadata/endpoints?api-version=2022-09-01", context=context
                ) as answer:
                    assert json.loads(answer.read())["resourceManager"] == url
        finally:
            sim.stop()

    def test_are_kept_while_valid_and_made_anew_when_broken(self, tmp_path: Path) -> None:
        first = [file.read_bytes() for file in certificates(tmp_path)]
        assert [file.read_bytes() for file in certificates(tmp_path)] == first
        (tmp_path / "ca.pem").write_text("no certificate")
        assert (certificates(tmp_path).ca).read_bytes() not in (first[0], b"no certificate")

    def test_the_key_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        assert stat.S_IMODE(certificates(tmp_path).key.stat().st_mode) == 0o600
