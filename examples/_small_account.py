"""A simulated account with little credit, for running the cluster examples without a key.

Its server echoes questions, refuses the first calls with 429, rejects question 13, and has credit
for a given number of answers.
"""

from __future__ import annotations

from modelslab_llm.testing import ErrorReply, ReceivedRequest, ReplyLike

QUESTIONS = [f"How high is river {number}?" for number in range(200)]


class SmallAccount:
    """A script for a `LocalServer` that runs in the program that starts the cluster."""

    def __init__(self, credit: int) -> None:
        self.credit = credit
        self.answered: list[str] = []
        self._refusals = 3

    def __call__(self, request: ReceivedRequest) -> ReplyLike:
        if self._refusals:
            self._refusals -= 1
            return ErrorReply(429, "Too many at once.", headers={"retry-after": "0.2"})
        if len(self.answered) >= self.credit:
            return ErrorReply(402, "No credit is left.")
        if "river 13?" in request.text:
            return ErrorReply(400, "There is no such river.")
        self.answered.append(request.text)
        return f"You said: {request.text}"

    def __str__(self) -> str:
        twice = len(self.answered) - len(set(self.answered))
        return f"{len(self.answered)} answers in all, {twice} of them twice"
