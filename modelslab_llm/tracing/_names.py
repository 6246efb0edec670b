"""The names of spans, attributes and metrics, by the GenAI semantic conventions, in one table.

The conventions are still in development, so all names are here. They are those of release 1.41, the
last one before the conventions moved to their own repository.
"""

from __future__ import annotations

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST = {  # an observed parameter and its attribute
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
}
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOKEN_TYPE = "gen_ai.token.type"

SERVER_ADDRESS, SERVER_PORT = "server.address", "server.port"
ERROR_TYPE, STATUS_CODE = "error.type", "http.response.status_code"
RESEND_COUNT = "http.request.resend_count"

# Not in the conventions.
OUTCOME = "modelslab.outcome"
REQUEST_ID = "modelslab.request_id"
RETRY_EVENT, RETRY_WAIT = "modelslab.retry", "modelslab.retry.wait"
RESUME_EVENT, RESUME_REASON = "modelslab.resume", "modelslab.resume.reason"

OPERATIONS = {  # what the conventions call an operation; others keep their own name
    "messages.create": "chat",
    "messages.stream": "chat",
    "messages.parse": "chat",
    "messages.parse_stream": "chat",
}

DURATION = "gen_ai.client.operation.duration"
TOKEN_USAGE = "gen_ai.client.token.usage"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
"""The bucket boundaries that the conventions advise for durations."""
TOKENS = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]
"""The bucket boundaries that the conventions advise for token counts."""
