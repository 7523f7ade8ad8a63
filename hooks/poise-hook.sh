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

# The candidate whose branch is checked out, in $name; fails on any other branch, and on a name that no candidate has.
on_candidate() {
    name=$(git symbolic-ref --quiet HEAD) || return 1
    case $name in refs/heads/poise/*) name=${name#refs/heads/poise/} ;; *) return 1 ;; esac
    is_name "$name"
}

# May $1 name a candidate? Letters are listed, because a range means other letters in other languages.
is_name() {
    case $1 in
    '' | -* | *- | *--* | *[!abcdefghijklmnopqrstuvwxyz0123456789-]*) return 1 ;;
    esac
    [ "${#1}" -le 80 ]
}

# $1 as one word of a command that a person may copy.
quoted() {
    case $1 in
    '' | *[!abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-]*) ;;
    *) printf '%s' "$1"; return ;;
    esac
    rest=$1 done=
    while :; do
        case $rest in
        *\'*) done=$done${rest%%\'*}"'\\''" rest=${rest#*\'} ;;
        *) break ;;
        esac
    done
    printf "'%s'" "$done$rest"
}

# Is poise-git there? Without it nothing is refused, and what was not checked is said.
can_check() {
    command -v poise-git >/dev/null && return 0
    printf '%s\n' "poise-git is not on PATH: skipped $1; later, poise-git check --all finds it" >&2
    return 1
}
