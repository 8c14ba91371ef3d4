"""
Every error raised on purpose, each with a stable `code`.

    EnhancerError
    ├── SetupError                  the operator has to set or install something
    ├── RequestError                the answer to a caller (web/errors.py gives each class its HTTP status)
    │   ├── Unauthenticated  SubscriptionRequired  Forbidden  NotFound  Conflict
    │   ├── RequestTimeout  UploadTooLarge  UnsupportedImage  InvalidImage  InvalidRequest  VideoUnavailable
    │   └── RetryLater
    │       └── TooManyRequests  QueueFull  StorageUnavailable
    └── TaskError                   why a task failed; its `code` becomes the task's `error_code`
        ├── ProviderError           a call of a paid service that brought no result
        │   ├── ProviderRejectedImage  ProviderBadAnswer
        │   ├── ProviderRefused
        │   │   └── OrderFailed
        │   │       └── OrderRejected
        │   ├── ProviderRateLimited  OutcomeUnknown
        │   └── ProviderUnavailable
        │       └── OrderLost
        ├── TimeLimitExceeded
        └── InternalError

An error raised without a message speaks the first line of its docstring.
"""

from __future__ import annotations

from typing import ClassVar, Literal


class EnhancerError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().partition("\n")[0])


class SetupError(EnhancerError):
    """The service is not set up."""

    code = "setup"


class RequestError(EnhancerError):
    """The request cannot be answered."""


class Unauthenticated(RequestError):
    """Sign in: a valid token is needed."""

    code = "unauthenticated"


class SubscriptionRequired(RequestError):
    """An active subscription is needed."""

    code = "subscription_required"


class Forbidden(RequestError):
    """This is not allowed."""

    code = "forbidden"


class NotFound(RequestError):
    """There is nothing here."""

    code = "not_found"


class Conflict(RequestError):
    """This is not possible in the present state."""

    code = "conflict"


class RequestTimeout(RequestError):
    """The request came too slowly."""

    code = "request_timeout"


class UploadTooLarge(RequestError):
    """The file is too large."""

    code = "upload_too_large"


class UnsupportedImage(RequestError):
    """The file is not a JPEG, PNG or WebP image."""

    code = "unsupported_image"


class InvalidImage(RequestError):
    """The image is damaged or cannot be read."""

    code = "invalid_image"


class InvalidRequest(RequestError):
    """
    The request is not valid.

    `errors`: (field, message) pairs, one for each thing that is wrong.
    """

    code = "invalid_request"

    def __init__(self, *errors: tuple[str, str]) -> None:
        super().__init__()
        self.errors = errors


class RetryLater(RequestError):
    """
    Try again later.

    `retry_after`: seconds, or None when nobody knows.
    """

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyRequests(RetryLater):
    """There were too many requests."""

    code = "too_many_requests"


class QueueFull(RetryLater):
    """The service is busy; try again in a moment."""

    code = "queue_full"


class StorageUnavailable(RetryLater):
    """The storage cannot be reached; try again in a moment."""

    code = "storage_unavailable"


class VideoUnavailable(RequestError):
    """This service renders no videos: the extra `video` is not installed."""

    code = "video_unavailable"


class TaskError(EnhancerError):
    """
    The task failed.

    `retry`: whether another attempt may help.
    """

    retry: ClassVar[bool] = False


class InternalError(TaskError):
    """An internal error stopped the task."""

    retry = True


class TimeLimitExceeded(TaskError):
    """The task took longer than its time limit."""

    code = "timeout"


class ProviderError(TaskError):
    """
    A provider's call brought no result.

    `billing`: what is known of the bill. "refused": the call was never accepted, so it may be made again.
    "ambiguous": it may have been accepted and billed.
    `retry_after`: seconds that the provider asked us to wait, or None.
    """

    billing: ClassVar[Literal["refused", "ambiguous"]] = "refused"

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderRefused(ProviderError):
    """The provider refused the request."""

    code = "provider_refused"


class ProviderRejectedImage(ProviderError):
    """The provider's safety system rejected the image or the description."""

    code = "provider_rejected_image"


class ProviderUnavailable(ProviderError):
    """The provider cannot be reached or is not working."""

    code = "provider_unavailable"
    retry = True


class ProviderRateLimited(ProviderError):
    """The provider limits the rate of requests."""

    code = "provider_rate_limited"
    retry = True


class ProviderBadAnswer(ProviderError):
    """The provider's answer could not be used."""

    code = "provider_bad_answer"
    billing = "ambiguous"


class OutcomeUnknown(ProviderError):
    """The connection broke during a paid call; whether it was billed is unknown."""

    code = "outcome_unknown"
    retry = True
    billing = "ambiguous"


class OrderFailed(ProviderRefused):
    """The provider accepted the order and could not carry it out."""


class OrderRejected(OrderFailed):
    """The provider's safety system rejected the video."""

    code = "provider_rejected_image"


class OrderLost(ProviderUnavailable):
    """The provider does not know the order any more."""
