"""The notebook of examples/ runs from top to bottom, shows its tables and its progress."""

import nbclient
import nbformat
import pytest

from recsys.runs.environment import PROJECT


@pytest.mark.slow
def test_quickstart_runs_and_shows_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    notebook = nbformat.read(PROJECT / "examples" / "quickstart.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}, kernel_name="python3"
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    tables = [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert len(tables) == 5  # events, figures while training, run, recommendations, evaluation
    assert "<iframe srcdoc=" in tables[4]
    progress = "".join(output["text"] for output in outputs if output.get("name") == "stderr")
    assert "Training" in progress
    assert "val/ndcg@10" in progress
    texts = [output["data"].get("text/plain", "") for output in outputs if "data" in output]
    assert texts[-1].count("'book") == 5
