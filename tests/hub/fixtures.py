"""Fixtures of tests that need a Hub."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.hub.local import LocalHub, local_hub


@pytest.fixture(scope="session")
def hubs(tmp_path_factory) -> Iterator[Callable[[str], LocalHub]]:
    """`hubs("lfs")` is the session's local Hub whose clients upload by git-lfs; `"xet"` the one for Xet."""
    started: dict[str, LocalHub] = {}
    with ExitStack() as stack:

        def start(mode: str) -> LocalHub:
            if mode not in started:
                started[mode] = stack.enter_context(local_hub(tmp_path_factory.mktemp(f"hub-{mode}"), mode))
            return started[mode]

        yield start


@pytest.fixture(scope="session", params=["xet", pytest.param("lfs", marks=pytest.mark.slow)])
def hub_of_session(request, hubs) -> LocalHub:
    return hubs(request.param)


@pytest.fixture
def hub(hub_of_session) -> Iterator[LocalHub]:
    """A local Hub whose clients upload by Xet, in slow tests also by git-lfs; faults end with the test."""
    hub_of_session.reset()
    yield hub_of_session
    hub_of_session.reset()


@pytest.fixture
def plain_hub(hubs) -> Iterator[LocalHub]:
    """A local Hub for what does not depend on how clients upload."""
    started = hubs("lfs")
    started.reset()
    yield started
    started.reset()
