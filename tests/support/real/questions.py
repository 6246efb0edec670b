"""Thirty questions, each with the type its answer is to be; the same for every server and way.

Small types, as a small model needs few tokens for them: models, lists, unions, enums, dates, bounds
that a grammar can hold, and none that it cannot (those are in docs/structured-output.md).
"""

from __future__ import annotations

from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict


class Person(BaseModel):
    """Somebody."""

    name: Annotated[str, Field(max_length=40)]
    age: Annotated[int, Field(ge=0, le=120)]


class City(BaseModel):
    """A city, and where it is."""

    name: Annotated[str, Field(max_length=40)]
    country: Annotated[str, Field(max_length=40)]
    is_capital: bool


class Colour(Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Recipe(BaseModel):
    """A dish and its ingredients."""

    title: Annotated[str, Field(max_length=40)]
    minutes: Annotated[int, Field(ge=1, le=600)]
    ingredients: Annotated[
        list[Annotated[str, Field(max_length=30)]], Field(min_length=1, max_length=4)
    ]


class Event(BaseModel):
    """Something that happens on one day."""

    what: Annotated[str, Field(max_length=40)]
    on: date
    indoors: bool | None = None


class Pair(BaseModel):
    """Two people."""

    first: Person
    second: Person


class Months(TypedDict):
    January: int
    February: int


Taste = Literal["sweet", "sour", "salty", "bitter"]
Code = Annotated[str, Field(pattern=r"^[A-Z]{3}-[0-9]{2}$")]
Word = Annotated[str, Field(max_length=30)]

QUESTIONS: list[tuple[str, Any]] = [
    ("Invent a person.", Person),
    ("Who wrote Hamlet, and how old did he become?", Person),
    ("Describe the oldest person you can think of.", Person),
    ("Invent a child who likes boats.", Person),
    ("Which city is the capital of France?", City),
    ("Name a big city that is not a capital.", City),
    ("Which city has the Eiffel Tower?", City),
    ("Name a city in Japan.", City),
    ("How do I make pancakes?", Recipe),
    ("Give me a recipe for soup.", Recipe),
    ("What can I cook with eggs?", Recipe),
    ("How is lemonade made?", Recipe),
    ("Invent a concert in the year 2027.", Event),
    ("When is the next school holiday? Invent one.", Event),
    ("Plan a picnic.", Event),
    ("Invent a chess match.", Event),
    ("Invent two friends.", Pair),
    ("Name a father and his daughter.", Pair),
    ("Which colour is the sky?", Colour),
    ("Which colour is grass?", Colour),
    ("Which colour is a ripe tomato?", Colour),
    ("How does a lemon tart taste?", Annotated[list[Taste], Field(min_length=1, max_length=3)]),
    ("How does coffee taste?", Taste),
    ("How many legs has a spider?", int),
    ("What is two plus two?", int),
    ("Is the sun hot?", bool),
    ("Name three rivers.", Annotated[list[Word], Field(min_length=3, max_length=3)]),
    ("Give me a product code.", Code),
    ("What is the boiling point of water, or a word for it?", int | Word),
    ("How many days have January and February?", Months),
]
