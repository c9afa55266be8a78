"""YAML read with errors that name file and line, and written so that every text reads back as it was."""

import difflib
import functools
import re
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from minigpt.cli.messages import in_words
from minigpt.errors import ConfigError, did_you_mean
from minigpt.system.shipped_configs import shipped_configs

_MAX_DEPTH = 50
_MAX_VALUES = 100_000
_LINE_BREAKS = set("\r\x85\u2028\u2029")
"""Characters that YAML takes for line breaks and would normalise."""
_SURROGATE_ESCAPE = re.compile(r"\\u([dD][89a-fA-F][0-9a-fA-F]{2})")
_PRIVATE_PLANE = 0x10F000 - 0xD800
"""Offset from a surrogate to a character for private use, which no text has."""
_SURROGATES = {code + _PRIVATE_PLANE: code for code in range(0xD800, 0xE000)}
NOT_SERIALIZABLE = "Unable to serialize instance"
"""What jsonargparse puts in the place of an object: a torch.device among the defaults of a callback, say."""


def load_yaml(path: Path, named: str = "--config ") -> dict[str, Any]:
    """Return the mapping in a YAML file.

    `named` is what stands before the file's name on the command line. Raises ConfigError with file and line for a file
    that is missing, broken or holds something else.
    """
    try:
        content = _UniqueKeys(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError as error:
        near = near_path(path, path.parent.glob("*.yaml")) or did_you_mean(path.stem, shipped_configs())
        raise ConfigError(f"{named}{path}: there is no such file{near}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{named}{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply to be read") from error
    except (ValueError, AttributeError, LookupError, ArithmeticError) as error:  # what is no date or number after all
        raise ConfigError(f"{path}: holds a value that cannot be read: {error}; a text goes in quotes") from error
    _check_extent(content, path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: holds {in_words(str(type(content)))}, and a config is a mapping of groups: model, data, ..."
        )
    return content


def near_path(path: Path, there: Iterable[Path]) -> str:
    """`, did you mean PATH?`, by the stems: a folder and a suffix that they share would make all of them alike."""
    stems = {found.stem: found for found in sorted(there)}
    near = difflib.get_close_matches(path.stem, stems, n=1)
    return f", did you mean {stems[near[0]]}?" if near else ""


class _UniqueKeys(yaml.SafeLoader):
    """YAML without Python objects, in which a key is unique, as the specification demands: the last one would win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As SafeLoader; raises ConstructorError for a key that is given twice."""
        seen = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _check_extent(content: Any, path: Path) -> None:
    """Refuse what aliases blow up: a value inside itself, or inside so many others that reading them never ends."""
    waiting, n_values = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        n_values += 1
        if depth > _MAX_DEPTH:
            raise ConfigError(f"{path}: is nested deeper than {_MAX_DEPTH} levels, or holds itself")
        if n_values > _MAX_VALUES:
            raise ConfigError(f"{path}: holds more than {_MAX_VALUES:,} values")
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | set | tuple) else ()
        waiting += [(each, depth + 1) for each in inner]


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, with representers for all that a config may hold."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Write a text with unusual line breaks between double quotes, where they are escaped and read back unchanged."""
    style = '"' if _LINE_BREAKS & set(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
# Lightning has enums among its defaults (Timer's interval), which PyYAML cannot write by itself.
_Dumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


def dump(values: dict[str, Any]) -> str:
    """Write `values` as YAML that reads back the same, without the defaults that YAML cannot hold."""
    return yaml.dump(
        _without_objects(values), Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False
    )


def _without_objects(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_objects(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_objects(each)
        for key, each in value.items()
        if not (isinstance(each, str) and each.startswith(NOT_SERIALIZABLE))
    }


@functools.cache
def register_with_jsonargparse(mode: str) -> None:
    """Make jsonargparse write YAML by `dump`, and read what that writes, in parser mode `mode`.

    libyaml does not take the escape `"\\udcff"` of a path with a byte that is not UTF-8: it is read as a character for
    private use and turned back.
    """
    from jsonargparse import ArgumentParser, get_loader, set_dumper, set_loader

    # jsonargparse 4.53 registers the reader of this mode at its first use, but asks for it before: for text in the
    # defaults.
    ArgumentParser(parser_mode=mode).parse_string("{}")
    load = get_loader(mode)

    def read(text: str) -> Any:
        if not _SURROGATE_ESCAPE.search(text):
            return load(text)
        private = _SURROGATE_ESCAPE.sub(lambda found: chr(int(found[1], 16) + _PRIVATE_PLANE), text)
        return _with_surrogates(load(private))

    set_loader(mode, read, exceptions=(yaml.YAMLError,), json_superset=True)
    set_dumper("yaml", dump)


def _with_surrogates(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_surrogates(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_surrogates(each) for each in value]
    return value.translate(_SURROGATES) if isinstance(value, str) else value
