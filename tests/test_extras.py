"""What is installed without extras acts; where an extra is missing, one line says which."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from onestride.errors import EXTRAS, PROGRAM, install
from test_layers import FILES, room
from without import python_without

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Packages by another name than their distribution's.
DISTRIBUTIONS = {"PIL": "pillow"}

#: What the program says to each command line, which is given as words joined by spaces.
TYPED = """
import json, os
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from onestride.cli import main

answers = {}
for command in sys.argv[1:]:
    with redirect_stderr(StringIO()) as said, redirect_stdout(said):
        try:
            main(command.split())
        except SystemExit as stop:
            answers[command] = [stop.code, said.getvalue()]
print(json.dumps(answers))
"""


def brought(extra: str | None = None) -> set[str]:
    """The distributions that an extra asks for; None: that onestride itself does."""
    asked = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {Requirement(each).name for each in asked}


def distribution(package: str) -> str:
    """The distribution that brings a package."""
    return DISTRIBUTIONS.get(package, package.replace("_", "-"))


def packages(path: Path) -> set[str]:
    """Other people's packages that a file imports, within functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"onestride"}


def test_every_package_comes_with_the_extra_that_its_line_names():
    for package, extra in EXTRAS.items():
        assert distribution(package) in brought(extra), package


@pytest.mark.slow
def test_every_package_that_is_imported_is_a_dependency_or_has_a_line():
    imported = set().union(*(packages(path) for path in FILES.values()))
    assert {"numpy", "torch", "pyarrow"} <= imported  # at the top, and in a function
    assert imported - set(EXTRAS) - {"mpl_toolkits"} == brought()  # which comes with matplotlib


def test_all_is_every_extra_but_those_of_development():
    (everything,) = map(Requirement, PROJECT["optional-dependencies"]["all"])
    assert everything.extras == set(PROJECT["optional-dependencies"]) - {"all", "dev", "docs"} == set(EXTRAS.values())


def test_what_is_to_be_installed_stands_in_quotes():
    """Zsh, macOS's shell, takes brackets for a pattern, and refuses."""
    bare = re.compile(r"pip install (?:-\S+ )*[\w.]+\[")
    assert bare.search("pip install onestride[train]")
    assert bare.search("pip install -e .[dev]")
    assert not bare.search(install("train"))
    pages = (path for folder in ("docs", "integrations") for path in (ROOT / folder).rglob("*.md"))
    texts = [*FILES.values(), *ROOT.glob("*.md"), *pages]
    assert [path.name for path in texts if bare.search(path.read_text())] == []


def test_the_runtime_imports_no_extra():
    modules = [module for module in FILES if room(module) in ("clearance", "control", "robot")]
    python_without(EXTRAS, f"import onestride, onestride.cli, onestride.__main__, {', '.join(modules)}")


def test_a_policy_says_what_it_needs():
    code = "import onestride\ntry: onestride.Policy\nexcept ModuleNotFoundError as error: print(error)"
    assert python_without(EXTRAS, code).stdout == 'this needs torch: pip install "onestride[train]"\n'


def told(blocked, *commands: str) -> dict[str, list]:
    """Command -> exit code and what was printed, without these packages."""
    return json.loads(python_without(blocked, TYPED, *commands).stdout)


def test_the_program_without_extras_is_one_line():
    commands = ("", "--help", "train dnk", "quickstart --preset demo", "run --run nowhere")
    for command, (code, said) in told(EXTRAS, *commands).items():
        assert code == 2, command
        assert said.startswith("onestride: this needs ")
        assert said.endswith(': pip install "onestride[train]"\n')
        assert said.count("\n") == 1


def test_what_the_readme_installs_drives_the_arm(tmp_path):
    """`onestride run` asked for a server's packages, also where no server was named."""
    there = brought() | brought("train") | brought("sim") | brought("report")
    missing = [package for package in EXTRAS if distribution(package) not in there]
    assert {"msgpack", "onnx", "viser"} <= set(missing)
    said = told(missing, f"run --checkpoint {tmp_path}", f"run --run {tmp_path} --scene 1", f"bench --run {tmp_path}")
    for code, text in said.values():
        assert code == 2
        assert "this needs" not in text


@pytest.mark.slow
def test_commands_that_need_no_torch_name_an_extra_that_brings_none(tmp_path):
    said = told(EXTRAS, "serve nowhere", "push nowhere --to me/it", "pull me/it")
    extras = [text.removeprefix("onestride: this needs tyro: ").strip() for _, text in said.values()]
    assert extras == [install(extra) for extra in ("serve", "hub", "hub")]
    learns = {package for package, extra in EXTRAS.items() if extra not in ("serve", "hub") and package not in PROGRAM}
    (tmp_path / "config.json").write_text("{}")  # a policy's, it may be
    said = told(learns, "serve nowhere", "push nowhere --to me/it", f"serve {tmp_path}")
    for command, (code, text) in said.items():
        assert code == 2
        assert ("[train]" in text) == (str(tmp_path) in command)
    assert "nowhere holds no finished checkpoint" in said["serve nowhere"][1]
    for extra in ("serve", "hub"):
        program = {distribution(package) for package in PROGRAM}
        assert program <= brought(extra)
        assert not brought(extra) & brought("train") - program


@pytest.mark.slow
def test_help_and_what_is_mistyped_are_answered_without_torch():
    """It takes seconds to import, in which nothing was said."""
    mistyped = {
        "--help": "Everything from nothing",
        "export --help": "Candidates per decision",
        "evalute": "there is no command 'evalute'. Did you mean 'evaluate'? There are: collect",
        "collect --preset dmeo": "there is no preset 'dmeo'. The nearest: demo. `onestride presets` lists all",
        "evaluate --rnu x --evaluate.trials 3": "takes no --rnu. Did you mean --run?",
        "pairs --pairs.count many": "Error parsing --pairs.count",
        "pairs --pairs.count 0": "pairs need count and shards of at least 1, got 0",
        "collect --amuont 3": "--amount INT",
        "train dmk": "there is nothing called 'dmk' to train. Did you mean 'kdm'?",
        "train --seeds 3": "say what to train",
        "train dnk --config.hidden 64 --sedes -1": "takes no --sedes. Did you mean --seeds?",
    }
    said = told({"torch"}, *mistyped)
    for command, expected in mistyped.items():
        code, text = said[command]
        assert code == (0 if "--help" in command else 2), command
        assert expected in " ".join(text.split()), command


def test_what_is_about_to_be_done_is_said_before_torch_is_imported():
    said = told({"torch"}, "train dnk --run runs/mine", "evaluate --preset tiny", "evaluate --dry-run")
    first = [text.splitlines()[0] for _, text in said.values()]
    assert first[0] == "onestride: training dnk in runs/mine"
    assert first[1] == "onestride: evaluating the planners in runs/demo"
    assert first[2].startswith("onestride: this needs torch")  # its output is for programs


def test_a_study_without_extras_is_one_line():
    code = "import runpy\nsys.argv = ['', 'startup']\nrunpy.run_module('onestride.studies', run_name='__main__')"
    done = python_without(EXTRAS, code, check=False)
    assert (done.returncode, done.stderr) == (2, 'onestride: this needs tyro: pip install "onestride[train]"\n')


@pytest.mark.slow
def test_without_a_simulator_or_reports_the_program_names_their_extras(tmp_path):
    missing = [package for package, extra in EXTRAS.items() if extra in ("sim", "report")]
    r = f"--run {tmp_path / 'run'}"
    said = told(
        missing,
        f"collect --preset tiny {r}",
        f"evaluate --preset tiny {r}",
        f"quickstart --preset tiny {r}",
        "bench --preset tiny",
        f"import {tmp_path / 'mine.npz'} --task gym:Reacher-v5 {r}",
        f"import {tmp_path / 'mine.npz'} --task gym:Pendulum-v1 {r}",
    )
    extras = [text.splitlines()[-1].removeprefix("onestride: this needs ") for _, text in said.values()]
    assert [code for code, _ in said.values()] == [2] * len(said)
    assert extras[0] == 'mujoco: pip install "onestride[sim]"'
    assert extras[1] == extras[2] == 'matplotlib: pip install "onestride[report]"'
    assert extras[3] == extras[4] == 'mujoco: pip install "onestride[sim]"'
    assert "mine.npz does not exist" in extras[5]  # an environment that needs no simulator
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("package", ["torch.nothing", "nobodys_package"])
def test_a_package_that_no_extra_brings_is_named_as_it_is(package):
    code = f"from onestride.errors import report_user_errors\nwith report_user_errors(): import {package}"
    done = python_without([], code, check=False)
    assert (done.returncode, done.stderr) == (2, f"onestride: No module named '{package}'\n")
