"""memlm completion SHELL: a script that lets a shell complete memlm's commands, presets, options and their values.

The script asks `memlm completion -- WORD... CURRENT`, which reads what may follow out of the help of what was written
so far: a command that is added is completed without being named here.
"""

import re
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Annotated, Literal

import tyro

from memlm.cli.parsing import parse

SCRIPTS = {
    "bash": """\
_memlm() {
    local IFS=$'\\n'
    COMPREPLY=($(memlm completion -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _memlm memlm""",
    "zsh": """\
#compdef memlm
_memlm() {
    local -a found
    found=(${(f)"$(memlm completion -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then compadd -- $found; else _files; fi
}
compdef _memlm memlm""",
    "fish": "complete -c memlm -a '(memlm completion -- (commandline -opc)[2..] (commandline -ct))'",
}


@dataclass(frozen=True, kw_only=True)
class Call:
    """Print a script that completes memlm's commands, options and values.

    For bash and zsh: eval "$(memlm completion bash)", in .bashrc or .zshrc; for fish: memlm completion fish | source.
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]


def main(argv: list[str]) -> None:
    """Run the command."""
    if argv[:1] == ["--"]:
        *before, current = argv[1:] or [""]
        print("\n".join(word for word in candidates(before, current) if word.startswith(current)))
    else:
        print(SCRIPTS[parse(Call, argv, "memlm completion").shell])


def candidates(before: list[str], current: str) -> list[str]:
    """What may follow the words after `memlm`; nothing where a file may, which the shell completes by itself."""
    said = _help(before)
    values = dict(re.findall(r"(--[\w.-]+)(?:, --[\w.-]+)?(?: (\{[^ ]*|\[?[A-Z][^ ]*))?", said))
    if before and values.get(before[-1]):
        words = re.findall(r"[^{},|]+", values[before[-1]])
        return [word for word in words if word.islower()]  # None, PATH, INT, ... are nothing to complete
    if current.startswith("-"):
        return sorted({*re.findall(r"(?<!\S)--[a-z][\w.-]+", said), "--help"})
    if len(before) > 1:
        return []
    choices = re.search(r"^usage: .* \{([a-z,]+)\}", said)
    return choices[1].split(",") if choices else re.findall(r"^  ([a-z][\w-]*) ", said, re.MULTILINE)


def _help(words: list[str]) -> str:
    """The help of a command, or of its preset, action or benchmark, if one is among its words."""
    from memlm.cli import main as memlm

    for count in (2, 1) if words else (0,):
        told = StringIO()
        if any(word.startswith("-") for word in words[:count]):
            continue
        try:
            with redirect_stdout(told), redirect_stderr(StringIO()):
                code = memlm([*words[:count], "--help"])
        except SystemExit as end:  # tyro's way to end
            code = end.code
        if not code:
            return told.getvalue()
    return ""
