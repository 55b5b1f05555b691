"""No secret-like value is written down, and nothing that a guard looks at is hidden."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.paths import ABSENT
from guardrail.redact import CHANGED, SET, is_secret_name, redact, scrub
from guardrail.values import Edit, to_json

CANARY = "canary+7Xq9Zr4Lw2Vt8Bn5Kd1Hs6"
VAULT = "https://kv-ai-dev.vault.azure.net"


@pytest.mark.threat("C7", "I15")
@pytest.mark.parametrize("secret", [
    {"adminPassword": CANARY}, {"primaryKey": CANARY}, {"key2": CANARY}, {"keys": [CANARY]}, {"key": CANARY[7:]},
    {"properties": {"clientSecret": CANARY}}, {"connectionString": CANARY}, {"STORAGE_ACCESS_KEY": CANARY},
    {"environmentVariables": [{"name": "DB_PASSWORD", "value": CANARY}]}, {"appSettings": {"API-KEY": CANARY}},
    {"env": [{"name": "OPENAI_API_KEY", "secureValue": CANARY, "value": CANARY}]},
    {"Authorization": f"Basic {CANARY}"}, {"secureString": CANARY}, {"pwd": CANARY}, {"Cookie": CANARY},
    {"ssh": f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----"},
    {"note": f"DefaultEndpointsProtocol=https;AccountName=st;AccountKey={CANARY};EndpointSuffix=x"},
    {"url": f"https://st.blob.core.windows.net/c?sv=2024&sig={CANARY}&se=1"}, {"hook": f"https://x/?code={CANARY}"},
    {"why": f"the server said: Bearer {CANARY}"}, {"requestbody": json.dumps({"properties": {"primaryKey": CANARY}})},
    {"twice": json.dumps({"body": json.dumps({"secret": f'a"{CANARY}'})})}, {"cut": f'{{"accountKey": "{CANARY}'},
    [{"path": "properties.adminPassword", "before": CANARY, "after": CANARY + "2"}],
    {"path": "properties.list[name='a'].secret", "observed": CANARY, "wanted": {"deep": [CANARY]}},
    {"token": {"access": [{"x": CANARY}]}}, {f"https://x/?sig={CANARY}": 1}, {"path": 3, "pwd": CANARY},
    {"pins": {"password": 1234567, "x": CANARY[:0]}, "secret": {"n": CANARY}},
])
def test_no_secret_comes_through(secret: Any) -> None:
    clean = to_json(redact(secret)).decode()
    assert CANARY not in clean
    assert CANARY[7:] not in clean


@pytest.mark.parametrize("plain", [
    {"allowSharedKeyAccess": True}, {"disableLocalAuth": False}, {"keySource": "Microsoft.KeyVault"},
    {"minimumTlsVersion": "TLS1_2"}, {"sharedKey": "Disabled"}, {"customerManagedKey": "/subscriptions/x"},
    {"keyVaultProperties": {"keyName": "k", "keyVersion": "", "keyVaultUri": VAULT, "currentKeyIdentifier": VAULT}},
    {"encryptionKey": {"keyName": "k", "uri": f"{VAULT}/keys/k/1"}}, {"encryptionKey": f"{VAULT}/keys/k/1"},
    {"keyUri": f"{VAULT}/keys/k/1"}, {"secretUri": f"{VAULT}/secrets/s"}, {"publicKey": "ssh-rsa AAAA"},
    {"partitionKey": "/id"}, {"keyPolicy": {"keyExpirationPeriodInDays": 90}}, {"tokenExpirationHours": 3},
    {"password": None}, {"nothing": ""}, {"plan_hash": "5d0c11e2"}, {"signature": "abc"}, {"n": [1, 2.5, None]},
    {"breaker": "flapping", "key": "stmltrain|storage-sftp", "count": 3}, {"why": 'a key = value line, "quoted": text'},
    {"path": "properties.networkAcls.ipRules[value='1.2.3.4']", "before": {"value": "1.2.3.4"}},
    {"settings": [{"name": "LOG_LEVEL", "value": "debug"}]}, {"password": "@Microsoft.KeyVault(SecretUri=x)"},
    {"url": "/subscriptions/x/y?api-version=2024-01-01"},
])
def test_what_a_guard_looks_at_stays(plain: Any) -> None:
    assert redact(plain) == plain


@pytest.mark.threat("C7")
@pytest.mark.parametrize(("before", "after", "told"), [
    ("a", "b", (SET, CHANGED)), ("a", "a", (SET, SET)), (ABSENT, "b", (None, SET)), ("a", ABSENT, (SET, None)),
])
def test_of_a_secret_it_is_said_whether_it_is_set_and_changed(before: Any, after: Any, told: tuple[Any, Any]) -> None:
    for write_only, path in (((), "properties.clientSecret"), (("properties.login",), "properties.login")):
        (clean,) = redact([Edit(path, before, after)], write_only)
        assert (clean.get("before"), clean.get("after")) == told


@pytest.mark.threat("C7")
def test_what_the_type_declares_is_hidden_whatever_it_is_called() -> None:
    body = {"properties": {"Login": CANARY, "rules": [{"name": "a", "seed": {"x": CANARY}}, {"name": "b"}], "open": 1}}
    clean = redact(body, ("properties.login", "properties.rules[name].seed"))
    assert clean == {"properties": {"Login": SET, "rules": [{"name": "a", "seed": SET}, {"name": "b"}], "open": 1}}


NAMES = ("path", "name", "value", "before", "after", "secret", "key")
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(ABSENT),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(NAMES), inner),
                    max_leaves=12)


@given(JSON)
def test_anything_can_be_redacted_and_stored_and_twice_is_once(value: Any) -> None:
    clean = redact({"value": value})
    assert to_json(clean) == to_json(redact(clean))


@given(st.text(alphabet='"\\:= &?;keysigBearpwd', max_size=300))
def test_scrubbing_ends_and_is_stable_for_texts_made_of_its_own_marks(text: str) -> None:
    once = scrub(text)
    assert len(once) < 4 * len(text) + 20


def test_scrubbing_a_large_hostile_text_is_quick() -> None:
    for mark in ('"key":"', "eyJ", "-----BEGIN PRIVATE KEY-----", '"a ', "password=", '\\"', "?sig=", "bearer ", "a"):
        scrub((mark * 100_000)[:100_000] + "=")


@pytest.mark.parametrize("name", ["primaryKey", "DB_PASSWORD", "x-functions-key", "clientSecretValue", "sasToken"])
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert is_secret_name(name)
