from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from enhancer import errors
from enhancer.errors import EnhancerError, InvalidRequest, ProviderError, RetryLater

# the codes that clients and operators were promised
OF_REQUESTS = {
    "unauthenticated",
    "subscription_required",
    "forbidden",
    "not_found",
    "conflict",
    "upload_too_large",
    "unsupported_image",
    "invalid_image",
    "invalid_request",
    "too_many_requests",
    "queue_full",
    "storage_unavailable",
    "video_unavailable",
    "request_timeout",
}
OF_TASKS = {
    "provider_refused",
    "provider_rejected_image",
    "provider_unavailable",
    "provider_rate_limited",
    "provider_bad_answer",
    "timeout",
    "outcome_unknown",
    "internal",
}


def descendants(parent: type[EnhancerError]) -> Iterator[type[EnhancerError]]:
    """All classes below the parent that the module defines."""
    for child in parent.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from descendants(child)


def leaves(parent: type[EnhancerError]) -> list[type[EnhancerError]]:
    """The classes below the parent that have none below them: those that are raised."""
    return [child for child in descendants(parent) if not any(descendants(child))]


EVERY: list[type[EnhancerError]] = [EnhancerError, *descendants(EnhancerError)]


def test_the_tree_shows_every_error_once() -> None:
    tree = (errors.__doc__ or "").partition("\n\n")[2].rpartition("\n\n")[0]
    names = [cls.__name__ for cls in EVERY]
    shown = [word for word in re.findall(r"\b[A-Z]\w+\b", tree) if word in names]
    assert sorted(shown) == sorted(names)


def test_the_tree_names_nothing_that_is_not_there() -> None:
    tree = (errors.__doc__ or "").partition("\n\n")[2].rpartition("\n\n")[0]
    drawn = re.findall(r"(?:[├└]── |  )([A-Z]\w+)(?=  |$)", tree, re.MULTILINE)
    assert set(drawn) <= {cls.__name__ for cls in EVERY}


def test_the_codes_of_requests_are_those_that_were_promised() -> None:
    codes = [cls.code for cls in leaves(errors.RequestError)]
    assert sorted(codes) == sorted(OF_REQUESTS)


def test_the_codes_of_tasks_are_those_that_were_promised() -> None:
    assert {cls.code for cls in descendants(errors.TaskError) if cls is not ProviderError} == OF_TASKS


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_an_error_without_a_message_speaks_its_docstring(cls: type[EnhancerError]) -> None:
    said = str(cls())
    assert said == (cls.__doc__ or "").strip().splitlines()[0]
    assert said.endswith(".")


@pytest.mark.parametrize("cls", [c for c in EVERY if c is not InvalidRequest], ids=lambda cls: cls.__name__)
def test_an_error_with_a_message_speaks_it(cls: type[EnhancerError]) -> None:
    assert str(cls("Nothing is left.")) == "Nothing is left."


@pytest.mark.parametrize("cls", [c for c in EVERY if issubclass(c, RetryLater | ProviderError)])
def test_an_error_that_passes_can_say_when(cls: type[RetryLater] | type[ProviderError]) -> None:
    assert cls().retry_after is None
    assert cls("Later.", retry_after=1.5).retry_after == 1.5


def test_an_invalid_request_carries_what_is_wrong() -> None:
    error = InvalidRequest(("email", "This is not an e-mail address."), ("file", "The photo is missing."))
    assert error.errors == (("email", "This is not an e-mail address."), ("file", "The photo is missing."))


def test_what_may_have_been_billed_is_not_taken_for_refused() -> None:
    ambiguous = {cls for cls in EVERY if issubclass(cls, ProviderError) and cls.billing == "ambiguous"}
    assert ambiguous == {errors.ProviderBadAnswer, errors.OutcomeUnknown}
