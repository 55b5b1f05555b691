"""guardrail scan: what other programs rely on, exit codes, hostile text, and what it costs to start."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import recorded
from detectors import CONTROLS
from guardrail import names
from guardrail.paths import ABSENT
from guardrail.values import Control
from recorded import Sample
from tests import infra, test_ocsf
from tests.cli.conftest import Guardrail

ROOT = Path(__file__).parent.parent.parent
STORAGE = "Microsoft.Storage/storageAccounts"
ELSE = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/A.B/c/d"
KEYS = {"control", "resource_id", "path", "state", "severity"}
TYPES = sorted({control.on for control in CONTROLS})


def line(sample: Sample, **changed: Any) -> bytes:
    type = sample.id.split("/providers/")[-1]
    parts = type.split("/")
    named = "/".join((parts[0], *parts[1::2]))
    return msgspec.json.encode({"type": named, "api_version": sample.api_version, "document": sample.body, **changed})


def lines(*every: bytes) -> bytes:
    return b"\n".join(every) + b"\n"


def edited(**properties: Any) -> Mapping[str, Any]:
    body = recorded.good(STORAGE).body
    return {**body, "properties": {**body["properties"], **properties}}


def test_every_good_document_is_clean(guardrail: Guardrail) -> None:
    answer = guardrail("scan", "-", "-o", "json", stdin=lines(*(line(recorded.good(type)) for type in TYPES)))
    assert (answer.code, json.loads(answer.out)) == (0, [])


@pytest.mark.parametrize("class_uid", [2004, 2003])
def test_what_goes_to_a_siem_is_of_the_published_schema(guardrail: Guardrail, class_uid: int) -> None:
    """One line a finding, of a live look or a document alike; the id is the one that a store gives it."""
    drifted = line(recorded.good(STORAGE), document=edited(publicNetworkAccess="Enabled", isSftpEnabled=True))
    listed = json.loads(guardrail("scan", "-", "-o", "json", stdin=lines(drifted)).out)
    answer = guardrail("scan", "-", "-o", "ocsf", "--ocsf-class", str(class_uid), stdin=lines(drifted))
    events = [json.loads(one) for one in answer.out.splitlines()]
    assert answer.code == 2
    assert [fault for event in events for fault in test_ocsf.faults(event)] == []
    assert {(one["class_uid"], one["finding_info"]["analytic"]["uid"], one["unmapped"]["resource_id"]) for one in events} == {
        (class_uid, one["control"], one["resource_id"]) for one in listed}
    one, born = listed[0], recorded.good(STORAGE).body["properties"]["creationTime"]
    assert events[0]["finding_info"]["uid"] == names.finding_id(one["resource_id"], born, one["control"], one["path"])


def speaks(control: Control) -> bool:
    """Whether it finds its drift with nothing but the document: one that wants what was has no memory here.

    Where the drift is that the resource is gone there is no document at all.
    """
    sample = recorded.drifted(control)
    if sample.body is ABSENT:
        return False
    alone = replace(sample.document, good={})
    return bool(list(control.check(alone.node(), control.parameters)))


def test_every_control_speaks_about_its_drifted_document(guardrail: Guardrail) -> None:
    heard = [control for control in CONTROLS if speaks(control)]
    assert len(heard) > 0.9 * len(CONTROLS)
    answer = guardrail("scan", "-", "-o", "json", stdin=lines(*(line(recorded.drifted(control)) for control in heard)))
    found = json.loads(answer.out)
    assert answer.code == 2
    for control in heard:
        mine = [one for one in found if (one["control"], one["state"]) == (control.id, "drift")]
        assert mine, control.id
        assert {one["severity"] for one in mine} == {control.severity}
        assert {one["resource_id"] for one in mine} == {recorded.good(control.on).id}
    assert all(set(one) - {"observed", "wanted"} == KEYS for one in found)


def test_what_is_absent_is_left_out(guardrail: Guardrail) -> None:
    body = dict(recorded.good("Microsoft.KeyVault/vaults").body)
    body["properties"] = {key: one for key, one in body["properties"].items() if key != "enablePurgeProtection"}
    answer = guardrail("scan", "-", "-o", "json", stdin=line(recorded.good("Microsoft.KeyVault/vaults"), document=body))
    [found] = json.loads(answer.out)
    assert found["control"] == "keyvault-purge-protection"
    assert "observed" not in found
    assert found["wanted"] is True


@pytest.mark.parametrize(("raw", "told"), [
    (b"{nope", "error: stdin line 2: not JSON"),
    (b'"text"', "error: stdin line 2: not an object"),
    (line(recorded.good(STORAGE), document=[]), "document is not an object"),
    (line(recorded.good(STORAGE), document={}), "not an ARM id"),
    (line(recorded.good(STORAGE), api_version=None), "api_version is missing"),
    (line(recorded.good(STORAGE), api_version="2019-06-01"), "skipped: stdin line 2: told in api-version '2019-06-01'"),
    (line(recorded.good(STORAGE), type="Microsoft.KeyVault/vaults"), "type is 'Microsoft.KeyVault/vaults'"),
    (line(recorded.good(STORAGE), type="A.B/c", document={"id": ELSE}), "skipped: stdin line 2: no control reads a A.B/c"),
    (b'{"type": "Microsoft.Storage/storageAccounts", "a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested deeper"),
], ids=["malformed", "no object", "document is a list", "no id", "no version", "another version", "another type",
        "unknown type", "deep"])
def test_a_bad_line_is_told_and_the_rest_goes_on(guardrail: Guardrail, raw: bytes, told: str) -> None:
    good, bad = line(recorded.good(STORAGE)), line(recorded.good(STORAGE), document=edited(publicNetworkAccess="Enabled"))
    answer = guardrail("scan", "-", "-o", "json", stdin=lines(good, raw, bad))
    assert told in answer.err
    assert {one["control"] for one in json.loads(answer.out)} == {"storage-public-network-access"}
    assert answer.code == 2
    clean = guardrail("scan", "-", "-o", "json", stdin=lines(good, raw))
    assert (clean.code, clean.out) == (3, "[]\n"), "what was not read is not clean"


def test_nothing_readable_is_not_clean(guardrail: Guardrail) -> None:
    assert guardrail("scan", "-", stdin=b"{nope").code == 1
    assert guardrail("scan", "-", stdin=b"").code == 1


def test_parts_that_are_not_there_are_unreadable(guardrail: Guardrail) -> None:
    """A document without its children says nothing about them: never compliant."""
    for type in TYPES:
        sample = recorded.good(type)
        bare = {key: one for key, one in sample.body.items() if not key.startswith("+")}
        answer = guardrail("scan", "-", "-o", "json", stdin=line(sample, document=bare))
        wanted = {control.id for control in CONTROLS if control.on == type and control.also_reads}
        found = json.loads(answer.out)
        assert {one["control"] for one in found} == wanted
        assert {one["state"] for one in found} <= {"unreadable"}
        assert answer.code == (3 if wanted else 0)


def test_az_output_is_taken_as_it_is(guardrail: Guardrail, tmp_path: Path) -> None:
    file = tmp_path / "show.json"
    file.write_text(json.dumps({**edited(minimumTlsVersion="TLS1_0"), "resourceGroup": "rg-ai-dev"}, indent=2))
    answer = guardrail("scan", str(file), "-o", "json", "--control", "storage-minimum-tls")
    assert [(one["observed"], one["wanted"]) for one in json.loads(answer.out)] == [("TLS1_0", "TLS1_2")]
    flat = {"id": recorded.good(STORAGE).id, "type": STORAGE, "publicNetworkAccess": "Disabled"}
    told = guardrail("scan", "-", stdin=json.dumps(flat, indent=1).encode())
    assert (told.code, "az resource show" in told.err) == (1, True)


def test_a_folder_of_samples_is_taken(guardrail: Guardrail) -> None:
    answer = guardrail("scan", str(ROOT / "recorded/resources"))
    assert answer.code == 0
    assert "Storage" in answer.out


@pytest.mark.parametrize(("words", "code"), [
    ((), 2), (("--fail-on", "critical"), 0), (("--fail-on", "high"), 2), (("--exit-zero",), 0),
    (("--severity", "critical"), 0), (("--control", "storage-minimum-tls"), 0), (("--control", "storage-public*"), 2),
    (("--control", "storage-publik-network-access"), 64), (("--severity", "hihg"), 64),
    (("-o", "tabel"), 64), (("--policy", "/nowhere.yaml"), 5), (("--query", "[0]"), 64),
    (("--ids", "x"), 64), (("--nonsense",), 64)])
def test_exit_codes(guardrail: Guardrail, words: tuple[str, ...], code: int) -> None:
    """Drift is 2 and nothing else is: a typo is 64, so that a build never takes one for the other."""
    raw = line(recorded.good(STORAGE), document=edited(publicNetworkAccess="Enabled"))
    answer = guardrail("scan", "-", *words, stdin=raw)
    assert answer.code == code, answer.err
    assert answer.err.splitlines()[-1].startswith(f"exit {code}: ")


def test_a_wrong_word_gets_the_nearest_right_one(guardrail: Guardrail) -> None:
    assert "'storage-public-network-access'" in guardrail("scan", "-", "--control", "storage-publik-network-access").err
    assert "'critical'" in guardrail("scan", "-", "--severity", "kritical").err
    assert "'scan'" in guardrail("scn").err
    assert "--severity" in guardrail("scan", "--severty", "low").err


def test_a_bad_policy_names_file_line_key_and_cure(guardrail: Guardrail, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\nrulez: []\n")
    answer = guardrail("scan", "-", "--policy", str(policy), stdin=line(recorded.good(STORAGE)))
    assert answer.code == 5
    assert "p.yaml" in answer.err
    assert "rulez" in answer.err
    assert "cure:" in answer.err


def test_exempt_findings_never_fail_a_build(guardrail: Guardrail, tmp_path: Path) -> None:
    policy, soon = tmp_path / "p.yaml", datetime.now(UTC).date() + timedelta(days=30)
    policy.write_text(f"""version: 1
exemptions:
  - control: storage-public-network-access
    scope: {recorded.good(STORAGE).id}
    reason: open data
    owner: team
    until: {soon}
""")
    raw = line(recorded.good(STORAGE), document=edited(publicNetworkAccess="Enabled"))
    answer = guardrail("scan", "-", "--policy", str(policy), stdin=raw)
    assert answer.code == 0
    assert "      1" in answer.out


HOSTILE = ("\x1b[31mred\x1b[0m", "line\nbreak", "\x9b2J", "\u202eevil", "\x00\x07", "=cmd|' /C calc'!A0", "+1", "-1",
           "@SUM(A1)", "\tt", "\rr", '"}{"', "<script>", "[bold]x[/bold]", "\ud800", "%s{0}")


def hostile() -> bytes:
    """Accounts whose values carry each text; the id stays sound, as ARM's are."""
    return lines(*(msgspec_line(text) for text in HOSTILE))


def msgspec_line(text: str) -> bytes:
    body = {**edited(minimumTlsVersion=text, publicNetworkAccess=text), "tags": {text: text}}
    return json.dumps({"type": STORAGE, "api_version": recorded.good(STORAGE).api_version, "document": body}).encode()


def odd(text: str) -> list[str]:
    return [one for one in text if one != "\n" and not one.isprintable()]


@pytest.mark.threat("E2")
@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_hostile_values_reach_no_terminal(guardrail: Guardrail, form: str) -> None:
    answer = guardrail("scan", "-", "-o", form, "--color", "never", stdin=hostile())
    assert odd(answer.out) == []
    assert odd(answer.err) == []
    assert answer.code == 2
    if form == "table":
        width = len(answer.out.splitlines()[0].split("POLICY")[0])
        rows = [row for row in answer.out.split("SERVICE")[0].splitlines()[1:] if "storage-minimum-tls" in row]
        assert len(rows) == len(HOSTILE), "one finding, one line"
        assert width > 40


@pytest.mark.threat("E2")
def test_a_hostile_file_name_reaches_no_terminal(guardrail: Guardrail, tmp_path: Path) -> None:
    (tmp_path / "\x1b[31m\u202ex.json").write_text("{")
    answer = guardrail("scan", str(tmp_path))
    assert odd(answer.err) == []


@pytest.mark.threat("E3")
def test_csv_cells_are_no_formulas(guardrail: Guardrail) -> None:
    answer = guardrail("scan", "-", "-o", "csv", stdin=hostile())
    rows = list(csv.reader(io.StringIO(answer.out)))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert len(rows) == 1 + 2 * len(HOSTILE)
    assert [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []


@pytest.mark.threat("E3")
@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
@pytest.mark.parametrize("column", range(3))
def test_a_formula_in_any_column_reads_back_as_text(first: str, column: int) -> None:
    from cli.output import as_csv

    row = ["a", "b", "c"]
    row[column] = first + "SUM(1)"
    [back] = list(csv.reader(io.StringIO(as_csv([row]), newline="")))
    assert back[column] == "'" + first + "SUM(1)"
    assert [cell for at, cell in enumerate(back) if at != column] == [cell for at, cell in enumerate(row) if at != column]


WORD = st.text(max_size=8)
ANY = st.recursive(st.none() | st.booleans() | st.integers(-5, 5) | WORD,
                   lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3), max_leaves=8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(ANY, max_size=4), control=st.sampled_from(CONTROLS), key=st.sampled_from(["properties", "tags", "sku"]))
def test_any_json_gives_an_answer(guardrail: Guardrail, values: list[Any], control: Control, key: str) -> None:
    sample = recorded.good(control.on)
    every: Iterable[bytes] = [json.dumps(one).encode() for one in values]
    broken = [line(sample, document={**sample.body, key: one}) for one in values]
    answer = guardrail("scan", "-", "-o", "json", stdin=lines(line(sample), *every, *broken))
    found = json.loads(answer.out)
    assert answer.code in (0, 2, 3)
    assert all(one["state"] in ("drift", "unreadable") for one in found)
    assert odd(answer.out + answer.err) == []


def test_colour_only_on_a_terminal_or_when_asked(guardrail: Guardrail, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = line(recorded.good(STORAGE), document=edited(publicNetworkAccess="Enabled"))
    assert "\x1b" not in guardrail("scan", "-", stdin=raw).out
    assert "\x1b[31m" in guardrail("scan", "-", "--color", "always", stdin=raw).out
    assert guardrail("scan", "-", "--color", "pink", stdin=raw).code == 64


def test_only_errors_leaves_stderr_to_errors(guardrail: Guardrail) -> None:
    assert guardrail("scan", "-", "--only-show-errors", stdin=line(recorded.good(STORAGE))).err == ""


def test_query_is_jmespath(guardrail: Guardrail) -> None:
    raw = line(recorded.good(STORAGE), document=edited(publicNetworkAccess="Enabled", networkAcls=None))
    answer = guardrail("scan", "-", "-o", "json", "--query", "[].control", stdin=raw)
    assert "storage-public-network-access" in json.loads(answer.out)
    assert guardrail("scan", "-", "-o", "json", "--query", "[[[", stdin=raw).code == 64


def test_it_starts_without_azure_and_without_a_server() -> None:
    """Measured in a process of its own: what is not imported costs nothing."""
    heavy = ("azure", "aiohttp", "uvicorn", "starlette", "jinja2", "simulator", "recorded", "cryptography", "rich", "jmespath")
    code = ("import sys, cli; code = cli.main(['scan', '-', '-o', 'json']); "
            f"sys.exit(str([m for m in {heavy!r} if m in sys.modules]) if code != 2 else 0)"
            f" if not [m for m in {heavy!r} if m in sys.modules] else sys.exit('imported')")
    raw = line(recorded.good(STORAGE), document=edited(publicNetworkAccess="Enabled"))
    done = subprocess.run([sys.executable, "-c", code], input=raw, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["control"] == "storage-public-network-access"


@pytest.mark.parametrize("name", [name for name in infra.ALL if infra.DEPLOYMENTS[name].get("network") != "service"])
def test_our_own_template_is_clean(guardrail: Guardrail, tmp_path: Path, name: str) -> None:
    """As a person would ask: the documents in a folder, with the policy that is shipped."""
    found = infra.documents(name)
    for at, one in enumerate(found):
        (tmp_path / f"{at}.json").write_bytes(msgspec.json.encode(one.body))
    answer = guardrail("scan", str(tmp_path))
    assert answer.code == 0, answer.err
    assert f"{len(found)} resources" in answer.err
