import os
import subprocess
import sys

import pytest

from recsys.commands import doctor, installation
from recsys.runs.environment import installed_versions


def installed_as(**versions):
    """Versions of the triple as the package index's metadata would give them."""
    right = {"torch": "2.13.0+cpu", "torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.8.0"}
    return right | {name.replace("_", "-"): version for name, version in versions.items()}


def findings(monkeypatch, *, probed=None, **versions):
    found = installed_as(**versions)
    monkeypatch.setattr(installation, "version_of", found.get)
    return installation.check_triple({"torch": "2.13.0", "cuda": None, "gpus": []} | (probed or {}))


def problems(monkeypatch, **given):
    return [finding.advice for finding in findings(monkeypatch, **given) if finding.is_problem]


def test_matching_triple_is_no_problem(monkeypatch):
    assert problems(monkeypatch) == []


@pytest.mark.parametrize(
    ("versions", "wrong", "command"),
    [
        ({"torch": None}, "torch is not installed", "install torch==2.13.0"),
        ({"torch": "2.14.0"}, "torch is 2.14.0, but 2.13.0 matches", "install torch==2.13.0"),
        ({"torchrec": None}, "torchrec is not installed", "install --no-deps torchrec==1.8.0"),
        ({"torchrec": "1.9.0"}, "torchrec is 1.9.0, but 1.8.0", "install --no-deps torchrec==1.8.0"),
        ({"fbgemm_gpu_cpu": None}, "fbgemm is not installed", "install fbgemm-gpu-cpu==1.8.0"),
        (
            {"fbgemm_gpu_cpu": "1.7.0"},
            "fbgemm-gpu-cpu is 1.7.0, but 1.8.0",
            "install --no-deps fbgemm-gpu-cpu==1.8.0",
        ),
        (
            {"fbgemm_gpu": "1.8.0"},
            "both installed and overwrite each other",
            "uninstall -y fbgemm-gpu && {pip} install --no-deps --force-reinstall fbgemm-gpu-cpu==1.8.0",
        ),
        (
            {"fbgemm_gpu_cpu": None, "fbgemm_gpu": "1.8.0"},
            "fbgemm-gpu is the wrong build",
            "uninstall -y fbgemm-gpu && {pip} install --no-deps --force-reinstall fbgemm-gpu-cpu==1.8.0",
        ),
    ],
)
def test_wrong_one_of_the_three_is_named_with_what_mends_it(monkeypatch, versions, wrong, command):
    [advice] = problems(monkeypatch, **versions)
    pip = f"{sys.executable} -m pip"
    assert wrong in advice
    assert f"`{pip} {command.format(pip=pip)}`" in advice


def test_gpu_wants_the_cuda_build(monkeypatch):
    gpu = {"gpus": ["NVIDIA A100"], "cuda": "12.8"}
    assert problems(monkeypatch, probed=gpu, fbgemm_gpu_cpu=None, fbgemm_gpu="1.8.0") == []
    [advice] = problems(monkeypatch, probed=gpu, fbgemm_gpu_cpu=None)
    assert "install fbgemm-gpu==1.8.0" in advice
    # The CPU build trains, if slowly: worth a note.
    [note] = [finding for finding in findings(monkeypatch, probed=gpu) if finding.advice]
    assert not note.is_problem
    assert "--force-reinstall fbgemm-gpu==1.8.0" in note.advice


def test_cuda_build_beside_a_cuda_torch_works_without_a_gpu(monkeypatch):
    probed = {"cuda": "12.8"}
    assert problems(monkeypatch, probed=probed, fbgemm_gpu_cpu=None, fbgemm_gpu="1.8.0") == []


def test_right_versions_that_cannot_be_imported_are_a_problem(monkeypatch):
    [advice] = problems(
        monkeypatch, probed={"failed": "fbgemm", "error": "OSError: undefined symbol: _ZN3c1"}
    )
    assert advice.startswith("fbgemm-gpu-cpu is installed but cannot be imported (OSError: undefined symbol")
    assert "install --no-deps --force-reinstall fbgemm-gpu-cpu==1.8.0" in advice


def test_missing_and_old_dependencies_are_named(monkeypatch):
    versions = {"hydra-core": "1.4.0", "optuna": None}
    real = installation.version_of
    monkeypatch.setattr(installation, "version_of", lambda name: versions.get(name, real(name)))
    [finding] = installation.check_packages()
    assert "hydra-core is 1.4.0, expected <1.4,>=1.3.7" in finding.advice
    assert "optuna is not installed" in finding.advice
    assert "make install" in finding.advice


def test_too_new_python_is_refused(monkeypatch):
    class Version(tuple):
        minor = 14

    monkeypatch.setattr(sys, "version_info", Version((3, 14, 0)))
    finding = installation.check_python()
    assert finding.is_problem
    assert "expected Python 3.11 to 3.13" in finding.advice
    assert "make install PYTHON=python3.13" in finding.advice


def test_cpu_abilities_are_read_from_the_kernel(monkeypatch):
    monkeypatch.setattr(installation, "cpu_flags", lambda: {"avx2", "avx512f", "avx512_bf16"})
    cpu, _ = installation.check_machine()
    assert cpu.found.endswith("AVX2, AVX-512, bf16")
    monkeypatch.setattr(installation, "cpu_flags", lambda: {"sse2"})
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    cpu, _ = installation.check_machine()
    assert "AVX2, which this CPU lacks" in cpu.advice
    assert not cpu.is_problem


def test_little_memory_is_worth_a_note(monkeypatch):
    monkeypatch.setattr(installation, "memory_gib", lambda: 1.0)
    _, memory = installation.check_machine()
    assert "1.0 GiB of memory is little" in memory.advice
    assert not memory.is_problem


def run(*arguments, broken=None, tmp_path=None):
    """A Python process in which importing `broken` fails as a broken installation does."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    if broken:
        (tmp_path / broken).mkdir()
        (tmp_path / broken / "__init__.py").write_text(
            "raise OSError('libtbe.so: undefined symbol: _ZN2at')\n"
        )
        environment["PYTHONPATH"] = str(tmp_path)
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=installation.PROJECT,
    )


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("torch", "torch"),
        ("fbgemm_gpu", "fbgemm-gpu-cpu"),
        pytest.param("torchrec", "torchrec", marks=pytest.mark.slow),
    ],
)
def test_doctor_speaks_when_the_triple_cannot_be_imported(tmp_path, module, package):
    done = run("-m", "recsys", "doctor", broken=module, tmp_path=tmp_path)
    assert done.returncode == 2
    assert "PROBLEM" in done.stdout
    assert f"error: {package} is installed but cannot be imported (OSError: libtbe.so" in done.stderr
    assert f"install --no-deps --force-reinstall {package}==" in done.stderr
    assert "Traceback" not in done.stderr


def test_entry_point_gives_the_same_advice(tmp_path):
    done = run("train.py", "data=synthetic", broken="torchrec", tmp_path=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: torchrec is installed but cannot be imported (OSError: libtbe.so")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["train.py", "evaluate.py", "export.py"])
def test_help_needs_no_torch(tmp_path, command):
    done = run(command, "--help", broken="torch", tmp_path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"python {command} [GROUP=FILE]" in done.stdout


def test_preparing_needs_no_torch(tmp_path):
    done = run("-m", "recsys", "prepare", "--help", broken="torch", tmp_path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Prepares a dataset")


def test_other_failures_of_an_import_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(installation, "examine", lambda: [installation.Finding("python", "3.12")])
    with pytest.raises(ZeroDivisionError), installation.importing():
        1 / 0  # noqa: B018


def test_sound_installation_exits_with_zero(capsys, monkeypatch):
    monkeypatch.setattr(
        doctor, "examine", lambda: [installation.Finding("memory", "1 GiB", "little", severe=False)]
    )
    with pytest.raises(SystemExit) as ended:
        doctor.main([])
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert out == "note    memory  1 GiB\n"
    assert err == "note: little\n"


def test_versions_of_the_triple_are_among_those_kept_with_a_run():
    versions = installed_versions()
    assert {"torch", "torchrec", "pytorch-lightning", "duckdb"} - set(versions) == {"duckdb"}
    assert any(name.startswith("fbgemm") for name in versions)
