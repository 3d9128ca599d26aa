#!/usr/bin/env bash
# Everything worth knowing on one GPU in at most 9 minutes, most valuable first, without a network:
#   benchmarks/gpu.sh [OUT]               OUT: benchmarks/gpu; gpu.json, gpu.md and what the parts write go there
#   benchmarks/gpu.sh OUT --rehearsal     the same on a CPU with tiny sizes, which shows that it runs
# DATA names a prepared corpus (data/gutenberg; the paper's sizes want --vocab-size 8000), BOUND the seconds in all.
exec "${PYTHON:-python}" "$(dirname "$0")/gpu.py" "$@"
