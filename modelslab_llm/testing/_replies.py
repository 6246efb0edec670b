"""Decide what a local Messages server answers: requests in, plans of bytes out.

Must not open a socket, start a thread, read a clock or await: whoever holds a `Plan` sends it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

__all__ = [
    "Answer",
    "Chunk",
    "Failure",
    "Plan",
    "ReceivedRequest",
    "Replies",
    "Reply",
    "Rules",
    "Script",
    "answer",
    "receive",
    "unreadable",
]

Json: TypeAlias = dict[str, Any]


# What a script is made of


@dataclass(frozen=True)
class Reply:
    """Say what the model answers; what is left out is filled in from the request.

    >>> Reply("It is 18 °C.", usage={"input_tokens": 9, "output_tokens": 4}).content
    'It is 18 °C.'
    """

    content: str | Sequence[Mapping[str, Any]] = ""
    """Text, or content blocks of any type (protocol.md §4); `""` is a reply without blocks."""
    stop_reason: str | None = None
    """`None`: `"tool_use"` if there is such a block, else `"end_turn"`."""
    stop_sequence: str | None = None
    usage: Mapping[str, Any] | None = None
    """`None`: input and output tokens are the words of the prompt and of the reply."""
    model: str | None = None
    """`None`: the model that was asked for."""
    id: str | None = None
    """`None`: `"msg_local_0001"` for the first message call, counting up."""
    pause: float = 0.0
    """Seconds between two events of a stream; a reply in one piece is never delayed."""


@dataclass(frozen=True)
class Failure:
    """Answer with an error, in the envelope of the endpoint that was called (protocol.md §7.3).

    Raises `ValueError` for a status outside 200–599.

    >>> Failure(429, "Slow down.", headers={"Retry-After": "2"}).status
    429
    """

    status: int
    message: str = ""
    """Empty: a sentence that says the failure was scripted."""
    type: str | None = None
    """`None`: the type that Anthropic gives to the status (protocol.md §7.1)."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Sent besides the usual ones, and instead of those with the same name."""
    body: bytes | None = None
    """Sent as it is in place of an envelope, as `application/json` unless `headers` differ."""

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"status {self.status} cannot end an exchange: use 200 to 599")


@dataclass(frozen=True)
class ReceivedRequest:
    """Hold one request as it arrived."""

    method: str
    path: str
    """The path with its query."""
    headers: Mapping[str, str]
    """Names in lower case; a name that was sent twice has its values joined with `", "`."""
    body: Any
    """The parsed JSON, or `None` if there is none."""
    raw: bytes

    @property
    def stream(self) -> bool:
        """Tell whether the request asks for a stream."""
        match self.body:
            case {"stream": True}:
                return True
            case _:
                return False


Answer: TypeAlias = str | Reply | Failure | Mapping[str, Any]
"""What one message call gets: text, a `Reply`, a `Failure`, or a whole message body."""

Script: TypeAlias = Answer | Sequence[Answer] | Callable[[ReceivedRequest], Answer] | None
"""One answer for every call, one for each successive call, a function, or `None` for an echo."""


class Replies:
    """Give the answer for each successive message call, and count the calls.

    `pause` is in seconds and applies to whatever is not a `Reply`, which has its own. Raises
    `TypeError` for a script that holds something else than answers.
    """

    def __init__(self, script: Script = None, *, pause: float = 0.0) -> None:
        self.calls = 0
        self.errors: list[BaseException] = []
        """What script functions raised, oldest first."""
        self.pause = pause
        self._find = self._read(script)

    def next(self, request: ReceivedRequest) -> Reply | Failure | Mapping[str, Any]:
        """Return the answer to the next call; what a script function raises comes through."""
        self.calls += 1
        found = _checked(self._find(request))
        return Reply(found, pause=self.pause) if isinstance(found, str) else found

    def _read(self, script: Script) -> Callable[[ReceivedRequest], Answer]:
        if script is None:
            return _echo
        if callable(script):
            return script
        if isinstance(script, str | bytes | Reply | Failure | Mapping):
            always = _checked(script)
            return lambda request: always
        answers = [_checked(each) for each in script]

        def successive(request: ReceivedRequest) -> Answer:
            if self.calls <= len(answers):
                return answers[self.calls - 1]
            return Failure(
                500,
                f"the script is used up: answers {len(answers)}, message calls {self.calls}",
                headers={"x-should-retry": "false"},  # it would be no other the next time
            )

        return successive


def _checked(found: object) -> Answer:
    if isinstance(found, str | Reply | Failure):
        return found
    if isinstance(found, Mapping):
        return found  # pyright: ignore[reportUnknownVariableType]
    raise TypeError(
        f"a script answers with str, Reply, Failure or a message body, not {type(found).__name__}"
    )


def _echo(request: ReceivedRequest) -> Answer:
    user = [m for m in request.body["messages"] if m.get("role") == "user"]
    return "You said: " + (_text(user[-1]) if user else "")


# What is sent


@dataclass(frozen=True)
class Chunk:
    """Hold bytes of a body that are sent at once, after a pause in seconds."""

    data: bytes
    pause: float = 0.0


@dataclass(frozen=True)
class Plan:
    """Hold a whole response: status, headers (lower-case names), and the body piece by piece.

    Without a `content-length` among the headers the length is known only at the end.
    """

    status: int
    headers: Mapping[str, str]
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Rules:
    """Say who is let in, and which deployments there are and in what state."""

    api_key: str | None
    """`None` lets everybody in."""
    deployments: Mapping[str, str]
    """State by id: `ready`, `loading`, `unreachable`; any other word means not ready."""
    any_deployment: bool
    """Whether an id that is not in `deployments` counts as ready, rather than as unknown."""


def receive(
    method: str, path: str, headers: Sequence[tuple[str, str]], raw: bytes
) -> ReceivedRequest:
    """Put a request together from its parts.

    >>> receive("POST", "/v1/messages", [("A", "1"), ("a", "2")], b"{").headers
    {'a': '1, 2'}
    """
    joined: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):  # the latter: brackets nested thousands deep
        body = None
    return ReceivedRequest(method, path, joined, body, raw)


def answer(request: ReceivedRequest, replies: Replies, rules: Rules, *, number: int) -> Plan:
    """Decide the whole response to a request, the `number`th of its server.

    The script is asked only for message calls that are in order: a wrong key, a deployment that
    is not ready or a body that lacks a field does not use up an answer.
    """
    path = request.path.partition("?")[0]
    kind, place = next((k, m) for k in _KINDS if (m := k.place.fullmatch(path)))
    route = _ROUTES.get(place["rest"])
    outcome: Plan | Failure
    if route is None:
        outcome = Failure(404, f"There is nothing at {request.path}.")
    else:
        outcome = (
            _wrong_method(request, route)
            or _wrong_key(request, kind, rules)
            or _wrong_deployment(place.groupdict().get("deployment"), rules)
            or _wrong_body(request, route)
            or route.act(request, kind, replies)
        )
    request_id = f"req_local_{number:04}"
    plan = outcome if isinstance(outcome, Plan) else _failed(outcome, kind, request_id)
    if kind.traced:
        plan = replace(plan, headers={"request-id": request_id, **plan.headers})
    if request.method == "HEAD" or plan.status in (204, 304):
        plan = replace(plan, chunks=())
    return plan


def unreadable(status: int, message: str) -> Plan:
    """Return the response to what is not HTTP."""
    return _whole(status, _enveloped_by_anthropic("invalid_request_error", message, None))


# Refusals, in the order in which they are tried


def _wrong_method(request: ReceivedRequest, route: _Route) -> Failure | None:
    if request.method == route.method:
        return None
    return Failure(405, f"Use {route.method} here.", headers={"allow": route.method})


def _wrong_key(request: ReceivedRequest, kind: _Kind, rules: Rules) -> Failure | None:
    if rules.api_key is None:
        return None
    given = {
        _bearer(request.headers[name]) if name == "authorization" else request.headers[name]
        for name in kind.credentials
        if name in request.headers
    }
    # Where several are sent, servers differ in which one counts (protocol.md §2): a request is
    # right everywhere only if all of them are.
    return None if given == {rules.api_key} else Failure(401, "Invalid API key.")


def _bearer(value: str) -> str:
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


# llama-server's own body, which the gateway passes on (protocol.md §7.2).
_LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'


def _wrong_deployment(deployment: str | None, rules: Rules) -> Failure | None:
    """Refuse in the gateway's own sentences (protocol.md §7.2)."""
    if deployment is None:
        return None
    state = rules.deployments.get(deployment, "ready" if rules.any_deployment else None)
    match state:
        case "ready":
            return None
        case None:
            return Failure(404, "No deployment found for this endpoint.")
        case "loading":
            return Failure(503, body=_LOADING)
        case "unreachable":
            return Failure(
                502,
                "The model endpoint is unreachable right now. "
                "It may be restarting — try again in a moment.",
            )
        case _:
            return Failure(
                503,
                f"Endpoint is not ready (status: {state}). It may still be deploying or paused.",
            )


def _is_message_list(value: Any) -> bool:
    match value:
        case [*messages]:
            return bool(messages) and all(map(_is_object, messages))
        case _:
            return False


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "model": (lambda value: isinstance(value, str) and value != "", "the name of a model"),
    "max_tokens": (lambda value: type(value) is int and value > 0, "a whole number, at least 1"),
    "messages": (_is_message_list, "a list of at least one message"),
}


def _wrong_body(request: ReceivedRequest, route: _Route) -> Failure | None:
    if not route.required:
        return None
    if not _is_object(request.body):
        return Failure(400, "The body is not a JSON object.")
    problems: list[str] = []
    for name in route.required:
        fits, wanted = _FIELDS[name]
        value = request.body.get(name)
        if value is None:
            problems.append(f"{name}: field required")
        elif not fits(value):
            problems.append(f"{name}: must be {wanted}")
    return Failure(400, "; ".join(problems)) if problems else None


# The three operations


def _create(request: ReceivedRequest, kind: _Kind, replies: Replies) -> Plan | Failure:
    try:
        found = replies.next(request)
        if isinstance(found, Failure):
            return found
        pause = replies.pause
        if isinstance(found, Reply):
            pause = found.pause
            found = _message(found, request.body, replies.calls)
        # A body that is no message is sent in one piece even to those who want a stream: that is
        # how servers say `{"error": …}` with status 200 (protocol.md §7.3).
        if request.stream and "content" in found:
            return _streamed(found, pause)
        return _whole(200, found)
    except BaseException as error:  # noqa: BLE001 - any code of the user; pytest.fail() is no Exception
        replies.errors.append(error)
        return Failure(500, f"the script raised {type(error).__name__}: {error}")


def _count(request: ReceivedRequest, kind: _Kind, replies: Replies) -> Plan | Failure:
    return _whole(200, {"input_tokens": _prompt_words(request.body)})


def _models(request: ReceivedRequest, kind: _Kind, replies: Replies) -> Plan | Failure:
    found = kind.models(dict(parse_qsl(request.path.partition("?")[2])))
    return found if isinstance(found, Failure) else _whole(200, found)


@dataclass(frozen=True)
class _Route:
    method: str
    act: Callable[[ReceivedRequest, _Kind, Replies], Plan | Failure]
    required: tuple[str, ...] = ()


_ROUTES: Mapping[str, _Route] = {
    "/v1/messages": _Route("POST", _create, ("model", "max_tokens", "messages")),
    "/v1/messages/count_tokens": _Route("POST", _count, ("model", "messages")),
    "/v1/models": _Route("GET", _models),
}


# From a reply to bytes


def _message(reply: Reply, asked: Json, call: int) -> Json:
    """Fill in what the reply leaves out, in the order of protocol.md §5."""
    content: list[Json]
    if isinstance(reply.content, str):
        content = [{"type": "text", "text": reply.content}] if reply.content else []
    else:
        content = [dict(block) for block in reply.content]
    ending = "tool_use" if any(b.get("type") == "tool_use" for b in content) else "end_turn"
    usage = reply.usage
    if usage is None:
        usage = {"input_tokens": _prompt_words(asked), "output_tokens": _words(content)}
    return {
        "id": f"msg_local_{call:04}" if reply.id is None else reply.id,
        "type": "message",
        "role": "assistant",
        "content": content,
        "model": asked["model"] if reply.model is None else reply.model,
        "stop_reason": ending if reply.stop_reason is None else reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "usage": dict(usage),
    }


def _text(value: Any) -> str:
    """Join the text of a prompt or a reply: strings, blocks, and blocks within blocks."""
    match value:
        case str():
            return value
        case [*parts]:
            return "\n".join(filter(None, map(_text, parts)))
        case {"type": "tool_use", "input": arguments}:
            return json.dumps(arguments)
        case {"text": inner} | {"thinking": inner} | {"content": inner}:
            return _text(inner)
        case _:
            return ""


def _words(value: Any) -> int:
    return len(_text(value).split())


def _prompt_words(asked: Json) -> int:
    return max(1, _words(asked.get("system")) + _words(asked["messages"]))


# Made once: json.dumps() would make one for each event.
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _dumped(value: Mapping[str, Any]) -> bytes:
    # Half a surrogate pair has no UTF-8 form; `backslashreplace` writes its JSON escape.
    return _to_json(dict(value)).encode("utf-8", "backslashreplace")


def _whole(status: int, body: Mapping[str, Any] | bytes) -> Plan:
    data = body if isinstance(body, bytes) else _dumped(body)
    headers = {"content-type": "application/json", "content-length": str(len(data))}
    return Plan(status, headers, (Chunk(data),))


def _streamed(message: Mapping[str, Any], pause: float) -> Plan:
    events = [
        b"event: %b\ndata: %b\n\n" % (e["type"].encode(), _dumped(e)) for e in _events(message)
    ]
    chunks = tuple(Chunk(data, pause if index else 0.0) for index, data in enumerate(events))
    headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    return Plan(200, headers, chunks)


# What a message knows only at its end, so that a stream says it in message_delta.
_KNOWN_LATE = ("stop_reason", "stop_sequence", "stop_details", "container")


def _events(message: Mapping[str, Any]) -> Iterator[Json]:
    """Take a message apart into the events that build it, in Anthropic's order (protocol.md §6)."""
    late = {key: message[key] for key in _KNOWN_LATE if key in message}
    start: Json = {**message, **dict.fromkeys(late), "content": []}
    totals: Json = {}
    if message.get("usage"):
        totals["usage"] = dict(message["usage"])
        start["usage"] = {k: 0 if k == "output_tokens" else v for k, v in totals["usage"].items()}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(message["content"] or ()):
        opening, deltas = _TAKE_APART.get(block.get("type"), _whole_block)(block)
        yield {"type": "content_block_start", "index": index, "content_block": opening}
        if index == 0:
            yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": late, **totals}
    yield {"type": "message_stop"}


_Pieces: TypeAlias = tuple[Json, list[Json]]


def _whole_block(block: Json) -> _Pieces:
    return block, []


def _text_pieces(block: Json) -> _Pieces:
    deltas: list[Json] = [{"type": "text_delta", "text": w} for w in _split(block.get("text", ""))]
    opening: Json = {**block, "text": ""}
    if block.get("citations"):
        opening["citations"] = []
        deltas += [{"type": "citations_delta", "citation": each} for each in block["citations"]]
    return opening, deltas


def _thinking_pieces(block: Json) -> _Pieces:
    words = _split(block.get("thinking", ""))
    deltas: list[Json] = [{"type": "thinking_delta", "thinking": word} for word in words]
    deltas.append({"type": "signature_delta", "signature": block.get("signature", "")})
    return {**block, "thinking": "", "signature": ""}, deltas


def _tool_pieces(block: Json) -> _Pieces:
    text = json.dumps(block.get("input", {}), ensure_ascii=False)
    # Eight characters cut through keys and numbers; the empty first one is Anthropic's habit.
    pieces = ["", *(text[at : at + 8] for at in range(0, len(text), 8))]
    deltas: list[Json] = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return {**block, "input": {}}, deltas


_TAKE_APART: Mapping[str, Callable[[Json], _Pieces]] = {
    "text": _text_pieces,
    "thinking": _thinking_pieces,
    "tool_use": _tool_pieces,
    "server_tool_use": _tool_pieces,
}


def _split(text: str) -> list[str]:
    r"""Split into words that keep the white space around them.

    >>> _split("\n A kestrel  hovers. ")
    ['\n ', 'A ', 'kestrel  ', 'hovers. ']
    """
    return re.findall(r"\S+\s*|\s+", text)


# The three kinds of endpoint

# Where Anthropic's type is not the usual one of 4xx or 5xx (protocol.md §7.1).
_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _failed(failure: Failure, kind: _Kind, request_id: str) -> Plan:
    body: Json | bytes | None = failure.body
    if body is None:
        usual = "invalid_request_error" if failure.status < 500 else "api_error"
        type_ = failure.type or _TYPES.get(failure.status, usual)
        message = failure.message or f"Scripted failure with status {failure.status}."
        body = kind.envelope(type_, message, request_id)
    plan = _whole(failure.status, body)
    own = {name.lower(): value for name, value in failure.headers.items()}
    return replace(plan, headers={**plan.headers, **own})


def _enveloped_by_anthropic(type_: str, message: str, request_id: str | None) -> Json:
    traced = {"request_id": request_id} if request_id else {}
    return {"type": "error", "error": {"type": type_, "message": message}, **traced}


def _enveloped_by_gguf(type_: str, message: str, request_id: str) -> Json:
    return {"error": {"type": type_, "message": message}}


def _enveloped_by_v7(type_: str, message: str, request_id: str) -> Json:
    return {"error": {"message": message, "type": type_, "code": type_.removesuffix("_error")}}


_CREATED = 1767225600  # 2026-01-01, like the dates below


def _models_of_v7(query: Mapping[str, str]) -> Json:
    names = {"Qwen/Qwen2.5-VL-72B-Instruct-together": "Qwen", "local-echo": "local"}
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": _CREATED, "owned_by": owner}
            for name, owner in names.items()
        ],
    }


def _models_of_gguf(query: Mapping[str, str]) -> Json:
    """List the one model in llama-server's two styles at once (protocol.md §9)."""
    name = "/models/local-echo-q4.gguf"
    meta = {"n_ctx": 4096, "n_ctx_train": 32768, "n_params": 4022468096, "size": 2497280256}
    return {
        "models": [
            {
                "name": name,
                "model": name,
                "type": "model",
                "capabilities": ["completion"],
                "details": {"format": "gguf"},
            }
        ],
        "object": "list",
        "data": [
            {
                "id": name,
                "aliases": [name],
                "tags": [],
                "object": "model",
                "created": _CREATED,
                "owned_by": "llamacpp",
                "meta": meta,
            }
        ],
    }


def _models_of_gateway(query: Mapping[str, str]) -> Json | Failure:
    """List a page of models, after `after_id` and up to `limit` (protocol.md §9)."""
    names = ["local-large", "local-medium", "local-small"]
    limit, after = query.get("limit", "20"), query.get("after_id")
    if not re.fullmatch(r"[1-9]\d{0,2}|1000", limit):
        return Failure(400, "limit: must be a whole number from 1 to 1000")
    if after is not None and after not in names:
        return Failure(400, f"after_id: there is no model {after!r}")
    rest = names[names.index(after) + 1 :] if after else names
    page = rest[: int(limit)]
    return {
        "data": [
            {
                "type": "model",
                "id": name,
                "display_name": name.replace("-", " ").title(),
                "created_at": "2026-01-01T00:00:00Z",
                "max_input_tokens": 200000,
                "max_tokens": 64000,
            }
            for name in page
        ],
        "has_more": len(rest) > len(page),
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }


@dataclass(frozen=True)
class _Kind:
    place: re.Pattern[str]
    """The paths of this kind; `rest` is what comes after the base."""
    credentials: tuple[str, ...]
    """The headers that may carry the key (protocol.md §2)."""
    envelope: Callable[[str, str, str], Json]
    models: Callable[[Mapping[str, str]], Json | Failure]
    traced: bool = False
    """Whether each response has a `request-id` header."""


_KINDS = (
    _Kind(
        re.compile(r"/api/v7/llm(?P<rest>(/.*)?)"),
        ("authorization", "x-api-key"),
        _enveloped_by_v7,
        _models_of_v7,
    ),
    _Kind(
        re.compile(r"/api/gguf/(?P<deployment>[^/]+)(?P<rest>(/.*)?)"),
        ("authorization", "x-api-key", "key"),
        _enveloped_by_gguf,
        _models_of_gguf,
    ),
    # Matches whatever is left. A prefix has no empty part and no `v1`: badly joined URLs, such
    # as `//v1/messages` and `/v1/v1/messages`, are to fail here as they do elsewhere.
    _Kind(
        re.compile(r"(/(?!v1/)[^/]+)*(?P<rest>.*)", re.DOTALL),
        ("authorization", "x-api-key", "key"),
        _enveloped_by_anthropic,
        _models_of_gateway,
        traced=True,
    ),
)
