#!/usr/bin/env bash
# Times the two commands of the README in a fresh clone without a virtual environment, and the help.
#
#     bash benchmarks/commands.sh
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
place=$(mktemp -d)
git clone --quiet . "$place/clone"
cd "$place/clone"
clock() { # what command...
    local what=$1 began ended
    shift
    began=$(date +%s.%N)
    "$@" >"$place/log" 2>&1 || { tail -30 "$place/log"; exit 1; }
    ended=$(date +%s.%N)
    printf '%s\t%s\t%s\n' "$*" "$(echo "$ended - $began" | bc)" "$what" >>"$place/times"
    tail -1 "$place/times"
}
export XDG_CACHE_HOME="$place/cache"
clock "installation" make .venv/.installed
clock "after installation, speech not yet cached" make demo
clock "installation of the tools of the tests" make .venv/.dev
clock "after installation" make test
cp closesesame-demo/report.html "$here/closesesame-demo.html" 2>/dev/null || true
.venv/bin/python - "$place/times" "$here/benchmarks/results/commands.json" <<'PY'
import json, statistics, subprocess, sys, time
from pathlib import Path
from closesesame import __version__
from closesesame.bench.table import host
rows = []
for line in Path(sys.argv[1]).read_text().splitlines():
    command, seconds, what = line.split("\t")
    rows.append({"command": command, "what": what, "seconds": float(seconds)})
times = []
for _ in range(11):
    began = time.perf_counter()
    subprocess.run([".venv/bin/sesame", "--help"], stdout=subprocess.DEVNULL, check=True)
    times.append(time.perf_counter() - began)
help_s = statistics.median(times)
rows.append({"command": ".venv/bin/sesame --help", "what": "median of eleven calls", "seconds": help_s})
content = {"recipe": "commands", "version": __version__, "host": host(), "rows": rows}
Path(sys.argv[2]).write_text(json.dumps(content, indent=1) + "\n")
PY
rm -rf "$place"
