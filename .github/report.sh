#!/usr/bin/env bash
# Metrics and plots of the pipeline as it is here beside those of a revision, as Markdown on stdout; the plots as a page
# in the folder of the second argument: .github/report.sh origin/main report
set -euo pipefail
base=$1 folder=$2
dvc=${DVC:-.venv/bin/dvc}

if ! name=$(git rev-parse --quiet --verify --short "$base^{commit}"); then
  echo "report.sh: expected a commit in this clone, found no $base; fetch it" >&2
  exit 2
fi
named=$name
if [[ $(git log -1 --format=%s "$name") == "Results of "*" here" ]]; then
  named=$(git rev-parse --short "$name^") # what results_of.sh ran
fi
table=$("$dvc" metrics diff "$name" --md --precision 4 | sed -E 's/ +\|/ |/g; s/-{4,}/---/g')
said=$("$dvc" plots diff "$name" workspace --out "$folder" 2>&1) || echo "$said" >&2
rows=$(grep -c '^| metrics\|^| [^ ]*\.json' <<< "$table" || true)

echo "## The demo beside \`$named\`"
echo
if [ "$rows" = 0 ]; then
  echo "No metric changed."
else
  # What is looked at first; the rest is folded.
  main='\| (val_bits_per_second|val_perplexity|val_recon_loss|new|close|copies|seconds|recordings) \|'
  sed -n 1,2p <<< "$table"
  grep -E "$main" <<< "$table" || true
  echo
  echo "<details><summary>All $rows metrics that changed</summary>"
  echo
  echo "$table"
  echo
  echo "</details>"
fi
echo
if [ ! -f "$folder/index.html" ]; then
  echo "The curves could not be drawn."
elif grep -q "failed to load some plots" <<< "$said"; then
  echo "The curves are in the artefact \`report\` of this run, \`$folder/index.html\`, without those of \`$named\`: they are not here."
else
  echo "The curves of both are in the artefact \`report\` of this run: open \`$folder/index.html\`."
fi
