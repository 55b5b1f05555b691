"""App settings: complete and right, or ConfigError before anything starts; and which host may ever get a token."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail import settings
from guardrail.errors import ConfigError
from guardrail.settings import CLOUDS, read

ONE, TWO = (f"00000000-0000-0000-0000-00000000000{n}" for n in (1, 2))
SIMULATOR = {"GUARDRAIL_CLOUD": "http://127.0.0.1:8801", "IDENTITY_ENDPOINT": "http://127.0.0.1:8801/msi/token"}
GROUP = f"/subscriptions/{ONE}/resourceGroups/rg-guardrail"
AZURE = {
    "WEBSITE_INSTANCE_ID": "x",
    "IDENTITY_ENDPOINT": "http://127.0.0.1:41741/msi/token",
    "GUARDRAIL_TENANT": TWO,
    "GUARDRAIL_GROUP": GROUP,
    "GUARDRAIL_AUDIENCE": "api://guardrail",
}


def given_(**more: str) -> dict[str, str]:
    return {"GUARDRAIL_SUBSCRIPTIONS": ONE, "PATH": "/bin", **more}


def test_the_defaults_report_and_guard_what_is_named() -> None:
    found = read(given_(GUARDRAIL_SUBSCRIPTIONS=f" {ONE}, {TWO.upper()} "))
    assert found.subscriptions == {ONE, TWO}
    assert (found.part, found.ceiling, found.policy, found.store, found.probe, found.log_level) == (
        "all",
        "report",
        "guardrail.yaml",
        ".run/guardrail.db",
        True,
        "info",
    )
    assert (found.arm_endpoint, found.authority) == ("https://management.azure.com", "login.microsoftonline.com")
    assert not found.is_simulated
    assert not found.has_tables


def test_every_setting_is_taken_over() -> None:
    found = read(
        {
            **AZURE,
            **given_(
                GUARDRAIL_PART="Hands",
                GUARDRAIL_CEILING="enforce",
                GUARDRAIL_MANAGEMENT_GROUPS="mg-a, MG-B",
                GUARDRAIL_CLOUD="AzureChinaCloud",
                GUARDRAIL_STORE="https://x.table.core.chinacloudapi.cn",
                Work__queueServiceUri="https://x.queue.core.chinacloudapi.cn",
                GUARDRAIL_PROBE="off",
                GUARDRAIL_SWEEP="0 */5 * * * 1-5",
                GUARDRAIL_TEAMS="https://hook/secret",
                GUARDRAIL_LOG_LEVEL="debug",
                GUARDRAIL_FRONT_KEY="https://kv-guard.vault.azure.cn/keys/front/1",
                GUARDRAIL_HANDS_KEY="https://kv-guard.vault.azure.cn/keys/hands",
                GUARDRAIL_APPROVERS=TWO,
                GUARDRAIL_PRINCIPALS=f"{ONE}, {TWO.upper()}",
                GUARDRAIL_URL="https://g.example",
                GUARDRAIL_ANCHORS="https://x.blob.core.chinacloudapi.cn/anchors",
                GUARDRAIL_POLICY="other.yaml",
            ),
        }
    )
    assert (found.part, found.ceiling, found.management_groups, found.probe) == (
        "hands",
        "enforce",
        ("mg-a", "mg-b"),
        False,
    )
    assert (found.arm_endpoint, found.has_tables, found.queue, found.in_azure) == (
        "https://management.chinacloudapi.cn",
        True,
        "https://x.queue.core.chinacloudapi.cn",
        True,
    )
    assert (found.group, found.tenant, found.policy, found.approvers) == (GROUP, TWO, "other.yaml", TWO)
    assert found.principals == {ONE, TWO}
    assert found.teams == "https://hook/secret"
    assert "secret" not in repr(found)


def test_an_empty_setting_is_one_that_is_not_set() -> None:
    assert read(given_(GUARDRAIL_CEILING="", GUARDRAIL_TEAMS=" ")) == read(given_())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GUARDRAIL_CIELING", "report"),
        ("GUARDRAIL_", "x"),
        ("GUARDRAIL_ceiling", "report"),
        ("GUARDRAIL_CEILING", "enforced"),
        ("GUARDRAIL_CEILING", "policy"),
        ("GUARDRAIL_PART", "back"),
        ("GUARDRAIL_SUBSCRIPTIONS", ""),
        ("GUARDRAIL_SUBSCRIPTIONS", "prod"),
        ("GUARDRAIL_SUBSCRIPTIONS", ONE + ";" + TWO),
        ("GUARDRAIL_SUBSCRIPTIONS", "٠" * 8 + ONE[8:]),
        ("GUARDRAIL_SUBSCRIPTIONS", ","),
        ("GUARDRAIL_TENANT", "contoso"),
        ("GUARDRAIL_GROUP", f"/subscriptions/{ONE}"),
        ("GUARDRAIL_GROUP", GROUP + "/providers/A.B/c/d"),
        ("GUARDRAIL_GROUP", "rg"),
        ("GUARDRAIL_STORE", "http://x.table.core.windows.net"),
        ("GUARDRAIL_STORE", "https://x?sig=1"),
        ("GUARDRAIL_STORE", "https://x.table.core.windows.net"),
        ("GUARDRAIL_SWEEP", "hourly"),
        ("GUARDRAIL_SWEEP", "0 17 * * *"),
        ("GUARDRAIL_PROBE", "maybe"),
        ("GUARDRAIL_PRINCIPALS", "deploy-pipeline"),
        ("GUARDRAIL_LOG_LEVEL", "trace"),
        ("GUARDRAIL_URL", "javascript:alert(1)"),
        ("GUARDRAIL_URL", "http://g.example"),
        ("GUARDRAIL_TOPIC", "x"),
        ("GUARDRAIL_ANCHORS", "https://x.blob/anchors?sig=1"),
        ("GUARDRAIL_FRONT_KEY", "https://kv.vault.azure.net/secrets/x"),
        ("GUARDRAIL_FRONT_KEY", "https://kv.vault.azure.net.example/keys/x"),
        ("GUARDRAIL_HANDS_KEY", "https://kv-guard.vault.azure.net:8443/keys/x"),
        ("GUARDRAIL_HANDS_KEY", "http://kv-guard.vault.azure.net/keys/x"),
        ("GUARDRAIL_POLICY", "a\nb"),
        ("GUARDRAIL_AUDIENCE", "x" * 3000),
        ("GUARDRAIL_CLOUD", "azurecloud"),
        ("GUARDRAIL_CLOUD", "AzureGermanCloud"),
    ],
)
def test_a_wrong_unknown_or_missing_setting_stops_the_start(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(given_(**{name: value}))
    assert caught.value.key in (name, settings.QUEUE)
    assert caught.value.cure


@pytest.mark.threat("E10")
def test_the_value_of_a_secret_setting_is_never_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        read(given_(GUARDRAIL_WEBHOOK_KEY="hunter2\n\x00hunter2"))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"'\(not shown\)'.*did not resolve.*secrets/NAME"):
        read(given_(GUARDRAIL_WEBHOOK="@Microsoft.KeyVault(SecretUri=https://kv/secrets/x)"))


@pytest.mark.parametrize("name", ["GUARDRAIL_TENANT", "GUARDRAIL_GROUP", "GUARDRAIL_AUDIENCE"])
def test_in_azure_more_is_mandatory(name: str) -> None:
    environment = {**AZURE, **given_()}
    assert read(environment).in_azure
    del environment[name]
    with pytest.raises(ConfigError) as caught:
        read(environment)
    assert caught.value.key == name
    if name == "GUARDRAIL_AUDIENCE":
        assert read({**environment, "GUARDRAIL_PART": "hands"})


@pytest.mark.threat("C1", "C2")
@pytest.mark.parametrize("name", ["GUARDRAIL_FRONT_KEY", "GUARDRAIL_HANDS_KEY"])
def test_tables_need_a_key_that_is_in_no_file(name: str) -> None:
    """An emulator on this machine alone does without."""
    tables = given_(GUARDRAIL_STORE="https://x.table.core.windows.net", Work__queueServiceUri="https://x.queue.core.windows.net",
                    GUARDRAIL_FRONT_KEY="https://kv-guard.vault.azure.net/keys/front",
                    GUARDRAIL_HANDS_KEY="https://kv-guard.vault.azure.net/keys/hands")
    assert read(tables).hands_key.endswith("/hands")
    del tables[name]
    with pytest.raises(ConfigError) as caught:
        read(tables)
    assert caught.value.key == name
    assert read({**tables, "GUARDRAIL_STORE": "https://127.0.0.1:10002/devstoreaccount1"})


# G4: a real credential never meets the simulator, nor a false one Azure


@pytest.mark.threat("G4")
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8801", "https://127.0.0.1:8443/", "http://localhost", "http://[::1]:1"]
)
def test_a_loopback_address_goes_with_a_loopback_identity(url: str) -> None:
    found = read(given_(**SIMULATOR) | {"GUARDRAIL_CLOUD": url})
    assert found.arm_endpoint == url.rstrip("/")
    assert found.is_simulated


@pytest.mark.threat("G4")
@pytest.mark.parametrize(
    ("cloud", "identity", "marks"),
    [
        ("http://127.0.0.1:8801", "", {}),
        ("http://127.0.0.1:8801", "http://169.254.169.254/msi/token", {}),
        ("http://127.0.0.1:8801", "http://127.0.0.1:1@evil.example/", {}),
        ("http://127.0.0.1:8801", "http://127.0.0.1.evil.example/", {}),
        ("http://127.0.0.1:8801", "http://[::1", {}),
        *(("http://127.0.0.1:8801", "http://127.0.0.1:41741/msi/token", {mark: "x"}) for mark in settings.AZURE_MARKS),
        ("AzureCloud", "http://127.0.0.1:8801/msi/token", {}),
        ("AzureUSGovernment", "http://localhost:8801/msi/token", {}),
        *(
            (url, "http://127.0.0.1:8801/msi/token", {})
            for url in (
                "https://management.azure.com",
                "http://127.0.0.1.evil.example",
                "http://evil.example",
                "http://127.0.0.1:80@evil.example",
                "http://evil.example/127.0.0.1",
                "http://127.0.0.1/path",
                "http://127.0.0.1?x",
                "http://127.0.0.1\\@evil.example",
                "http://user@127.0.0.1",
                "ftp://127.0.0.1",
                "127.0.0.1",
                "http://127.0.0.2",
                "http://0.0.0.0",
                "http://2130706433",
                "http://127.0.0.1:8801\n",
                "http://１２７.0.0.1",
                "//127.0.0.1",
                "http://localhost.evil.example",
            )
        ),
    ],
)
def test_every_other_pairing_is_refused(cloud: str, identity: str, marks: dict[str, str]) -> None:
    environment = {**(AZURE if marks else {}), **given_(GUARDRAIL_CLOUD=cloud, IDENTITY_ENDPOINT=identity)}
    environment.pop("WEBSITE_INSTANCE_ID", None)
    if cloud.endswith("\n"):  # blanks around a value are taken off, and what is left is sound
        assert read({**environment, **marks}).arm_endpoint == cloud.strip()
        return
    with pytest.raises(ConfigError) as caught:
        read({**environment, **marks})
    assert caught.value.key == "GUARDRAIL_CLOUD"
    assert ("in Azure" in caught.value.cure) == bool(marks)


@pytest.mark.threat("G4")
@given(
    st.text(max_size=40) | st.builds("http://{}127.0.0.1{}".format, st.text(max_size=5), st.text(max_size=8)),
    st.booleans(),
    st.text(max_size=30),
)
def test_no_text_makes_another_host(cloud: str, in_azure: bool, identity: str) -> None:
    environment: dict[str, Any] = {**(AZURE if in_azure else {}), **given_(GUARDRAIL_CLOUD=cloud)}
    environment["IDENTITY_ENDPOINT"] = environment.get("IDENTITY_ENDPOINT", "http://127.0.0.1/") + identity
    try:
        found = read(environment)
    except ConfigError:
        return
    hosts = {one.arm_endpoint for one in CLOUDS.values()}
    assert found.arm_endpoint in hosts or (not in_azure and found.arm_endpoint.split(":")[1] == "//127.0.0.1")


def test_the_hosts_are_those_of_the_azure_libraries() -> None:
    from azure.core import AzureClouds
    from azure.identity import AzureAuthorityHosts
    from azure.mgmt.core.tools import get_arm_endpoints

    for name, setting, authority in (
        ("AzureCloud", AzureClouds.AZURE_PUBLIC_CLOUD, AzureAuthorityHosts.AZURE_PUBLIC_CLOUD),
        ("AzureUSGovernment", AzureClouds.AZURE_US_GOVERNMENT, AzureAuthorityHosts.AZURE_GOVERNMENT),
        ("AzureChinaCloud", AzureClouds.AZURE_CHINA_CLOUD, AzureAuthorityHosts.AZURE_CHINA),
    ):
        known, ours = get_arm_endpoints(setting), CLOUDS[name]
        assert known["resource_manager"] == ours.arm_endpoint + "/"
        assert known["credential_scopes"] == [ours.arm_audience + "/.default"]
        assert authority == ours.authority
