"""Finds which file of a crate needs which other file of it, and the cycles among them.

A file needs another one if it uses a name that the other one defines. A re-export counts for nothing by itself: a name
that comes through `pub use` of a parent module leads to the file that defines it. So `mod.rs` may re-export from its
children, and children may use each other by `super::sibling`; but a child that uses what `mod.rs` defines, while the
items of `mod.rs` use the child, is a cycle.
"""

from rust_source import IS_NAME, read_crate


def references_of(root):
    """For each file of the crate with this root: the files that it needs, each with the names that it uses there."""
    crate = read_crate(root)
    references = {module.file: {} for module in crate.all()}
    macros = {name: module for module in crate.all() for name, kind in module.definitions.items() if kind == "macro"}
    for module in crate.all():
        for target, name in used_definitions(module, macros):
            if target.file != module.file:
                references[module.file].setdefault(target.file, set()).add(name)
    return references


def used_definitions(module, macros):
    """Pairs of a module and the name of an item that it defines and that the code of `module` uses."""
    mentioned = set(module.code)
    for imported in module.imports:
        if imported.alias == "*":
            continue
        found = resolve(module, imported.segments)
        if not isinstance(found, tuple):
            continue
        # A trait is used by its methods, without its name.
        is_used_unnamed = not imported.is_re_export and (imported.alias == "_" or is_trait(found))
        if imported.alias in mentioned or is_used_unnamed:
            yield found
    for path in paths_in(module.code):
        found = resolve(module, path)
        if isinstance(found, tuple):
            yield found
    known = module.definitions.keys() | module.children.keys() | {imported.alias for imported in module.imports}
    for glob in (imported for imported in module.imports if imported.alias == "*"):
        source = resolve(module, glob.segments)
        for name in mentioned - known if isinstance(source, type(module)) else ():
            found = find(source, name)
            if isinstance(found, tuple):
                yield found
    for name, following in zip(module.code, module.code[1:]):
        if following == "!" and name in macros and name not in known:
            yield macros[name], name


def is_trait(definition):
    module, name = definition
    return module.definitions.get(name) == "trait"


def paths_in(code):
    """The paths of two or more names in code, such as `super::store::Store`."""
    at = 0
    while at < len(code):
        if not IS_NAME.match(code[at]) or (at > 0 and code[at - 1] in ("::", ".")):
            at += 1
            continue
        path = [code[at]]
        while at + 2 < len(code) and code[at + 1] == "::" and IS_NAME.match(code[at + 2]):
            at += 2
            path.append(code[at])
        at += 1
        if len(path) > 1:
            yield path


def resolve(module, segments, seen=frozenset()):
    """Follows a path: to a module, to a pair of module and name of an item, or to None outside of the crate."""
    first, *rest = segments
    if first == "crate":
        at = module
        while at.parent:
            at = at.parent
    elif first == "self":
        at = module
    elif first == "super":
        at = module.parent
    else:
        at = find(module, first, seen)
    for segment in rest:
        if at is None or isinstance(at, tuple):
            return at
        # What a module neither defines nor imports was made by a macro of it.
        at = at.parent if segment == "super" else find(at, segment, seen) or unless_external(at, segment)
    return at


def unless_external(module, name):
    """The item of this name, unless the module has it from another crate."""
    return None if any(imported.alias == name for imported in module.imports) else (module, name)


def find(module, name, seen=frozenset()):
    """What a name means in a module: as `resolve`."""
    if (module, name) in seen or module is None:
        return None
    seen = seen | {(module, name)}
    if name in module.children:
        return module.children[name]
    if name in module.definitions:
        return module, name
    for imported in module.imports:
        if imported.alias == name and (found := resolve(module, imported.segments, seen)):
            return found
    for imported in module.imports:
        if imported.alias == "*":
            source = resolve(module, imported.segments, seen)
            if source is not None and not isinstance(source, tuple) and (found := find(source, name, seen)):
                return found
    return None


def cycles(references):
    """The groups of files of which each needs each other one, directly or by others; largest first (Tarjan)."""
    order, low, stack, groups = {}, {}, [], []

    def visit(node):
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in references[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(group) > 1:
                groups.append(group)

    for node in references:
        if node not in order:
            visit(node)
    return sorted(groups, key=len, reverse=True)
