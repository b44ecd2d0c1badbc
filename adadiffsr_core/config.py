"""The base of every configuration: frozen, validated once, and strict about its keys, types and numbers."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from typing_extensions import Self

from .errors import ConfigError
from .text import one_line, quoted, shown

# Of seeds, which have 64 bits; no other number of ours is anywhere near.
_LARGEST = 2**64 - 1
_LONGEST = 200  # characters of a text


@dataclass(frozen=True)
class Most:
    """A bound for `Annotated`: of a number's size, or of how many things a tuple holds.

    Attributes:
        limit: of the size.
        least: of the number itself; None is no bound.
    """

    limit: float
    least: float | None = None


# Bounds of networks, several times those of Stable Diffusion: a config may come from a damaged file.
Channels = Annotated[int, Most(16_384)]
Blocks = Annotated[int, Most(16)]
# Of training: what no machine holds is refused before any memory is asked for.
Batch = Annotated[int, Most(2**14)]
Side = Annotated[int, Most(2**14)]
LEVELS = Most(6)
Seed = Annotated[int, Most(_LARGEST, least=0)]


@dataclass(frozen=True, kw_only=True)
class Config:
    """A configuration that goes to JSON and back.

    Every field is checked by its annotation: whole numbers are no truth values and no fractions, numbers are finite,
    choices are one of theirs, tuples and nested configs hold what they should. Subclasses go on from there in their
    `__post_init__`, after calling this one's.
    """

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: a value is not of its field's type.
        """
        for name, kind in _kinds(cast(Any, type(self))).items():
            _check(name, getattr(self, name), kind)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values, such as JSON gives, nested configs too.

        Raises:
            ConfigError: a key is unknown or missing, or a value is of another type or out of its range.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{cls.__name__} must be a section of settings, got {quoted(values)}")
        kinds = _kinds(cast(Any, cls))
        if unknown := sorted(str(key) for key in values if key not in kinds):
            known = ", ".join(sorted(kinds))
            raise ConfigError(f"{cls.__name__} has no setting {shown(', '.join(unknown), 40)}; it has {known}")
        if missing := [field.name for field in fields(cls) if _is_needed(field) and field.name not in values]:
            raise ConfigError(f"{cls.__name__} lacks the setting {', '.join(missing)}")
        return cls(**{key: _build(value, kinds[key]) for key, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` takes them back."""
        return asdict(self)


@cache
def _kinds(config: Any) -> dict[str, Any]:
    hints = get_type_hints(config, include_extras=True)
    return {field.name: hints[field.name] for field in fields(config)}


def _is_needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _plain(kind: Any) -> Any:
    """A kind without its bounds."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _members(kind: Any) -> tuple[Any, ...]:
    """What a kind may be: itself, or each of a union."""
    plain = _plain(kind)
    return get_args(plain) if get_origin(plain) in (Union, UnionType) else (kind,)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Config)


def _item_kinds(kind: Any, count: int) -> tuple[Any, ...] | None:
    """The kinds of so many items of a tuple, or None if it does not hold so many."""
    kinds = get_args(_plain(kind))
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return (kinds[0],) * count
    return kinds if len(kinds) == count else None


def _build(value: Any, kind: Any) -> Any:
    """Plain values as a field wants them: JSON has no tuples, and writes 1.0 as 1; our configs have no lists."""
    for member in _members(kind):
        if _plain(member) is float and _is_whole(value) and abs(value) <= _LARGEST:
            return float(value)
        if isinstance(value, Mapping) and _is_section(member):
            return member.from_dict(value)
        if isinstance(value, list | tuple) and get_origin(_plain(member)) is tuple:
            kinds = _item_kinds(member, len(value)) or (Any,) * len(value)
            return tuple(_build(item, inner) for item, inner in zip(value, kinds, strict=True))
    return value


def _check(name: str, value: Any, kind: Any) -> None:
    """Refuse a value that is not of its kind."""
    members = _members(kind)
    if value is None and NoneType in members:
        return
    members = tuple(member for member in members if member is not NoneType)
    if choices := tuple(_choices(members)):
        # Equal is not enough: 1 is equal to True, and what is no text may have no hash.
        if not isinstance(value, str) or value not in choices:
            raise unknown(name, value, choices)
        return
    _check_one(name, value, members[0])


def _choices(members: tuple[Any, ...]) -> Iterator[str]:
    for member in members:
        if get_origin(_plain(member)) is Literal:
            yield from get_args(_plain(member))


def _check_one(name: str, value: Any, kind: Any) -> None:
    plain = _plain(kind)
    if get_origin(plain) is tuple:
        _check_tuple(name, value, kind)
    elif _is_section(plain):
        if not isinstance(value, plain):
            raise ConfigError(f"{name} must be a section of settings, got {quoted(value, 80)}")
    else:
        fits, words = _SIMPLE[plain]
        if not fits(value):
            raise ConfigError(f"{name} must be {words}, got {quoted(value, 80)}, a value of the wrong kind")
        _check_bounds(name, value, value, kind)
        if _is_whole(value) and abs(value) > _LARGEST:  # where nothing nearer is a bound
            raise ConfigError(f"{name} must be at most {_LARGEST}, got {quoted(value, 80)}")


def _check_tuple(name: str, value: Any, kind: Any) -> None:
    kinds = _item_kinds(kind, len(value)) if isinstance(value, tuple) else None
    if kinds is None:
        held = get_args(_plain(kind))
        count = "some" if held[-1] is Ellipsis else len(held)
        raise ConfigError(f"{name} must be a list of {count} values, got {quoted(value, 80)}")
    _check_bounds(name, value, len(value), kind)
    for place, (item, inner) in enumerate(zip(value, kinds, strict=True)):
        _check(f"{name}[{place}]", item, inner)


def _check_bounds(name: str, value: Any, size: float, kind: Any) -> None:
    for bound in get_args(kind)[1:] if get_origin(kind) is Annotated else ():
        if isinstance(bound, Most) and (abs(size) > bound.limit or (bound.least is not None and size < bound.least)):
            what = "hold" if isinstance(value, tuple) else "be"
            raise ConfigError(f"{name} must {what} {_in_words(bound)}, got {quoted(value, 80)}")


def _in_words(bound: Most) -> str:
    least, limit = (str(number) if _is_whole(number) else f"{number:g}" for number in (bound.least or 0, bound.limit))
    return f"at most {limit}" if bound.least is None else f"from {least} to {limit}"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return math.isfinite(value) if isinstance(value, float) else _is_whole(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST and one_line(value) == value


_SIMPLE: dict[Any, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (_is_whole, "a whole number"),
    float: (_is_number, "a number"),
    str: (_is_text, f"a text of one line and at most {_LONGEST} characters"),
}


def unknown(name: str, value: object, choices: Iterable[str]) -> ConfigError:
    """The one sentence for what is none of the choices."""
    return ConfigError(f"{name} {quoted(value, 80)} is unknown; use one of {', '.join(choices)}")


def check_multiple(name: str, size: int, multiple: int, unit: str = "px") -> None:
    """Refuse a size that is no multiple of what a model needs.

    Raises:
        ConfigError: with the nearest sizes that are.
    """
    if size < 0 or size % multiple:
        below = size - size % multiple
        use = f"{below} or {below + multiple}" if below > 0 else f"{multiple}"
        raise ConfigError(f"{name} {size} {unit} is not a multiple of {multiple}; use {use}")
