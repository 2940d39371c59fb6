"""C programs compiled for this machine, and kept.

A program is compiled once for a source, a compiler and a processor, into a folder of the user's that nobody else can
write to (``$XDG_CACHE_HOME/hardgrad/kernels``, else ``~/.cache/hardgrad/kernels``; a folder of this process's own where
that cannot be had). It is written beside and then renamed, so that of two processes that compile it at once each finds
a whole file.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

_FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno", "-w")
_SECONDS = 300


class CannotCompile(Exception):
    """Why there is no library, as a sentence."""


@lru_cache(maxsize=1)
def compiler() -> tuple[str, ...]:
    """The command of the C compiler: ``$CC``, cc, gcc or clang.

    Raises:
        CannotCompile: there is none.
    """
    if sys.platform not in ("linux", "darwin"):
        raise CannotCompile(f"kernels are for Linux and macOS, not {sys.platform}.")
    for command in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return tuple(words)
    raise CannotCompile("no C compiler was found (CC, cc, gcc, clang).")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotCompile(f"{command[0]} did not run: {error}.") from None


@lru_cache(maxsize=1)
def _target() -> tuple[tuple[str, ...], str]:
    """Flags for this processor, and what tells this compiler and this processor from others."""
    command = list(compiler())
    version = _run([*command, "--version"])
    if version.returncode:
        raise CannotCompile(f"{command[0]} --version failed: {_tail(version.stderr)}")
    # What "native" stands for is in the compiler's own command line: a folder of the user's may be seen from others.
    native = _run([*command, "-march=native", "-E", "-v", "-x", "c", os.devnull])
    if native.returncode:
        return (), version.stdout
    words = sorted({word for word in native.stderr.split() if word.startswith(("-m", "+", "-target", "--param"))})
    return ("-march=native",), " ".join([version.stdout, *words])


def _tail(text: str) -> str:
    return " ".join(text.split())[-300:] or "without a message."


def _private(folder: Path) -> bool:
    """Whether a folder is there and only this user can write to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
    except OSError:
        return False
    return (
        found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and os.access(folder, os.W_OK)
    )


@lru_cache(maxsize=1)
def _folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        kept = (Path(home) if home else Path.home() / ".cache") / "hardgrad" / "kernels"
    except RuntimeError:  # no home
        return _own_folder()
    return kept if _private(kept) else _own_folder()


_OWN: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


def _own_folder() -> Path:
    _OWN.append(tempfile.TemporaryDirectory(prefix="hardgrad-"))
    return Path(_OWN[-1].name)


def load_library(source: str, include: str) -> tuple[str, ctypes.CDLL]:
    """Compile a program if that has not been done, and load it.

    Args:
        source: the C program.
        include: a folder of headers.

    Returns:
        The name it is kept under, a digest of all it depends on, and the library.

    Raises:
        CannotCompile: no compiler, an error of its, or nowhere to put the library.
    """
    flags, machine = _target()
    headers = sorted(Path(include).rglob("c_api.h"))
    parts = [source, *compiler(), *_FLAGS, *flags, machine, *(path.read_text(encoding="utf-8") for path in headers)]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    library = _folder() / f"{name}.so"
    try:
        if not library.is_file():
            _compile(source, flags, include, library)
        return name, ctypes.CDLL(str(library))
    except OSError as error:
        raise CannotCompile(f"{library} cannot be made or loaded: {error}.") from None


def _compile(source: str, flags: tuple[str, ...], include: str, library: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="making-", dir=library.parent) as folder:
        program, made = Path(folder) / "kernel.c", Path(folder) / "kernel.so"
        program.write_text(source, encoding="utf-8")
        found = _run([*compiler(), *_FLAGS, *flags, "-I", include, str(program), "-o", str(made), "-lm"])
        if found.returncode or not made.is_file():
            raise CannotCompile(f"{compiler()[0]} failed: {_tail(found.stderr)}")
        os.replace(made, library)
