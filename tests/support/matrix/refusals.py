"""How servers say no: every status and every envelope, with what has to be understood of it.

Only data. `test_errors` reads it without a socket, the matrix sends it over one.
"""

from __future__ import annotations

from modelslab_llm import errors

STATUS = {
    301: errors.APIStatusError,
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    402: errors.PaymentRequiredError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    405: errors.APIStatusError,
    408: errors.RequestTimeoutError,
    409: errors.ConflictError,
    412: errors.APIStatusError,
    413: errors.RequestTooLargeError,
    418: errors.APIStatusError,
    422: errors.UnprocessableEntityError,
    429: errors.RateLimitError,
    499: errors.APIStatusError,
    500: errors.InternalServerError,
    501: errors.InternalServerError,
    502: errors.BadGatewayError,
    503: errors.ServiceUnavailableError,
    504: errors.GatewayTimeoutError,
    520: errors.InternalServerError,
    524: errors.InternalServerError,
    529: errors.OverloadedError,
    599: errors.InternalServerError,
}
"""The class of each status, whatever type the body names."""

# Envelopes (protocol.md §7.3)

FASTAPI = [
    {"loc": ["body", "max_tokens"], "msg": "Field required", "type": "missing"},
    {"loc": ["body", "messages", 0], "msg": "Wrong", "type": "value_error"},
]
HTML = (
    b"<!DOCTYPE html><html><head><title>502 Bad &amp; Gateway\n</title></head>"
    b"<body><h1>No</h1></body></html>"
)

# what is sent; its message, type, code
ENVELOPES: dict[str, tuple[object, str, str | None, int | str | None]] = {
    "a": (
        {"type": "error", "error": {"type": "t_error", "message": "No."}},
        "No.",
        "t_error",
        None,
    ),
    "a, with details": (
        {
            "type": "error",
            "error": {"type": "t_error", "message": "No.", "details": {"error_code": "ramp"}},
        },
        "No.",
        "t_error",
        "ramp",
    ),
    "a, details null": (
        {"type": "error", "error": {"type": "t_error", "message": "No.", "details": None}},
        "No.",
        "t_error",
        None,
    ),
    "b": ({"error": {"type": "t_error", "message": "No."}}, "No.", "t_error", None),
    "c": ({"error": {"code": 400, "message": "No.", "type": "t_error"}}, "No.", "t_error", 400),
    "d": (
        {"error": {"message": "No.", "type": "t_error", "param": None, "code": "bad_param"}},
        "No.",
        "t_error",
        "bad_param",
    ),
    "d, code null": ({"error": {"message": "No.", "type": "t", "code": None}}, "No.", "t", None),
    "d, old LiteLLM": (
        {"error": {"message": "No.", "type": "None", "param": "None", "code": "400"}},
        "No.",
        None,
        "400",
    ),
    "d, Go's nothing": ({"error": {"message": "No.", "type": "<nil>"}}, "No.", None, None),
    "d, vLLM": ({"error": {"message": "No.", "type": "Bad Request"}}, "No.", "Bad Request", None),
    "e": ({"status": "error", "message": "No.", "retry_after": 30}, "No.", None, None),
    "e, misspelt": ({"status": "error", "messege": "No."}, "No.", None, None),
    "f": ({"error": "Unauthorized"}, "Unauthorized", None, None),
    "f, with more": ({"error": "Unauthorized", "message": "Go."}, "Unauthorized", None, None),
    "g": ({"detail": "Not Found"}, "Not Found", None, None),
    "g, list": (
        {"detail": FASTAPI},
        "body.max_tokens: Field required; body.messages.0: Wrong",
        None,
        None,
    ),
    "h": ({"success": False, "message": "No.", "code": "quota"}, "No.", None, "quota"),
    "i": ({"error": {"code": 402, "message": "No.", "metadata": {}}}, "No.", None, 402),
    "g, without a place": ({"detail": [{"msg": "Wrong"}]}, "Wrong", None, None),
    "g, without words": ({"detail": [{"loc": ["body"]}]}, "HTTP 500", None, None),
    "code that is none": ({"error": {"message": "No.", "code": True}}, "No.", None, None),
    "code that is a list": ({"error": {"message": "No.", "code": [4]}}, "No.", None, None),
    "j": ({"message": "No."}, "No.", None, None),
    "j, with the envelope's type": ({"type": "error", "message": "No."}, "No.", None, None),
    "j, AWS": ({"Message": "No."}, "No.", None, None),
    "j, HTML": (HTML, "502 Bad & Gateway", None, None),
    "j, HTML without a title": (b"<html><body><h1>Gone</h1></body></html>", "Gone", None, None),
    "j, HTML without words": (b"<html><body></body></html>", "an HTML page", None, None),
    "j, text": (b" upstream connect error \n", "upstream connect error", None, None),
    "j, empty": (b"", "HTTP 500", None, None),
    "j, white space": (b" \r\n", "HTTP 500", None, None),
    "j, a byte order mark": (b'\xef\xbb\xbf{"message": "No."}', "No.", None, None),
    "j, not UTF-8": (b"caf\xe9", "caf\ufffd", None, None),
    "j, cut JSON": (b'{"error": {"mess', '{"error": {"mess', None, None),
    "empty object": ({}, "HTTP 500", None, None),
    "empty error": ({"error": {}}, "HTTP 500", None, None),
    "empty error, message outside": ({"error": {}, "message": "No."}, "No.", None, None),
    "null message": ({"error": {"type": "t", "message": None}}, "HTTP 500", "t", None),
    "null error": ({"error": None, "message": "No."}, "No.", None, None),
    "list": ([], "HTTP 500", None, None),
    "number": (5, "HTTP 500", None, None),
    "null": (None, "HTTP 500", None, None),
    "too deep": (b"[" * 100_000, "[" * 100_000, None, None),
}
