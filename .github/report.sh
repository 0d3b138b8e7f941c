#!/usr/bin/env bash
# Metrics and plots of the pipeline as it is here beside those of a revision, as Markdown on stdout; the plots as a page
# in the folder of the second argument: .github/report.sh origin/main report
set -euo pipefail
base=$1 folder=$2
dvc=${DVC:-.venv/bin/dvc}

echo "## The demo's metrics beside those of \`$base\`"
echo
"$dvc" metrics diff "$base" --md --precision 4
echo
"$dvc" plots diff "$base" workspace --out "$folder" > /dev/null 2>&1 || echo "The plots could not be drawn: $base has none."
if [ -f "$folder/index.html" ]; then
  echo "The loss curves are in the artefact \`plots\` of this run: open \`index.html\`."
fi
