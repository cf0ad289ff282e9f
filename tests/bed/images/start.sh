#!/bin/bash
# Stands in for the start script of the older controller's images: fills the runner's folder, which is an empty volume,
# from the image, and puts externals in their place. Prints what that was and how long it took, then waits for its end.
set -euo pipefail
trap 'exit 0' TERM INT

assets=${RUNNER_ASSETS_DIR:-/runnertmp}
home=${RUNNER_HOME:-/runner}

now() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

begun=$(now)
sudo chown -R runner:docker "$home"
cp -r "$assets"/* "$home"/
cd "$home"
mkdir -p externals
mv externalstmp/* externals/
ended=$(now)

externals/node16/bin/node measure.js externals "$begun" "$ended"
# In the background, since a shell answers signals between commands only.
tail -f /dev/null &
wait
