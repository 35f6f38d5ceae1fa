"""Reads which modules of a crate the files of a source folder import.

Only paths are read: `use` declarations and paths in code. A method call on a value of another
module's type imports nothing.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

SKIPPED = re.compile(
    r"""(?P<comment>//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)
      | b?r(?P<hashes>\#*)"(?:.|\n)*?"(?P=hashes)   # raw strings
      | b?"(?:\\(?:.|\n)|[^"\\])*"
      | b?'(?:\\[^']*'|[^'\\\n]')                   # character literals; not lifetimes""",
    re.VERBOSE,
)
TOKEN = re.compile(r"r\#[A-Za-z_]\w*|[A-Za-z_]\w*|::|[^\s\w]")
NAME = re.compile(r"[A-Za-z_]\w*$")
ITEM = r"\b(?:struct|enum|union|trait|fn|type|const|static|mod)\s+"


@dataclass
class Import:
    """One path in a file. `path` is absolute in the crate: ("db", "uploads", "find")."""

    line: int
    path: tuple
    anchored: bool  # written with `crate::`, `super::` or `self::`
    test: bool  # under `#[cfg(test)]`


@dataclass
class Source:
    """One file, the path of its module, and the names that it uses."""

    file: Path
    module: tuple
    code: str = ""
    children: set = field(default_factory=set)
    aliases: dict = field(default_factory=dict)  # name in this file -> absolute path
    reexports: dict = field(default_factory=dict)  # name of a `pub use` -> Import
    globs: list = field(default_factory=list)  # absolute paths of `pub use path::*`
    imports: list = field(default_factory=list)
    used: set = field(default_factory=set)  # names in code outside `use` and tests

    def defines(self, name):
        return re.search(ITEM + re.escape(name) + r"\b", self.code) is not None


def without_text(code):
    """The code with comments and literals blanked. Line numbers do not change."""

    def blank(match):
        newlines = "\n" * match[0].count("\n")
        return newlines if match["comment"] else "S" + newlines

    return SKIPPED.sub(blank, code)


def module_path(relative):
    parts = list(relative.with_suffix("").parts)
    if parts[-1] in ("mod", "lib"):
        parts.pop()
    return tuple(parts)


class Reader:
    """Reads the paths of one file."""

    def __init__(self, source, crate):
        self.source, self.crate = source, crate
        self.tokens = [
            (m[0].removeprefix("r#"), number)
            for number, line in enumerate(source.code.splitlines(), 1)
            for m in TOKEN.finditer(line)
        ]

    def text(self, at):
        return self.tokens[at][0] if 0 <= at < len(self.tokens) else ""

    def read(self):
        self.source.children = set(re.findall(r"\bmod\s+(\w+)\s*[;{]", self.source.code))
        found = []
        scopes, test, at = [], False, 0  # scopes: (name of an inline module or None, test)
        while at < len(self.tokens):
            text, line = self.tokens[at]
            in_test = test or any(scope[1] for scope in scopes)
            here = self.source.module + tuple(name for name, _ in scopes if name)
            if [self.text(at + i) for i in range(6)] == ["#", "[", "cfg", "(", "test", ")"]:
                test, at = True, at + 6
            elif [self.text(at + i) for i in range(3)] == ["pub", "(", "in"]:
                # The path of a visibility is not an import.
                while self.text(at) != ")":
                    at += 1
                at += 1
            elif text == "use" and self.text(at + 1) != "<":
                public = self.text(at - 1) == "pub" or self.is_pub_in(at - 1)
                leaves = []
                at = self.tree(at + 1, (), leaves)
                for path, alias, leaf_line in leaves:
                    found.append((here, leaf_line, path, alias, public, in_test))
                test = False
            elif NAME.match(text) and self.text(at - 1) != "::" and self.text(at + 1) == "::":
                path, end = [text], at
                while self.text(end + 1) == "::" and NAME.match(self.text(end + 2)):
                    end += 2
                    path.append(self.text(end))
                if self.text(end + 1) == "::" and self.text(end + 2) == "{":
                    leaves = []
                    end = self.tree(end + 2, tuple(path), leaves) - 1
                    found += [(here, n, p, None, False, in_test) for p, _, n in leaves]
                else:
                    found.append((here, line, tuple(path), None, False, in_test))
                if not in_test:
                    self.source.used.update(path)
                at = end + 1
            else:
                if text == "{":
                    named = self.text(at - 2) == "mod" and self.text(at - 1)
                    scopes.append((named or None, test))
                    test = False
                elif text == "}" and scopes:
                    scopes.pop()
                elif text in (";", ","):
                    test = False
                elif not in_test:
                    self.source.used.add(text)
                at += 1
        self.resolve(found)

    def is_pub_in(self, at):
        """Whether `pub(...)` ends at this token."""
        if self.text(at) != ")":
            return False
        while at > 0 and self.text(at) != "(":
            at -= 1
        return self.text(at - 1) == "pub"

    def tree(self, at, prefix, leaves):
        """Adds (path, alias, line) for each leaf of a `use` tree; returns the index after it."""
        text, line = self.tokens[at] if at < len(self.tokens) else ("", 0)
        if text == "::":
            return self.tree(at + 1, ("::",), leaves)
        if text == "{":
            at += 1
            while at < len(self.tokens) and self.text(at) != "}":
                at = at + 1 if self.text(at) == "," else self.tree(at, prefix, leaves)
            return at + 1
        path = prefix if text == "self" and prefix else (*prefix, text)
        if self.text(at + 1) == "::":
            return self.tree(at + 2, path, leaves)
        if self.text(at + 1) == "as":
            leaves.append((path, self.text(at + 2), line))
            return at + 3
        leaves.append((path, path[-1] if path else None, line))
        return at + 1

    def resolve(self, found):
        source = self.source
        absolute = [self.absolute(here, path) for here, _, path, *_ in found]
        for (here, line, path, alias, public, test), target in zip(found, absolute):
            if target is None or alias is None:
                continue
            if public and here == source.module:
                if alias == "*":
                    source.globs.append(target[:-1])
                else:
                    source.reexports[alias] = Import(line, target, self.anchored(path), test)
            if alias != "*":
                source.aliases.setdefault(alias, target)
        for (here, line, path, alias, public, test), target in zip(found, absolute):
            if target is None and path[0] in source.aliases:
                target = source.aliases[path[0]] + path[1:]
            if target is None or (public and here == source.module):
                continue
            target = target[:-1] if target and target[-1] == "*" else target
            source.imports.append(Import(line, target, self.anchored(path), test))

    def anchored(self, path):
        return path[0] in ("crate", "super", "self", self.crate)

    def absolute(self, here, path):
        """The path from the crate's root, or None if it leads out of the crate."""
        head, remaining = path[0], path[1:]
        if head in ("crate", self.crate):
            return remaining
        if head in self.source.children and here == self.source.module:
            return here + path
        if head not in ("self", "super"):
            return None
        while head in ("self", "super"):
            if head == "super":
                here = here[:-1]
            if not remaining:
                return here
            head, remaining = remaining[0], remaining[1:]
        return (*here, head, *remaining)


class Crate:
    """All files under a source folder."""

    def __init__(self, root, name, skipped=()):
        self.sources = {}
        for file in sorted(root.rglob("*.rs")):
            relative = file.relative_to(root)
            if str(relative) in skipped or relative.parts[0] in skipped:
                continue
            source = Source(file, module_path(relative), without_text(file.read_text()))
            Reader(source, name).read()
            self.sources[source.module] = source
        # Includes folders without a mod.rs.
        self.modules = {m[:i] for m in self.sources for i in range(len(m) + 1)}

    def declared_in(self, path, hops=8):
        """The file that declares what a path names; re-exports are followed."""
        module = ()
        for i, name in enumerate(path):
            if (*module, name) in self.modules:
                module = (*module, name)
                continue
            source = self.sources.get(module)
            if source and hops:
                if name in source.reexports:
                    target = source.reexports[name].path + path[i + 1 :]
                    return self.declared_in(target, hops - 1)
                for glob in source.globs if not source.defines(name) else ():
                    at = self.sources.get(glob)
                    if at and (at.defines(name) or name in at.reexports):
                        return self.declared_in(glob + path[i:], hops - 1)
            break
        return self.sources.get(module)
