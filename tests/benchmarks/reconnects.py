"""What a daemon holds after its camera was lost 5 times, and after 500 times.

python tests/benchmarks/reconnects.py [--times 500]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conftest import write_small_model
from reconnecting import Footprint, lose

from inspectd.model.calibration import CameraRecord

FEW = 5


def main() -> None:
    """Print the table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--times", type=int, default=500)
    given = ask.parse_args()
    with tempfile.TemporaryDirectory(prefix="inspectd-reconnects-") as name:
        folder = Path(name)
        model = write_small_model(folder / "model", 1e6, camera=CameraRecord("fit", None, 64, 64))
        config = folder / "inspectd.yaml"
        config.write_text(
            f'cameras: [{{name: top, source: "sim://line?fps=20&width=64&height=64", model: {model}}}]\n'
            f'publish: {{bind: "ipc://{folder}/p"}}\ncontrol: {{bind: "ipc://{folder}/c"}}\n'
            'metrics: {listen: "127.0.0.1:0"}\njournal: {path: null}\narchive: {max_gb: 0}\n'
        )
        command = [sys.executable, "-m", "inspectd", "run", "--config", str(config)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
            try:
                print("| lost | memory, MB | descriptors | threads | children | rings |")
                print("|---|---|---|---|---|---|")
                done = 0
                for times in (FEW, given.times // 2, given.times):
                    lose(daemon.pid, times - done)
                    done = times
                    found = Footprint.of(daemon.pid)
                    print(
                        f"| {times} times | {found.memory_mb:.1f} | {found.descriptors} | {found.threads} | "
                        f"{found.children} | {found.rings} |",
                        flush=True,
                    )
            finally:
                daemon.terminate()


if __name__ == "__main__":
    main()
