"""The script that measures a device runs to its end where there is none, and says so."""

import json
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "device.py"


def test_a_machine_without_an_accelerator_makes_a_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "device.json"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--quick", "--device", "cpu", "--json", str(path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    said = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert said["dry_run"]
    assert said["quick"]
    assert said["accept"] == {"skipped": "--quick"}
    for name in {"torch", "mlx"} & said.keys():
        report = said[name]
        assert report["dry_run"]
        assert all(case["holds"] for case in report["canary"])
        assert set(report["canary_seconds"]) == {"small cases", "all"}
        assert all(row["error"] < 1e-4 for ways in report["decodes"].values() for row in ways.values())
    assert "a dry run" in capsys.readouterr().out
