"""Join several streams into one answer: what to hand out of each, and when to open another.

The caller sees one stream of events and one message. Pure: a sync or async driver reads the streams
and sends the requests:

    joining = Joining(call, deadline, allowed)
    drive(joining.begin())
    # Pass each event of joining.opened to joining.take(), and its end or error to joining.went().
    # If that returns True: drive(joining.go_on()). Then hand out what is in joining.out, until
    # joining.over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Any, TypeVar

from ..errors import APIError, APIStatusError, StreamInterruptedError
from ..observers import ResumePlan
from ..types._base import telling_once, tolerated
from ..types.content import TextBlock, TextDelta
from ..types.events import (
    ContentBlockDeltaEvent,
    ContentBlockStartEvent,
    ContentBlockStopEvent,
    Event,
    MessageDelta,
    MessageDeltaEvent,
    MessageStartEvent,
    MessageStopEvent,
)
from ..types.seams import Seam, SeamReason
from ..types.usage import Usage
from .accumulate import Accumulator
from .continuation import Continuation, NotContinued, continuation_of
from .exchange import Sent, attempts, exchanged, place_of
from .reader import Opened
from .resume import (
    Allowed,
    CannotResume,
    estimated_tokens,
    going_on,
    is_structured,
    pause_before,
    prefill_of,
)
from .sse import too_large
from .tail import Tail
from .values import Attempt, Call, Deadline, Outcome

OfBlock = TypeVar("OfBlock", ContentBlockStartEvent, ContentBlockDeltaEvent, ContentBlockStopEvent)

LIMIT_REACHED = frozenset({"max_tokens", "length"})
"""The stop reasons of an answer that reached `max_tokens`; the last is OpenAI's name."""

NOT_CONTINUED = "the answer reached max_tokens and could not be continued"
CLOSED = "the stream was closed"


class Joining:
    """One answer from one or more streams."""

    def __init__(self, call: Call[Opened[Any]], deadline: Deadline, allowed: Allowed) -> None:
        self._call = call
        self._sent = Sent(call, deadline, place_of(call))
        self._allowed = allowed
        self._resumed = self._continued = 0
        self._tail = Tail(call.asked.get("stop_sequences") or ())
        self._tokens = Tokens()
        self.opened: Opened[Any]
        """The stream to read."""
        self.message: Accumulator
        """The message handed out so far."""
        self.out: deque[Event] = deque()
        """Events to hand out."""
        self.failure: APIError | None = None
        """The error to raise after them."""
        self.over = False
        """Whether there is nothing left to read."""
        self.closed = False
        """Set when the caller leaves the stream."""
        self._plan: ResumePlan
        self._prefill = ""
        self._next = call
        self._begun = False
        self._cannot = "the output must match a schema" if is_structured(call.asked) else ""
        # The index of the one block that can be continued, if the answer has no other: as handed
        # out, and in the stream being read.
        self._index: int | None = None
        self._theirs: int | None = None
        self._shift = 0
        self._stop: ContentBlockStopEvent | None = None  # held back: the text may continue
        self._limit: MessageDeltaEvent | None = None  # held back: the answer may continue
        self._cut: MessageDeltaEvent | None = None  # where it did
        self._check: Continuation | None = None
        self._broken: APIError | None = None

    def begin(self) -> Generator[Attempt, Outcome, None]:
        """Open the first stream."""
        opened = yield from exchanged(self._call, self._sent, self._call.config.retry)
        model, request_id = str(self._call.asked.get("model", "")), opened.request_id
        self.message = Accumulator(model, telling_once(request_id), request_id)
        self.opened = opened

    def lend(self, outer: Opened[Any]) -> None:
        """Let the stream that the caller holds report the state of the call."""
        outer.first_event = self.opened.first_event
        outer.sign = self._sent.sign
        outer.describe = lambda outer: self.opened.describe(outer)
        outer.end = lambda outer, how, error: self.opened.end(outer, how, error)
        self._sent.lends(outer)

    # Between two streams

    def went(self, error: APIError | None) -> bool:
        """Take the end of a stream, or the error that ended it; tell whether to open another."""
        if error and (self._limit or self.message.stop_reason_seen):
            tolerated("message_stop missing: the stream broke before it", self.opened.request_id)
            error = None
        if error is None and self._limit is None:
            self._finish()
            return False
        if error:
            self._sent.sign(error)  # observers and the log see it, and it is kept
        try:
            text = self._text_so_far(error)
            self._prefill, self._next = self._request(text, error)
            wait = self._wait(error)
        except CannotResume as reason:
            self._fail(error, str(reason) or ("" if error else CLOSED))
            return False
        why: SeamReason = "interrupted" if error else "max_tokens"
        self._plan = ResumePlan(self._sent.tries + 1, wait, why, error, len(text))
        return True

    def go_on(self) -> Generator[Attempt, Outcome, None]:
        """Open another stream. If that fails, raise the error that ended the last one."""
        plan, call = self._plan, self._next
        self._sent.goes_on(call.request, plan)
        try:
            opened = yield from attempts(call, self._sent, call.config.retry, plan.wait)
        except APIError as later:
            self._fail(plan.error, _in_short(later), later)
        except BaseException:
            self._sent.ends("cancelled", result=self.message.message())
            raise
        else:
            self._join(opened, plan)

    def _text_so_far(self, error: APIError | None) -> str:
        if self.closed or (error and not self._call.config.retry.worth_it(error)):
            raise CannotResume
        if self._cannot:
            raise CannotResume(self._cannot if self._allowed.resume else "")
        self._tokens.said_again(self._tail.blank)
        held = self._tail.seam()
        return self.message.message().text + held

    def _request(self, text: str, error: APIError | None) -> tuple[str, Call[Opened[Any]]]:
        """Return the text that the next request ends with, and its call."""
        manner = self._call.config.endpoint.continues_prefill
        assert manner is not None  # otherwise refused before anything was sent
        prefill = prefill_of(self._call.asked, text, manner)
        most: int = self._call.asked["max_tokens"]
        left = most - self._tokens.since_limit if error else most
        if prefill and left < 1:
            raise CannotResume("max_tokens is used up, by the estimated count")
        return prefill, going_on(self._call, prefill, left)

    def _wait(self, error: APIError | None) -> float:
        if error is None:
            self._sent.stream_is_over(whole=True)
            return 0.0
        retry, deadline = self._call.config.retry, self._sent.deadline
        wait = pause_before(error, self._resumed + 1, self._allowed, retry, deadline)
        self._sent.stream_is_over(whole=False)
        if not self._sent.may_retry():
            raise CannotResume("too many calls of this client fail")
        return wait

    def _join(self, opened: Opened[Any], plan: ResumePlan) -> None:
        """Continue with another stream."""
        estimated = self._tokens.over(self.opened.message.usage, whole=plan.error is None)
        seam = Seam(
            at=plan.at,
            why=plan.why,
            error=_in_short(plan.error) if plan.error else "",
            request_id=self.opened.request_id,
            estimated_tokens=estimated,
        )
        self.message.seams.append(seam)
        self._resumed += plan.error is not None
        self._continued += plan.error is None
        self.opened = opened
        self.message.request_id = opened.request_id or self.message.request_id
        self._theirs, self._shift, self._stop = None, 0, None
        self._cut, self._limit = self._limit, None
        manner = self._call.config.endpoint.continues_prefill
        self._check = continuation_of(self._prefill, manner) if manner else None
        self._broken = plan.error
        if self.closed:
            self._fail(plan.error, CLOSED if plan.error is None else "")

    def _finish(self) -> None:
        try:
            self._end_check()
        except NotContinued as reason:
            self._fail(self._broken, str(reason))
            return
        self._flush()
        if not self.message.complete:  # the stream was read to its end, and is complete
            self.message.finish()
        self.over = True

    def _fail(self, error: APIError | None, reason: str, later: APIError | None = None) -> None:
        """End with the error that broke the stream; after `max_tokens`, with the later one."""
        self._flush()
        if error is None:
            error = later or StreamInterruptedError(f"{NOT_CONTINUED}: {reason}")
            if later:
                error.hint = NOT_CONTINUED
            if limit := self._limit or self._cut:
                self._put(self._summed(limit))
        elif reason:
            error.hint = "; ".join(filter(None, (error.hint, f"not resumed: {reason}")))
        self.failure, self.over = error, True

    # Within a stream

    def take(self, event: Event) -> None:
        """Take the next event of the stream."""
        try:
            self._take(event)
        except NotContinued as reason:
            self._fail(self._broken, str(reason))

    def _take(self, event: Event) -> None:
        if isinstance(event, ContentBlockDeltaEvent):
            if isinstance(event.delta, TextDelta) and self._continues(event.index):
                self._grow(event.delta.text, event)
            else:
                self._leave_text()
                self._put(self._moved(event))
        elif isinstance(event, ContentBlockStartEvent):
            self._start(event)
        elif isinstance(event, ContentBlockStopEvent):
            self._close(event)
        elif isinstance(event, MessageStartEvent):
            self._begin(event)
        elif isinstance(event, MessageDeltaEvent):
            self._end(event)
        elif isinstance(event, MessageStopEvent):
            if self._limit is None:
                self._flush()
                self._put(event)
        else:
            self._put(event)

    def _continues(self, index: int) -> bool:
        """Tell whether a text delta belongs to the block that can be continued."""
        if self._cannot or self._stop:
            return False
        if self._theirs is None:  # the delta has no block start
            self._adopt(index)
        return index == self._theirs

    def _adopt(self, index: int) -> None:
        self._theirs = index
        if self._index is None:
            self._index = index
        self._shift = self._index - index

    def _grow(self, given: str, event: ContentBlockDeltaEvent | None = None) -> None:
        """Take text of the block that can be continued, and its event if it has no other text."""
        text = given
        if self._check:
            text = self._check.take(text)
            if self._check.settled:
                self._check = None
        if not text:
            return
        self._tokens.came(text)
        if self._tokens.size > self._call.config.max_response_bytes:
            self._fail(too_large("the message", self._call.config.max_response_bytes), "")
            return
        final = self._tail.add(text)
        if event and self._shift == 0 and final == given:
            self._put(event)
        elif final:
            self._put_text(final)
        if self._tail.stopped:
            self._stop_across_the_seam(self._tail.stopped)

    def _start(self, event: ContentBlockStartEvent) -> None:
        block = event.content_block
        text = block.text if isinstance(block, TextBlock) and not block.citations else None
        if self._theirs is None and not self._cannot and text is not None:
            is_new = self._index is None
            self._adopt(event.index)
            if is_new:
                self._put(_empty(event) if text else event)
            if text:
                self._grow(text)
            return
        if self._theirs is None and self._check:
            raise NotContinued(f"the server began with a {block.type} block")
        if event.index == self._theirs and text is not None and not self._stop:
            return  # a repeated start
        self._end_check()
        self._leave_text()
        if self._theirs is None and self._index is not None:  # the text before was only white space
            self._put(ContentBlockStopEvent(index=self._index))
            self._shift = self._index + 1 - event.index
        self._theirs = event.index if self._theirs is None else self._theirs
        self._put(self._moved(event))

    def _close(self, event: ContentBlockStopEvent) -> None:
        if not self._cannot and event.index == self._theirs:
            self._end_check()
            self._stop = self._moved(event)
        else:
            self._put(self._moved(event))

    def _begin(self, event: MessageStartEvent) -> None:
        usage = self.opened.message.usage
        if not self._begun:
            self._begun = True
            self._put(event)
        if self.message.seams:
            self.message.count(self._tokens.counted + usage)
        else:
            self._tokens.prompt = _prompt(usage)
        if self._check:
            self._check.read(self._tokens.prompt, _prompt(usage))

    def _end(self, event: MessageDeltaEvent) -> None:
        self._end_check()
        if self.over:
            return
        if event.delta.stop_reason in LIMIT_REACHED and self._may_continue():
            self._limit = event
        if self._limit is None:
            if event.delta.stop_sequence:
                event = self._stopped(event, event.delta.stop_sequence)
            self._flush()
            self._put(self._summed(event))

    def _stopped(self, event: MessageDeltaEvent, stop: str) -> MessageDeltaEvent:
        """Take the end at a stop sequence; return it with the sequence that came first."""
        if text := self._tail.end_at(stop):
            self._put_text(text)
        first = self._tail.stopped or stop
        delta = event.delta.model_copy(update={"stop_sequence": first})
        return event if first == stop else event.model_copy(update={"delta": delta})

    def _summed(self, event: MessageDeltaEvent) -> MessageDeltaEvent:
        """Return the end of a message with the total tokens of all its streams."""
        if not self.message.seams:
            return event
        total = self._tokens.counted + self.opened.message.usage
        return event.model_copy(update={"usage": total})

    def _may_continue(self) -> bool:
        left = self._continued < self._allowed.continue_at_max_tokens
        return left and not self._cannot and self._index is not None

    def _end_check(self) -> None:
        """Take the end of text that should continue an earlier text."""
        if self._check:
            check, self._check = self._check, None
            self._grow(check.end())

    def _stop_across_the_seam(self, stop: str) -> None:
        """End the message at a stop sequence that spans two streams, which no server could see."""
        estimated = self._tokens.over(self.opened.message.usage, whole=False)
        seam = self.message.seams[-1]
        known = {"estimated_tokens": seam.estimated_tokens + estimated}
        self.message.seams[-1] = seam.model_copy(update=known)
        assert self._index is not None
        self._put(ContentBlockStopEvent(index=self._index))
        delta = MessageDelta(stop_reason="stop_sequence", stop_sequence=stop)
        self._put(MessageDeltaEvent(delta=delta, usage=self._tokens.counted))
        self._put(MessageStopEvent())
        self.over = True

    # Handing out

    def _leave_text(self) -> None:
        """Stop holding text back: an answer with more than text cannot be continued."""
        if not self._cannot:
            self._cannot = "the answer contains more than text"
            self._flush()

    def _flush(self) -> None:
        if text := self._tail.rest():
            self._put_text(text)
        if self._stop:
            self._put(self._stop)
            self._stop = None

    def _put_text(self, text: str) -> None:
        assert self._index is not None
        self._put(ContentBlockDeltaEvent(index=self._index, delta=TextDelta(text=text)))

    def _put(self, event: Event) -> None:
        self.message.add(event)
        self.out.append(event)

    def _moved(self, event: OfBlock) -> OfBlock:
        if self._shift == 0:
            return event
        return event.model_copy(update={"index": event.index + self._shift})


class Tokens:
    """Count the tokens of an answer, from the servers' counts and the text."""

    def __init__(self) -> None:
        self.prompt = 0
        """Of the first request."""
        self.counted = Usage()
        """Of the finished streams."""
        self.size = 0
        """Characters of the whole text."""
        self._finished = 0
        self._deltas = self._bytes = 0

    def came(self, text: str) -> None:
        """Take a piece of text."""
        self.size += len(text)
        self._deltas += 1
        self._bytes += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))

    @property
    def since_limit(self) -> int:
        """Tokens since the answer began, or last reached `max_tokens`."""
        return self._finished + estimated_tokens(self._deltas, self._bytes)

    def said_again(self, deltas: int) -> None:
        """Take back deltas that the next stream will repeat."""
        self._finished -= deltas

    def over(self, usage: Usage, *, whole: bool) -> int:
        """Take the end of a stream; return how many of its tokens are estimated.

        A stream that broke did not report its final count.
        """
        came = estimated_tokens(self._deltas, self._bytes)
        estimated = 0 if whole else max(0, came - usage.output_tokens)
        if estimated:
            usage = usage.model_copy(update={"output_tokens": usage.output_tokens + estimated})
        self.counted = self.counted + usage
        self._finished = 0 if whole else self.since_limit
        self._deltas = self._bytes = 0
        return estimated


def _empty(event: ContentBlockStartEvent) -> ContentBlockStartEvent:
    block = event.content_block.model_copy(update={"text": ""})
    return event.model_copy(update={"content_block": block})


def _prompt(usage: Usage) -> int:
    cached = usage.cache_creation_input_tokens + usage.cache_read_input_tokens
    return usage.input_tokens + cached


def _in_short(error: APIError) -> str:
    """Return the cause of an error, in its own words."""
    if isinstance(error, APIStatusError):
        return f"HTTP {error.status_code}: {error.message}"
    return error.message
