# poise-git hook: what the others have in common.

# A hook that was here before ours is kept beside it as NAME.local, is called first, and may refuse.
# A plain shell script still finds itself under its old name in $0 (husky goes by that).
call_local() {
    [ -x "$0.local" ] || return 0
    read -r first <"$0.local"
    case $first in
    '#!/bin/sh' | '#!/usr/bin/env sh') sh -c '. "$0.local"' "$0" "$@" ;;
    '#!/bin/bash' | '#!/usr/bin/env bash') bash -c '. "$0.local"' "$0" "$@" ;;
    *) "$0.local" "$@" ;;
    esac
}

# The candidate whose branch is checked out, in $name; fails on any other branch.
on_candidate() {
    name=$(git symbolic-ref --quiet HEAD) || return 1
    case $name in refs/heads/poise/*) name=${name#refs/heads/poise/} ;; *) return 1 ;; esac
}

# Is poise-git there? Without it nothing is refused, and what was not checked is said.
can_check() {
    command -v poise-git >/dev/null && return 0
    echo "poise-git is not on PATH: skipped $1; later, poise-git check --all finds it" >&2
    return 1
}
