"""A wheel, installed in another folder, trains, evaluates, exports and serves without the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv

import pytest

from recsys.runs.environment import PROJECT

pytestmark = pytest.mark.slow


def run(*command, cwd, expect=0):
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RECSYS_CACHE")
    }
    environment["HOME"] = str(cwd)
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder and a Python that has the wheel, and of the running one what the wheel requires."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # building leaves folders behind
    for name in ("recsys", "configs"):
        shutil.copytree(PROJECT / name, source / name, symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source / name)
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source))
    run(sys.executable, *build, cwd=folder)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel), cwd=folder)
    [packages] = (folder / "venv" / "lib").glob("python*/site-packages")
    # After its own folder in the search, so that the wheel comes first.
    (packages / "heavy.pth").write_text(sysconfig.get_path("purelib") + "\n")
    work = folder / "work"
    work.mkdir()
    return python, work


def test_wheel_trains_evaluates_exports_and_serves(installed):
    python, work = installed
    command = str(python.with_name("recsys"))
    where = run(str(python), "-c", "import recsys.config.compose as c; print(c.CONFIGS)", cwd=work)
    assert str(PROJECT) not in where
    assert "0.2.0" in run(str(python), "-c", "import recsys; print(recsys.__version__)", cwd=work)
    small = ["data=synthetic", "data.source.num_interactions=3000", "data.source.num_users=200"]
    small += ["data.source.num_items=100", "data.cache_dir=cache", "trainer.max_epochs=1", "evaluation=fast"]
    path = run(command, "train", *small, "run_dir=a", cwd=work).splitlines()[-1]
    assert path == "a"
    assert run(command, "evaluate", "run=a", cwd=work).splitlines()[-1] == "a/evaluation"
    assert run(command, "export", "run=a", cwd=work).splitlines()[-1] == "a/bundle"
    asked = "Bundle.open('a/bundle').recommend({'user_id': '1'}, [], 5)[0]"
    code = f"from recsys.serving.bundle import Bundle; print(len({asked}))"
    assert run(str(python), "-c", code, cwd=work).split() == ["5"]
    assert "Groups and their files" in run(command, "train", "--help", cwd=work)


def test_wheel_holds_every_configuration_file(installed):
    python, work = installed
    listed = "sorted(p.relative_to(c.CONFIGS) for p in c.CONFIGS.rglob('*.yaml'))"
    code = f"import recsys.config.compose as c; print(*{listed})"
    expected = sorted(
        str(path.relative_to(PROJECT / "configs")) for path in (PROJECT / "configs").rglob("*.yaml")
    )
    assert sorted(run(str(python), "-c", code, cwd=work).split()) == expected
