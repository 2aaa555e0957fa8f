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
    Event,
    State,
    after,
)

STATES = (HEAD, BODY, ANSWERING, LINGERING, ENDING, CLOSING)


def led(*events: Event) -> State:
    """Where events lead a new connection."""
    state = HEAD
    for event in events:
        state = after(state, event)
    return state


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((), HEAD),
        ((Event.HEAD,), BODY),
        ((Event.HEAD, Event.REQUEST), ANSWERING),
        ((Event.HEAD, Event.REQUEST, Event.ANSWERED), HEAD),
        ((Event.HEAD, Event.ANSWERED), LINGERING),
        ((Event.HEAD, Event.ANSWERED, Event.REQUEST), HEAD),
    ],
)
def test_a_connection_that_is_kept_comes_back_to_the_next_head(
    events: tuple[Event, ...], state: State
) -> None:
    assert led(*events) is state


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((Event.LAST,), CLOSING),
        ((Event.HEAD, Event.REQUEST, Event.LAST), CLOSING),
        ((Event.HEAD, Event.LAST), ENDING),
        ((Event.HEAD, Event.ANSWERED, Event.LAST), ENDING),
        ((Event.HEAD, Event.LAST, Event.REQUEST), CLOSING),
        ((Event.HEAD, Event.LAST, Event.BROKEN), CLOSING),
        ((Event.HEAD, Event.ANSWERED, Event.BROKEN), CLOSING),
        ((Event.BROKEN,), CLOSING),
    ],
)
def test_behind_the_last_response_the_rest_of_its_request_is_still_read(
    events: tuple[Event, ...], state: State
) -> None:
    assert led(*events) is state


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", [ENDING, CLOSING], ids=lambda state: state.name)
def test_nothing_leads_back_from_the_end(state: State, event: Event) -> None:
    try:
        assert after(state, event) in (ENDING, CLOSING)
    except RuntimeError:
        assert event in (Event.HEAD, Event.REQUEST, Event.ANSWERED)


@pytest.mark.parametrize("state", [BODY, ANSWERING], ids=lambda state: state.name)
def test_no_request_begins_within_an_open_response(state: State) -> None:
    with pytest.raises(RuntimeError, match=f"head is complete, but .* {state.name!r}"):
        after(state, Event.HEAD)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_a_response_is_completed_once(state: State) -> None:
    if state.is_open:
        assert not after(state, Event.ANSWERED).is_open
        assert not after(state, Event.LAST).is_open
    else:
        with pytest.raises(RuntimeError):
            after(state, Event.ANSWERED)


@pytest.mark.parametrize("state", [BODY, ANSWERING], ids=lambda state: state.name)
def test_what_is_broken_within_an_open_response_has_no_good_end(state: State) -> None:
    with pytest.raises(RuntimeError):
        after(state, Event.BROKEN)
