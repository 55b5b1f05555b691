"""How a request leaves, and what an answer means: hosts, tokens, statuses, and every exception azure.core has."""

from __future__ import annotations

import inspect
from typing import Any

import azure.core.exceptions as sdk
import pytest
from azure.core.exceptions import AzureError, HttpResponseError
from hypothesis import given
from hypothesis import strategies as st

from guardrail import errors
from guardrail.transport import Answer, check_url, failed, mapped, retry_after

ARM = ("https", "management.azure.com")


@pytest.mark.threat("E5")
@pytest.mark.parametrize("url", [
    "http://management.azure.com/subscriptions/x", "https://management.azure.com:8443/x", "https://evil.example/x",
    "https://management.azure.com.evil.example/x", "https://management.azure.com@evil.example/x",
    "https://user:pass@management.azure.com/x", "https://evil.example/https://management.azure.com/x",
    "https://management.azure.com\\@evil.example/x", "https:\\\\management.azure.com/x", "//management.azure.com/x",
    "https://management.azure.com%2eevil.example/x", "https://xn--management-azure.example/x", "/subscriptions/x", "",
    "https://management.azure.com/x#@evil.example", "https://management.azure.com /x", "https://MANAGEMENT.azure.com/x",
    "https://management.azure.com\u3002evil.example/x", "file:///etc/passwd", "https://169.254.169.254/metadata",
])
def test_no_other_host_is_spoken_to(url: str) -> None:
    with pytest.raises(errors.Unsafe):
        check_url(url, *ARM)


@pytest.mark.threat("B6")
@pytest.mark.parametrize("path", ["/a/../b", "/a/%2e%2e/b", "/a/%2E./b", "/a/.", "/..", "/a/%2e"])
def test_no_path_leads_elsewhere_than_it_spells(path: str) -> None:
    with pytest.raises(errors.Unsafe):
        check_url(f"https://management.azure.com{path}?api-version=1", *ARM)


@given(st.text(max_size=60))
def test_any_text_is_refused_or_goes_to_the_host(text: str) -> None:
    try:
        check_url(f"https://management.azure.com/{text}", *ARM)
    except errors.Unsafe:
        return
    assert ".." not in text.split("?")[0].split("/")


def answer(status: int, code: str = "", **headers: str) -> Answer:
    return Answer(status, {"error": {"code": code, "message": "as Azure puts it"}}, headers)


@pytest.mark.threat("R6", "R12", "A13")
@pytest.mark.parametrize(("status", "code", "method", "kind"), [
    (401, "ExpiredAuthenticationToken", "GET", errors.Unavailable), (401, "", "POST", errors.Unavailable),
    (403, "AuthorizationFailed", "PATCH", errors.Denied), (409, "ScopeLocked", "PUT", errors.Denied),
    (403, "RequestDisallowedByPolicy", "PUT", errors.Denied), (403, "DenyAssignmentAuthorizationFailed", "PUT", errors.Denied),
    (404, "ResourceNotFound", "GET", errors.Gone), (410, "", "GET", errors.Gone),
    (409, "AnotherOperationInProgress", "PUT", errors.Busy), (429, "RetryableError", "PUT", errors.Busy),
    (409, "Conflict", "PATCH", errors.Busy), (400, "StorageProvisioningStateNotSucceeded", "PATCH", errors.Busy),
    (409, "FlagMustBeSetForRestore", "PUT", errors.Final), (409, "RoleAssignmentExists", "PUT", errors.Final),
    (412, "PreconditionFailed", "PUT", errors.Stale), (429, "429", "GET", errors.Throttled),
    (500, "", "PATCH", errors.Unavailable), (503, "", "GET", errors.Unavailable), (408, "", "PUT", errors.Unavailable),
    (500, "", "POST", errors.Unanswered), (503, "", "POST", errors.Unanswered),
    (400, "PropertyChangeNotAllowed", "PATCH", errors.Immutable), (400, "InvalidApiVersionParameter", "GET", errors.Final),
    (400, "NoRegisteredProviderFound", "GET", errors.Final), (405, "", "PUT", errors.Final),
])
def test_what_a_status_means(status: int, code: str, method: str, kind: type[Exception]) -> None:
    error = failed(answer(status, code), method)
    assert type(error) is kind


@pytest.mark.parametrize("body", [None, "<html>Service Unavailable</html>", [], {"Message": "x"}, {"error": "x"},
                                  {"error": {"code": 7}}, {"Error": {"Code": "Conflict", "Message": "busy"}},
                                  {"code": "Conflict", "message": "m"}])
def test_every_form_of_error_body_is_lived_with(body: Any) -> None:
    assert isinstance(failed(Answer(409, body, {}), "PUT"), errors.GuardrailError)


def test_every_exception_of_azure_core_is_mapped() -> None:
    """A new one in a later version fails here, and not at night."""
    kinds = [kind for _, kind in inspect.getmembers(sdk, inspect.isclass)
             if issubclass(kind, (AzureError, ValueError)) and kind.__module__ == sdk.__name__]
    assert len(kinds) >= 18
    for kind in kinds:
        error = kind.__new__(kind)
        error.args = ("told",)
        if isinstance(error, HttpResponseError):
            error.response = None
        for method in ("PATCH", "POST"):
            found = mapped(error, method)
            assert isinstance(found, (errors.Retryable, errors.Final))
            if method == "POST" and not isinstance(error, ValueError):
                assert isinstance(found, errors.Unanswered), "a POST that was not answered is never repeated"


@pytest.mark.threat("R11")
@pytest.mark.parametrize(("header", "seconds"), [
    ("", 15), ("0", 15), ("-1", 15), ("soon", 15), ("30", 30), ("86400", 900), ("9" * 400, 900), ("1e3", 15), ("\u0663", 15),
    ("Wed, 21 Oct 2015 07:28:00 GMT", 15), ("Wed, 21 Oct 2099 07:28:00 GMT", 900), ("Wed, 99 Oct 2099 07:28:00 GMT", 15),
])
def test_how_long_to_wait(header: str, seconds: float) -> None:
    assert retry_after(Answer(429, None, {"retry-after": header}), 15) == seconds
