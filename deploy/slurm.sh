#!/usr/bin/env bash
# A job of SLURM: a scheduler of Dask and a worker for each task, and the pipeline that they work for. Submit it in the
# project's folder, which all nodes see, after `make setup`: sbatch deploy/slurm.sh
#SBATCH --job-name=distill
#SBATCH --ntasks=8
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=3G
#SBATCH --time=08:00:00
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
mkdir -p .distill
scheduler=$(mktemp -d -p "$PWD/.distill" cluster.XXXXXX)
trap 'kill $(jobs -p) 2> /dev/null || true; rm -rf "$scheduler"' EXIT

.venv/bin/dask scheduler --port 0 --no-dashboard --scheduler-file "$scheduler/scheduler.json" &
until [ -s "$scheduler/scheduler.json" ]; do sleep 1; done
srun --overlap .venv/bin/dask worker --scheduler-file "$scheduler/scheduler.json" --nthreads 1 --no-dashboard \
  --local-directory "$scheduler" &

DISTILL_CLUSTER=$(.venv/bin/python -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' \
  "$scheduler/scheduler.json")
export DISTILL_CLUSTER
make repro
