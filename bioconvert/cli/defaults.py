"""``[tool.bioconvert]`` in ``pyproject.toml``: what the options of commands are unless they are given."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from bioconvert.core.errors import OptionError
from bioconvert.core.suggest import hint

FILE = "pyproject.toml"
_TABLE = "tool.bioconvert"
_AS_JSON = ("arch-args", "options")
"""Options that take JSON, for which a table may stand."""
_EACH_TIME = ("unsafe-pickle", "overwrite", "in-place")
"""Options that let code run or files go: no file may give them."""
_RULE_FILE = (".yaml", ".yml")
_KINDS: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number"}

Functions = Mapping[str, "Callable[..., object] | Functions"]
"""The functions of commands by name; a group is a mapping of its own."""


@dataclass(frozen=True, slots=True)
class Setting:
    """An option that may have a default in the file.

    Args:
        parameter: name of the command's parameter.
        type: what it takes.
        repeated: whether it may be given again.
    """

    parameter: str
    type: type
    repeated: bool


Settings = Mapping[str, Setting]
"""The options of a command that may have a default, by their names without dashes."""
Commands = Mapping[str, Settings]
"""The commands by their whole names, as ``"rules init"``."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a file says.

    Args:
        path: the file; ``None`` where there is none.
        table: its ``[tool.bioconvert]``.
    """

    path: Path | None = None
    table: Mapping[str, Any] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Name what is set, with the commands that it is for: ``convert.out``."""
        return list(_names(self.table, ""))


def read_defaults(folder: Path) -> Defaults:
    """Read the nearest ``pyproject.toml``, here or in a folder above, that speaks of bioconvert.

    Raises:
        OptionError: it is no TOML, or can't be read.
    """
    for place in (folder, *folder.parents):
        path = place / FILE
        try:
            content = path.read_bytes() if path.is_file() else b""
        except (FileNotFoundError, PermissionError):
            continue  # gone in the meantime, or another's
        table = _table_in(path, content)
        if table is not None:
            return Defaults(path, table)
    return Defaults()


def default_map(defaults: Defaults, commands: Commands) -> dict[str, Any]:
    """Give the defaults by command and parameter, as the parser of the command line takes them.

    Raises:
        OptionError: unknown keys, or values of a wrong type; all of them are named.
    """
    if defaults.path is None:
        return {}
    problems: list[str] = []
    found = _Checked(defaults.path, problems).by_command(defaults.table, commands)
    if problems:
        raise OptionError("\n".join(dict.fromkeys(problems)))
    return found


def _table_in(path: Path, content: bytes) -> Mapping[str, Any] | None:
    if b"bioconvert" not in content:
        return None  # most files: no need to parse them
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        tool = tomllib.loads(content.decode()).get("tool", {})
    except ValueError as error:
        raise OptionError(f"{path}: is no TOML: {error}") from None
    table = tool.get("bioconvert") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise OptionError(f"{path}: {_TABLE} must be a table, as in [{_TABLE}]")
    return table


def _names(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict) and key not in _AS_JSON:
            yield from _names(value, f"{prefix}{key}.")
        else:
            yield prefix + key


@dataclass(frozen=True, slots=True)
class _Checked:
    path: Path
    problems: list[str]

    def by_command(self, table: Mapping[str, Any], commands: Commands) -> dict[str, Any]:
        """Give the defaults of each command; what the table itself says holds for all with the option."""
        shared = {key: value for key, value in table.items() if _is_option(key, value)}
        tables = {key: value for key, value in table.items() if key not in shared}
        options = [name for settings in commands.values() for name in settings]
        self._refuse_unknown([*shared], [*options, *commands], _TABLE)
        self._refuse_unknown([*tables], [*commands], _TABLE)
        found: dict[str, Any] = {}
        for name, settings in commands.items():
            *groups, last = name.split()
            inside = found
            for group in groups:
                inside = inside.setdefault(group, {})
            inside[last] = self._of_command(name, settings, tables.get(name, {}), shared)
        return found

    def _of_command(
        self, name: str, settings: Settings, own: Mapping[str, Any], shared: Mapping[str, Any]
    ) -> dict[str, Any]:
        inside = f'{_TABLE}."{name}"' if " " in name else f"{_TABLE}.{name}"
        self._refuse_unknown([*own], [*settings], inside)
        given = {key: (value, _TABLE) for key, value in shared.items()}
        given |= {key: (value, inside) for key, value in own.items()}
        return {
            settings[key].parameter: self._value(key, value, settings[key], place)
            for key, (value, place) in given.items()
            if key in settings
        }

    def _refuse_unknown(self, keys: list[str], known: list[str], where: str) -> None:
        for key in keys:
            if key in _EACH_TIME:
                self.problems.append(f"{self.path}: {where}.{key} must be given as --{key} each time")
            elif key not in known:
                self.problems.append(f"{self.path}: {where} has no key {key!r}. {hint(key, known)}")

    def _value(self, key: str, value: object, setting: Setting, where: str) -> object:
        if setting.repeated:
            items = value if isinstance(value, list) else [value]
            return [self._one(key, item, setting, where) for item in items]
        return self._one(key, value, setting, where)

    def _one(self, key: str, value: object, setting: Setting, where: str) -> object:
        if key in _AS_JSON and isinstance(value, dict):
            return json.dumps(value)
        wanted = setting.type if setting.type in _KINDS else str
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            kind = _KINDS.get(wanted, "text")
            several = ", or a list of it" if setting.repeated else ""
            self.problems.append(f"{self.path}: {where}.{key} must be {kind}{several}, not {value!r}")
            return None
        is_path = setting.type is Path or (key == "rules" and str(value).endswith(_RULE_FILE))
        return str(self.path.parent / str(value)) if is_path else value


def _is_option(key: str, value: object) -> bool:
    return not isinstance(value, dict) or key in _AS_JSON


def commands_of(group: Any, functions: Functions, prefix: str = "") -> Commands:
    """Give the commands of a group of the command line, with the options that a file may set.

    Args:
        group: the group, as the parser has it.
        functions: the functions behind its commands, whose signatures know the types.
        prefix: what stands before their names.
    """
    found: dict[str, Settings] = {}
    for name, function in functions.items():
        parsed = group.commands[name]
        if callable(function):
            found[prefix + name] = _settings(parsed.params, function)
        else:
            found.update(commands_of(parsed, function, f"{prefix}{name} "))
    return found


def _settings(parsed: Iterable[Any], function: Callable[..., object]) -> Settings:
    parameters = inspect.signature(function, eval_str=True).parameters
    options = {
        long.removeprefix("--"): each.name
        for each in parsed
        for long in [name for name in each.opts if name.startswith("--")][:1]
    }
    return {
        option: _setting(name, parameters[name].annotation)
        for option, name in options.items()
        if name in parameters and option not in _EACH_TIME
    }


def _setting(parameter: str, annotation: Any) -> Setting:
    """Read the type of a parameter: ``list[str] | None`` is text that may be given again."""
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    options = [each for each in get_args(bare) if each is not NoneType]
    if get_origin(bare) is not list and options:
        bare = options[0]
    if get_origin(bare) is list:
        return Setting(parameter, get_args(bare)[0], True)
    return Setting(parameter, bare, False)
