"""
Formulas of fail2ban's `bantime.formula` and `bantime.factor`: text in, numbers out. Pure.

fail2ban hands them to `eval`; here they are read into a tree of which only arithmetic is
known, and every step is bounded: nothing that is written in a file or a label can run code,
take long or fill memory. Integers are exact up to `BITS`, what is larger is infinite.
"""

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

LONGEST: Final = 500
"""Characters of a formula."""

DEEPEST: Final = 100
"""How deep terms can be nested; each sign of a sum without parentheses is one level."""

BITS: Final = 1023
"""The longest integer: each has a float."""

Number = int | float


class FormulaError(ValueError):
    """A formula that cannot be meant: `what` is wrong, and what to write (`remedy`)."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}; {remedy}")


class _Ban(NamedTuple):
    """What a formula is told: the jail's bantime in seconds, earlier bans, the factor."""

    time: Number
    earlier: int
    factor: Number


_Term = Callable[[_Ban], Number]


@dataclass(frozen=True, slots=True)
class Formula:
    """
    How long a ban lasts, of its `text`; two of the same text are equal.

    Raises `FormulaError`, also for one that is no number for the first few bans.
    """

    text: str
    _term: _Term = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_term", _read(self.text, _NAMES))
        for count in _COUNTS:
            self._try(count)

    def seconds(self, bantime: float, earlier: int, factor: float) -> float:
        """
        Return how long a ban lasts after `earlier` ones: ban.Time is `bantime`, in seconds.

        Infinite if it is more than a float holds. NaN if it is no number: a division by
        zero, the root of a negative.
        """
        try:
            return float(self._term(_Ban(_plain(bantime), earlier, _plain(factor))))
        except _NO_NUMBER:
            return math.nan

    def _try(self, count: int) -> None:
        """Raise if there is no number for `count` earlier bans, whatever the bantime and factor."""
        why = "the result is not a number"
        for factor in (1, 2, 0.75):
            for bantime in (600, 3601):
                try:
                    if not math.isnan(self._term(_Ban(bantime, count, factor))):
                        return
                except _NO_NUMBER as error:
                    why = str(error)
        raise FormulaError(
            f"{_shown(self.text)} gives nothing when ban.Count is {count}: {why}",
            "write a formula that is a number for every ban.Count from 1 on",
        )


_COUNTS: Final = (1, 2, 3, 10, 100)
"""Numbers of earlier bans that a formula is tried with when it is read."""


def constant(text: str) -> float:
    """
    Return the number that `text` writes, such as `2.0/2.885385`.

    Raises `FormulaError`, also if it is infinite or none.
    """
    why = "the result is no finite number"
    try:
        found = float(_read(text, {})(_Ban(0, 0, 0)))
    except _NO_NUMBER as error:
        found, why = math.nan, str(error)
    if not math.isfinite(found):
        raise FormulaError(f"{_shown(text)} gives nothing: {why}", "write a number, such as 1.5")
    return found


_NAMES: Final[Mapping[str, _Term]] = {
    "ban.Time": lambda ban: ban.time,
    "ban.Count": lambda ban: ban.earlier,
    "banFactor": lambda ban: ban.factor,
}
_NO_NUMBER: Final = (ZeroDivisionError, ValueError, TypeError)
"""What Python's arithmetic raises when there is no result."""


def _plain(number: float) -> Number:
    """Return a whole number as fail2ban has it, an integer: only these can be shifted."""
    return int(number) if math.isfinite(number) and number == int(number) else number


def _bounded(number: Number) -> Number:
    """Make an integer infinite that is longer than `BITS`."""
    if isinstance(number, int) and number.bit_length() > BITS:
        return math.inf if number > 0 else -math.inf
    return number


def _power(base: Number, exponent: Number) -> Number:
    """Raise to a power; what is too large is not worked out first."""
    if base < 0 and math.isfinite(exponent) and exponent != int(exponent):
        raise TypeError("the root of a negative number")
    endless = -math.inf if base < 0 and exponent % 2 == 1 else math.inf
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if (abs(base).bit_length() - 1) * exponent > BITS:
            return endless
        return _bounded(base**exponent)
    try:
        result: float = base**exponent
    except OverflowError:
        return endless
    return result


def _left(number: Number, by: Number) -> Number:
    if isinstance(number, float) or isinstance(by, float):
        raise TypeError("<< takes whole numbers")
    if by > BITS:
        return math.copysign(math.inf, number) if number else 0
    return _bounded(number << by)


def _right(number: Number, by: Number) -> Number:
    if isinstance(number, float) or isinstance(by, float):
        raise TypeError(">> takes whole numbers")
    return number >> min(by, 2 * BITS)


def _round(number: Number, digits: Number | None = None) -> Number:
    if isinstance(digits, float):
        raise TypeError("round takes a whole number of digits")
    if math.isinf(number):
        return number
    if digits is None:
        return round(number)
    try:
        return round(number, max(-400, min(digits, 400)))  # of more digits there are none
    except OverflowError:  # upwards, over the largest float
        return math.copysign(math.inf, number)


def _exp(number: Number) -> Number:
    try:
        return math.exp(number)
    except OverflowError:
        return math.inf


def _whole(function: Callable[[Number], int], number: Number) -> Number:
    """Make an integer of a number; infinite stays infinite."""
    return number if math.isinf(number) else function(number)


_BINARY: Final[Mapping[type[ast.operator], Callable[[Number, Number], Number]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.LShift: _left,
    ast.RShift: _right,
}
_COMPARE: Final[Mapping[type[ast.cmpop], Callable[[Number, Number], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_UNARY: Final[Mapping[type[ast.unaryop], Callable[[Number], Number]]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
}


class _Function(NamedTuple):
    """A function that can be called, and with how many numbers: from `least` to `most`."""

    call: Callable[..., Number]
    least: int = 1
    most: int = 1


_FUNCTIONS: Final[Mapping[str, _Function]] = {
    "float": _Function(float),
    "int": _Function(partial(_whole, int)),
    "min": _Function(min, 2, LONGEST),
    "max": _Function(max, 2, LONGEST),
    "abs": _Function(abs),
    "pow": _Function(_power, 2, 2),
    "round": _Function(_round, 1, 2),
    "math.exp": _Function(_exp),
    "math.log": _Function(math.log, 1, 2),
    "math.sqrt": _Function(math.sqrt),
    "math.pow": _Function(lambda base, exponent: _power(float(base), float(exponent)), 2, 2),
    "math.floor": _Function(partial(_whole, math.floor)),
    "math.ceil": _Function(partial(_whole, math.ceil)),
}
_NOT_THESE: Final[Mapping[type[ast.AST], tuple[str, str]]] = {
    ast.BitXor: ("^ is no power here", "write ** for a power"),
    ast.BitAnd: ("& is not known", "write and between two conditions"),
    ast.BitOr: ("| is not known", "write or between two conditions"),
    ast.Lambda: ("a lambda is not known", "write what it returns"),
    ast.NamedExpr: (":= is not known", "write the value where it is needed"),
}


def _read(text: str, names: Mapping[str, _Term]) -> _Term:
    """Make a term of `text`, in which `names` are known. Raises `FormulaError`."""
    text = text.strip()
    if not text:
        raise FormulaError("it is empty", f"write a number{_or_names(names)}")
    if len(text) > LONGEST:
        raise FormulaError(
            f"{_shown(text)} is {len(text)} characters long", f"write {LONGEST} at most"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as that 1() cannot be called
            tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        where = f" at character {error.offset}" if error.offset else ""
        raise FormulaError(
            f"{_shown(text)} is no formula ({error.msg}{where})", f"write one such as {_EXAMPLE}"
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise FormulaError(
            f"{_shown(text)} is no formula", f"write one such as {_EXAMPLE}"
        ) from None
    return _Compiler(text, names).term(tree.body, 1)


class _Compiler:
    """Makes a term of a tree, or says of the first part that is not known what to write."""

    def __init__(self, text: str, names: Mapping[str, _Term]) -> None:
        self._text = text
        self._names = names

    def term(self, node: ast.expr, depth: int) -> _Term:
        if depth > DEEPEST:
            raise FormulaError(
                f"{_shown(self._text)} is nested more than {DEEPEST} deep", "write a shorter one"
            )
        deeper = partial(self.term, depth=depth + 1)
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name() | ast.Attribute():
                return self._name(node)
            case ast.BinOp(op=op) if type(op) in _BINARY:
                return _binary(_BINARY[type(op)], deeper(node.left), deeper(node.right))
            case ast.UnaryOp(op=op) if type(op) in _UNARY:
                return _unary(_UNARY[type(op)], deeper(node.operand))
            case ast.BoolOp():
                stop = isinstance(node.op, ast.Or)
                return _either([deeper(each) for each in node.values], stop=stop)
            case ast.Compare() if all(type(op) in _COMPARE for op in node.ops):
                found = [deeper(each) for each in (node.left, *node.comparators)]
                return _compare([_COMPARE[type(op)] for op in node.ops], found)
            case ast.IfExp():
                return _if(deeper(node.test), deeper(node.body), deeper(node.orelse))
            case ast.Call():
                return self._call(node, deeper)
        part = node.op if isinstance(node, ast.BinOp) else node
        what, remedy = _NOT_THESE.get(type(part), ("", ""))
        raise FormulaError(
            what or f"{self._quoted(node)} is not allowed",
            remedy
            or f"write it with numbers{self._or_names()}, + - * / // % ** << >>, "
            "comparisons, and a if c else b",
        )

    def _constant(self, node: ast.Constant) -> _Term:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FormulaError(
                f"{self._quoted(node)} is no number", f"write a number{self._or_names()}"
            )
        if math.isinf(_bounded(value)):
            raise FormulaError(f"{self._quoted(node)} is too large", "write a smaller number")
        number: Number = value
        return lambda _: number

    def _name(self, node: ast.Name | ast.Attribute) -> _Term:
        name = _dotted(node)
        known = self._names.get(name)
        if known is not None:
            return known
        if name in _FUNCTIONS:
            raise FormulaError(f"{name} is a function", f"write {name}(…)")
        raise FormulaError(
            f"{self._quoted(node)} is not known", f"write a number{self._or_names()}"
        )

    def _call(self, node: ast.Call, deeper: Callable[[ast.expr], _Term]) -> _Term:
        name = _dotted(node.func)
        function = _FUNCTIONS.get(name)
        if function is None:
            remedy = f"write one of {', '.join(_FUNCTIONS)}"
            if name.startswith("random."):
                remedy = "leave it out, and set rndtime to the seconds that may come by chance"
            raise FormulaError(f"{self._quoted(node.func)}(…) may not be called", remedy)
        if node.keywords or any(isinstance(each, ast.Starred) for each in node.args):
            raise FormulaError(
                f"{self._quoted(node)} has more than plain numbers in its parentheses",
                "write them one after the other, without names and stars",
            )
        if not function.least <= len(node.args) <= function.most:
            several = {1: "one number", 2: "two numbers"}
            raise FormulaError(
                f"{self._quoted(node)} has {len(node.args)} numbers in its parentheses",
                f"write {several[function.least]}"
                + ("" if function.least == function.most else " or more"),
            )
        return _called(function.call, [deeper(each) for each in node.args])

    def _quoted(self, node: ast.AST) -> str:
        return _shown(ast.get_source_segment(self._text, node) or self._text)

    def _or_names(self) -> str:
        return _or_names(self._names)


def _or_names(names: Mapping[str, _Term]) -> str:
    return f", or one of {', '.join(names)}" if names else ""


def _dotted(node: ast.expr) -> str:
    """Return `name` or `name.attribute` as written, for anything else nothing."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=name), attr=attribute):
            return f"{name}.{attribute}"
    return ""


def _binary(do: Callable[[Number, Number], Number], left: _Term, right: _Term) -> _Term:
    return lambda ban: _bounded(do(left(ban), right(ban)))


def _unary(do: Callable[[Number], Number], of: _Term) -> _Term:
    return lambda ban: do(of(ban))


def _if(test: _Term, then: _Term, otherwise: _Term) -> _Term:
    return lambda ban: then(ban) if test(ban) else otherwise(ban)


def _called(call: Callable[..., Number], of: list[_Term]) -> _Term:
    return lambda ban: _bounded(call(*(each(ban) for each in of)))


def _either(of: list[_Term], *, stop: bool) -> _Term:
    """Return the first whose truth is `stop`, else the last: Python's `or` and `and`."""

    def term(ban: _Ban) -> Number:
        found: Number = 0
        for each in of:
            found = each(ban)
            if bool(found) is stop:
                break
        return found

    return term


def _compare(compare: list[Callable[[Number, Number], bool]], of: list[_Term]) -> _Term:
    """Compare neighbours one after the other, as Python does: `1 < a < 3`."""

    def term(ban: _Ban) -> Number:
        left = of[0](ban)
        for each, right_of in zip(compare, of[1:], strict=True):
            right = right_of(ban)
            if not each(left, right):
                return False
            left = right
        return True

    return term


def _shown(text: str) -> str:
    """Return text for a message: quoted, on one line, bounded."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


_EXAMPLE: Final = "ban.Time * 2 ** ban.Count"
