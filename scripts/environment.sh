# Sourced by the other scripts: an environment to install into, and how.
if [ -z "${VIRTUAL_ENV:-}" ]; then
    [ -d .venv ] || python3 -m venv .venv
    . .venv/bin/activate
fi

install_into_environment() {
    # The constraints name the versions that were tested; any later ones ought to work too.
    python -m pip install --quiet --disable-pip-version-check --constraint scripts/constraints.txt --editable "$1"
}
