"""Reads Rust source files far enough to see which module uses which name.

`read_crate` turns the files of a crate into a tree of `Module`s. Each module knows the names that it defines, what it
imports, and the identifiers and paths in its code. Code under `#[cfg(test)]`, comments and string literals are left
out; paths in the string literals of attributes (`#[serde(with = "crate::x")]`) are kept.

This is no compiler. It does not expand macros, and it does not see which module a method call leads to: a module that
calls a method needs no path to the module that defines it.
"""

import re
from pathlib import Path

TOKEN = re.compile(
    r"""
      (?P<line_comment>//[^\n]*)
    | (?P<block_comment>/\*)
    | (?P<string>[bc]?"(?:\\.|[^"\\])*")
    | (?P<char>b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F_]+\}|.)|[^\\'\n])')
    | (?P<lifetime>'[A-Za-z_]\w*)
    | (?P<name>(?:r\#)?[A-Za-z_]\w*)
    | (?P<number>\d\w*)
    | (?P<path>::)
    | (?P<other>\S)
    """,
    re.VERBOSE | re.DOTALL,
)
RAW_STRING = re.compile(r'(?:br|cr|r)(#*)"')
OPEN, CLOSE = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}
IS_NAME = re.compile(r"[A-Za-z_]\w*\Z")
IS_PATH = re.compile(r"[A-Za-z_]\w*(?:::[A-Za-z_]\w*)+\Z")
# Items by their keyword; the name follows.
ITEMS = {"fn", "struct", "enum", "union", "trait", "type", "const", "static"}
# Words before the keyword of an item.
QUALIFIERS = {"default", "async", "unsafe", "extern", "safe"}


def tokens_of(text):
    """The tokens of a source text; string literals stay as one token that begins with a quote."""
    tokens, at = [], 0
    while at < len(text):
        if raw := RAW_STRING.match(text, at):
            end = text.index('"' + raw[1], raw.end())
            tokens.append('"' + text[raw.end() : end])
            at = end + 1 + len(raw[1])
            continue
        match = TOKEN.match(text, at)
        if match is None:
            at += 1
        elif match.lastgroup == "line_comment":
            at = match.end()
        elif match.lastgroup == "block_comment":
            at = end_of_comment(text, at)
        else:
            if match.lastgroup == "string":
                tokens.append('"' + match[0].strip("bc")[1:-1])
            elif match.lastgroup in ("name", "path", "other"):
                tokens.append(match[0].removeprefix("r#"))
            at = match.end()
    return tokens


def end_of_comment(text, at):
    """The end of a block comment; they nest."""
    depth = 0
    for match in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    return len(text)


def end_of_group(tokens, at):
    """The index after the group that opens at `at`."""
    depth = 0
    for index in range(at, len(tokens)):
        if tokens[index] in OPEN:
            depth += 1
        elif tokens[index] in CLOSE:
            depth -= 1
            if depth == 0:
                return index + 1
    return len(tokens)


def is_attribute(tokens, at):
    return tokens[at] == "#" and at + 1 < len(tokens) and tokens[at + 1] == "["


def is_test_only(attribute):
    """Whether code under this attribute is compiled for tests alone."""
    text = "".join(attribute)
    return text == "#[cfg(test)]" or (text.startswith("#[cfg(all(") and re.search(r"\W(?<!not\()test\W", text) is not None)


def without_tests(tokens):
    """Drops each item, statement, field and variant under `#[cfg(test)]`."""
    kept, at = [], 0
    while at < len(tokens):
        if is_attribute(tokens, at):
            end = end_of_group(tokens, at + 1)
            if is_test_only(tokens[at:end]):
                at = end_of_annotated(tokens, end)
                continue
            kept.extend(tokens[at:end])
            at = end
        else:
            kept.append(tokens[at])
            at += 1
    return kept


def end_of_annotated(tokens, at):
    """The index after what the attributes before `at` belong to."""
    while at < len(tokens) and is_attribute(tokens, at):
        at = end_of_group(tokens, at + 1)
    at = after_visibility(tokens, at)
    first = tokens[at] if at < len(tokens) else ""
    ends_with_semicolon = first in ("use", "let", "static", "type") or (first == "const" and tokens[at + 1] != "fn")
    is_item = first in ITEMS | QUALIFIERS | {"impl", "mod", "macro_rules"}
    while at < len(tokens):
        token = tokens[at]
        if token in OPEN:
            at = end_of_group(tokens, at)
            if token == "{" and not ends_with_semicolon:
                return at
        elif token in CLOSE:
            return at
        elif token == ";" or (token == "," and not is_item and not ends_with_semicolon):
            return at + 1
        else:
            at += 1
    return at


def after_visibility(tokens, at):
    if at < len(tokens) and tokens[at] == "pub":
        at += 1
        if at < len(tokens) and tokens[at] == "(" and tokens[at + 1] in ("crate", "super", "self", "in"):
            at = end_of_group(tokens, at)
    return at


class Import:
    """One name of a `use`: `segments` is its path, `alias` the name here (`*` for all names, `_` for none)."""

    def __init__(self, segments, alias):
        self.segments, self.alias, self.is_re_export = segments, alias, False


class Module:
    def __init__(self, name, parent, file):
        self.name, self.parent, self.file = name, parent, file
        self.children, self.definitions, self.imports, self.code = {}, {}, [], []

    def all(self):
        yield self
        for child in self.children.values():
            yield from child.all()


def read_crate(root):
    """The root module of the crate whose `lib.rs` or `main.rs` is `root`."""
    module = Module("crate", None, root)
    read_items(module, without_tests(tokens_of(root.read_text())), root.parent, is_folder=True)
    return module


def read_items(module, tokens, folder, is_folder):
    """Reads the items of a module. Files of its children are in `folder`, or in the folder of its own name."""
    inner = folder if is_folder else folder / module.name
    at, attributes = 0, []
    while at < len(tokens):
        if is_attribute(tokens, at) or (tokens[at] == "#" and tokens[at + 1 : at + 3] == ["!", "["]):
            end = end_of_group(tokens, tokens.index("[", at))
            attributes.append(tokens[at:end])
            module.code.extend(code_of_attribute(tokens[at:end]))
            at = end
            continue
        start = after_visibility(tokens, at)
        known = len(module.imports)
        end = read_item(module, tokens, start, attributes, (folder, inner))
        for imported in module.imports[known:] if tokens[start : start + 1] == ["use"] else ():
            imported.is_re_export = start > at
        at, attributes = end, []


def read_item(module, tokens, at, attributes, folders):
    if at >= len(tokens):
        return at
    if tokens[at] == "use":
        end = tokens.index(";", at)
        module.imports.extend(imports_of(tokens[at + 1 : end]))
        return end + 1
    if tokens[at] == "mod" and at + 2 < len(tokens):
        return read_module(module, tokens, at, attributes, folders)
    if tokens[at : at + 2] == ["macro_rules", "!"]:
        module.definitions[tokens[at + 2]] = "macro"
        end = end_of_group(tokens, at + 3)
        add_code(module, tokens[at + 3 : end])
        return end
    keyword = at
    while keyword < len(tokens) and (tokens[keyword] in QUALIFIERS or tokens[keyword].startswith('"')):
        keyword += 1
    if tokens[keyword : keyword + 2] == ["const", "fn"] or tokens[keyword : keyword + 2] == ["const", "unsafe"]:
        keyword = tokens.index("fn", keyword)
    if keyword + 1 < len(tokens) and tokens[keyword] in ITEMS:
        module.definitions[tokens[keyword + 1]] = tokens[keyword]
    end = end_of_item(tokens, at)
    add_code(module, tokens[at:end])
    return end


def end_of_item(tokens, at):
    is_value = tokens[at] in ("static", "type") or (tokens[at] == "const" and tokens[at + 1] not in ("fn", "unsafe"))
    while at < len(tokens):
        if tokens[at] in OPEN:
            is_body = tokens[at] == "{" and not is_value
            at = end_of_group(tokens, at)
            if is_body:
                return at
        elif tokens[at] == ";":
            return at + 1
        else:
            at += 1
    return at


def read_module(module, tokens, at, attributes, folders):
    name = tokens[at + 1]
    folder, inner = folders
    if tokens[at + 2] == "{":
        end = end_of_group(tokens, at + 2)
        child = Module(name, module, module.file)
        read_items(child, tokens[at + 3 : end - 1], inner / name, is_folder=True)
    else:
        end = at + 3
        paths = [a[-2][1:] for a in attributes if a[2:4] == ["path", "="]]
        if paths:
            file, is_folder = module.file.parent / paths[0], True
        else:
            flat, nested = inner / f"{name}.rs", inner / name / "mod.rs"
            file, is_folder = (flat, False) if flat.exists() else (nested, True)
        child = Module(name, module, file)
        read_items(child, without_tests(tokens_of(file.read_text())), file.parent, is_folder)
    module.children[name] = child
    return end


def code_of_attribute(tokens):
    """The names in an attribute, and the paths that its string literals hold."""
    for token in tokens:
        if not token.startswith('"'):
            yield token
        elif IS_PATH.match(token[1:]):
            yield from re.split("(::)", token[1:])


def add_code(module, tokens):
    """Adds the tokens of an item; a `use` inside of it counts as one of the module."""
    at = 0
    while at < len(tokens):
        if tokens[at] == "use" and at + 1 < len(tokens) and tokens[at + 1] != "<":
            end = tokens.index(";", at)
            module.imports.extend(imports_of(tokens[at + 1 : end]))
            at = end + 1
        elif is_attribute(tokens, at):
            end = end_of_group(tokens, at + 1)
            module.code.extend(code_of_attribute(tokens[at:end]))
            at = end
        else:
            if not tokens[at].startswith('"'):
                module.code.append(tokens[at])
            at += 1


def imports_of(tokens):
    """The names that a use tree brings."""
    found, _ = use_tree(tokens, 0, [])
    return found


def use_tree(tokens, at, prefix):
    segments, found = list(prefix), []
    while at < len(tokens):
        token = tokens[at]
        if token == "::":
            if not segments:
                segments.append("::")
            at += 1
        elif token == "{":
            at += 1
            while tokens[at] != "}":
                inner, at = use_tree(tokens, at, segments)
                found.extend(inner)
                if tokens[at] == ",":
                    at += 1
            return found, at + 1
        elif token == "*":
            return [Import(segments, "*")], at + 1
        elif token == "as":
            return [Import(segments, tokens[at + 1])], at + 2
        elif IS_NAME.match(token):
            if token == "self" and segments:
                at += 1
                continue
            segments.append(token)
            at += 1
        else:
            break
    return ([Import(segments, segments[-1])] if len(segments) > len(prefix) or segments else []), at
