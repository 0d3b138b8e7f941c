#!/bin/sh
# Opens Distill's page by a double click, on macOS and where Linux runs scripts so. The first time takes minutes.
cd "$(dirname "$0")/.." || exit 1
make page || { printf 'Press Enter to close. '; read -r _; }
