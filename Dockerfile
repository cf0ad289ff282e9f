# One image for all programs: static files only, no shell, no package manager. `make dist` fills dist/.
# The webhook runs as a plain user; the agent's manifest sets its own user, since it writes a root-owned tree.
FROM scratch
COPY dist/ /
USER 65532:65532
ENTRYPOINT ["/headstart"]
