# One image for all programs: static files only, no shell, no package manager. `make dist` fills dist/.
# The manifests name the program and, for the agent, which writes a root-owned tree, the user. `make images` builds
# the same image without a daemon.
FROM scratch
COPY dist/ /
USER 65532:65532
