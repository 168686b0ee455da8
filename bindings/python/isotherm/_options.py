"""Options of changes, as the library takes them."""

from ctypes import sizeof
from typing import Optional, Union

from . import _layout as layout

When = Union[None, str, int]

_CONDITIONS = {
    None: layout.CONDITION_NONE,
    "absent": layout.CONDITION_ABSENT,
    "present": layout.CONDITION_PRESENT,
}


def durability_number(durability: Optional[str]) -> int:
    """ISOTHERM_DURABILITY_* of a name; None is the bucket's."""
    try:
        return layout.DURABILITIES[durability]
    except KeyError:
        raise ValueError(
            f'durability is {durability!r}; pass None, "memory", "written" or "durable"'
        ) from None


def put_options(durability: Optional[str], when: When) -> Optional[layout.PutOptions]:
    """Options of a change; None if all are the defaults."""
    if durability is None and when is None:
        return None
    options = layout.PutOptions(struct_size=sizeof(layout.PutOptions))
    options.durability = durability_number(durability)
    if isinstance(when, int) and not isinstance(when, bool):
        options.condition = layout.CONDITION_VERSION
        options.version = when
        return options
    if when not in _CONDITIONS:
        raise ValueError(f'when is {when!r}; pass None, "absent", "present" or a version')
    options.condition = _CONDITIONS[when]
    return options
