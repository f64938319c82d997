"""Reading a scenario file: YAML in, a Scenario out; each error names file, line and key, or the flag that set the value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.composer import ComposerError

from simulator.model.errors import ScenarioError
from simulator.model.scenario.scenario import Scenario


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a date is a text, as any version is, and no key stands twice in a block."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if str(key.value) in keys:
                raise ComposerError(None, None, f"{key.value} stands twice in one block", key.start_mark)
            keys.add(str(key.value))
        return node


def load_scenario(
    path: Path, overrides: dict[str, Any] | None = None, flags: Mapping[str, str] | None = None
) -> Scenario:
    """Read a scenario file; `overrides` are dotted keys laid over it, each by the flag that `flags` tells of
    it. Raises ScenarioError naming file, line and key, or the flag."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from None
    return parse_scenario(text, str(path), overrides, default_name=path.stem, flags=flags)


def located(path: Path, error: ScenarioError, flags: Mapping[str, str]) -> ScenarioError:
    """What a scenario's file alone did not tell, with the file and the line of the key that the error begins with; or with
    the flag that was laid over that key, by `flags`: key -> flag."""
    key = re.match(r"([a-zA-Z_]\w*(?:\.\w+)*): ", str(error))
    if key is None:
        return error
    if key[1] in flags:
        return ScenarioError(f"{flags[key[1]]}{str(error).removeprefix(key[1])}")
    line = _line(yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader), key[1].split("."))
    return ScenarioError(f"{path}:{line}: {error}" if line else f"{path}: {error}")


def parse_scenario(
    text: str,
    where: str = "scenario",
    overrides: dict[str, Any] | None = None,
    default_name: str = "unnamed",
    flags: Mapping[str, str] | None = None,
) -> Scenario:
    """The same, from text."""
    try:
        data = yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ScenarioError(f"{where}: its blocks are nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ScenarioError(f"{where}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ScenarioError(f"{where}: a scenario is a mapping of blocks, such as 'fleet:' and 'rollout:'")
    data.setdefault("name", default_name)
    for key, value in (overrides or {}).items():
        _lay(data, key.split("."), value)
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        node = yaml.compose(text, Loader=_Loader)
        given = {key: flag for key, flag in (flags or {}).items() if key in (overrides or {})}
        raise ScenarioError("\n".join(_explain(e, node, where, given) for e in error.errors())) from None


def _lay(data: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for key in parents:
        below = data.get(key)
        data[key] = data = below if isinstance(below, dict) else {}
    data[last] = value


def _explain(error: Any, node: Any, where: str, flags: Mapping[str, str]) -> str:
    path = [str(p) for p in error["loc"] if p != "[key]" and not str(p).startswith("function-")]
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and (key := re.match(r"([a-zA-Z_]\w*(?:\.\w+)*): ", text)):
        path += key[1].split(".")  # a block's own rule names the key below it
        text = text[key.end() :]
    elif error["type"] == "extra_forbidden" or "[key]" in error["loc"]:
        near = difflib.get_close_matches(path[-1], _keys_of(path[:-1]), 1)
        text = "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    elif error["type"] == "string_type" and isinstance(error["input"], int | float):
        text += "; put it in quotes"
    elif error["type"] in ("tuple_type", "list_type"):
        text = "write a list, each entry on a line of its own behind a dash"
    elif error["type"] in ("model_type", "dict_type"):
        keys = _keys_of(path)
        text = "write a block of keys" + (f", such as {', '.join(keys[:4])}" if keys else " and values")
    if flag := flags.get(".".join(path)):
        return f"{flag}: {text}"
    line = _line(node, path)
    return f"{where}:{line}: {'.'.join(path)}: {text}" if line else f"{where}: {'.'.join(path) or 'scenario'}: {text}"


def _line(node: Any, path: list[str]) -> int | None:
    """The line of the deepest node on the path that stands in the file."""
    line = None
    for key in path:
        if isinstance(node, yaml.MappingNode):
            entry = next(((k, v) for k, v in node.value if k.value == key), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _keys_of(path: list[str]) -> list[str]:
    """The keys that the block at this path may hold."""
    schema: Any = Scenario.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    for key in path:
        schema = _resolved(schema, definitions)
        schema = (
            schema.get("items", {})
            if key.isdigit()
            else schema.get("properties", {}).get(key) or schema.get("additionalProperties", {})
        )
    block = _resolved(schema, definitions)
    return list(block.get("properties", {})) or block.get("propertyNames", {}).get("enum", [])


def _resolved(schema: Any, definitions: Any) -> Any:
    for option in [schema, *schema.get("anyOf", []), *schema.get("allOf", [])]:
        if "$ref" in option:
            return definitions[option["$ref"].rpartition("/")[2]]
    return schema
