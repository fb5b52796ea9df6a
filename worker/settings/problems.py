"""What is wrong with the settings, said so that the reader can mend it.

A process that starts with wrong settings sends wrong messages, so any problem stops the start. Whoever mends one wants
to see the others too: nothing here stops at the first. Every problem names the field, what it got, and the remedy.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from producers.errors import NotifyError

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Problem:
    """One thing to mend. ``got`` is shown as it stands, so it must not hold a secret."""

    path: str  # "senders.alerts.rate", or the name of an environment variable
    what: str  # the rule, as the rest of a sentence: "must be from 1s to 1h"
    remedy: str
    got: str | None = None

    def __str__(self) -> str:
        got = "" if self.got is None else f", got {self.got}"
        return f"{self.path} {self.what}{got}: {self.remedy}"


class SettingsError(NotifyError):
    """The settings do not hold together. ``problems`` has all of them; the text lists one a line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The choice that ``word`` was probably meant to be, or nothing."""
    by_lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


def choose(word: str, choices: Iterable[str], *, otherwise: str) -> str:
    """The remedy for an unknown name: the nearest one, else those there are, else ``otherwise``."""
    names = sorted(choices)
    near = nearest(word, names)
    if near is not None:
        return f"did you mean `{near}`?"
    if names:
        shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        return f"use one of {shown}"
    return otherwise


def show(value: object) -> str:
    """A value as TOML would spell it, cut to a readable length."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def wrong(what: str, remedy: str) -> PydanticCustomError:
    """The error that a field's own check raises; braces keep pydantic from formatting the texts."""
    return PydanticCustomError("settings", "{what}", {"what": what, "remedy": remedy})


def read_model(model: type[M], path: str, raw: object) -> tuple[M | None, list[Problem]]:
    """Read one table of the file into ``model``: the model, or everything that is wrong with the table."""
    if not isinstance(raw, Mapping):
        return None, [Problem(path, "must be a table", f"write a section [{path}]", show(raw))]
    try:
        return model.model_validate(raw), []
    except ValidationError as exc:
        return None, [_problem(model, path, error) for error in exc.errors(include_url=False)]


def _problem(model: type[BaseModel], path: str, error: ErrorDetails) -> Problem:
    location = error["loc"]
    where = path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    owner, field = _field_at(model, location)
    key = str(location[-1]) if location else path
    if error["type"] == "extra_forbidden":
        keys = _keys(owner)
        return Problem(where, "is not a known key", choose(key, keys, otherwise="take it out"))
    example = _example(key, field)
    if error["type"] == "missing":
        return Problem(where, "is missing", example or "add it")
    got = show(error["input"])
    context = error.get("ctx", {})
    if error["type"] == "settings":
        return Problem(where, str(context["what"]), str(context["remedy"]), got)
    if error["type"] == "literal_error" and field is not None:
        choices = [str(choice) for choice in _literals(field.annotation)]
        meant = nearest(str(error["input"]), choices)
        what = "must be one of " + ", ".join(f'"{choice}"' for choice in choices)
        return Problem(where, what, f"did you mean `{meant}`?" if meant else example or f'write "{choices[0]}"', got)
    message = error["msg"]
    what = (
        message.replace("Input should be", "must be") if message.startswith("Input should") else f"is wrong ({message})"
    )
    return Problem(where, what, example or "correct it", got)


def _keys(model: type[BaseModel] | None) -> list[str]:
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


def _field_at(model: type[BaseModel], location: Sequence[int | str]) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The model that holds the last key of ``location``, and its field if the model has it."""
    owner: type[BaseModel] | None = model
    field: FieldInfo | None = None
    for part in location:
        if isinstance(part, int):
            continue
        if field is not None:
            owner = _model_in(field.annotation)
        if owner is None:
            return None, None
        field = next((f for name, f in owner.model_fields.items() if (f.alias or name) == part), None)
        if field is None:
            return owner, None
    return owner, field


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner)) is not None), None)


def _literals(annotation: Any) -> list[object]:
    if get_origin(annotation) in (Union, UnionType):
        return [value for inner in get_args(annotation) for value in _literals(inner)]
    return [value for value in get_args(annotation) if isinstance(value, str)]


def _example(key: str, field: FieldInfo | None) -> str | None:
    if field is None or not field.examples:
        return None
    return f"write {key} = {field.examples[0]}"
