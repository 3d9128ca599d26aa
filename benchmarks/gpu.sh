#!/usr/bin/env bash
# Everything worth knowing on one GPU in 25 minutes, most valuable first; results as JSON and markdown in OUT.
#   benchmarks/gpu.sh [OUT]          OUT defaults to benchmarks/gpu; DATA, if set, names a prepared corpus
# Needs an environment in which `python -m memlm` runs with a CUDA build of torch. A part that fails is told and the
# others still run.
set -u
cd "$(dirname "$0")/.."
OUT=${1:-benchmarks/gpu}
RUNS=${RUNS:-runs/gpu}
DATA=${DATA:-data/gutenberg}
mkdir -p "$OUT"
python -c 'import torch, sys; sys.exit(0 if torch.cuda.is_available() else "there is no CUDA device here")' || exit 1

part() { # part SECONDS NAME COMMAND...: run a part within its time and keep what it says
  local limit=$1 name=$2
  shift 2
  echo "== $name"
  if timeout "$limit" "$@" >"$OUT/$name.out" 2>"$OUT/$name.err"; then echo "done"; else
    echo "$name failed or ran out of its $limit s: $(tail -n 1 "$OUT/$name.err")"
  fi
}


# 1. Correct on CUDA: causality to the bit, the same figures as on the CPU, exact resume.
part 120 correctness python -m pytest -q -m cuda tests
# 2. What memories save: attention in one kernel and by groups against one mask; reading, writing and training over long
#    contexts; in parallel, from disk, with a cache.
part 60 attention python -m memlm bench attention --out "$OUT" --seconds 0.5
part 110 memory python -m memlm bench memory --out "$OUT" --seconds 16
part 90 parallel python -m memlm bench parallel --out "$OUT" --seconds 1
# 3. Throughput and share of the measured matrix rate, side by side with the plain form.
part 60 mixer python -m memlm bench mixer --out "$OUT" --seconds 20
part 60 encode python -m memlm bench encode --out "$OUT" --data "$DATA" --seconds 30
# 4. The paper's sizes on the data that fits: 512 tokens, mixer and transformer autoencoders, and ours beside them.
[ -f "$DATA/data.json" ] || python -m memlm prepare gutenberg --out "$DATA"
part 150 paper-mixer python -m memlm train paper-mixer --data "$DATA" --out "$RUNS/paper-mixer" --max-seconds 100 --eval-every 100
part 150 paper-memory python -m memlm train paper-memory --data "$DATA" --out "$RUNS/paper-memory" --max-seconds 100 --eval-every 100
part 90 memory-curriculum python -m memlm train memory-curriculum --data "$DATA" --out "$RUNS/memory-curriculum"
part 120 paper-transformer python -m memlm train paper-transformer --data "$DATA" --out "$RUNS/paper-transformer" --max-seconds 70 --eval-every 100
part 120 slots-512 python -m memlm train slots --data "$DATA" --out "$RUNS/slots-512" --model.chunk-tokens 512 \
  --model.memory-dim 1024 --steps 20000 --max-seconds 80 --eval-every 200
# 5. A language model of others: what memories cost it at 2,048 tokens, and how it learns to read them.
part 100 smollm2 python -m memlm bench smollm2 --out "$OUT" --seconds 10
# 6. What their embeddings hold, and what memory models get from theirs.
part 60 access python -m memlm measure "$RUNS/memory-curriculum" --data "$DATA" --out "$RUNS/access" --json
part 150 retention python -m memlm measure "$RUNS/paper-mixer" "$RUNS/paper-transformer" "$RUNS/slots-512" \
  --data "$DATA" --out "$RUNS/retention" --json
part 60 report python -m memlm report "$RUNS" --out "$OUT/report.html"
cp "$RUNS"/retention/results.json "$OUT/retention.json" 2>/dev/null
echo "results are in $OUT"
