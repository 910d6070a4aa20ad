"""[plugins] of bench.toml: the modules that a file names, run when it is read."""

from __future__ import annotations

from bench import plugins
from bench.config.layers import Fault, Layer, told
from bench.config.toml_file import TomlFile
from bench.errors import UsageError


def load(file: TomlFile) -> None:
    """Run the plugins that a file names, and write them down by whole paths.

    Raises:
        UsageError: one of them is wrong (all of them, with their lines), or a preset has some.
    """
    layer = Layer(file.values, file.where)
    presets = file.values.get("preset")
    found = [
        Fault(("preset", name, "plugins"), "plugins are of a whole file, and not of a preset: put the table at its top")
        for name, table in (presets.items() if isinstance(presets, dict) else ())
        if isinstance(table, dict) and "plugins" in table
    ]
    section = file.values.get("plugins")
    modules = section.get("modules") if isinstance(section, dict) else None
    if isinstance(modules, list) and all(isinstance(each, str) for each in modules):
        modules[:] = [plugins.whole(name, file.path.parent) for name in modules]
        for number, name in enumerate(modules):
            try:
                plugins.load(name)
            except UsageError as error:
                found.append(Fault(("plugins", "modules", number), str(error)))
    if found:
        raise UsageError("; ".join(told(fault, [layer]) for fault in found))
