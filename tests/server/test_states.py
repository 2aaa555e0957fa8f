"""The states of a connection, without one."""

from __future__ import annotations

import pytest

from tailrace.server.states import (
    ANSWERING,
    BODY,
    CLOSING,
    ENDING,
    HEAD,
    LINGERING,
    ConnectionEvent,
    ConnectionState,
    after,
)

STATES = (HEAD, BODY, ANSWERING, LINGERING, ENDING, CLOSING)


def led(*events: ConnectionEvent) -> ConnectionState:
    """Where events lead a new connection."""
    state = HEAD
    for event in events:
        state = after(state, event)
    return state


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((), HEAD),
        ((ConnectionEvent.HEAD,), BODY),
        ((ConnectionEvent.HEAD, ConnectionEvent.REQUEST), ANSWERING),
        ((ConnectionEvent.HEAD, ConnectionEvent.REQUEST, ConnectionEvent.ANSWERED), HEAD),
        ((ConnectionEvent.HEAD, ConnectionEvent.ANSWERED), LINGERING),
        ((ConnectionEvent.HEAD, ConnectionEvent.ANSWERED, ConnectionEvent.REQUEST), HEAD),
    ],
)
def test_a_connection_that_is_kept_comes_back_to_the_next_head(
    events: tuple[ConnectionEvent, ...], state: ConnectionState
) -> None:
    assert led(*events) is state


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((ConnectionEvent.LAST,), CLOSING),
        ((ConnectionEvent.HEAD, ConnectionEvent.REQUEST, ConnectionEvent.LAST), CLOSING),
        ((ConnectionEvent.HEAD, ConnectionEvent.LAST), ENDING),
        ((ConnectionEvent.HEAD, ConnectionEvent.ANSWERED, ConnectionEvent.LAST), ENDING),
        ((ConnectionEvent.HEAD, ConnectionEvent.LAST, ConnectionEvent.REQUEST), CLOSING),
        ((ConnectionEvent.HEAD, ConnectionEvent.LAST, ConnectionEvent.BROKEN), CLOSING),
        ((ConnectionEvent.HEAD, ConnectionEvent.ANSWERED, ConnectionEvent.BROKEN), CLOSING),
        ((ConnectionEvent.BROKEN,), CLOSING),
    ],
)
def test_behind_the_last_response_the_rest_of_its_request_is_still_read(
    events: tuple[ConnectionEvent, ...], state: ConnectionState
) -> None:
    assert led(*events) is state


@pytest.mark.parametrize("event", ConnectionEvent)
@pytest.mark.parametrize("state", [ENDING, CLOSING], ids=lambda state: state.name)
def test_nothing_leads_back_from_the_end(state: ConnectionState, event: ConnectionEvent) -> None:
    try:
        assert after(state, event) in (ENDING, CLOSING)
    except RuntimeError:
        assert event in (ConnectionEvent.HEAD, ConnectionEvent.REQUEST, ConnectionEvent.ANSWERED)


@pytest.mark.parametrize("state", [BODY, ANSWERING], ids=lambda state: state.name)
def test_no_request_begins_within_an_open_response(state: ConnectionState) -> None:
    with pytest.raises(RuntimeError, match=f"head is complete, but .* {state.name!r}"):
        after(state, ConnectionEvent.HEAD)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_a_response_is_completed_once(state: ConnectionState) -> None:
    if state.is_open:
        assert not after(state, ConnectionEvent.ANSWERED).is_open
        assert not after(state, ConnectionEvent.LAST).is_open
    else:
        with pytest.raises(RuntimeError):
            after(state, ConnectionEvent.ANSWERED)


@pytest.mark.parametrize("state", [BODY, ANSWERING], ids=lambda state: state.name)
def test_what_is_broken_within_an_open_response_has_no_good_end(state: ConnectionState) -> None:
    with pytest.raises(RuntimeError):
        after(state, ConnectionEvent.BROKEN)
