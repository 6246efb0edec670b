"""A stand-in for an account of modest means, which the examples on clusters ask without a key.

Its server answers by echo, refuses the first calls as too many at once, does not take question 13,
and has credit for so many answers.
"""

from __future__ import annotations

from modelslab_llm.testing import ErrorReply, ReceivedRequest, ReplyLike

QUESTIONS = [f"How high is river {number}?" for number in range(200)]


class SmallAccount:
    """A script for a `LocalServer`, which runs in the program that starts the cluster."""

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
