"""Completion: what may follow is read out of the help, and a shell asks for it."""

import shutil
import subprocess
import sys

import pytest

from memlm.cli import COMMANDS, main
from memlm.cli.bank import ACTIONS
from memlm.cli.completion import SCRIPTS, candidates
from memlm.presets import CURRICULA, PRESETS


def test_words_follow_words():
    assert candidates([], "") == [*COMMANDS]
    assert candidates(["train"], "") == [*PRESETS, *CURRICULA]
    assert candidates(["bank"], "") == [*ACTIONS]
    assert candidates(["completion"], "") == [*SCRIPTS]
    assert candidates(["encode", "model"], "") == []  # files, which the shell completes
    assert candidates(["no-such-command"], "") == []
    assert "--version" in candidates([], "-")


def test_options_follow_of_the_preset_and_the_action_that_are_named():
    assert {"--out", "--optim.lr", "--help"} <= {*candidates(["train", "slots"], "--")}
    assert "--stages.find.optim.lr" in candidates(["train", "memory", "--out", "x"], "--")
    assert "--keep-days" in candidates(["bank", "compact", "b"], "-")
    assert "--keep-days" not in candidates(["bank", "info", "b"], "-")


def test_values_follow_options_that_have_choices():
    assert candidates(["train", "slots", "--device"], "") == ["auto", "cpu", "cuda"]
    assert candidates(["encode", "m", "f", "--dtype"], "") == ["fp32", "bf16", "fp16", "int8", "int4"]
    assert candidates(["train", "slots", "--out"], "") == []
    assert candidates(["train", "slots", "--json"], "") == []


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_one_that_its_shell_reads(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "memlm completion -- " in script
    if shutil.which(shell):
        subprocess.run([shell, "--no-execute" if shell == "fish" else "-n"], input=script, text=True, check=True)


def test_bash_completes_what_is_typed():
    typed = f"""
        memlm() {{ {sys.executable} -m memlm "$@"; }}
        eval "$(memlm completion bash)"
        COMP_WORDS=(memlm train slots --dev) COMP_CWORD=3
        _memlm; echo "${{COMPREPLY[@]}}"
        COMP_WORDS=(memlm train slots --device '') COMP_CWORD=4
        _memlm; echo "${{COMPREPLY[@]}}"
        complete -p memlm
    """
    done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["--device", "auto cpu cuda", "complete -o default -F _memlm memlm"]
