"""Files that are read back: what they may hold, by name, type and range, and how large and deep they may be."""

import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import yaml

from ..errors import InputError

# A check raises `Misfit` where a value, found at a place of the file, is not what it should be.
Check = Callable[[Any, str], None]

MAX_DEPTH = 64
# Of a file that holds rows, and of one that describes them.
MAX_ROWS_BYTES = 1 << 30
MAX_BYTES = 64 << 20
# A card or a recipe is written by hand; aliases may make it longer by this much.
_MAX_YAML_BYTES = 1 << 20
_MAX_EXPANSION = 1_000_000
# What a float can still hold.
_MAX_DIGITS = 300
_INT64 = 2**63 - 1
_LARGEST = sys.float_info.max


class Misfit(Exception):
    """A value that does not fit: where it is, what was expected and what was found."""

    def __init__(self, where: str, expected: str, value: Any):
        super().__init__(f"{where or 'the content'} must be {expected}, found {shown(value)}")


def shown(value: Any) -> str:
    """A value of a file, short and on one line, for a message."""
    if isinstance(value, Mapping):
        return f"an object with {len(value)} keys"
    if isinstance(value, list):
        return f"a list of {len(value)} values"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def number(low: float = -math.inf, high: float = math.inf, *, above: float = -math.inf) -> Check:
    """A finite number in [low, high] that is greater than `above`."""
    bounds = f" above {above:g}" if above > -math.inf else ""
    bounds += f" from {low:g}" if low > -math.inf else ""
    bounds += f" up to {high:g}" if high < math.inf else ""

    def check(value: Any, where: str) -> None:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        # Compared, and not converted: a whole number may be too large for a float.
        if not fits or not -_LARGEST <= value <= _LARGEST or not low <= value <= high or not value > above:
            raise Misfit(where, f"a finite number{bounds}", value)

    return check


def integer(low: int = -_INT64, high: int = _INT64) -> Check:
    """A whole number in [low, high]."""
    bounds = f" of at least {low}" if low > -_INT64 else ""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Misfit(where, f"a whole number{bounds}", value)

    return check


def text(choices: Collection[str] | None = None, *, empty: bool = True) -> Check:
    """A text that can be written, one of `choices` where these are given."""
    expected = "a text" if choices is None else f"one of {', '.join(choices)}"
    expected += "" if empty else " that is not empty"

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or not (value or empty) or (choices is not None and value not in choices):
            raise Misfit(where, expected, value)
        _check_writable(value, where)

    return check


def boolean(value: Any, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise Misfit(where, "true or false", value)


def anything(value: Any, where: str) -> None:
    """Any value of json that can be written and read again."""
    if isinstance(value, str):
        _check_writable(value, where)
    elif isinstance(value, Mapping):
        mapping(anything)(value, where)
    elif isinstance(value, list):
        sequence(anything)(value, where)


def optional(check: Check) -> Check:
    """`null`, or what `check` allows."""

    def check_given(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return check_given


def sequence(items: Check, *, length: int | None = None) -> Check:
    """A list of what `items` allows, of `length` values where that is given."""
    expected = "a list" if length is None else f"a list of {length} values"

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or length not in (None, len(value)):
            raise Misfit(where, expected, value)
        for index, item in enumerate(value):
            items(item, f"{where}[{index}]")

    return check


def mapping(values: Check, *, empty: bool = True) -> Check:
    """An object of any names, with values that `values` allows."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, Mapping) or not (value or empty):
            raise Misfit(where, "an object" if empty else "an object that is not empty", value)
        for name, entry in value.items():
            text()(name, f"a name in {where or 'the content'}")
            values(entry, _inside(where, name))

    return check


def record(fields: Mapping[str, Check], *, required: Collection[str] = (), others: Check | None = None) -> Check:
    """
    An object with the names of `fields`.

    Args:
        fields (`dict` of `str` to check): What each name may hold.
        required (collection of `str`): Names that must be there.
        others (check, *optional*): What other names may hold. `None` refuses them.
    """

    def check(value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise Misfit(where, "an object", value)
        missing = [name for name in required if name not in value]
        if missing:
            raise Misfit(where, f"an object with the key {missing[0]!r}", value)
        for name, entry in value.items():
            form = fields.get(name, others)
            if form is None:
                raise Misfit(f"each key of {where or 'the content'}", f"one of {', '.join(fields)}", name)
            text()(name, f"a name in {where or 'the content'}")
            form(entry, _inside(where, name))

    return check


def check_content(content: Any, form: Check, path: str | os.PathLike, what: str, advice: str = "") -> Any:
    """
    Returns `content`, which was read from `path`, where it has the form of `what`.

    Raises:
        InputError: Where it has not; the message names the file, the place in it, and `advice`.
    """
    try:
        form(content, "")
    except Misfit as error:
        raise InputError(f"{path} is not {what}: {error}.{f' {advice}' if advice else ''}") from None
    return content


def read_document(path: str | os.PathLike, form: Check, what: str, advice: str = "") -> Any:
    """Reads a json file that must have the form of `what`; raises `InputError` naming the file where it has not."""
    return check_content(parse_json(read_text(path, MAX_BYTES), path), form, path, what, advice)


def read_text(path: str | os.PathLike, most: int) -> str:
    """The text of a file of at most `most` bytes; raises `InputError` naming it where it cannot be read."""
    try:
        # A device says that it has no bytes.
        with open(path, "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise InputError(f"{path} has more than {most:,} bytes, which are not read. It is not such a file.")
        return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path}: {error}.") from None


def parse_json(text: str | bytes, name: object) -> Any:
    """
    Json as Python values, no deeper than `MAX_DEPTH`.

    Raises:
        InputError: Naming `name`, where the text is no json, is nested too deeply, or holds a whole number that no float can.
    """
    try:
        content = json.loads(text, parse_int=_integer_of, object_pairs_hook=_object_of)
        _check_depth(content)
    except RecursionError:
        raise InputError(f"{name} is nested more than {MAX_DEPTH} levels deep.") from None
    except (ValueError, Misfit) as error:
        raise InputError(f"Cannot read {name} as json: {error}.") from None
    return content


def parse_yaml(text: str, name: object) -> Any:
    """
    Yaml as Python values. Aliases may stand for what is short, not for more than a million characters or for themselves.

    Raises:
        InputError: Naming `name`, where the text is no yaml, or too long, too deep or too large with its aliases written out.
    """
    if len(text) > _MAX_YAML_BYTES:
        raise InputError(
            f"{name} has {len(text):,} characters of YAML, and more than {_MAX_YAML_BYTES:,} are not read."
        )
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _written_out(node, {}) > len(text) + _MAX_EXPANSION:
            raise InputError(f"{name} holds YAML aliases that stand for too much. Write out what they stand for.")
        return loader.construct_document(node)
    except RecursionError:
        raise InputError(f"{name} holds YAML that is nested too deeply, or that holds itself.") from None
    except InputError:
        raise
    # Apart from its own errors, the parser raises whatever Python raises for a value that is no number, date or key.
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name} is not valid YAML and cannot be read: {reason or type(error).__name__}.") from None
    finally:
        if loader is not None:
            loader.dispose()


def _written_out(node: yaml.Node, sizes: dict[int, int], depth: int = 0) -> int:
    """Characters and values that a node stands for with all its aliases written out."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if id(node) not in sizes:
        if isinstance(node, yaml.ScalarNode):
            return 1 + len(node.value)
        children = node.value
        if isinstance(node, yaml.MappingNode):
            names = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(names)) < len(names):
                raise yaml.YAMLError(
                    f"the name {shown(_repeated(names)[1])} stands twice in the mapping{node.start_mark}"
                )
            children = [child for pair in node.value for child in pair]
        sizes[id(node)] = 1 + sum(_written_out(child, sizes, depth + 1) for child in children)
    return sizes[id(node)]


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, (dict, list))
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise RecursionError


def _integer_of(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # What stands there twice means one thing to one reader and another to the next.
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"the name {shown(_repeated(name for name, _ in pairs))} stands twice in one object")
    return found


def _repeated(names: Iterable[Any]) -> Any:
    return next(name for name, count in Counter(names).items() if count > 1)


def _check_writable(value: str, where: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Misfit(where, "a text of whole characters", value) from None


def _inside(where: str, name: str) -> str:
    short = name if name.isprintable() and len(name) <= 60 else shown(name)
    return f"{where}.{short}" if where else short
