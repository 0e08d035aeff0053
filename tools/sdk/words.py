# SPDX-License-Identifier: Apache-2.0
"""What the sources say in words: NatSpec, and comments above or behind a line."""

from __future__ import annotations

import re
import textwrap

from vyper.ast import nodes as vy_ast
from vyper.compiler.phases import CompilerData
from vyper.semantics.types import function as functions

WIDTH = 100

# Some sources begin what they say of a returned value with its type.
_TYPE = re.compile(r"^(?:bool|address|string|u?int\d+|bytes\d*) (?=[A-Z])")


class Words:
    """What the sources say of functions, variables, events and fields."""

    def __init__(self, data: CompilerData) -> None:
        module = data.annotated_vyper_module
        inputs = data.resolved_imports.compiler_inputs.values()
        self._modules = [module, *(each for each in inputs if isinstance(each, vy_ast.Module))]
        self._variables = {
            node.target.id: node
            for each in reversed(self._modules)
            for node in each.get_children(vy_ast.VariableDecl)
            if node.is_public
        }
        self.structs = {
            node.name: node
            for each in self._modules
            for node in each.get_children(vy_ast.StructDef)
        }
        self.title = _tags(module.doc_string.value)

    def of_function(self, function: functions.ContractFunctionT) -> dict[str, str]:
        """Tags of a function's NatSpec: `notice`, `dev`, `return`, and `param NAME`."""
        node = function.decl_node
        if node.get("doc_string.value"):
            return _tags(node.doc_string.value)
        if function.name in self._variables:
            return {"notice": comment_of(self._variables[function.name])}
        return {}


def comment_of(node: vy_ast.VyperNode) -> str:
    """The comment behind a node, or else the one right above it."""
    lines = node.module_node.full_source_code.splitlines()
    behind = str(lines[node.lineno - 1].partition("  # ")[2])
    if behind:
        return behind.strip()
    above: list[str] = []
    for line in reversed(lines[: node.lineno - 1]):
        if not line.startswith("# "):
            break
        above.insert(0, line.removeprefix("# ").strip())
    return " ".join(above).removeprefix("@dev ")


def _tags(docstring: str) -> dict[str, str]:
    found: dict[str, str] = {}
    pattern = r"(?:^|\n)\s*@(\S+)\s*([\s\S]*?)(?=\n\s*@\S|\s*$)"
    for tag, text in re.findall(pattern, docstring):
        words = " ".join(text.split())
        if tag == "return":
            words = _TYPE.sub("", words)
        if tag == "param":
            name, _, words = words.partition(" ")
            found[f"param {name}"] = words
        else:
            found.setdefault(tag, words)
    return found


def docstring(text: str, indent: str) -> list[str]:
    """The lines of a docstring: a first paragraph, wrapped."""
    text = text.replace("\\", "").replace('"""', "'''").strip()
    text = text[:1].upper() + text[1:]
    if not text.endswith((".", "!", "?")):
        text += "."
    if len(indent) + len(text) + 6 <= WIDTH:
        return [f'{indent}"""{text}"""']
    lines = textwrap.wrap(text, WIDTH - len(indent), initial_indent='"""', break_long_words=False)
    return [indent + line for line in lines] + [indent + '"""']


def comments_in(node: vy_ast.VyperNode) -> dict[str, str]:
    """The comments behind the fields of a struct or an event, by name."""
    fields = node.get_children(vy_ast.AnnAssign)
    return {each.target.id: comment_behind(each) for each in fields}


def comment_behind(node: vy_ast.VyperNode) -> str:
    """The comment behind a field."""
    line = node.module_node.full_source_code.splitlines()[node.lineno - 1]
    return str(line.partition("  # ")[2].strip())


def wrapped(text: str, first: int, rest: int) -> list[str]:
    """The lines of a paragraph, the first and the rest indented by that number of spaces."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * first,
        subsequent_indent=" " * rest,
        break_long_words=False,
    )
