#!/bin/bash
# Stands in for the runner: with container hooks it calls the hook as for a job's beginning, then waits for its end.
set -euo pipefail
trap 'exit 0' TERM INT

home=$(cd "$(dirname "$0")" && pwd)
if [ -n "${ACTIONS_RUNNER_CONTAINER_HOOKS:-}" ]; then
  export RUNNER_WORKSPACE="$home/_work/repository"
  "$home/externals/node16/bin/node" "$ACTIONS_RUNNER_CONTAINER_HOOKS"
fi
# In the background, since a shell answers signals between commands only.
tail -f /dev/null &
wait
