"""The class of commands with `--config` and `--profile`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sep_batch.jobs.cli import config_file
from sep_batch.jobs.cli.config_file import CONFIG, PROFILE, Defaults

PANEL = "Config file"


class ConfiguredCommand(TyperCommand):
    """A command whose flags take the values of a config file unless they are typed."""

    def __init__(self, *args: Any, params: list[Any], **options: Any) -> None:
        """Add --config and --profile to the parameters."""
        super().__init__(*args, params=[*params, *_config_flags()], **options)

    def make_parser(self, ctx: Any) -> Any:  # types of click, which typer keeps to itself
        """Return the parser of the command line. It also takes the flag that turns off each switch, which --help leaves out."""
        parser = super().make_parser(ctx)
        names = {name for parameter in self.params for name in parameter.opts}
        parameters: list[Any] = self.params
        for parameter in parameters:
            if getattr(parameter, "is_flag", False) and (off := negation(parameter)) not in names:
                parser.add_option(obj=parameter, opts=[off], dest=parameter.name, action="store_const", const=False)
        return parser

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line, with the values of the config file as defaults.

        Raises:
            UsageError: The config file is invalid.
            click.UsageError: The command line is invalid.
        """
        typed, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        sources = self._sources(ctx, typed)
        if sources and not (ctx.resilient_parsing or typed.get("help")):
            ctx.default_map = self._defaults(ctx, sources)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            source = error.param and ctx.get_parameter_source(error.param.name)
            if not source or source.name != "DEFAULT_MAP":
                raise
            config_file.refuse(f"{ctx.default_map.line(error.param)}: {error.message}", error)

    def _sources(self, ctx: Any, typed: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
        """Return the config file and the profile, each after its source: a flag or a variable."""
        here = {name: (f"--{name}", str(typed[name])) for name in (CONFIG, PROFILE) if typed.get(name) is not None}
        if CONFIG not in here:
            here = ctx.meta.get(__name__, {}) | here  # those of `submit` or `config show`, for the command after it
        ctx.meta[__name__] = here
        variables = {str(flag.name): str(flag.envvar) for flag in self.params if flag.name in (CONFIG, PROFILE)}
        return {name: (variable, os.environ[variable]) for name, variable in variables.items() if os.environ.get(variable)} | here

    def _defaults(self, ctx: Any, sources: Mapping[str, tuple[str, str]]) -> Defaults:
        if CONFIG not in sources:
            config_file.refuse(f"{' '.join(sources[PROFILE])}: needs a config file; give --config FILE, or set SEP_BATCH_CONFIG")
        commands = ctx.find_root().command.commands
        configured = {name: command for name, command in commands.items() if isinstance(command, ConfiguredCommand)}
        return config_file.read(sources[CONFIG], sources.get(PROFILE), self, configured)


def negation(parameter: Any) -> str:
    """Return the flag that turns off a switch: `--no-mono` for `--mono`, `--analysis` for `--no-analysis`."""
    key = config_file.key_of(parameter)
    return f"--{key.removeprefix('no-')}" if key.startswith("no-") else f"--no-{key}"


def _config_flags() -> list[Any]:
    """Return --config and --profile as Click's parameters."""
    flags = typer.Typer(add_completion=False)

    @flags.command()
    def declare(
        config: Annotated[
            str | None,
            typer.Option(
                metavar="FILE",
                envvar="SEP_BATCH_CONFIG",
                expose_value=False,
                rich_help_panel=PANEL,
                help="TOML file with a table per command, which sets flags by their long names. Typed flags win; --no-FLAG "
                "turns off a switch that the file turns on.",
            ),
        ] = None,
        profile: Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                envvar="SEP_BATCH_PROFILE",
                expose_value=False,
                rich_help_panel=PANEL,
                help="Profile of the config file, whose tables win over those without a profile.",
            ),
        ] = None,
    ) -> None:
        del config, profile

    command: Any = typer.main.get_command(flags)
    return list(command.params)
