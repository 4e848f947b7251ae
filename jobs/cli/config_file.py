"""Config files: values of flags in TOML, in one table per command, with profiles on top.

The values become what Click takes as defaults (`Context.default_map`): they pass the checks of typed ones, and typed ones win.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NoReturn

CONFIG, PROFILE = "config", "profile"  # parameters of --config and --profile; [profile.NAME] holds the tables of a profile
RUN = "run"
LIKE_RUN = ("plan", "sync", "status", "failures", "verify", "doctor")  # commands that read [run] too, below their own table
OWN = ("as_json",)  # parameters that these take from their own table only
COMMA_LISTS = ("stems",)  # parameters whose text is a list, as vocals,drums
TYPES: dict[Any, tuple[tuple[type, ...], str]] = {  # by type of a parameter: types of TOML that it takes, in words too
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str, int, float), "text in quotes"),
}
LIST = 'a list of text, as ["a", "b"]'


class Defaults(dict[str, Any]):
    """Values of a config file for one command, by parameter.

    Attributes:
        config: Path of the file.
        profile: Name of the profile; None without one.
        tables: Table that each value comes from, as `run` or `profile.night.run`.
    """

    def __init__(self, config: str, profile: str | None) -> None:
        """Begin without values."""
        super().__init__()
        self.config, self.profile = config, profile
        self.tables: dict[str, str] = {}

    def line(self, parameter: Any) -> str:
        """Return file, table, key and value of a parameter, for a message."""
        value, is_number = self[parameter.name], parameter.type_descriptor.annotation in (int, float)
        shown = value if is_number else as_toml(value)
        return f"{self.config}: [{self.tables[parameter.name]}] {key_of(parameter)} = {shown}"


def key_of(parameter: Any) -> str:
    """Return the key of Click's parameter: its long flag without `--`, or the name of an argument."""
    return next((flag.removeprefix("--") for flag in parameter.opts if flag.startswith("--")), str(parameter.name))


def parameters_of(command: Any) -> dict[str, Any]:
    """Return the parameters of Click's command that a file may set, by key."""
    return {key_of(parameter): parameter for parameter in command.params if parameter.name not in (CONFIG, PROFILE)}


def read(config: tuple[str, str], profile: tuple[str, str] | None, command: Any, commands: Mapping[str, Any]) -> Defaults:
    """Return a file's values for one command; the tables of all commands and profiles are checked.

    Args:
        config: Source of the file's path, as --config, and the path.
        profile: Source of the profile's name, and the name.
        command: Click's command.
        commands: Click's commands that may have a table, by name.

    Raises:
        UsageError: The file cannot be read, has an invalid table, key or value, or has no such profile.
    """
    file, content = config[1], _content(*config)
    profiles = content.pop(PROFILE, {})
    if not isinstance(profiles, dict):
        refuse(f"{file}: {PROFILE} = {as_toml(profiles)}: expected tables, as [{PROFILE}.night.{RUN}]")
    layers = {"": _checked(file, "", content, commands)}
    for name, tables in profiles.items():
        if not isinstance(tables, dict):
            refuse(f"{file}: [{PROFILE}] {name} = {as_toml(tables)}: expected tables, as [{PROFILE}.{name}.{RUN}]")
        layers[name] = _checked(file, f"{PROFILE}.{name}.", tables, commands)
    if profile and profile[1] not in profiles:
        refuse(f"{' '.join(profile)}: not in {file}, which has {', '.join(profiles) or 'no profiles'}")
    defaults, names = Defaults(file, profile and profile[1]), {parameter.name for parameter in command.params}
    for layer in ("", profile[1]) if profile else ("",):
        for table in (RUN, command.name) if command.name in LIKE_RUN else (command.name,):
            for name, value in layers[layer].get(table, {}).items():
                if name in names and (table == command.name or name not in OWN):
                    defaults[name] = value
                    defaults.tables[name] = f"{PROFILE}.{layer}.{table}" if layer else table
    return defaults


def _content(source: str, file: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(file, "rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        refuse(f"{source} {file}: {(error.strerror or type(error).__name__).lower()}", error)
    except UnicodeDecodeError as error:
        refuse(f"{source} {file}: not TOML, which is UTF-8", error)
    except tomllib.TOMLDecodeError as error:
        refuse(f"{source} {file}: not TOML: {error}", error)


def _checked(file: str, prefix: str, tables: Mapping[str, Any], commands: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the values of tables, by command and parameter; `prefix` is nothing, or a profile's, as `profile.night.`."""
    values: dict[str, dict[str, Any]] = {}
    for table, content in tables.items():
        header = f"{file}: [{prefix}{table}]"
        if not isinstance(content, dict):
            where = f"{file}: [{prefix[:-1]}]" if prefix else f"{file}:"
            refuse(f"{where} {table} = {as_toml(content)}: expected in a table of a command, as [{prefix}{RUN}]")
        if table not in commands:
            refuse(f"{header}: unknown table; {_nearest(table, commands) or 'expected one of ' + ', '.join(commands)}")
        parameters, values[table] = parameters_of(commands[table]), {}
        for key, value in content.items():
            if key not in parameters:
                refuse(f"{header} {key}: unknown key; {_nearest(key, parameters) or f'sep-batch {table} --help lists the flags'}")
            try:
                values[table][parameters[key].name] = _as_typed(parameters[key], value)
            except TypeError as error:
                refuse(f"{header} {key} = {as_toml(value)}: expected {error}", error)
    return values


def _as_typed(parameter: Any, value: Any) -> Any:
    """Return a value as the command line gives it to a parameter: text, a list of text, or a boolean.

    Raises:
        TypeError: The value has another type than the parameter takes; the message describes that one.
    """
    is_repeatable, is_comma_list = parameter.multiple or parameter.nargs == -1, parameter.name in COMMA_LISTS
    types, expected = TYPES.get(parameter.type_descriptor.annotation, TYPES[str])
    if parameter.nargs == -1 and isinstance(value, str):
        return [value]
    if is_repeatable or (is_comma_list and isinstance(value, list)):
        if not isinstance(value, list) or any(type(item) not in TYPES[str][0] for item in value):
            raise TypeError(LIST)
        items = [str(item) for item in value]
        return ",".join(items) if is_comma_list else items
    if type(value) not in types:
        raise TypeError(expected)
    return value if isinstance(value, bool) else str(value)


def _nearest(name: str, names: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else ""


def as_toml(value: Any) -> str:
    """Return a value as TOML has it, for a message: URIs show no secrets, and a table only its kind."""
    from sep_batch.pipeline.storage.uris import shown

    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{...}"
    return f'"{shown(value)}"' if isinstance(value, str) else str(value)


def refuse(message: str, cause: Exception | None = None) -> NoReturn:
    """Raise the error of an invalid config file.

    Raises:
        UsageError: Always.
    """
    from sep_batch.pipeline.errors import UsageError

    raise UsageError(message) from cause
