# poise-git hook: functions that the other hooks share.

# Call the person's own hook. It is kept beside ours as NAME.local, runs first, and may refuse.
# A shell script keeps its old name in $0, because husky depends on that name.
call_local() {
    [ -x "$0.local" ] || return 0
    read -r first <"$0.local"
    case $first in
    '#!/bin/sh' | '#!/usr/bin/env sh') sh -c '. "$0.local"' "$0" "$@" ;;
    '#!/bin/bash' | '#!/usr/bin/env bash') bash -c '. "$0.local"' "$0" "$@" ;;
    *) "$0.local" "$@" ;;
    esac
}

# Set $name to the candidate whose branch is checked out. Fail on any other branch, and on an invalid name.
on_candidate() {
    name=$(git symbolic-ref --quiet HEAD) || return 1
    case $name in refs/heads/poise/*) name=${name#refs/heads/poise/} ;; *) return 1 ;; esac
    is_name "$name"
}

# Succeed if $1 is a valid name of a candidate. The letters are listed, because a range depends on the locale.
is_name() {
    case $1 in
    '' | -* | *- | *--* | *[!abcdefghijklmnopqrstuvwxyz0123456789-]*) return 1 ;;
    esac
    [ "${#1}" -le 80 ]
}

# Print $1 quoted as one word of a shell command.
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

# Succeed if poise-git is on PATH. Otherwise say which check is skipped; the hook then refuses nothing.
can_check() {
    command -v poise-git >/dev/null && return 0
    printf '%s\n' "poise-git is not on PATH: skipped $1; to check later: poise-git check --all" >&2
    return 1
}
