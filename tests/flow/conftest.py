"""`pytest tests/flow --store azurite` runs the whole flow suite on tables and queue; a test may ask for it by `on_azurite`."""

from __future__ import annotations

import pytest

from tests.flow import world

ON_A_FILE = {"test_a_secret_in_an_error_answer_is_kept_nowhere", "test_junk_leaves_bounded_rows",
             "test_whoever_empties_the_radius_gets_an_hour_of_asking_instead",
             "test_who_empties_the_flapping_of_a_resource_is_found_by_its_seal"}


@pytest.fixture(autouse=True)
def _store(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--store") == "azurite":
        if request.node.originalname in ON_A_FILE or request.node.path.name == "test_forged.py":
            pytest.skip("looks into the SQLite file itself")
        request.getfixturevalue("on_azurite")


@pytest.fixture
def on_azurite(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each world that the test makes has an account of its own."""
    azurite = request.getfixturevalue("azurite")
    monkeypatch.setattr(world, "STORES", [lambda clock: azurite.account().stores(clock)])
