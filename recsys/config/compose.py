"""Composes a command's configuration from its files and the overrides of a command line."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import hydra
import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recsys.config.signatures import signature_of
from recsys.config.sources import ROOT, stand_in

# Beside the package in a checkout, within it where it was installed from a wheel.
CONFIGS = (ROOT.parent if (ROOT.parent / "pyproject.toml").is_file() else ROOT) / "configs"
SWEEP, DAILY = "sweep", "daily"
# What composing raises where files and overrides do not go together.
COMPOSE_ERRORS = (HydraException, OmegaConfBaseException)

C = TypeVar("C")


@dataclasses.dataclass(frozen=True)
class Command(Generic[C]):
    """One of the commands.

    Args:
        name: of its root file in configs/.
        options: dataclass of its keys, or its dotted name, so that a mistyped key need not import it; its
            type hints are what the configuration is checked against.
        continues: key that names a run from whose configuration this command starts.
        repeats: may run several times, with `-m` or `sweep=`.
        configs: folder of the configuration files.
    """

    name: str
    options: type[C] | str
    continues: str | None = None
    repeats: bool = False
    configs: Path = CONFIGS

    @property
    def hint(self) -> Any:
        """The dataclass of its keys, or an empty class of its name."""
        return stand_in(self.options) if isinstance(self.options, str) else self.options

    @property
    def keys(self) -> list[str]:
        """Names of its keys at the top."""
        return list(signature_of(self.hint).parameters)


@dataclasses.dataclass(frozen=True)
class Composition:
    """Holds a configuration that Hydra has composed.

    Args:
        plain: the configuration, without Hydra's own part.
        choices: the file chosen from each group.
        overrides: of the command line, as Hydra read them.
    """

    plain: dict[str, Any]
    choices: Mapping[str, Any]
    overrides: Sequence[str]

    @property
    def overridden(self) -> list[str]:
        """Keys and groups on the command line."""
        return [text.lstrip("+~").partition("=")[0] for text in self.overrides]


def current_composition(config: DictConfig) -> Composition:
    """The composition of the job that Hydra runs now."""
    return _composition(config, HydraConfig.get())


def defaults_of(command: Command[C]) -> dict[str, str | None]:
    """The groups that a command chooses from, with what it chooses unasked."""
    for folder in _folders(command):
        root = folder / f"{command.name}.yaml"
        if root.is_file():
            listed = (yaml.safe_load(root.read_text(encoding="utf-8")) or {}).get("defaults", [])
            entries = [entry for entry in listed if isinstance(entry, dict)]
            return {group: chosen for entry in entries for group, chosen in entry.items()}
    return {}


def options_of_groups(command: Command[C]) -> dict[str, list[str]]:
    """The files of each group, without their endings; Hydra's own groups are left out."""
    options: dict[str, set[str]] = {}
    for file in (file for folder in _folders(command) for file in folder.glob("*/*.yaml")):
        options.setdefault(file.parent.name, set()).add(file.stem)
    return {group: sorted(options[group]) for group in sorted(options)}


def _folders(command: Command[C]) -> list[Path]:
    """Where configuration files lie, those that go before others first."""
    return [*([Path(_FurtherFolder.path)] if _FurtherFolder.path else []), command.configs]


def compose(name: str, overrides: Sequence[str]) -> Composition:
    """Composes a root file and overrides; see `composing`."""
    config = hydra.compose(name, overrides=list(overrides), return_hydra_config=True)
    return _composition(config, config.hydra)


def _composition(config: DictConfig, hydras: Any) -> Composition:
    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    content = OmegaConf.to_container(ours, resolve=True)
    assert isinstance(content, dict)
    plain = {str(key): value for key, value in content.items()}
    return Composition(plain, dict(hydras.runtime.choices), list(hydras.overrides.task))


class _FurtherFolder(SearchPathPlugin):
    """Puts the folder of `--config-dir` before ours, as Hydra's own command line does."""

    path: ClassVar[str | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra when it is initialised."""
        if self.path:
            search_path.prepend(provider="command-line", path=f"file://{self.path}")


Plugins.instance().register(_FurtherFolder)


@contextlib.contextmanager
def composing(configs: Path, config_dir: str | None = None) -> Iterator[None]:
    """While inside, Hydra composes from a folder of configuration files, and before it from `config_dir`."""
    GlobalHydra.instance().clear()
    _FurtherFolder.path = str(Path(config_dir).absolute()) if config_dir else None
    try:
        with hydra.initialize_config_dir(str(configs.absolute()), version_base="1.3", job_name="recsys"):
            yield
    finally:
        _FurtherFolder.path = None
        GlobalHydra.instance().clear()
