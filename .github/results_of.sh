#!/usr/bin/env bash
# Run the pipeline as it is at a revision, commit its results there, and print that commit: a base for report.sh whose
# results are of this computer, and whose curves are in DVC's cache. Then return to where HEAD was.
# .github/results_of.sh origin/main
set -euo pipefail

main() { # read whole before this file is exchanged by that of the revision
  local revision=$1
  if ! git diff --quiet HEAD; then
    echo "results_of.sh: expected no changes that are not committed, found some; commit or stash them" >&2
    exit 2
  fi
  if ! git rev-parse --quiet --verify "$revision^{commit}" > /dev/null; then
    echo "results_of.sh: expected a commit in this clone, found no $revision; fetch it" >&2
    exit 2
  fi
  here=$(git symbolic-ref --quiet --short HEAD || git rev-parse HEAD)
  trap 'git checkout --quiet --force "$here"' EXIT
  git checkout --quiet --detach "$revision"
  make repro >&2
  git -c user.name=ci -c user.email=ci@localhost -c commit.gpgsign=false commit --quiet --no-verify --allow-empty --all --message "Results of $revision here"
  git rev-parse HEAD
}

main "$@"
