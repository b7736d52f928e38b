"""Ask OpenAI for the rate limits of a project, with an admin key.

The key goes to the address that was typed, else to OpenAI's own: never to one that some variable
names for other calls. It is never shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from limiter.cli.options import OPENAI_URL, checked_url
from limiter.errors import ConfigError, LimiterError
from limiter.providers.project_limits import ModelLimits, read

if TYPE_CHECKING:
    import openai

KEY = "OPENAI_ADMIN_KEY"
# Admin APIs are in the openai package from here on (OpenAI's guide to them).
_LEAST_OPENAI = "2.34"
_TIMEOUT_S = 30.0
_PAGE = 100  # entries; the API's own default
_NEEDS = (
    f"{KEY} must be an admin key of the project's organization, which an owner of it makes; a "
    "project's own key may not see limits."
)


class LimitsUntold(LimiterError):
    """Say that a project's limits were asked for and not told, and what to do.

    Attributes:
        status: of the answer; 0: there was none.
    """


def limits(project: str, base_url: str | None = None) -> list[ModelLimits]:
    """Return what a project may use of each model; a round trip for each hundred of them.

    Raises:
        ConfigError: there is no key, or an argument is wrong; nothing was sent.
        LimitsUntold: the answer is no list of limits.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", project):
        raise ConfigError(f"--project is a project's id, as proj_abc123; got {project!r:.60}.")
    url = checked_url(base_url or OPENAI_URL)
    found = [read(entry) for entry in _entries(project, url, _key())]
    listed = [each for each in found if each is not None]
    if not listed or len(listed) < len(found):
        raise _foreign(url)
    return listed


def _key() -> str:
    key = os.environ.get(KEY, "").strip()
    if not key:
        raise ConfigError(f"{KEY} is not set: export an admin key of the project's organization.")
    if not re.fullmatch(r"[!-~]+", key):
        raise ConfigError(f"{KEY} holds characters that are in no key: copy it again.")
    return key


def _entries(project: str, url: str, key: str) -> list[dict[str, object]]:
    import openai

    try:
        client = openai.OpenAI(admin_api_key=key, base_url=url, timeout=_TIMEOUT_S)
        listing = client.admin.organization.projects.rate_limits.list_rate_limits
    except (TypeError, AttributeError) as exc:
        raise ConfigError(
            f"openai {openai.__version__} has no admin API: pip install 'openai>={_LEAST_OPENAI}'."
        ) from exc
    with client:
        try:
            return [each.to_dict(warnings=False) for each in _once(listing(project, limit=_PAGE))]
        except openai.APIStatusError as exc:
            raise _refused(project, url, exc) from exc
        except openai.APIConnectionError as exc:
            raise LimitsUntold(
                f"{url} cannot be reached ({exc.__cause__ or exc}): check the network, or --base-url.",
                status=0,
            ) from exc
        except (openai.OpenAIError, AttributeError, TypeError, ValueError) as exc:
            # What is no page of limits comes apart in the client's hands, in one of these ways.
            raise _foreign(url) from exc


def _once(entries: Iterable[Any]) -> Iterable[Any]:
    """Yield what comes from all pages; a server that has no second page must not be asked for ever.

    Raises:
        ValueError: an entry comes again.
    """
    seen = set()
    for each in entries:
        if each.id in seen:
            raise ValueError(each.id)
        seen.add(each.id)
        yield each


def _refused(project: str, url: str, exc: openai.APIStatusError) -> LimitsUntold:
    status = exc.status_code
    match status:
        case 401 | 403:
            then = _NEEDS
        case 404:
            then = (
                f"Check the project's id, {project!r}, and whether the key is of its organization."
            )
        case _ if status == 429 or status >= 500:
            then = "Try again later."
        case _:
            then = "Check --project and --base-url."
    return LimitsUntold(f"{url} answered {status} ({_words(exc)}). {then}", status=status)


def _words(exc: openai.APIStatusError) -> str:
    """Return what an error's body says, without the rest of it."""
    said = exc.body.get("message") if isinstance(exc.body, dict) else None
    return str(said or exc.response.reason_phrase)[:300].rstrip(". ")


def _foreign(url: str) -> LimitsUntold:
    return LimitsUntold(
        f"What {url} answered is no list of a project's limits, or an empty one: check --base-url.",
        status=200,
    )
