"""Fill a job type's template: Jinja2, cut down to what a short text needs.

Jinja's sandbox stops a template from reaching Python, but bounds neither time nor size. So this module takes only a
small part of the language: variables that are single values, conditions, and filters that cannot blow up. No loops, no
calls, no assignments; then the work is bounded by the size of the template. Invariants, each with a test:

- A template that passes ``check`` fails in ``render`` only because of its variables, and quickly.
- A missing variable is an error, never an empty space in somebody's text.
- No error quotes the value of a variable: it may be a one-time code, and errors are logged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.sandbox import ImmutableSandboxedEnvironment

from producers.errors import NotifyError

TEMPLATE_MAX_BYTES = 4096
VARIABLE_MAX_CHARS = 1000
NESTING_MAX = 40  # Python's own parser gives up at about 100
OUTPUT_MAX_CHARS = 10_000  # far above the ten segments that Telnyx takes

ALLOWED_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "first", "float", "format", "int", "last", "length", "lower",
    "replace", "reverse", "round", "string", "title", "trim", "truncate", "upper", "urlencode", "wordcount",
)  # fmt: skip
KNOWN_FILTERS = f"The filters are: {', '.join(ALLOWED_FILTERS)}"
TOO_DEEP = "it is nested too deeply: write it flatter"
RESERVED_NAMES = frozenset({"caller", "kwargs", "loop", "self", "super", "varargs"})  # Jinja's own
ALLOWED_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.CondExpr,
    nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div,
    nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos, nodes.Concat, nodes.Filter, nodes.Test, nodes.Keyword,
    nodes.Getitem, nodes.Slice, nodes.Tuple, nodes.List,
)  # fmt: skip


class TemplateError(NotifyError):
    """The template itself is wrong.

    Attributes:
        line: The line of the template, from 1.
        remedy: What is wrong with it and what to write instead.
    """

    def __init__(self, line: int, remedy: str) -> None:
        self.line = line
        self.remedy = remedy
        super().__init__(f"template line {line}: {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.line, self.remedy))


class RenderError(NotifyError):
    """These variables, or this content, do not make a message that can be sent.

    Attributes:
        field: The field of the request: ``variables.code``, ``text``.
        value: What was found, described and not quoted.
        remedy: What to do.
    """

    def __init__(self, field: str, value: str, remedy: str) -> None:
        self.field = field
        self.value = value
        self.remedy = remedy
        super().__init__(f"{field} ({value}): {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.field, self.value, self.remedy))


def check(template: str) -> None:
    """Raise TemplateError, which names the line, unless ``template`` can be rendered."""
    _compiled(template)


def required_variables(template: str) -> frozenset[str]:
    """The variables without which ``template`` cannot be rendered. Raises TemplateError."""
    return frozenset(_compiled(template).required)


def optional_variables(template: str) -> frozenset[str]:
    """Those it can do without: under ``| default(...)``, or asked for by ``is defined``. Raises TemplateError."""
    compiled = _compiled(template)
    return frozenset(compiled.names) - frozenset(compiled.required)


def ordered_variables(template: str) -> tuple[str, ...]:
    """All its variables, in the order in which they first appear. Raises TemplateError."""
    return _compiled(template).names


def render(template: str, variables: Mapping[str, Any]) -> str:
    """``template`` with ``variables`` filled in. Raises TemplateError and RenderError."""
    compiled = _compiled(template)
    for name, value in variables.items():
        _check_value(name, value)
    for name in compiled.required:
        if name not in variables:
            raise RenderError(f"variables.{name}", "missing", "the template needs it: add it to variables")
    try:
        text = compiled.template.render(variables)
    except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as failure:
        # `from None`: the cause may quote a variable ("could not convert string to float: '123456'")
        reason = _plain(failure)
        raise RenderError("variables", type(failure).__name__, reason) from None
    if len(text) > OUTPUT_MAX_CHARS:
        raise RenderError("variables", f"a text of {len(text):,} characters", f"make it {OUTPUT_MAX_CHARS:,} or fewer")
    return text


def _plain(failure: Exception) -> str:
    if isinstance(failure, jinja2.UndefinedError):
        return "the template asks a value for what it does not have, or uses a variable that is missing"
    if isinstance(failure, SecurityError):
        return str(failure)
    return "the template cannot work with these values: compare their types with its filters and operators"


def _check_value(name: str, value: object) -> None:
    if not isinstance(value, str | int | float):
        raise RenderError(f"variables.{name}", type(value).__name__, "give a str, int, float or bool")
    try:
        length = len(value) if isinstance(value, str) else len(str(value))
    except ValueError:  # Python writes out no int of more than 4,300 digits
        length = VARIABLE_MAX_CHARS + 1
    if length > VARIABLE_MAX_CHARS:
        raise RenderError(f"variables.{name}", f"over {VARIABLE_MAX_CHARS:,} characters", "shorten it")


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with the operators that can blow up made harmless."""

    intercepted_binops = frozenset({"*", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise SecurityError(f"`{operator}` works on numbers only: convert with | int or | float")
        return super().call_binop(context, operator, left, right)


def _format(value: object, *arguments: object) -> str:
    """``"%.2f" | format(price)``: a width of a thousand million characters would fill the memory."""
    pattern = str(value)
    digits = longest = 0
    for character in pattern:
        digits = digits + 1 if character.isdigit() else 0
        longest = max(longest, digits)
    if "*" in pattern or longest > 2:
        raise SecurityError("format takes widths of at most two digits")
    return pattern % arguments


def _replace(value: object, old: object, new: object, count: int = -1) -> str:
    """Chained replacements can grow a text without bound, so each has the output's limit."""
    text, old, new = str(value), str(old), str(new)
    if len(text) + text.count(old) * max(0, len(new) - len(old)) > OUTPUT_MAX_CHARS:
        raise SecurityError(f"replace makes more than {OUTPUT_MAX_CHARS:,} characters")
    return text.replace(old, new, count)


def _build_environment() -> _Environment:
    environment = _Environment(undefined=jinja2.StrictUndefined, autoescape=False, cache_size=0)
    environment.globals.clear()  # range, lipsum, cycler, namespace, ...: none bounds what it makes
    environment.filters = {name: FILTERS[name] for name in ALLOWED_FILTERS}
    environment.filters |= {"format": _format, "replace": _replace}
    return environment


_ENVIRONMENT = _build_environment()


class _Compiled:
    """A template that passed every check."""

    __slots__ = ("names", "required", "template")

    def __init__(self, template: jinja2.Template, names: tuple[str, ...], required: tuple[str, ...]) -> None:
        self.template = template
        self.names = names
        self.required = required


@lru_cache(maxsize=512)
def _compiled(source: str) -> _Compiled:
    size = len(source.encode("utf-8", "surrogatepass"))
    if size > TEMPLATE_MAX_BYTES:
        raise TemplateError(1, f"it has {size:,} bytes: shorten it to {TEMPLATE_MAX_BYTES:,}")
    try:
        tree = _ENVIRONMENT.parse(source)
    except jinja2.TemplateSyntaxError as wrong:
        raise TemplateError(wrong.lineno, f"{wrong.message}: correct the Jinja syntax") from None
    except RecursionError:
        raise TemplateError(1, TOO_DEEP) from None
    _check_nodes(tree)
    names, required = _variables(tree)
    try:
        template = _ENVIRONMENT.from_string(source)
    except jinja2.TemplateSyntaxError as wrong:
        raise TemplateError(wrong.lineno, f"{wrong.message} {KNOWN_FILTERS}") from None
    return _Compiled(template, names, required)


def _check_nodes(tree: nodes.Node) -> None:
    for node in _walk(tree):
        if isinstance(node, nodes.Getattr):
            hint = f"variables are single values: write {{{{ name_{node.attr} }}}} and give that variable"
            raise TemplateError(node.lineno, f"`.{node.attr}` cannot be used; {hint}")
        if isinstance(node, nodes.Call):
            raise TemplateError(node.lineno, "nothing can be called here: use a filter, as in {{ name | upper }}")
        if not isinstance(node, ALLOWED_NODES):
            kind = type(node).__name__
            raise TemplateError(node.lineno, f"{kind} cannot be used: use variables, filters and {{% if %}} only")
        if isinstance(node, nodes.Name) and node.name in RESERVED_NAMES:
            raise TemplateError(node.lineno, f"`{node.name}` is a name of Jinja's own: rename the variable")
        if isinstance(node, nodes.Getitem) and not _is_position(node.arg):
            raise TemplateError(node.lineno, "only positions go in [...], as in {{ name[0] }} or {{ name[:20] }}")


def _walk(node: nodes.Node, depth: int = 0) -> Iterator[nodes.Node]:
    """Every node, in the order of the source (Jinja's own find_all goes breadth first)."""
    if depth > NESTING_MAX:
        raise TemplateError(node.lineno, TOO_DEEP)
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child, depth + 1)


def _is_position(argument: nodes.Node) -> bool:
    if isinstance(argument, nodes.Neg):
        argument = argument.node
    return isinstance(argument, nodes.Slice) or (isinstance(argument, nodes.Const) and isinstance(argument.value, int))


def _variables(tree: nodes.Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All variables, and of these the ones it cannot do without; each in order of appearance."""
    names: dict[str, bool] = {}
    defined: set[str] = set()
    guarded: set[int] = set()
    for node in _walk(tree):
        if isinstance(node, nodes.Test) and node.name in ("defined", "undefined") and isinstance(node.node, nodes.Name):
            defined.add(node.node.name)
        if isinstance(node, nodes.Filter) and node.name in ("default", "d") and isinstance(node.node, nodes.Name):
            guarded.add(id(node.node))
        if isinstance(node, nodes.Name):
            names[node.name] = names.get(node.name, False) or id(node) not in guarded
    return tuple(names), tuple(name for name, needed in names.items() if needed and name not in defined)
