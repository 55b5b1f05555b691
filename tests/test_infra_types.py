"""infra/: every file is Bicep, every resource is one that Azure publishes, and every property in it is known there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import infra, published
from tests.bicep import Resource, parsed

# (type, beginning of the fault): why the template says it all the same. One without use fails
EXCEPTIONS: Mapping[tuple[str, str], str] = {
    ("Microsoft.Web/sites", "properties.functionsRuntimeAdminIsolationEnabled: no such property"):
        "the documentation of app settings has it as a property of the site; the published types leave it out",
}

LIMITS = {"Microsoft.Storage/storageAccounts": r"[a-z0-9]{3,24}", "Microsoft.Web/sites": r"[A-Za-z0-9-]{2,60}",
          "Microsoft.KeyVault/vaults": r"[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]"}


def named(file: Path) -> str:
    return file.relative_to(infra.INFRA).as_posix()


@pytest.mark.parametrize("file", infra.FILES, ids=named)
def test_each_file_can_be_read(file: Path) -> None:
    assert parsed(file)


@pytest.mark.parametrize("file", infra.FILES, ids=named)
def test_each_parameter_and_variable_is_used(file: Path) -> None:
    text = file.read_text("utf-8")
    names = re.findall(r"^(?:param|var) (\w+)", text, re.MULTILINE)
    assert [name for name in names if len(re.findall(rf"\b{name}\b", text)) < 2] == []


def test_each_module_is_used() -> None:
    used = {(file.parent / path).resolve() for file in infra.FILES
            for path in re.findall(r"^module \w+ '([^']+)'", file.read_text("utf-8"), re.MULTILINE)}
    assert set(infra.FILES) - used == {infra.INFRA / "main.bicep", infra.INFRA / "managementgroup.bicep"}


def test_every_resource_is_deployed_by_one_of_our_deployments() -> None:
    """So that what follows looks at all of them."""
    written = {(file.name, symbol) for file in infra.FILES for symbol in parsed(file).get("resources", {})}
    seen = {(one.file, one.symbol) for name in infra.DEPLOYMENTS for one in infra.deployed(name)}
    assert written - seen - {(one.file, one.symbol) for one in infra.at_management_group()} == set()


def resources() -> Iterator[tuple[str, Resource]]:
    for name in infra.DEPLOYMENTS:
        yield from ((name, one) for one in infra.deployed(name))
    yield from (("management group", one) for one in infra.at_management_group())


@pytest.mark.parametrize("type", sorted({f"{one.type}@{one.api_version}" for _, one in resources()}))
def test_type_and_properties_are_published(type: str) -> None:
    name, version = type.split("@")
    wrong = {fault for _, one in resources() if one.type == name and not one.existing for fault in faults(one, version)}
    assert {fault for fault in wrong if not excused(name, fault)} == set()


def faults(one: Resource, version: str) -> Iterator[str]:
    chosen: dict[str, Any] = {}
    if one.type in ("Microsoft.Web/sites/config", "Microsoft.Web/sites/basicPublishingCredentialsPolicies"):
        chosen["name"] = one.name.rsplit("/", 1)[1]       # of the URL, and it chooses the shape
    found = published.published(one.type, version).faults({**one.body, **chosen}, sent="PUT", exact=True)
    yield from (fault for fault in found if not chosen or fault != "name: read-only")


def excused(type: str, fault: str) -> bool:
    return any(type == of and fault.startswith(beginning) for of, beginning in EXCEPTIONS)


def test_every_exception_is_needed() -> None:
    found = {(of, start) for of, start in EXCEPTIONS for _, one in resources() if one.type == of and not one.existing
             for fault in faults(one, one.api_version) if fault.startswith(start)}
    assert found == set(EXCEPTIONS)


def test_no_name_is_too_long_or_sent_twice() -> None:
    for name in infra.DEPLOYMENTS:
        made = [one for one in infra.deployed(name) if not one.existing]
        ids = [one.id.lower() for one in made]
        assert sorted(ids) == sorted(set(ids))
        for one in made:
            last = one.name.rsplit("/", 1)[-1]
            assert re.fullmatch(LIMITS.get(one.type, r".{1,260}"), last), last


def test_versions_are_stable_ones_where_there_are_any() -> None:
    odd = {f"{one.type}@{one.api_version}" for _, one in resources() if "preview" in one.api_version}
    assert odd == {"Microsoft.Insights/diagnosticSettings@2021-05-01-preview"}
