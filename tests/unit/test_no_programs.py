"""
Nothing in the package starts a program, runs text as code, or reaches past Python.

`tests/e2e/test_least_privilege.py` watches the same of a running daemon, libraries included.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import dockerjail

PACKAGE = Path(dockerjail.__file__).parent

MODULES = {
    *("subprocess", "pty", "multiprocessing", "ctypes", "cffi", "commands", "popen2", "pexpect"),
    *("pickle", "marshal", "shelve", "code", "codeop", "runpy", "imp", "importlib.machinery"),
}
"""Modules that start programs, call the C library, or make code of data."""

NAMES = {
    *("system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "startfile"),
    *("execl", "execle", "execlp", "execlpe", "execv", "execve", "execvp", "execvpe"),
    *("spawnl", "spawnle", "spawnlp", "spawnlpe", "spawnv", "spawnve", "spawnvp", "spawnvpe"),
    *("create_subprocess_exec", "create_subprocess_shell", "subprocess_exec", "subprocess_shell"),
    *("ProcessPoolExecutor", "__import__"),
}
"""What is asked of `os`, `asyncio`, a loop or an executor to the same end."""

BUILTINS = {"eval", "exec", "compile", "__import__"}

MAY = {"service/heap.py": ["ctypes"]}
"""What has to be all the same, by file; what it may do is below."""


def offences(source: str) -> Iterator[str]:
    """Yield the lines that do what nothing here may."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = {each.name for each in names} & MODULES
            case ast.ImportFrom(module=module, names=names):
                found = {str(module)} & MODULES
                found |= {f"{module}.{each.name}" for each in names} & MODULES
                found |= {each.name for each in names} & NAMES
            case ast.Attribute(attr=name):
                found = {name} & NAMES
            case ast.Call(func=ast.Name(id="import_module"), args=[ast.Constant(value=str(name))]):
                found = {name} & MODULES
            case ast.Call(func=ast.Name(id="import_module" as name)):
                found = {name}
            case ast.Call(func=ast.Name(id=name)):
                found = {name} & BUILTINS
            case _:
                continue
        for name in found:
            yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess",
        "from subprocess import run",
        "import os\nos.system('ls')",
        "from os import execvp",
        "import asyncio\nasyncio.create_subprocess_exec('ls')",
        "loop.subprocess_shell(p, 'ls')",
        "import ctypes",
        "from multiprocessing import Process",
        "from concurrent.futures import ProcessPoolExecutor",
        "eval('1')",
        "import_module('subprocess')",
        "import_module(whatever)",
    ],
)
def test_what_starts_a_program_is_seen(source: str) -> None:
    assert list(offences(source))


def test_nothing_in_the_package_starts_a_program_or_makes_code_of_data() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 50
    found = {
        str(file.relative_to(PACKAGE)): list(offences(file.read_text(encoding="utf-8")))
        for file in files
    }
    seen = {file: [line.split()[-1] for line in lines] for file, lines in found.items() if lines}
    assert seen == MAY, found


def test_the_c_library_is_only_asked_to_give_memory_back() -> None:
    tree = ast.parse((PACKAGE / "service/heap.py").read_text(encoding="utf-8"))
    asked = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and "ctypes" in ast.unparse(node)
    ]
    assert asked == ["getattr(ctypes.CDLL(None), 'malloc_trim', None)", "ctypes.CDLL(None)"]
