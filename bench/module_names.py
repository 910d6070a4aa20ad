"""Names of modules: several that differ in their numbers alone, as one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain, zip_longest

_NUMBER = re.compile(r"(?<![^.])\d+(?=[.,]|$)")


def merged(names: Iterable[str]) -> dict[str, str]:
    """Each name as it is shown: "*" stands where others of the names have another number.

    "blocks.0.mix.1, clone" and "blocks.0.mix.2, clone" are both "blocks.0.mix.*, clone"; what follows a comma belongs
    to the name.
    """
    alike: dict[str, list[list[str]]] = defaultdict(list)
    shown = dict.fromkeys(names, "")
    for name in shown:
        alike[_NUMBER.sub("*", name)].append(_NUMBER.findall(name))
    for name in shown:
        columns = zip(*alike[_NUMBER.sub("*", name)], strict=True)
        numbers = ["*" if len(set(column)) > 1 else column[0] for column in columns]
        shown[name] = "".join(chain.from_iterable(zip_longest(_NUMBER.split(name), numbers, fillvalue="")))
    return shown
