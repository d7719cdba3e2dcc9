#!/usr/bin/env bash
# Prints the key of the vault; Ansible calls this (vault_password_file in ansible.cfg). The first call makes the key:
# 0600, outside git, in DRIFTLOOP_CONFIG_DIR or ~/.config/driftloop. Back it up with the secrets beside it.
set -euo pipefail
umask 077
folder=${DRIFTLOOP_CONFIG_DIR:-${XDG_CONFIG_HOME:-$HOME/.config}/driftloop}
key=$folder/vault-key

if [[ ! -e $key ]]; then
  if compgen -G "$folder/secrets-*.yml" >/dev/null; then
    echo "vault-password: $key is missing but secrets encrypted with it are there: restore the key" >&2
    exit 1
  fi
  mkdir -p "$folder"
  draft=$(mktemp "$folder/.vault-key.XXXXXX")
  trap 'rm -f "$draft"' EXIT
  head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n' >"$draft"
  # A link, unlike a rename, refuses to replace the key of a call that was quicker.
  ln "$draft" "$key" 2>/dev/null || [[ -e $key ]]
fi

mode=$(stat -c %a "$key")
if [[ $mode != 600 && $mode != 400 ]]; then
  echo "vault-password: $key has mode $mode, others may read it: chmod 600 $key" >&2
  exit 1
fi
cat "$key"
